"""What a store of files has left on its disk, and processes over it that end in the middle."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from predastore.catalog.files import Files
from predastore.catalog.keys import VERSIONS
from predastore.catalog.rows import Kind, VersionRow
from predastore.storage.extents import FileExtent
from predastore.storage.formats import decode
from support.backends import Harness, filesystem

# Where a process dies in a change: between any two of its steps.
CRASHES = ["before the commit", "before the move", "after the move", "before the release"]


class Crash(BaseException):
    """The process ends here."""


async def dies(*_: object, **__: object) -> None:
    raise Crash


def files_below(base: Path) -> set[str]:
    """Every file of an object or on the way there; directories may go meanwhile."""
    found = (Path(top) / name for top, _, names in os.walk(base) for name in names)
    relative = {str(path.relative_to(base)) for path in found}
    return {name for name in relative if not name.startswith(".predastore/state")}


async def path_of(at: Harness, key: str, version_id: str = "") -> str:
    """Of an object that was put whole."""
    version = await at.found(key, version_id=version_id)
    assert version.placement is not None
    (extent,) = version.placement.extents
    assert isinstance(extent, FileExtent)
    return extent.path


async def put_at(at: Harness, key: str, data: bytes) -> str:
    """Puts an object, and the path that it has."""
    await at.put(key, data)
    return await path_of(at, key)


async def paths(at: Harness) -> set[str]:
    """Of all files that some version names, of any bucket that there is or was."""
    found = set()
    for stored in (await at.table(VERSIONS)).values():
        row = decode(VersionRow, stored)
        extents = await Files(at.state).placed(row.layout) if row.kind is Kind.PLACED else ()
        found |= {extent.path for extent in extents if isinstance(extent, FileExtent)}
    return found


async def crash_at(base: Path, where: str, work: Callable[[Harness], Awaitable[object]]) -> None:
    """Runs `work` up to one of CRASHES: the store's threads do nothing more then."""
    async with filesystem(base) as at:
        await at.garbage.close()
        publication = at.store.publication
        files = at.store.files

        def refuses(*_: object, **__: object) -> None:
            raise Crash

        if where == "before the commit":
            at.state.call = dies
        elif where == "before the move":
            publication.publish = dies
        elif where == "after the move":
            move = files.move

            def moves_and_dies(source: str, target: str) -> None:
                move(source, target)
                raise Crash

            files.move = moves_and_dies
        elif where == "before the release":
            at.garbage.retire = dies
        publication.forget = dies  # a dead process cleans up nothing
        files.remove = refuses
        with pytest.raises(Crash):
            await work(at)
        at.catalog._tasks.clear()
