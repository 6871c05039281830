"""Uploads: one clear end, whoever completes and aborts at once; they go with their bucket."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from predastore.base.limits import MIB
from predastore.catalog import keys
from predastore.catalog.errors import NoSuchBucket, NoSuchUpload
from predastore.catalog.keys import PARTS, UPLOADS
from predastore.catalog.procedures.arguments import CompletedPart, Condition
from predastore.catalog.uploads import Upload
from predastore.catalog.values import Stored
from predastore.jobs import due, ended_uploads
from predastore.jobs.garbage import Garbage
from predastore.s3db.commands import Put, batch
from predastore.storage.extents import new_id
from predastore.storage.formats import encode
from support.backends import BACKENDS, OWNER, BytesSource, FakeNodes, Harness, failing, run
from support.interleaving import interleaved
from support.waiting import until

MANY = 3000
STEPS = range(20)  # more than any of the operations has calls to the state


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda **more: BACKENDS[request.param](tmp_path, **more)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "GARBAGE_RETRY_S_MIN", 0.001)


@pytest.fixture
def garbage_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is left behind is not collected."""

    async def nothing(*_: object) -> float:
        return 3600.0

    for name in ("retire", "_pass"):
        monkeypatch.setattr(Garbage, name, nothing)


async def begin(at: Harness, count: int = 1) -> tuple[Upload, list[CompletedPart]]:
    """An upload with so many parts; the first of them is all that can be completed."""
    upload = await at.begin("k")
    parts = []
    for number in range(1, count + 1):
        part = await at.catalog.put_part(upload, number, BytesSource(b"part"), 4)
        parts.append(CompletedPart(number, part.etag))
    return upload, parts[:1]


async def complete(
    at: Harness, upload: Upload, parts: list[CompletedPart], condition: Condition
) -> Stored:
    """As the S3 operation does it."""
    where = ("bucket", "k", upload.row.upload_id)
    try:
        found = await at.catalog.upload(*where)
        return await at.catalog.complete(found, parts, condition)
    except NoSuchUpload:
        return await at.catalog.completed(*where)


async def nothing_left(at: Harness) -> None:
    """No upload, no part, and no byte of one."""

    async def are_empty() -> bool:
        return not await at.table(UPLOADS) and not await at.table(PARTS)

    await until(are_empty)
    await at.no_garbage()
    await at.holds_extents(0)


CONDITIONS = {
    "none": Condition(),
    "the first": Condition(if_none_match="*"),
    "in place of it": Condition(if_match="149603e6c03516362a8da23f624db945"),  # of b"old"
}


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize("which", CONDITIONS)
def test_two_that_complete_an_upload_both_succeed(backend: Any, which: str, others: int) -> None:
    condition = CONDITIONS[which]

    async def main() -> None:
        async with backend() as at:
            for step in STEPS:
                await at.catalog.delete("bucket", "k")
                if which == "in place of it":
                    old = await at.put("k", b"old")
                    assert Condition(if_match=old.etag) == condition
                upload, parts = await begin(at, 1 + others)

                async def other(upload: Any = upload, parts: Any = parts) -> None:
                    await complete(at, upload, parts, condition)

                async def one(upload: Any = upload, parts: Any = parts) -> Stored:
                    return await complete(at, upload, parts, condition)

                seen = await interleaved(at.state, step, one, other)
                version = await at.found("k")
                assert isinstance(seen.result, Stored), step
                assert seen.result.etag == version.etag
                assert version.detail.upload_id == upload.row.upload_id
                assert await at.get("k") == b"part"
                if not seen.was_reached:
                    break
            assert 1 <= step < STEPS[-1]
            await at.catalog.delete("bucket", "k")
            await nothing_left(at)

    run(main())


def test_of_complete_and_abort_one_wins(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            for first in ("complete", "abort"):
                for step in STEPS:
                    await at.catalog.delete("bucket", "k")
                    upload, parts = await begin(at, 2)

                    async def completing(upload: Any = upload, parts: Any = parts) -> Any:
                        return await complete(at, upload, parts, Condition())

                    async def aborting(upload: Any = upload) -> None:
                        found = await at.catalog.upload("bucket", "k", upload.row.upload_id)
                        await at.catalog.abort(found)

                    ends = {"complete": completing, "abort": aborting}
                    other = ends["abort" if first == "complete" else "complete"]
                    outcome: list[Any] = []

                    async def meanwhile(other: Any = other, outcome: Any = outcome) -> None:
                        outcome += await asyncio.gather(other(), return_exceptions=True)

                    seen = await interleaved(at.state, step, ends[first], meanwhile)
                    if not outcome:
                        await meanwhile()
                    failed = [one for one in (seen.result, *outcome) if isinstance(one, Exception)]
                    assert len(failed) == 1, (first, step, failed)
                    assert isinstance(failed[0], NoSuchUpload)
                    was_completed = any(isinstance(one, Stored) for one in (seen.result, *outcome))
                    assert (await at.find("k") is not None) is was_completed
                    if was_completed:
                        assert await at.get("k") == b"part"
                    if not seen.was_reached:
                        break
            await at.catalog.delete("bucket", "k")
            await nothing_left(at)

    run(main())


@pytest.mark.parametrize("fate", ["put", "delete", "another upload"])
def test_a_repeated_complete_is_told_the_same_whatever_became_of_the_object(
    backend: Any, fate: str
) -> None:
    """Before any step of it, and after it; nothing is made anew."""

    async def main() -> None:
        async with backend() as at:
            for step in STEPS:
                upload, parts = await begin(at)
                made = await complete(at, upload, parts, Condition())

                async def meanwhile() -> None:
                    if fate == "put":
                        await at.put("k", b"newer")
                    elif fate == "delete":
                        await at.catalog.delete("bucket", "k")
                    else:
                        await complete(at, *await begin(at), Condition())

                async def again(upload: Any = upload, parts: Any = parts) -> Stored:
                    return await complete(at, upload, parts, Condition())

                seen = await interleaved(at.state, step, again, meanwhile)
                assert seen.result == made
                if not seen.was_reached:
                    await meanwhile()
                before = await at.table(keys.VERSIONS)
                assert await again() == made
                assert await at.table(keys.VERSIONS) == before
                if not seen.was_reached:
                    break

    run(main())


LATE: dict[str, Callable[[Harness, Upload, list[CompletedPart]], Awaitable[Any]]] = {
    "part": lambda at, upload, _: at.catalog.put_part(upload, 9, BytesSource(b"late"), 4),
    "complete": lambda at, upload, parts: at.catalog.complete(upload, parts),
    "abort": lambda at, upload, _: at.catalog.abort(upload),
    "find": lambda at, upload, _: at.catalog.upload("bucket", "k", upload.row.upload_id),
    "completed": lambda at, upload, _: at.catalog.completed("bucket", "k", upload.row.upload_id),
}


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("is_there_again", [False, True])
@pytest.mark.usefixtures("garbage_lies")
def test_no_upload_ends_in_the_namesake_of_its_bucket(
    backend: Any, late: str, is_there_again: bool
) -> None:
    async def main() -> None:
        async with backend() as at:
            upload, parts = await begin(at)
            await at.catalog.delete_bucket("bucket")
            if is_there_again:
                await at.catalog.create_bucket("bucket", OWNER.owner, "us-east-1")
                bucket = await at.catalog.bucket("bucket")
                assert (await at.catalog.list_uploads(bucket)).uploads == []
            before = {name: await at.table(name) for name in (keys.OBJECTS, UPLOADS, PARTS)}
            kind = NoSuchUpload if is_there_again else NoSuchBucket
            await failing(kind, LATE[late](at, upload, parts))
            assert {name: await at.table(name) for name in before} == before

    run(main())


@pytest.mark.parametrize("late", ["part", "complete", "abort"])
@pytest.mark.usefixtures("garbage_lies")
def test_a_bucket_that_goes_under_an_upload_takes_it_along(backend: Any, late: str) -> None:
    """Before any step of what the upload is about to do, its bucket is deleted and made anew."""

    async def main() -> None:
        async with backend() as at:
            for step in STEPS:
                upload, parts = await begin(at)

                async def remade() -> None:
                    await at.catalog.delete_bucket("bucket")
                    await at.catalog.create_bucket("bucket", OWNER.owner, "us-east-1")

                async def ends(upload: Any = upload, parts: Any = parts) -> Any:
                    return await LATE[late](at, upload, parts)

                seen = await interleaved(at.state, step, ends, remade)
                if seen.was_reached and not seen.had_committed:
                    assert isinstance(seen.result, NoSuchUpload), (step, seen.result)
                if not seen.was_reached:
                    break
                assert await at.keys() == []

    run(main())


def test_what_the_uploads_of_a_deleted_bucket_hold_is_let_go(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_uploads, "BACKEND_UPLOADS_PAGE_MAX", 3)
    monkeypatch.setattr(ended_uploads, "BACKEND_PARTS_PAGE_MAX", 2)

    async def main() -> None:
        async with backend() as at:
            for _ in range(8):
                await begin(at, 5)
            await at.catalog.create_bucket("other", OWNER.owner, "us-east-1")
            kept = await at.catalog.create_upload("other", "k", OWNER)
            await at.catalog.delete_bucket("bucket")
            await at.catalog.create_bucket("bucket", OWNER.owner, "us-east-1")
            other = await at.catalog.bucket("other")
            assert (await at.catalog.list_uploads(other)).uploads == [kept]
            await at.catalog.abort(await at.catalog.upload("other", "k", kept.upload_id))
            await nothing_left(at)

    run(main())


def test_what_a_crash_left_of_a_deleted_buckets_uploads_is_found(
    backend: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    async def idle(*_: object) -> float:
        return 3600.0

    more = {}
    if "distributed" in request.node.name:
        more["nodes"] = FakeNodes(range(1, 7))

    async def main() -> None:
        async with backend(**more) as at:
            for _ in range(3):
                await begin(at, 2)
            with monkeypatch.context() as patch:
                patch.setattr(Garbage, "_pass", idle)
                await at.catalog.delete_bucket("bucket")
            assert len(await at.table(UPLOADS)) == 3
        async with backend(**more) as at:
            await nothing_left(at)

    run(main())


async def with_many_parts(at: Harness) -> Upload:
    """An upload of MANY parts, as if they had been put."""
    upload = await at.begin("k")
    first = await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
    puts = []
    for number in range(2, MANY + 1):
        fresh = {"write_id": new_id()}
        if at.nodes is None:
            fresh["path"] = f".predastore/parts/{number}"
        extent = msgspec.structs.replace(first.extent, **fresh)
        part = msgspec.structs.replace(first, number=number, extent=extent)
        place = keys.part(upload.permit.row.id, upload.row.upload_id, number)
        puts.append(Put(PARTS, place, encode(part)))
    await at.state.commit(batch(*puts))
    return upload


@pytest.mark.parametrize("end", ["complete", "abort"])
def test_an_upload_of_many_parts_ends_in_little_memory(backend: Any, end: str) -> None:
    """A page of its parts; all of them at once would be 3 MB."""

    async def main() -> None:
        async with backend() as at:
            upload = await with_many_parts(at)
            (part,) = (await at.catalog.list_parts(upload, 0, 1)).parts
            tracemalloc.start()
            try:
                if end == "complete":
                    await at.catalog.complete(upload, [CompletedPart(1, part.etag)])
                else:
                    await at.catalog.abort(upload)
                await at.no_garbage()
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak_bytes < MIB
            assert await at.table(PARTS) == {}
            if end == "complete":
                assert await at.get("k") == b"part"

    run(main())
