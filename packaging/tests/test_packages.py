"""The .deb and the .rpm in a root of their own, without Python: install, use, upgrade, remove."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from predastore import __version__
from support.processes import PORT, S3d, fresh_network

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="chroot and debootstrap need root")
ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
BASE = ROOT / "build" / "debian-root"
FILES = ROOT / "packaging" / "files"
KEYS = '[[auth]]\naccess_key_id = "AKPACKAGETEST"\nsecret_access_key = "a secret of tests"\n'


def done(*command: str | Path, code: int = 0, **environment: str) -> str:
    """Runs a command; all that it printed."""
    ran = subprocess.run(
        [str(word) for word in command],
        env={"PATH": os.environ["PATH"], "DEBIAN_FRONTEND": "noninteractive", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == code, ran.stdout
    return ran.stdout


@pytest.fixture(scope="session")
def _base() -> None:
    """A small Debian without Python, kept for the next run."""
    if not (BASE / "usr" / "bin" / "dpkg").exists():
        shutil.rmtree(BASE, ignore_errors=True)
        mirror = os.environ.get("DEBIAN_MIRROR", "")
        command = ["debootstrap", "--variant=minbase", "--include=adduser", "bookworm", str(BASE)]
        done(*command, *([mirror] if mirror else []))


@pytest.fixture
def root(_base: None, tmp_path: Path) -> Iterator[Path]:
    """It has /proc, as every machine has: the program finds its own folder by it."""
    made = tmp_path / "root"
    done("cp", "-a", "--reflink=auto", BASE, made)
    assert not list((made / "usr" / "bin").glob("python*"))
    done("mount", "-t", "proc", "proc", made / "proc")
    yield made
    done("umount", made / "proc")


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages of the next release."""
    folder = tmp_path_factory.mktemp("newer")
    script = ROOT / "packaging" / "packages.py"
    given = {"RELEASE": "9", "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "")}
    done(sys.executable, script, folder, PYTHONPATH=str(ROOT), **given)
    return folder


def setting(root: Path, unit: str, key: str) -> str:
    """What a unit that is installed in `root` has for `key`."""
    text = next(root.glob(f"usr/lib/systemd/system/{unit}")).read_text("utf-8")
    return next(row for row in text.splitlines() if row.startswith(f"{key}=")).partition("=")[2]


@contextlib.contextmanager
def service(root: Path, *, by_socket: bool = False) -> Iterator[S3d]:
    """The command line of s3d.service, as its user, in `root`; or started by s3d.socket."""
    host = fresh_network() + ".1"
    own, manager = ("-host", host), ()
    if by_socket:
        own = ("-host", host, "-port", "1")  # which the user may not have
        address = setting(root, "s3d.socket", "ListenStream").replace("0.0.0.0", host)
        name = setting(root, "s3d.socket", "FileDescriptorName")
        manager = ("systemd-socket-activate", f"--listen={address}", f"--fdname={name}")
    data = root / "var" / "lib" / "predastore"
    log = (root.parent / "service.log").open("ab")
    process = subprocess.Popen(
        [
            *(*manager, "unshare", "--mount"),
            *("chroot", "--userspec=predastore:predastore", str(root)),
            *(*setting(root, "s3d.service", "ExecStart").split(), *own),
        ],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    server = S3d(data, host, [], process=process)
    try:
        server.wait_ready()
        yield server
        assert server.stop() == 0
    finally:
        server.kill()
        log.close()


def aws(server: S3d, folder: Path, *words: str) -> str:
    """The AWS CLI, with the keys of the packaged configuration."""
    program = Path(sys.executable).with_name("aws")
    return done(
        *(program, "--endpoint-url", f"https://{server.host}:{PORT}", "s3", *words),
        AWS_ACCESS_KEY_ID="AKPACKAGETEST",
        AWS_SECRET_ACCESS_KEY="a secret of tests",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_CA_BUNDLE=str(server.ca),
        AWS_CONFIG_FILE="/dev/null",
        AWS_EC2_METADATA_DISABLED="true",
        HOME=str(folder),
    )


def configure(root: Path) -> str:
    """Three lines more in the configuration; what it is then."""
    file = root / "etc" / "predastore" / "cluster.toml"
    edited = file.read_text("utf-8") + KEYS
    file.write_text(edited, "utf-8")
    return edited


def first_use(root: Path, folder: Path) -> None:
    configure(root)
    (folder / "hello").write_text("hello")
    with service(root) as server:
        aws(server, folder, "mb", "s3://kept")
        aws(server, folder, "cp", str(folder / "hello"), "s3://kept/hello")


def still_there(root: Path, folder: Path, *, by_socket: bool = False) -> None:
    with service(root, by_socket=by_socket) as server:
        assert aws(server, folder, "cp", "s3://kept/hello", "-") == "hello"


def test_deb_installed_used_upgraded_removed_and_purged(
    root: Path, newer: Path, tmp_path: Path
) -> None:
    data = root / "var" / "lib" / "predastore"
    file = root / "etc" / "predastore" / "cluster.toml"

    def dpkg(*words: str) -> str:
        return done("chroot", root, "dpkg", *words)

    def put(folder: Path) -> str:
        (deb,) = folder.glob("*.deb")
        shutil.copy(deb, root / "tmp" / deb.name)
        return f"/tmp/{deb.name}"

    dpkg("-i", put(DIST))
    assert done("chroot", root, "s3d", "--version").startswith(f"s3d {__version__}")
    assert done("chroot", root, "stat", "-c", "%U %a", "/var/lib/predastore") == "predastore 750\n"
    assert done("chroot", root, "stat", "-c", "%G %a", "/etc/predastore/cluster.toml") == (
        "predastore 640\n"
    )
    assert "fine" in done("chroot", root, "s3d", "check-config", "/etc/predastore/cluster.toml")
    first_use(root, tmp_path)
    edited = file.read_text()
    dpkg("-i", put(newer))
    assert f"Version: {__version__}-9\n" in dpkg("-s", "predastore")
    assert file.read_text() == edited
    still_there(root, tmp_path)
    still_there(root, tmp_path, by_socket=True)
    dpkg("-r", "predastore")
    assert not (root / "usr" / "bin" / "s3d").exists()
    assert not (root / "usr" / "lib" / "predastore").exists()
    assert file.read_text() == edited
    assert (data / "nodes").exists()
    said = dpkg("-P", "predastore")
    assert "predastore: /var/lib/predastore is kept" in said
    assert not file.exists()
    assert (data / "nodes").exists()
    dpkg("-i", put(DIST))
    configure(root)
    still_there(root, tmp_path)
    answer = "predastore predastore/remove-data boolean true"
    done("chroot", root, "sh", "-c", f"echo {answer} | debconf-set-selections")
    dpkg("-P", "predastore")
    assert not data.exists()
    assert "predastore" not in (root / "etc" / "passwd").read_text()


def test_rpm_installed_used_upgraded_and_removed(root: Path, newer: Path, tmp_path: Path) -> None:
    file = root / "etc" / "predastore" / "cluster.toml"

    def rpm(*words: str | Path) -> str:
        return done("rpm", "--root", root, *words)

    (old,) = DIST.glob("*.rpm")
    (new,) = newer.glob("*.rpm")
    rpm("-i", "--nodeps", old)
    assert done("chroot", root, "stat", "-c", "%U %a", "/var/lib/predastore") == "predastore 750\n"
    first_use(root, tmp_path)
    edited = file.read_text()
    rpm("-U", "--nodeps", new)
    assert rpm("-q", "predastore").strip() == f"predastore-{__version__}-9.x86_64"
    assert file.read_text() == edited
    still_there(root, tmp_path)
    rpm("-e", "--nodeps", "predastore")
    assert not (root / "usr" / "bin" / "s3d").exists()
    assert (root / "var" / "lib" / "predastore" / "nodes").exists()


def test_lintian_and_rpmlint_find_no_error() -> None:
    (deb,) = DIST.glob("*.deb")
    (rpm,) = DIST.glob("*.rpm")
    done("lintian", "--fail-on", "error", "--allow-root", "--tag-display-limit", "0", deb)
    said = done("rpmlint", "-c", FILES / "rpm" / "rpmlint.toml", rpm)
    assert " 0 errors" in said, said


def test_the_units_are_good_and_closed(tmp_path: Path) -> None:
    for name in ("s3d.service", "s3d@.service"):
        said = done("systemd-analyze", "security", "--offline=true", "--threshold=20", FILES / name)
        assert "Overall exposure level" in said
    units = tmp_path / "usr" / "lib" / "systemd" / "system"
    units.mkdir(parents=True)
    for unit in FILES.glob("s3d*"):
        shutil.copy(unit, units)
    for program in ("usr/bin/s3d", "bin/kill"):  # their presence is looked at
        (tmp_path / program).parent.mkdir(exist_ok=True)
        shutil.copy("/usr/bin/true", tmp_path / program)
    names = [f"/{unit.relative_to(tmp_path)}".replace("@", "@1") for unit in units.iterdir()]
    options = (f"--root={tmp_path}", "--man=no", "--recursive-errors=no")
    assert done("systemd-analyze", *options, "verify", *sorted(names)) == ""
