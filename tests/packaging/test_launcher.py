"""The beginning of the single file, before a small payload: what it removes, and what it keeps.

What `make binary` puts behind it is tried by packaging/tests.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from xxhash import xxh64_intdigest

from support.packaging import load

FOLDER = "predastore_unpacked"

Binary = Callable[[str], Path]


def stored(content: bytes) -> bytes:
    """One zstd frame (RFC 8878): a single segment, a raw block and its checksum."""
    head = struct.pack("<IBI", 0xFD2FB528, 0xA4, len(content))
    block = (len(content) << 3 | 1).to_bytes(3, "little")
    return head + block + content + struct.pack("<I", xxh64_intdigest(content) & 0xFFFFFFFF)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    probe = "#include <zstd.h>\nint main(void) { return (int)(ZSTD_versionNumber() == 0); }\n"
    folder = tmp_path_factory.mktemp("launcher")
    command = ["gcc", "-x", "c", "-", "-x", "none", "-l:libzstd.a", "-o", str(folder / "probe")]
    if (
        shutil.which("gcc") is None
        or subprocess.run(
            command, input=probe, text=True, capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("gcc or libzstd is missing: apt-get install gcc libzstd-dev")
    load("onefile").launcher(folder / "launcher")
    return (folder / "launcher").read_bytes()


@pytest.fixture
def binary(start: bytes, tmp_path: Path) -> Binary:
    """The single file of a version, which says its version and then its arguments."""

    def made(version: str) -> Path:
        folder, file = tmp_path / f"files-{version}", tmp_path / f"s3d-{version}"
        folder.mkdir()
        (folder / "s3d").write_text(f'#!/bin/sh\necho "{version} $*"\n')
        (folder / "s3d").chmod(0o755)
        file.write_bytes(load("onefile").whole(start, folder, stored))
        file.chmod(0o755)
        return file

    return made


def said(binary: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [binary, *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def filled(folder: Path) -> Path:
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "file").write_text("kept")
    return folder


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_data_where_it_unpacks_survives_a_start_and_an_upgrade(
    binary: Binary, tmp_path: Path
) -> None:
    place = tmp_path / "srv"
    data = [
        filled(place / base / name)
        for base in (".", "predastore", "predastore-unpacked", "data")
        for name in ("nodes", "db", "tls", "0" * 32, ".new-1-1", ".old-1-1")
    ]
    before = names(place)
    for version in ("1", "2"):
        given = {"S3D_UNPACK_DIR": str(place)}
        assert said(binary(version), "-port", "1", **given) == f"{version} -port 1\n"
        assert [folder for folder in data if not (folder / "below" / "file").exists()] == []
    assert names(place) - before == {FOLDER}
    assert len(names(place / FOLDER)) == 1


def test_its_folder_has_a_name_that_no_bucket_can_have(binary: Binary, tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    said(binary("1"), S3D_UNPACK_DIR=str(tmp_path / "srv"))
    (name,) = names(tmp_path / "srv")
    assert not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name)


def test_a_folder_whose_name_is_not_its_own_stays(binary: Binary, tmp_path: Path) -> None:
    given = (
        *("nodes", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 31 + "-", f"{'0' * 32}.old"),
        *(".cache", ".new", ".new-", ".new-1", ".new-1-", ".new--1", ".new-1-x", ".new-1-1-1"),
        *(".new-1-1~", ".new-x-1", ".newer-1-1", ".old-1", ".old-1_1", "new-1-1", "x.old-1-1"),
    )
    kept = {name: filled(tmp_path / FOLDER / name) for name in given}
    said(binary("1"), S3D_UNPACK_DIR=str(tmp_path))
    assert [name for name in given if not (kept[name] / "below" / "file").exists()] == []


def test_what_older_ones_and_unpackers_that_died_left_goes(binary: Binary, tmp_path: Path) -> None:
    old, held = "0123456789abcdef" * 2, "1" * 32
    for name in (old, held, ".new-12-345678901", ".old-1-0"):
        filled(tmp_path / FOLDER / name)
    descriptor = os.open(tmp_path / FOLDER / held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    said(binary("1"), S3D_UNPACK_DIR=str(tmp_path))
    os.close(descriptor)
    left = names(tmp_path / FOLDER)
    assert held in left
    assert len(left) == 2
    assert not left & {old, ".new-12-345678901", ".old-1-0"}


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"S3D_UNPACK_DIR": "a", "CACHE_DIRECTORY": "b"}, f"a/{FOLDER}"),
        ({"CACHE_DIRECTORY": "a", "XDG_CACHE_HOME": "b"}, f"a/{FOLDER}"),
        ({"XDG_CACHE_HOME": "b", "HOME": "c"}, f"b/{FOLDER}"),
        ({"HOME": "c", "TMPDIR": "d"}, f"c/.cache/{FOLDER}"),
        ({"TMPDIR": "d"}, f"d/{FOLDER}-{os.geteuid()}"),
    ],
)
def test_every_place_gets_a_folder_of_that_name(
    binary: Binary, tmp_path: Path, given: Mapping[str, str], used: str
) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    said(binary("1"), **{name: str(tmp_path / value) for name, value in given.items()})
    (folder,) = (tmp_path / used).iterdir()
    assert names(folder) == {"s3d"}


def test_first_starts_at_the_same_time_all_run(binary: Binary, tmp_path: Path) -> None:
    for turn in range(10):
        file, place = binary(f"{turn}"), tmp_path / f"place-{turn}"
        place.mkdir()
        started = [
            subprocess.Popen(
                [file, "run"],
                env={"PATH": os.environ["PATH"], "S3D_UNPACK_DIR": str(place)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(8)
        ]
        assert {process.communicate()[0] for process in started} == {f"{turn} run\n"}
        assert len(list((place / FOLDER).iterdir())) == 1


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o744])
def test_its_folder_is_made_ours_alone(binary: Binary, tmp_path: Path, mode: int) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER).chmod(mode)
    said(binary("1"), S3D_UNPACK_DIR=str(tmp_path))
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_nothing_is_run_where_others_may_write(binary: Binary, tmp_path: Path, mode: int) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER).chmod(mode)
    done = subprocess.run(
        [binary("1")],
        env={"PATH": os.environ["PATH"], "S3D_UNPACK_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 73
    assert "others may write there" in done.stderr
    assert names(tmp_path / FOLDER) == set()


@pytest.mark.parametrize(("mode", "is_run"), [(0o777, False), (0o770, False), (0o1777, True)])
def test_nothing_is_run_where_others_may_put_another_folder(
    binary: Binary, tmp_path: Path, mode: int, is_run: bool
) -> None:
    (tmp_path / "open" / "place").mkdir(parents=True)
    (tmp_path / "open").chmod(mode)
    done = subprocess.run(
        [binary("1")],
        env={"PATH": os.environ["PATH"], "S3D_UNPACK_DIR": str(tmp_path / "open" / "place")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if is_run else 73)
    assert ("others may write above it" in done.stderr) is not is_run


def planted(folder: Path) -> None:
    (folder / "libcrypto.so.3").write_text("not of the index")


def planted_below(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "file").symlink_to("/etc/hostname")


def writable(folder: Path) -> None:
    (folder / "s3d").chmod(0o777)


def open_folder(folder: Path) -> None:
    folder.chmod(0o777)


def cut_short(folder: Path) -> None:
    (folder / "s3d").write_text("")


@pytest.mark.parametrize("change", [planted, planted_below, writable, open_folder, cut_short])
def test_a_folder_that_others_may_have_changed_is_unpacked_anew(
    binary: Binary, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    file, given = binary("1"), {"S3D_UNPACK_DIR": str(tmp_path)}
    said(file, **given)
    (folder,) = (tmp_path / FOLDER).iterdir()
    change(folder)
    assert said(file, **given) == "1 \n"
    (folder,) = (tmp_path / FOLDER).iterdir()
    assert names(folder) == {"s3d"}
    assert (folder / "s3d").stat().st_mode & 0o777 == 0o700


def test_what_was_looked_at_is_run_and_not_what_has_its_name_by_then(
    start: bytes, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "s3d").write_text('#!/bin/sh\necho "$0"\n')
    (tmp_path / "files" / "s3d").chmod(0o755)
    (tmp_path / "one").write_bytes(load("onefile").whole(start, tmp_path / "files", stored))
    (tmp_path / "one").chmod(0o755)
    found = said(tmp_path / "one", S3D_UNPACK_DIR=str(tmp_path))
    assert re.fullmatch(r"/dev/fd/\d+/s3d\n", found), "by the descriptor of the folder"
