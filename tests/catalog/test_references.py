"""Copies by reference: versions that name one layout, and move no bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from predastore.catalog.errors import LayoutGone, NoSuchBucket, NoSuchKey
from predastore.catalog.keys import OBJECTS, REFS
from predastore.catalog.procedures.arguments import CompletedPart, Condition
from predastore.catalog.rows import Versioning
from predastore.catalog.values import Attributes, Stored
from support.backends import (
    OWNER,
    BytesSource,
    Harness,
    distributed,
    failing,
    filesystem,
    run,
    some_bytes,
)

DATA = some_bytes(100_000)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.catalog.procedures.completion.S3_PART_BYTES_MIN", 1)


def check(base: Path, test: Callable[[Harness], Awaitable[None]]) -> None:
    async def main() -> None:
        async with distributed(base) as at:
            await test(at)

    run(main())


async def copy(
    at: Harness, source: str, to: str, attributes: Attributes = OWNER, **more: Any
) -> Stored:
    return await at.catalog.copy(await at.found(source), "bucket", to, attributes, **more)


async def gone(at: Harness) -> None:
    """No byte, and no row that tells of one, is left."""
    await at.no_garbage()
    await at.holds_extents(0)
    assert await at.table(REFS) == {}
    assert await at.table(OBJECTS) == {}


def test_a_copy_moves_no_bytes(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        assert at.nodes is not None
        source = await at.put("from", DATA)
        for node in at.nodes.nodes.values():
            node.calls.clear()
        assert at.catalog.can_share(await at.found("from"))
        copied = await copy(at, "from", "to", Attributes("me", "text/html", {}, {"a": "b"}))
        assert (copied.etag, copied.size) == (source.etag, len(DATA))
        assert all(not node.calls for node in at.nodes.nodes.values())
        version = await at.found("to")
        assert (version.owner, version.detail.user) == ("me", {"a": "b"})
        assert version.row.layout == (await at.found("from")).row.layout
        assert await at.get("to") == DATA
        await at.holds_extents(1)

    check(tmp_path, test)


@pytest.mark.parametrize("first", ["from", "to"])
def test_the_last_of_them_takes_the_bytes_along(tmp_path: Path, first: str) -> None:
    async def test(at: Harness) -> None:
        await at.put("from", DATA)
        await copy(at, "from", "to")
        await copy(at, "to", "third")
        await at.catalog.delete("bucket", first)
        assert await at.due() == []
        for key in {"from", "to", "third"} - {first}:
            assert await at.get(key) == DATA
        await at.put("third", b"another")
        left = "to" if first == "from" else "from"
        assert await at.get(left) == DATA
        await at.holds_extents(2)
        await at.catalog.delete("bucket", left)
        await at.catalog.delete("bucket", "third")
        await gone(at)

    check(tmp_path, test)


def test_an_object_is_copied_onto_itself(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await at.put("k", DATA)
        for number in range(3):
            await copy(at, "k", "k", Attributes("me", f"text/{number}"))
            assert (await at.found("k")).detail.content_type == f"text/{number}"
            assert await at.get("k") == DATA
        assert await at.due() == []
        await at.holds_extents(1)
        await at.catalog.delete("bucket", "k")
        await gone(at)

    check(tmp_path, test)


def test_versions_of_one_key_share_a_layout(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await at.put("k", DATA)
        await at.version(Versioning.ENABLED)
        second = await copy(at, "k", "k")
        third = await copy(at, "k", "k")
        await at.catalog.delete("bucket", "k", "null")
        await at.catalog.delete("bucket", "k", third.version_id)
        assert await at.get("k") == DATA
        await at.holds_extents(1)
        await at.catalog.delete("bucket", "k", second.version_id)
        await gone(at)

    check(tmp_path, test)


def test_a_source_that_went_meanwhile_is_told(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await at.put("from", DATA)
        version = await at.found("from")
        await at.catalog.delete("bucket", "from")
        await failing(LayoutGone, at.catalog.copy(version, "bucket", "to", OWNER))
        assert await at.find("to") is None
        await gone(at)

    check(tmp_path, test)


def test_a_source_whose_layout_others_have_is_copied_though_it_went(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await at.put("from", DATA)
        version = await at.found("from")
        await copy(at, "from", "other")
        await at.catalog.delete("bucket", "from")
        await at.catalog.copy(version, "bucket", "to", OWNER)
        await at.catalog.delete("bucket", "other")
        assert await at.get("to") == DATA
        await at.catalog.delete("bucket", "to")
        await gone(at)

    check(tmp_path, test)


def test_a_copy_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await at.put("from", DATA)
        before = await at.table(OBJECTS)
        version = await at.found("from")
        await failing(NoSuchBucket, at.catalog.copy(version, "other", "to", OWNER))
        present = Condition(if_match="*")
        await failing(NoSuchKey, copy(at, "from", "to", condition=present))
        assert await at.table(OBJECTS) == before
        assert await at.table(REFS) == {}

    check(tmp_path, test)


def test_what_was_made_of_parts_keeps_them(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        upload = await at.begin("from", OWNER, "crc32", "COMPOSITE")
        parts = []
        for number in (1, 5):
            part = await at.catalog.put_part(upload, number, BytesSource(DATA), len(DATA))
            parts.append(CompletedPart(number, part.etag))
        made = await at.catalog.complete(upload, parts)
        await at.catalog.create_bucket("other", OWNER.owner, "us-east-1")
        copied = await at.catalog.copy(await at.found("from"), "other", "to", OWNER)
        assert (copied.etag, copied.checksums) == (made.etag, made.checksums)
        await at.catalog.delete("bucket", "from")
        await at.catalog.delete_bucket("bucket")
        version = await at.found("to", "other")
        assert version.part_count == 2
        placed = await at.catalog.part(version, 5)
        assert placed is not None
        assert placed.start == len(DATA)
        assert await at.get("to", bucket="other") == 2 * DATA
        await at.catalog.delete("other", "to")
        await at.no_garbage()
        await at.holds_extents(0)

    check(tmp_path, test)


def test_whoever_copies_and_deletes_at_once_the_bytes_are_there_as_long_as_wanted(
    tmp_path: Path,
) -> None:
    async def test(at: Harness) -> None:
        for _ in range(20):
            await at.put("k0", DATA[:5000])
            version = await at.found("k0")
            done = await asyncio.gather(
                at.catalog.copy(version, "bucket", "k1", OWNER),
                at.catalog.delete("bucket", "k0"),
                at.catalog.copy(version, "bucket", "k2", OWNER),
                at.catalog.copy(version, "bucket", "k1", OWNER),
                at.catalog.delete("bucket", "k2"),
                return_exceptions=True,
            )
            assert all(not isinstance(each, Exception) or type(each) is LayoutGone for each in done)
            for key in await at.keys():
                assert await at.get(key) == DATA[:5000]
                await at.catalog.delete("bucket", key)
        await gone(at)

    check(tmp_path, test)


def test_plain_files_are_not_shared(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", DATA)
            assert not at.catalog.can_share(await at.found("k"))

    run(main())
