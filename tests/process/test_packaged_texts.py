"""What the packages carry beside the program follows its tables: manual, completion, files."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from predastore.base import config
from predastore.base.config.fields import FIELDS
from predastore.process import cli, commands, flags
from support.packaging import PACKAGING, load


def plain(roff: str) -> str:
    return re.sub(r"\\f[BIR]", "", roff).replace("\\-", "-").replace("\\&", "")


def test_the_manual_has_every_flag_command_and_exit_code() -> None:
    lines = plain(load("manual").page(0)).splitlines()
    for flag in flags.FLAGS:
        assert f"-{flag.name} {flag.metavar}".rstrip() in lines
        assert f"Variable {flag.env}; default {flag.default}." in lines
    for command in commands.COMMANDS:
        assert f"s3d {command.name}" in lines
        for below in commands.OPERATIONS.get(command.name, ()):
            assert f"{command.name} {below.name} {below.argument}".rstrip() in lines
    for code, _, _ in cli.EXITS:
        assert str(code) in lines


def test_the_manual_of_the_configuration_has_every_key_and_no_other() -> None:
    text = plain((PACKAGING / "files" / "cluster.toml.5").read_text("utf-8"))
    sections = dict(re.findall(r"^\.SH (\S.*)\n((?:(?!\.SH ).*\n)*)", text, re.MULTILINE))
    for table, fields in FIELDS.items():
        title = "TOP LEVEL" if not table else next(t for t in sections if t.strip("[]") == table)
        named = re.findall(r"^\.TP\n\.BR? (.*)$", sections[title], re.MULTILINE)
        keys = {word for line in named for word in re.findall(r"[a-z_]+", line)}
        assert keys == set(fields), title


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_the_manuals_are_good_roff() -> None:
    for page in (load("manual").page(0), (PACKAGING / "files/cluster.toml.5").read_text("utf-8")):
        done = subprocess.run(
            ["groff", "-man", "-ww", "-Tutf8"],
            input=page,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""


def test_bash_completes_flags_their_values_and_commands(tmp_path: Path) -> None:
    (tmp_path / "s3d.bash").write_text(load("completion").bash())
    script = """
        source ./s3d.bash
        offered() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _s3d; echo "${COMPREPLY[*]}"; }
        offered s3d -
        offered s3d -log-level ""
        offered s3d ""
        offered s3d db re
        offered s3d cluster ""
        offered s3d object ""
        offered s3d object locate ""
    """
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    offered = [line.split() for line in done.stdout.splitlines()]
    names = [f"-{flag.name}" for flag in flags.FLAGS]
    assert offered[0] == [*names, "-help", "-version"]
    assert offered[1] == list(config.LOG_LEVELS)
    assert offered[2] == [command.name for command in commands.COMMANDS]
    assert offered[3] == ["remove-member", "restore"]
    assert offered[4] == ["status", "verify", "drain", "activate", "remove"]
    assert offered[5:] == [["locate"], []]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_know_every_flag_and_command(shell: str, tmp_path: Path) -> None:
    text = load("completion").SHELLS[shell]()
    for flag in flags.FLAGS:
        assert f"{'-' if shell == 'zsh' else '-o '}{flag.name}" in text
    for row in (*commands.COMMANDS, *itertools.chain(*commands.OPERATIONS.values())):
        assert row.name in text
    if shutil.which(shell) is not None:
        (tmp_path / "file").write_text(text)
        subprocess.run([shell, "-n", str(tmp_path / "file")], check=True)


def test_the_packaged_configuration_is_fine_as_it_stands() -> None:
    loaded = config.complete(config.load(PACKAGING / "files" / "cluster.toml"))
    assert loaded.backend == "distributed"
    assert loaded.base_path == Path("/var/lib/predastore")
    assert len(loaded.nodes) == 5


def test_the_socket_unit_listens_where_the_packaged_configuration_does() -> None:
    loaded = config.load(PACKAGING / "files" / "cluster.toml")
    lines = (PACKAGING / "files" / "s3d.socket").read_text("utf-8").splitlines()
    assert f"ListenStream={loaded.host}:{loaded.port}" in lines
    assert "FileDescriptorName=s3" in lines


@pytest.mark.parametrize("name", ["s3d.service", "s3d@.service"])
def test_the_units_wait_for_ready_and_watch(name: str) -> None:
    lines = (PACKAGING / "files" / name).read_text("utf-8").splitlines()
    for line in ("Type=notify", "WatchdogSec=60", "ProtectSystem=strict", "LimitNOFILE=1048576"):
        assert line in lines
