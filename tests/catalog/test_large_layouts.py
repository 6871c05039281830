"""Objects of more parts than a page of a placement has."""

from __future__ import annotations

from contextlib import aclosing
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from predastore.catalog import keys
from predastore.catalog.keys import OBJECTS
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.rows import PlacementRow
from predastore.catalog.values import ObjectVersion
from predastore.storage.formats import decode
from support.backends import BACKENDS, BytesSource, Harness, run, some_bytes

PAGE = 3
SIZES = (10, 1, 700, 5, 300, 2, 9, 1, 40, 0)
NUMBERS = (1, 2, 4, 7, 8, 100, 101, 5000, 9999, 10_000)
STARTS = (0, *accumulate(SIZES))[:-1]
BODIES = [some_bytes(size, number) for number, size in enumerate(SIZES)]
WHOLE = b"".join(BODIES)


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda: BACKENDS[request.param](tmp_path)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.catalog.procedures.completion.S3_PART_BYTES_MIN", 0)
    monkeypatch.setattr("predastore.catalog.procedures.completion.PLACEMENT_PAGE_EXTENTS", PAGE)


async def made(at: Harness) -> ObjectVersion:
    """An object of four pages."""
    upload = await at.begin("k")
    parts = []
    for number, body in zip(NUMBERS, BODIES, strict=True):
        part = await at.catalog.put_part(upload, number, BytesSource(body), len(body))
        parts.append(CompletedPart(number, part.etag))
    await at.catalog.complete(upload, parts)
    return await at.found("k")


def test_ranges_over_the_borders_of_pages_are_read(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            version = await made(at)
            assert version.placement is not None
            assert len(version.placement.pages) == 4
            edges = sorted({*STARTS, *(start + 1 for start in STARTS), len(WHOLE)} - {0})
            for start in (0, *edges):
                for end in edges:
                    if start <= end <= len(WHOLE):
                        assert await at.read(version, start, end) == WHOLE[start:end]

    run(main())


def test_a_part_is_found_wherever_it_is(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            version = await made(at)
            for number, start, size in zip(NUMBERS, STARTS, SIZES, strict=True):
                placed = await at.catalog.part(version, number)
                assert placed is not None
                assert (placed.start, placed.part.number, placed.part.size) == (start, number, size)
            for number in (0, 3, 6, 9, 99, 102, 5001, 10_001):
                assert await at.catalog.part(version, number) is None

    run(main())


def test_parts_are_listed_page_by_page(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            version = await made(at)
            for limit in range(1, len(NUMBERS) + 2):
                seen: list[tuple[int, int]] = []
                after, has_more = 0, True
                while has_more:
                    placed, has_more = await at.catalog.parts(version, after, limit)
                    assert len(placed) <= limit
                    seen += [(each.part.number, each.start) for each in placed]
                    after = placed[-1].part.number
                assert seen == [*zip(NUMBERS, STARTS, strict=True)]
            assert await at.catalog.parts(version, 10_000, 5) == ([], False)
            assert (await at.catalog.parts(version, 3, 1))[0][0].part.number == 4

    run(main())


def test_what_was_found_without_its_place_has_parts_and_bytes(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await made(at)
            version = (await at.catalog.find("bucket", "k", needs_bytes=False)).version
            assert version is not None
            assert version.placement is None
            placed = await at.catalog.part(version, 5000)
            assert placed is not None
            assert placed.start == STARTS[7]
            assert len((await at.catalog.parts(version, 0, 100))[0]) == len(NUMBERS)
            assert await at.read(version, 3, 700) == WHOLE[3:700]

    run(main())


def test_what_was_put_whole_has_no_parts(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            for data in (b"", b"data"):
                await at.put("k", data)
                version = await at.found("k")
                assert await at.catalog.part(version, 1) is None
                assert await at.catalog.parts(version, 0, 10) == ([], False)

    run(main())


def test_all_pages_go_with_their_layout_and_no_reader_loses_one(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            version = await made(at)
            layout = version.row.layout
            assert len(await at.table(OBJECTS, layout)) == 4
            async with aclosing(await at.catalog.open_read(version, 0, version.size)) as stream:
                got = bytes(await anext(stream))
                await at.catalog.delete("bucket", "k")
                assert await at.table(OBJECTS, layout) == {}
                async for buffer in stream:
                    got += buffer
            assert got == WHOLE
            await at.no_garbage()
            await at.holds_extents(0)
            assert await at.table(OBJECTS) == {}

    run(main())


def test_each_page_says_what_is_in_it(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            version = await made(at)
            stored = await at.table(OBJECTS, version.row.layout)
            pages = [
                decode(PlacementRow, stored[keys.page(version.row.layout, number)])
                for number in range(4)
            ]
            assert [len(page.extents) for page in pages] == [3, 3, 3, 1]
            assert [part.number for page in pages for part in page.parts] == [*NUMBERS]
            assert pages[0].pages == tuple(
                (STARTS[at], NUMBERS[at]) for at in range(0, len(NUMBERS), PAGE)
            )
            assert {page.pages for page in pages[1:]} == {()}
            assert {(page.bucket, page.key) for page in pages} == {("bucket", "k")}

    run(main())
