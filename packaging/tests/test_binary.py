"""dist/s3d: what is in it, and how it unpacks itself."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from predastore import __version__
from support.elf import Elf, has_data_that_runs, is_bound_at_start
from support.processes import S3d, fresh_network

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "dist" / "s3d"
DIST = ROOT / "build" / "binary" / "s3d.dist"
SIZE_MB_MAX = 45
FOLDER = "predastore_unpacked"


def run(
    *arguments: str, binary: Path = BINARY, prefix: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, str(binary), *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def version(place: Path, binary: Path = BINARY) -> subprocess.CompletedProcess[str]:
    return run("--version", binary=binary, S3D_UNPACK_DIR=str(place))


def folders(place: Path) -> list[str]:
    return sorted(file.name for file in (place / FOLDER).iterdir())


def test_it_is_small() -> None:
    assert BINARY.stat().st_size <= SIZE_MB_MAX * 1_000_000


def test_the_version_names_the_commit(tmp_path: Path) -> None:
    done = version(tmp_path)
    assert done.returncode == 0
    assert re.fullmatch(
        rf"s3d {re.escape(__version__)} \(commit [0-9a-f]{{12}}\+?\)\n", done.stdout
    )


def test_the_licences_of_all_that_is_inside(tmp_path: Path) -> None:
    text = run("licenses", S3D_UNPACK_DIR=str(tmp_path)).stdout
    table = text.split("\n\n")[0]
    for name in ("predastore", "aioquic", "cryptography", "lmdb", "uvloop", "Python", "Nuitka"):
        assert re.search(rf"^{name} \S", table, re.MULTILINE), name
    for library in DIST.glob("lib*.so*"):
        assert library.name.startswith("libpython") or library.name in table


def test_the_program_is_hardened() -> None:
    elf = Elf.read(DIST / "s3d")
    assert is_bound_at_start(elf)
    assert not has_data_that_runs(elf)
    assert "__stack_chk_fail" in elf.symbols
    assert [name for name in elf.symbols if name.endswith("_chk")]


def test_no_package_of_the_development_is_inside() -> None:
    report = (ROOT / "build" / "binary" / "report.xml").read_text("utf-8")
    for name in ("boto3", "botocore", "awscli", "pytest", "hypothesis", "mypy", "setuptools"):
        assert f'<module name="{name}"' not in report
        assert not any(DIST.glob(f"{name}*"))


def test_it_unpacks_once_and_is_one_process(tmp_path: Path) -> None:
    first = version(tmp_path)
    (folder,) = (tmp_path / FOLDER).iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    stamps = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    assert version(tmp_path).stdout == first.stdout
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == stamps


def test_signals_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3D", str(BINARY))
    monkeypatch.setenv("S3D_UNPACK_DIR", str(tmp_path))
    server = S3d(tmp_path / "data", f"{fresh_network()}.1", [])
    try:
        server.start()
        assert server.process is not None
        program = Path(f"/proc/{server.process.pid}/exe").resolve()
        assert program.name == "s3d"
        assert program.parent.parent == tmp_path / FOLDER
        assert server.stop() == 0
    finally:
        server.kill()


def test_eight_that_unpack_at_once_do_not_meet(tmp_path: Path) -> None:
    environment = {"S3D_UNPACK_DIR": str(tmp_path)}
    started = [
        subprocess.Popen([BINARY, "--version"], env=environment, stdout=subprocess.PIPE)
        for _ in range(8)
    ]
    said = {process.communicate(timeout=120)[0] for process in started}
    assert [process.returncode for process in started] == [0] * 8
    assert len(said) == 1
    assert len(folders(tmp_path)) == 1


def test_what_was_damaged_is_unpacked_anew(tmp_path: Path) -> None:
    version(tmp_path)
    (folder,) = (tmp_path / FOLDER).iterdir()
    os.truncate(folder / "s3d", 10)
    (folder / "predastore" / "commit").unlink()
    assert version(tmp_path).returncode == 0
    assert len(folders(tmp_path)) == 1


def test_folders_of_older_versions_go_when_nobody_holds_them(tmp_path: Path) -> None:
    for name in ("0" * 32, "1" * 32, ".new-1-1"):
        (tmp_path / FOLDER / name / "below").mkdir(parents=True)
        (tmp_path / FOLDER / name / "below" / "file").write_text("old")
    descriptor = os.open(tmp_path / FOLDER / ("1" * 32), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert version(tmp_path).returncode == 0
    os.close(descriptor)
    assert [name for name in folders(tmp_path) if set(name) <= {"0", "1"}] == ["1" * 32]
    assert len(folders(tmp_path)) == 2


def only_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
@pytest.mark.parametrize("size", ["64k", "8m"])
def test_no_space_to_unpack_is_one_line(tmp_path: Path, size: str) -> None:
    script = f'mount -t tmpfs -o size={size} none {tmp_path} && "$@"; code=$?; ls -A {tmp_path}/*'
    prefix = ("unshare", "--mount", "sh", "-c", f"{script}; exit $code", "sh")
    done = run("--version", prefix=prefix, S3D_UNPACK_DIR=str(tmp_path))
    assert re.fullmatch(
        rf"s3d: can not unpack itself \({tmp_path}/{FOLDER}: No space left on device\); "
        r"name a directory where it may write and run \d+ MiB with S3D_UNPACK_DIR",
        only_line(done, 73),
    )


def test_a_folder_that_others_may_write_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER).chmod(0o777)
    assert f"{tmp_path}/{FOLDER}: others may write there" in only_line(version(tmp_path), 73)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / FOLDER).symlink_to(tmp_path / "elsewhere")
    assert f"{FOLDER}: Not a directory" in only_line(version(tmp_path), 73)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"CACHE_DIRECTORY": "a", "XDG_CACHE_HOME": "b"}, f"a/{FOLDER}"),
        ({"XDG_CACHE_HOME": "b", "HOME": "c"}, f"b/{FOLDER}"),
        ({"XDG_CACHE_HOME": "/proc", "HOME": "c"}, f"c/.cache/{FOLDER}"),
        ({"HOME": "/proc", "TMPDIR": "d"}, f"d/{FOLDER}-{os.geteuid()}"),
    ],
)
def test_where_it_unpacks(tmp_path: Path, given: Mapping[str, str], used: str) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    places = {name: str(tmp_path / value) for name, value in given.items()}
    assert run("--version", **places).returncode == 0
    assert [file.name for file in (tmp_path / used / folders_of(tmp_path / used)).glob("s3d")]


def folders_of(place: Path) -> str:
    (one,) = place.iterdir()
    return one.name


@pytest.mark.parametrize("language", ["", "C", "C.UTF-8", "xx_XX.UTF-8"])
def test_any_locale_will_do(tmp_path: Path, language: str) -> None:
    done = run("--version", S3D_UNPACK_DIR=str(tmp_path), LANG=language, LOCPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    content = bytearray(BINARY.read_bytes())
    offset, size, *_ = struct.unpack("<QQQQ", content[-64:-32])
    content[offset + size // 2] ^= 0xFF
    flipped, short = tmp_path / "flipped", tmp_path / "short"
    flipped.write_bytes(content)
    short.write_bytes(content[: offset + size // 2])
    for file in (flipped, short):
        file.chmod(0o755)
        line = only_line(version(tmp_path / "cache", file), 65)
        assert re.fullmatch(r"s3d: this file is damaged \(.*\); fetch it again", line)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
