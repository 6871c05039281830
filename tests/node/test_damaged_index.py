"""An index that was damaged in any way is thrown away and built again; it ends nobody."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from node_support import Shards, fill, opened, read_back, run, some_shards

from predastore._fast import lmdbfile
from predastore.base.errors import StartupError
from predastore.node.judging import RecoveryReport

PAGE = 4096
SHARDS = some_shards(60)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node that was stopped in order."""
    path = tmp_path_factory.mktemp("node")
    run(written(path, SHARDS))
    return path


async def written(path: Path, shards: Shards) -> None:
    async with opened(path) as store:
        await fill(store, shards)


async def started(path: Path) -> RecoveryReport:
    """Every shard is there, and there again after another start."""
    async with opened(path) as store:
        report = store.recovery
        assert [
            ref for ref, blocks in SHARDS.items() if not await read_back(store, ref, blocks)
        ] == []
    async with opened(path) as store:
        assert not store.recovery.rebuilt
        assert [
            ref for ref, blocks in SHARDS.items() if not await read_back(store, ref, blocks)
        ] == []
    return report


def copied(whole: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A node to damage, and the file of its index."""
    shutil.copytree(whole, tmp_path / "node")
    return tmp_path / "node", tmp_path / "node" / "index" / "data.mdb"


def cut(to: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda file: os.truncate(file, to(file.stat().st_size))


def filled_with(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content * (file.stat().st_size // len(content)))


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def _lock_is_a_directory(file: Path) -> None:
    lock = file.with_name("lock.mdb")
    lock.unlink()
    lock.mkdir()
    (lock / "file").touch()


def _folder_is_a_file(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.write_bytes(b"what is this?")


def _folder_leads_nowhere(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.symlink_to(file.parent.with_name("no such place"))


def _another_programs(file: Path) -> None:
    shutil.rmtree(file.parent)
    with lmdb.open(str(file.parent)) as env, env.begin(write=True) as txn:
        txn.put(b"of", b"another program")


def _emptied(file: Path) -> None:
    with lmdb.open(str(file.parent), max_dbs=4) as env:
        shards = env.open_db(b"shards")
        with env.begin(write=True) as txn:
            txn.drop(shards, delete=False)


@pytest.mark.parametrize(
    "damage",
    [
        cut(lambda size: size // 2),
        cut(lambda size: size - 1),
        cut(lambda size: 2 * PAGE),
        cut(lambda size: 2 * PAGE - 1),
        cut(lambda size: PAGE),
        cut(lambda size: 0),
        filled_with(b"\0"),
        filled_with(b"\xff"),
        filled_with(b"garbage!"),
        _directory,
        _pipe,
        _lock_is_a_directory,
        _folder_is_a_file,
        _folder_leads_nowhere,
        _another_programs,
        _emptied,
    ],
)
def test_an_index_that_is_no_longer_what_it_was_is_built_again(
    whole: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path, file = copied(whole, tmp_path)
    damage(file)
    assert run(started(path)).rebuilt


def test_whichever_page_is_zero_or_another_the_node_starts_with_all_that_it_has(
    whole: Path, tmp_path: Path
) -> None:
    path, file = copied(whole, tmp_path)
    good = file.read_bytes()
    pages = len(good) // PAGE
    rebuilt = 0
    for number in range(2 * pages):
        content = bytearray(good)
        other = good[(number + 1) % pages * PAGE :][:PAGE] if number % 2 else bytes(PAGE)
        content[number // 2 * PAGE : number // 2 * PAGE + PAGE] = other
        file.write_bytes(content)
        rebuilt += run(started(path)).rebuilt
    assert rebuilt >= 4, "both meta pages, and what they point at"


def test_a_bit_that_flips_anywhere_is_noticed_or_in_nobodys_way(
    whole: Path, tmp_path: Path
) -> None:
    path, file = copied(whole, tmp_path)
    good = file.read_bytes()
    chance = random.Random(5)
    used = [at for at in range(len(good)) if good[at]]
    for at in chance.sample(used, 60):
        content = bytearray(good)
        content[at] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        run(started(path))


@pytest.mark.parametrize("where", ["check", "lmdb"])
def test_an_index_is_kept_where_descriptors_lack(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path, file = copied(whole, tmp_path)
    before = file.read_bytes()
    error = lmdb.Error("Too many open files")
    error.code = errno.EMFILE

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files") if where == "check" else error

    name = "predastore._fast.lmdbfile.check" if where == "check" else "lmdb.open"
    with monkeypatch.context() as patched:
        patched.setattr(name, refused)
        with pytest.raises(StartupError, match="Too many open files"):
            run(written(path, {}))
    assert file.read_bytes() == before
    assert not run(started(path)).rebuilt


@pytest.mark.parametrize(
    ("name", "number"), [("os.open", errno.EACCES), ("_fast.lmdbfile.check", errno.EIO)]
)
def test_an_index_that_can_not_be_read_is_built_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    path, file = copied(whole, tmp_path)
    module, _, function = name.rpartition(".")
    name = f"predastore.{name}" if module.startswith("_fast") else name
    real = os.open if name == "os.open" else lmdbfile.check
    refusals = []

    def refused(what: object, *arguments: object) -> object:
        if not refusals and (what == file or function == "check"):
            refusals.append(what)
            raise OSError(number, os.strerror(number), str(file))
        return real(what, *arguments)

    monkeypatch.setattr(name, refused)
    assert run(started(path)).rebuilt
    assert refusals


def test_what_can_not_be_removed_is_put_aside(whole: Path, tmp_path: Path) -> None:
    path, file = copied(whole, tmp_path)
    os.truncate(file, 100)
    with pytest.MonkeyPatch.context() as patched:

        def refused(self: Path) -> None:
            raise PermissionError(errno.EACCES, "no", str(self))

        patched.setattr(Path, "iterdir", refused)
        assert run(started(path)).rebuilt
    assert [entry.name for entry in path.iterdir() if entry.name.startswith("index")] == ["index"]


def test_a_link_to_a_faster_disk_stays(whole: Path, tmp_path: Path) -> None:
    path, file = copied(whole, tmp_path)
    (tmp_path / "fast").mkdir()
    shutil.move(file.parent, tmp_path / "fast" / "index")
    file.parent.symlink_to(tmp_path / "fast" / "index")
    os.truncate(file, 3 * PAGE)
    assert run(started(path)).rebuilt
    assert file.parent.is_symlink()
    assert (tmp_path / "fast" / "index" / "data.mdb").exists()
