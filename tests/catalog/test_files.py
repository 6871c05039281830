"""What rows say of files: whose a plain path is, and what lies where."""

from __future__ import annotations

from pathlib import Path

import pytest

from predastore.catalog import keys
from predastore.catalog.files import Files
from predastore.catalog.procedures import completion
from predastore.catalog.procedures.arguments import CompletedPart
from predastore.catalog.rows import Versioning
from support.backends import BytesSource, Harness, filesystem, run

ENABLED, SUSPENDED = Versioning.ENABLED, Versioning.SUSPENDED


async def plain(at: Harness, key: str = "k") -> list[int]:
    """The sizes of what may lie at a key's plain path."""
    return [extent.size for extent in await Files(at.state).plain("bucket", key)]


def test_the_path_is_that_of_the_version_from_before_there_were_any(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            assert await plain(at) == []
            await at.put("k", b"1")
            await at.put("k", b"22")
            assert await plain(at) == [2]
            await at.version(ENABLED)
            await at.put("k", b"333")
            await at.put("new", b"1")
            assert (await plain(at), await plain(at, "new")) == ([2], [])
            await at.catalog.delete("bucket", "k")
            assert await plain(at) == [2]
            await at.version(SUSPENDED)
            await at.put("k", b"4444")
            assert await plain(at) == []

    run(main())


def test_the_path_is_that_of_the_bucket_that_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", b"1")
            layout = (await at.found("k")).row.layout
            assert len(await Files(at.state).placed(layout)) == 1
            await at.catalog.delete("bucket", "k")
            await at.catalog.delete_bucket("bucket")
            assert await Files(at.state).placed(layout) == []
            assert await plain(at) == []
            await at.catalog.create_bucket("bucket", "another", "us-east-1")
            assert await plain(at) == []
            await at.put("k", b"22")
            assert await plain(at) == [2]

    run(main())


def test_all_pages_of_a_layout_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "PLACEMENT_PAGE_EXTENTS", 2)
    monkeypatch.setattr(completion, "S3_PART_BYTES_MIN", 1)

    async def main() -> None:
        async with filesystem(tmp_path) as at:
            upload = await at.begin("k")
            parts = []
            for number in range(1, 6):
                body = BytesSource(bytes(number))
                row = await at.catalog.put_part(upload, number, body, number)
                place = keys.part(upload.permit.row.id, upload.row.upload_id, number)
                assert await Files(at.state).part(place) == row.extent
                parts.append(row)
            await at.catalog.complete(upload, [CompletedPart(r.number, r.etag) for r in parts])
            layout = (await at.found("k")).row.layout
            assert await Files(at.state).placed(layout) == [row.extent for row in parts]
            assert await Files(at.state).part(place) is None

    run(main())


def test_a_bucket_has_something_as_long_as_a_version_or_an_upload_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            has_anything = Files(at.state).has_anything
            assert not await has_anything("bucket")
            assert not await has_anything("none")
            upload = await at.begin("k")
            assert await has_anything("bucket")
            await at.catalog.abort(upload)
            assert not await has_anything("bucket")
            await at.version(ENABLED)
            stored = await at.put("k", b"1")
            await at.catalog.delete("bucket", "k")
            await at.catalog.delete("bucket", "k", stored.version_id)
            assert await has_anything("bucket"), "a delete marker"

    run(main())
