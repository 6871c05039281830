"""What operations cost: calls to the metadata, which are round trips in a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from predastore.catalog.procedures.arguments import CompletedPart, Condition
from predastore.catalog.rows import Versioning
from predastore.catalog.values import Wanted
from support.backends import OWNER, BytesSource, Harness, distributed, filesystem, run, some_bytes
from support.interleaving import CALLS, calls_of

INLINE_MAX = 100
SMALL, LARGE = some_bytes(INLINE_MAX), some_bytes(50_000)


async def costs(at: Harness, work: Awaitable[Any]) -> list[str]:
    """The calls that it makes, in their order."""
    _, calls = await calls_of(at.state, work)
    assert set(calls) <= set(CALLS)
    return calls


@asynccontextmanager
async def opened(base: Path, *, is_versioned: bool) -> AsyncIterator[Harness]:
    async with distributed(base, inline_max=INLINE_MAX, grace_s=3600.0) as at:
        if is_versioned:
            await at.version(Versioning.ENABLED)
        await at.put("large", LARGE)
        await at.put("small", SMALL)
        await at.put("large", LARGE)
        yield at


def check(base: Path, test: Callable[[Harness], Awaitable[None]], *, is_versioned: bool) -> None:
    async def main() -> None:
        async with opened(base, is_versioned=is_versioned) as at:
            await test(at)

    run(main())


both = pytest.mark.parametrize("is_versioned", [False, True])


@both
def test_to_find_and_read_an_object_is_one_round_trip(tmp_path: Path, is_versioned: bool) -> None:
    async def test(at: Harness) -> None:
        for key in ("large", "small"):
            assert await costs(at, at.get(key)) == ["ask"]
            assert await costs(at, at.find(key)) == ["ask"]
            name = (await at.found(key)).version_id
            assert await costs(at, at.get(key, version_id=name)) == ["ask"]
        assert await costs(at, at.find("nothing")) == ["ask"]

    check(tmp_path, test, is_versioned=is_versioned)


@both
def test_a_put_is_one_commit_and_reads_nothing(tmp_path: Path, is_versioned: bool) -> None:
    async def test(at: Harness) -> None:
        for key in ("small", "new"):
            assert await costs(at, at.put(key, SMALL)) == ["call"]
        for key in ("large", "newer"):
            assert await costs(at, at.put(key, LARGE)) == ["call"]

    check(tmp_path, test, is_versioned=is_versioned)


def test_the_bucket_is_read_by_the_first_of_many(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path) as at:
            assert await costs(at, at.put("a", LARGE)) == ["get", "call"]
            assert await costs(at, at.put("b", LARGE)) == ["call"]

    run(main())


@both
def test_a_condition_is_one_read_more(tmp_path: Path, is_versioned: bool) -> None:
    async def test(at: Harness) -> None:
        put = at.put("large", LARGE, condition=Condition(if_match="*"))
        assert await costs(at, put) == ["ask", "call"]

    check(tmp_path, test, is_versioned=is_versioned)


@both
def test_a_copy_is_one_read_and_one_commit(tmp_path: Path, is_versioned: bool) -> None:
    async def test(at: Harness) -> None:
        async def copy(key: str) -> None:
            await at.catalog.copy(await at.found(key), "bucket", "to", OWNER)

        for key in ("large", "small"):
            assert await costs(at, copy(key)) == ["ask", "call"]

    check(tmp_path, test, is_versioned=is_versioned)


@both
def test_a_delete_is_one_commit(tmp_path: Path, is_versioned: bool) -> None:
    async def test(at: Harness) -> None:
        assert await costs(at, at.catalog.delete("bucket", "large")) == ["call"]
        assert await costs(at, at.catalog.delete("bucket", "nothing")) == ["call"]
        many = [Wanted(key) for key in ("large", "small", "nothing")]
        assert await costs(at, at.catalog.delete_many("bucket", many)) == ["call"]

    check(tmp_path, test, is_versioned=is_versioned)


def test_the_next_version_is_current_in_the_commit_that_deletes_the_newest(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        name = (await at.put("large", SMALL)).version_id
        assert await costs(at, at.catalog.delete("bucket", "large", name)) == ["call"]
        assert await at.get("large") == LARGE
        assert await at.keys() == ["large", "small"]

    check(tmp_path, test, is_versioned=True)


@both
def test_tags_are_one_commit(tmp_path: Path, is_versioned: bool) -> None:
    async def test(at: Harness) -> None:
        amend = at.catalog.amend("bucket", "large", tags=(("a", "b"),))
        assert await costs(at, amend) == ["call"]

    check(tmp_path, test, is_versioned=is_versioned)


@both
def test_each_step_of_an_upload_is_one_commit(tmp_path: Path, is_versioned: bool) -> None:
    async def test(at: Harness) -> None:
        assert await costs(at, at.catalog.create_upload("bucket", "u", OWNER)) == ["call"]
        upload = await at.begin("u")
        find = at.catalog.upload("bucket", "u", upload.row.upload_id)
        assert await costs(at, find) == ["read"]
        part = at.catalog.put_part(upload, 1, BytesSource(LARGE), len(LARGE))
        assert await costs(at, part) == ["call"]
        (row,) = (await at.catalog.list_parts(upload)).parts
        complete = at.catalog.complete(upload, [CompletedPart(1, row.etag)])
        assert await costs(at, complete) == ["call"]
        other = await at.begin("u")
        assert await costs(at, at.catalog.abort(other)) == ["call"]

    check(tmp_path, test, is_versioned=is_versioned)


def test_a_page_of_a_listing_is_one_read_and_the_bucket_another(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        permit = await at.permit()
        assert await costs(at, at.catalog.list("bucket", permit=permit)) == ["list", "get"]
        assert await costs(at, at.catalog.list_versions(permit)) == ["ask", "get"]

    check(tmp_path, test, is_versioned=True)


@both
def test_plain_files_cost_no_more_to_find(tmp_path: Path, is_versioned: bool) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            if is_versioned:
                await at.version(Versioning.ENABLED)
            await at.put("k", LARGE)
            assert await costs(at, at.get("k")) == ["ask"]
            assert (await costs(at, at.put("k", LARGE))).count("call") == 1

    run(main())
