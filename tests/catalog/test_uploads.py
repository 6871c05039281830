"""Uploads: one clear end, whoever completes and aborts at once; they go with their bucket."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from predastore.catalog.collector import Collector
from predastore.catalog.upload_garbage import release_parts
from predastore.storage.records import PARTS, UPLOADS, ObjectRecord, UploadRecord

from predastore.base.errors import S3Error
from predastore.base.limits import MIB
from predastore.catalog import collector, upload_garbage
from predastore.s3db.commands import Put, batch
from predastore.storage import records
from predastore.storage.interface import CompletedPart, Condition
from support.backends import BACKENDS, OWNER, BytesSource, FakeNodes, Harness, run
from support.healing import until
from support.interleaving import interleaved
from support.waiting import eventually_async

MANY = 3000
STEPS = range(20)  # more than any of the operations has calls to the state


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda **more: BACKENDS[request.param](tmp_path, **more)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "COLLECTOR_RETRY_S_MIN", 0.001)


@pytest.fixture
def garbage_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is left behind is not collected."""

    async def retire(*_: object) -> None:
        return None

    monkeypatch.setattr(Collector, "retire", retire)


async def begin(at: Harness, count: int = 1) -> tuple[UploadRecord, list[CompletedPart]]:
    """An upload with so many parts; the first of them is all that can be completed."""
    upload = await at.objects.create_upload("bucket", "k", OWNER)
    parts = []
    for number in range(1, count + 1):
        part = await at.objects.put_part(upload, number, BytesSource(b"part"), 4)
        parts.append(CompletedPart(number, part.etag))
    return upload, parts[:1]


async def complete(
    at: Harness, upload: UploadRecord, parts: list[CompletedPart], condition: Condition
) -> ObjectRecord:
    """As the S3 operation does it."""
    where = (upload.bucket, upload.key, upload.upload_id)
    try:
        found = await at.objects.upload(*where)
        return await at.objects.complete(found, parts, condition)
    except S3Error as error:
        if error.s3_code != "NoSuchUpload":
            raise
        return await at.objects.completed(*where)


async def nothing_left(at: Harness) -> None:
    """No upload, no part, and no byte of one."""

    async def are_empty() -> bool:
        return not await at.table(UPLOADS) and not await at.table(PARTS)

    await until(are_empty)
    if at.nodes is not None:
        nodes = at.nodes
        await eventually_async(lambda: nodes.shard_count == 0)
    else:
        assert [*(at.base / ".predastore" / "parts").iterdir()] == []


def is_code(result: object, *codes: str) -> bool:
    return isinstance(result, S3Error) and result.s3_code in codes


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
                await at.objects.delete("bucket", "k")
                if which == "in place of it":
                    old = await at.put("k", b"old")
                    assert Condition(if_match=old.etag) == condition
                upload, parts = await begin(at, 1 + others)

                async def other(upload: Any = upload, parts: Any = parts) -> None:
                    await complete(at, upload, parts, condition)

                async def one(upload: Any = upload, parts: Any = parts) -> ObjectRecord:
                    return await complete(at, upload, parts, condition)

                seen = await interleaved(at.state, step, one, other)
                _, record = await at.objects.lookup("bucket", "k")
                assert seen.result == record, step
                assert record.upload_id == upload.upload_id
                assert await at.get("k") == b"part"
                if not seen.was_reached:
                    break
            assert 3 <= step < STEPS[-1]
            await at.objects.delete("bucket", "k")
            await nothing_left(at)

    run(main())


def test_of_complete_and_abort_one_wins(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            for first in ("complete", "abort"):
                for step in STEPS:
                    await at.objects.delete("bucket", "k")
                    upload, parts = await begin(at, 2)

                    async def completing(upload: Any = upload, parts: Any = parts) -> Any:
                        return await complete(at, upload, parts, Condition())

                    async def aborting(upload: Any = upload) -> None:
                        found = await at.objects.upload("bucket", "k", upload.upload_id)
                        await at.objects.abort(found)

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
                    assert is_code(failed[0], "NoSuchUpload")
                    _, record = await at.objects.lookup("bucket", "k")
                    was_completed = any(
                        isinstance(one, ObjectRecord) for one in (seen.result, *outcome)
                    )
                    assert (record is not None) is was_completed
                    if was_completed:
                        assert await at.get("k") == b"part"
                    if not seen.was_reached:
                        break
            await at.objects.delete("bucket", "k")
            await nothing_left(at)

    run(main())


@pytest.mark.parametrize("fate", ["put", "delete", "another upload"])
def test_an_upload_whose_object_is_gone_again_is_no_upload(backend: Any, fate: str) -> None:
    """Before any step of a repeated complete: it succeeds, or there is no such upload."""

    async def main() -> None:
        async with backend() as at:
            for step in STEPS:
                upload, parts = await begin(at)
                made = await complete(at, upload, parts, Condition())

                async def meanwhile() -> None:
                    if fate == "put":
                        await at.put("k", b"newer")
                    elif fate == "delete":
                        await at.objects.delete("bucket", "k")
                    else:
                        await complete(at, *await begin(at), Condition())

                async def again(upload: Any = upload, parts: Any = parts) -> ObjectRecord:
                    return await complete(at, upload, parts, Condition())

                seen = await interleaved(at.state, step, again, meanwhile)
                if isinstance(seen.result, ObjectRecord):
                    assert seen.result == made
                else:
                    assert is_code(seen.result, "NoSuchUpload")
                if not seen.was_reached:
                    await meanwhile()
                with pytest.raises(S3Error, match="NoSuchUpload"):
                    await again()
                if not seen.was_reached:
                    break

    run(main())


LATE: dict[str, Callable[[Harness, UploadRecord, list[CompletedPart]], Awaitable[Any]]] = {
    "part": lambda at, upload, _: at.objects.put_part(upload, 9, BytesSource(b"late"), 4),
    "complete": lambda at, upload, parts: at.objects.complete(upload, parts),
    "abort": lambda at, upload, _: at.objects.abort(upload),
    "find": lambda at, upload, _: at.objects.upload("bucket", "k", upload.upload_id),
    "completed": lambda at, upload, _: at.objects.completed("bucket", "k", upload.upload_id),
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
            await at.objects.delete_bucket("bucket")
            if is_there_again:
                await at.objects.create_bucket("bucket", OWNER.owner, "us-east-1")
                bucket = await at.objects.bucket("bucket")
                assert (await at.objects.list_uploads(bucket)).uploads == []
            before = {name: await at.table(name) for name in ("objects", UPLOADS, PARTS)}
            with pytest.raises(S3Error) as caught:
                await LATE[late](at, upload, parts)
            assert is_code(caught.value, "NoSuchUpload" if is_there_again else "NoSuchBucket")
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
                    await at.objects.delete_bucket("bucket")
                    await at.objects.create_bucket("bucket", OWNER.owner, "us-east-1")

                async def ends(upload: Any = upload, parts: Any = parts) -> Any:
                    return await LATE[late](at, upload, parts)

                seen = await interleaved(at.state, step, ends, remade)
                if seen.was_reached and not seen.had_committed:
                    assert is_code(seen.result, "NoSuchUpload"), (step, seen.result)
                if not seen.was_reached:
                    break
                assert await at.keys() == []

    run(main())


def test_what_the_uploads_of_a_deleted_bucket_hold_is_let_go(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_garbage, "BACKEND_UPLOADS_PAGE_MAX", 3)
    monkeypatch.setattr(upload_garbage, "BACKEND_PARTS_PAGE_MAX", 2)

    async def main() -> None:
        async with backend() as at:
            for _ in range(8):
                await begin(at, 5)
            await at.objects.create_bucket("other", OWNER.owner, "us-east-1")
            kept = await at.objects.create_upload("other", "k", OWNER)
            await at.objects.delete_bucket("bucket")
            await at.objects.create_bucket("bucket", OWNER.owner, "us-east-1")
            other = await at.objects.bucket("other")
            assert (await at.objects.list_uploads(other)).uploads == [kept]
            await at.objects.abort(kept)
            await nothing_left(at)

    run(main())


def test_what_a_crash_left_of_a_deleted_buckets_uploads_is_found(
    backend: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    more = {}
    if "distributed" in request.node.name:
        more["nodes"] = FakeNodes(range(1, 7))

    async def main() -> None:
        async with backend(**more) as at:
            for _ in range(3):
                await begin(at, 2)
            with monkeypatch.context() as patch:
                patch.setattr(Collector, "_add", lambda *_: True)
                await at.objects.delete_bucket("bucket")
            assert len(await at.table(UPLOADS)) == 3
        async with backend(**more) as at:
            await nothing_left(at)

    run(main())


async def with_many_parts(at: Harness) -> UploadRecord:
    """An upload of MANY parts, as if they had been put."""
    upload = await at.objects.create_upload("bucket", "k", OWNER)
    first = await at.objects.put_part(upload, 1, BytesSource(b"part"), 4)
    puts = []
    for number in range(2, MANY + 1):
        fresh = {"write_id": records.new_id()}
        if at.nodes is None:
            fresh["path"] = f".predastore/parts/{number}"
        extent = msgspec.structs.replace(first.extent, **fresh)
        part = msgspec.structs.replace(first, number=number, extent=extent)
        puts.append(Put(PARTS, records.part_key(upload.upload_id, number), records.encode(part)))
    await at.state.commit(batch(*puts))
    return upload


@pytest.mark.parametrize("end", ["complete", "abort"])
def test_an_upload_of_many_parts_ends_in_little_memory(
    backend: Any, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A page of its parts; all of them at once would be 3 MB."""
    monkeypatch.setattr(collector, "COLLECTOR_RETRY_S_MIN", 1)

    async def main() -> None:
        async with backend() as at:
            upload = await with_many_parts(at)
            (part,) = (await at.objects.list_parts(upload, 0, 1)).parts
            tracemalloc.start()
            try:
                if end == "complete":
                    await at.objects.complete(upload, [CompletedPart(1, part.etag)])
                else:
                    assert await release_parts(at.state, at.store, upload.upload_id)
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak_bytes < MIB
            if end == "complete":
                assert await at.get("k") == b"part"

    run(main())
