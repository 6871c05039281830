"""What the packages do when they are upgraded: their scripts, run with commands that only note.

The packages as a whole are tried by packaging/tests.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2] / "packaging" / "files"
COMMANDS = ("adduser", "chgrp", "chmod", "install", "systemctl")
PLACES = ("/etc/predastore", "/run/systemd/system", "/usr/share/debconf", "/var/lib/predastore")
RESTART = "systemctl --no-block try-restart s3d.service s3d@*.service"

# The arguments of an upgrade, and of an installation or a removal.
UPGRADE = {"deb": ("configure", "0.1.0-1"), "rpm": ("1",)}
NO_UPGRADE = {"deb": ("configure", ""), "rpm": ("0",)}


def script(package: str) -> str:
    """The one that restarts, and how the package manager calls it."""
    if package == "deb":
        return (FILES / "deb" / "postinst").read_text("utf-8")
    spec = (FILES / "rpm" / "predastore.spec").read_text("utf-8")
    found = re.search(r"^%postun\n(.*?)^%", spec, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@dataclass(frozen=True)
class Host:
    """`root`: what stands for /. A command notes how it was called, and fails where it is told
    to, or where the file that it is to change is absent."""

    root: Path

    def run(self, package: str, arguments: tuple[str, ...], *, failing: str = "") -> list[str]:
        """The commands that ran."""
        text = script(package)
        for place in PLACES:
            text = text.replace(place, f"{self.root}{place}")
        (self.root / "script").write_text(text)
        done = subprocess.run(
            ["/bin/sh", str(self.root / "script"), *arguments],
            env={"PATH": str(self.root / "bin"), "FAILING": failing},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        noted = (self.root / "calls").read_text().replace(str(self.root), "")
        return noted.splitlines()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for place in PLACES:
        (tmp_path / place[1:]).mkdir(parents=True)
    (tmp_path / "etc/predastore/cluster.toml").write_text("")
    (tmp_path / "usr/share/debconf/confmodule").write_text("db_stop() { :; }\n")
    (tmp_path / "bin").mkdir()
    for name in COMMANDS:
        absent = '[ -e "$2" ] || exit 1\n' if name in ("chgrp", "chmod") else ""
        (tmp_path / "bin" / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/calls\n{absent}[ "$FAILING" != {name} ]\n'
        )
        (tmp_path / "bin" / name).chmod(0o755)
    return Host(tmp_path)


@pytest.mark.parametrize("package", ["deb", "rpm"])
def test_an_upgrade_does_not_wait_for_a_majority_of_the_metadata(host: Host, package: str) -> None:
    calls = [call for call in host.run(package, UPGRADE[package]) if "restart" in call]
    assert calls == [RESTART]


@pytest.mark.parametrize("package", ["deb", "rpm"])
def test_an_upgrade_is_done_though_the_restart_fails(host: Host, package: str) -> None:
    calls = host.run(package, UPGRADE[package], failing="systemctl")
    assert calls[-2:] == ["systemctl daemon-reload", RESTART]


@pytest.mark.parametrize("package", ["deb", "rpm"])
def test_nothing_is_restarted_but_at_an_upgrade(host: Host, package: str) -> None:
    assert host.run(package, NO_UPGRADE[package])[-1] == "systemctl daemon-reload"


def test_the_configuration_is_for_root_and_the_service_alone(host: Host) -> None:
    calls = host.run("deb", UPGRADE["deb"])
    assert "chgrp predastore /etc/predastore/cluster.toml" in calls
    assert "chmod 0640 /etc/predastore/cluster.toml" in calls


def test_an_upgrade_is_done_where_the_configuration_was_removed(host: Host) -> None:
    (host.root / "etc/predastore/cluster.toml").unlink()
    assert host.run("deb", UPGRADE["deb"])[-1] == RESTART
