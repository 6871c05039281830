"""What a page of a listing reads, in steps of the database's cursors, whatever lies below it."""

from __future__ import annotations

from pathlib import Path

import pytest

from predastore.catalog.keys import VERSIONS
from predastore.catalog.rows import Versioning
from predastore.s3db.keys import Walk
from support.backends import Harness, distributed, run, some_bytes

KEYS = 12
PAGE = 10


async def with_old_versions(at: Harness, count: int) -> None:
    """Of each key a current version and so many below it, every other one a delete marker."""
    await at.version(Versioning.ENABLED)
    for number in range(KEYS):
        for turn in range(count):
            if turn % 2:
                await at.catalog.delete("bucket", f"k{number:02d}")
            else:
                await at.put(f"k{number:02d}", some_bytes(50))
        await at.put(f"k{number:02d}", some_bytes(60))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of all cursors."""
    taken: list[str] = []
    for name in ("seek", "next", "value"):
        step = getattr(Walk, name)

        def counted(walk: Walk, *where: bytes, name: str = name, step: object = step) -> object:
            taken.append(name)
            return step(walk, *where)  # type: ignore[operator]

        monkeypatch.setattr(Walk, name, counted)
    return taken


def test_a_page_of_objects_reads_no_more_where_there_are_more_old_versions(
    tmp_path: Path, steps: list[str]
) -> None:
    async def cost(count: int) -> int:
        async with distributed(tmp_path / str(count), inline_max=100, grace_s=3600.0) as at:
            await with_old_versions(at, count)
            rows = await at.table(VERSIONS)
            assert len(rows) == KEYS * (count + 1)
            steps.clear()
            listing = await at.catalog.list("bucket", limit=PAGE)
            assert (len(listing.entries), listing.truncated) == (PAGE, True)
            return len(steps)

    async def main() -> None:
        assert await cost(1) == await cost(40)

    run(main())


def test_a_page_of_versions_reads_what_it_tells_and_no_more(
    tmp_path: Path, steps: list[str]
) -> None:
    async def cost(count: int) -> int:
        async with distributed(tmp_path / str(count), inline_max=100, grace_s=3600.0) as at:
            await with_old_versions(at, count)
            permit = await at.permit()
            steps.clear()
            listing = await at.catalog.list_versions(permit, limit=PAGE)
            assert (len(listing.versions), listing.truncated) == (PAGE, True)
            return len(steps)

    async def main() -> None:
        assert await cost(1) == await cost(40)

    run(main())
