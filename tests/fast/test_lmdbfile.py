"""lmdb files, whole and damaged: what the kernel says of them, what its twin says, and lmdb."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from predastore._fast import lmdbfile
from predastore.base.lmdbfile import sealed
from reference import lmdbfile as reference

NAMES = (b"a", b"b", b"c")
SIZES = (0, 1, 100, 1500, 3000, 6000)
PAGE = 4096


def check(file: Path, with_crcs: bool = False) -> int:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return lmdbfile.check(descriptor, with_crcs)
    finally:
        os.close(descriptor)


def verdict(of: Callable[..., int], *what: object) -> int | None:
    try:
        return of(*what)
    except ValueError:
        return None


def churned(folder: Path, seed: int, *, subdir: bool = True) -> Iterator[tuple[Path, int]]:
    """A file after each of many commits, with readers and aborted ones in between, and how many
    entries it has."""
    chance = random.Random(seed)
    file = folder / "data.mdb"
    env = lmdb.open(
        str(folder if subdir else file), subdir=subdir, map_size=1 << 26, max_dbs=8, sync=False
    )
    keys = [chance.randbytes(chance.choice([1, 8, 50, 200, 500])) for _ in range(100)]
    readers: list[lmdb.Transaction] = []
    with closing(env):
        tables = [env.open_db(name) for name in NAMES]
        for _ in range(40):
            with env.begin(write=True) as txn:
                for _ in range(chance.choice([1, 5, 100, 400])):
                    key, table = chance.choice(keys), chance.choice(tables)
                    if chance.random() < 0.4:
                        txn.delete(key, db=table)
                    else:
                        size = chance.choice([*SIZES, 40_000 if chance.random() < 0.2 else 5])
                        txn.put(key, sealed(key, chance.randbytes(size)), db=table)
                if chance.random() < 0.03:
                    txn.drop(chance.choice(tables), delete=False)
                if chance.random() < 0.1:
                    txn.abort()
            if chance.random() < 0.2:
                readers.append(env.begin())
            if readers and chance.random() < 0.2:
                readers.pop(0).abort()
            with env.begin() as txn:
                count = sum(txn.stat(table)["entries"] for table in tables)
            yield file, count
        while readers:
            readers.pop().abort()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_lmdb_leaves_is_whole(tmp_path: Path, seed: int) -> None:
    for file, count in churned(tmp_path, seed, subdir=seed % 2 == 0):
        assert check(file, with_crcs=True) == count
    copy = tmp_path / "copy.mdb"
    with closing(lmdb.open(str(file), subdir=False, readonly=True, lock=False)) as env:
        env.copy(str(copy), compact=True) if seed % 2 else shutil.copy(file, copy)
    assert check(copy, with_crcs=True) == count
    assert reference.check(file.read_bytes(), True) == count


def test_a_file_whose_last_pages_were_let_go_of_before_they_were_written_is_whole(
    tmp_path: Path,
) -> None:
    """lmdb counts them, and the file ends before them."""
    file = tmp_path / "data.mdb"
    with closing(lmdb.open(str(tmp_path), map_size=1 << 20, max_dbs=1)) as env:
        table = env.open_db(b"a")
        for size, is_kept in ((10, True), (200_000, True), (0, False), (20_000, False)):
            with env.begin(write=True) as txn:
                txn.put(b"%d" % is_kept, bytes(size), db=table)
                if not is_kept:
                    txn.delete(b"0", db=table)
                    txn.delete(b"1", db=table)
    found = reference.File(file.read_bytes())
    assert found.last >= found.pages
    assert check(file) == 0


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("good")
    *_, (file, _) = churned(folder, 7)
    return file.read_bytes()


def damaged(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    page = chance.randrange(len(data) // PAGE) * PAGE
    kind = chance.choice(["bit", "bytes", "head", "metas", "zeros", "noise", "another", "cut"])
    if kind == "bit":
        changed[page + chance.randrange(PAGE)] ^= 1 << chance.randrange(8)
    elif kind == "bytes":
        for _ in range(chance.randrange(1, 5)):
            changed[chance.randrange(len(data))] = chance.randrange(256)
    elif kind == "head":
        changed[page + chance.randrange(64)] = chance.randrange(256)
    elif kind == "metas":
        changed[chance.choice([0, PAGE]) + chance.randrange(152)] = chance.randrange(256)
    elif kind == "zeros":
        changed[page : page + PAGE] = bytes(PAGE)
    elif kind == "noise":
        changed[page : page + PAGE] = chance.randbytes(PAGE)
    elif kind == "another":
        other = chance.randrange(len(data) // PAGE) * PAGE
        changed[page : page + PAGE] = data[other : other + PAGE]
    else:
        del changed[chance.randrange(len(data)) :]
    return bytes(changed)


@pytest.mark.parametrize("with_crcs", [False, True])
def test_damage_is_judged_as_the_reference_judges_it(
    tmp_path: Path, good: bytes, with_crcs: bool
) -> None:
    chance = random.Random(1)
    found = 0
    for _ in range(100):
        data = damaged(chance, good)
        (tmp_path / "data.mdb").write_bytes(data)
        said = verdict(check, tmp_path / "data.mdb", with_crcs)
        assert said == verdict(reference.check, data, with_crcs)
        found += said is None
    assert 20 < found < 100, "some of it is in pages that nobody uses"


def test_what_is_taken_for_whole_harms_lmdb_in_no_way(tmp_path: Path, good: bytes) -> None:
    chance = random.Random(2)
    passed = 0
    for number in range(60):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "data.mdb").write_bytes(damaged(chance, good))
        if verdict(check, folder / "data.mdb") is None:
            continue
        passed += 1
        child = os.fork()  # what ends by a signal is not the test
        if not child:
            os._exit(used(folder))
        _, status = os.waitpid(child, 0)
        assert status == 0, folder
    assert passed > 5


def used(folder: Path) -> int:
    """1 where lmdb complains."""
    try:
        with closing(lmdb.open(str(folder), map_size=1 << 26, max_dbs=8, sync=False)) as env:
            tables = [env.open_db(name) for name in NAMES]
            with env.begin() as txn:
                held = [key for table in tables for key, _ in txn.cursor(db=table)]
            for number, key in enumerate(held):
                with env.begin(write=True) as txn:
                    txn.put(key, bytes(number % 9000), db=tables[number % 3])
                    txn.delete(key, db=tables[(number + 1) % 3])
    except lmdb.Error:
        return 1
    return 0


def test_a_bit_of_any_value_or_key_that_flips_is_found(tmp_path: Path) -> None:
    with closing(lmdb.open(str(tmp_path), map_size=1 << 20, max_dbs=1)) as env:
        table = env.open_db(b"a")
        with env.begin(write=True) as txn:
            for n in range(20):
                txn.put(b"key %d" % n, sealed(b"key %d" % n, b"value %d" % n), db=table)
    file = tmp_path / "data.mdb"
    data = file.read_bytes()
    assert check(file, with_crcs=True) == 20
    for n in range(20):
        for what in (b"key %d" % n, b"value %d" % n):
            changed = bytearray(data)
            changed[data.rindex(what)] ^= 0x20
            file.write_bytes(changed)
            assert verdict(check, file, True) is None


def test_it_says_what_is_wrong_and_where(tmp_path: Path, good: bytes) -> None:
    file = tmp_path / "data.mdb"
    for data, said in (
        (b"", "page 0 is beyond the end of the file, which was cut short"),
        (bytes(10_000), "page 0 is no first page of such a file"),
        (good[:PAGE], "page 1 is beyond the end of the file, which was cut short"),
        (good[: 3 * PAGE], "which was cut short"),
    ):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=said):
            check(file)


def test_what_can_not_be_read_is_told_apart(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="directory"):
        lmdbfile.check(descriptor, False)
    os.close(descriptor)
    with pytest.raises(OSError, match="descriptor"):
        lmdbfile.check(descriptor, False)
