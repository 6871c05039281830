"""backend.permits: who may write is right at the commit, whatever was remembered before it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from backend_support import BACKENDS, OWNER, BytesSource, Harness, StalledSource, run

from predastore.backend import permits, records
from predastore.backend.interface import Condition
from predastore.backend.permits import Judge, Permit, Permits
from predastore.backend.records import BUCKETS, BucketRecord
from predastore.errors import S3Error
from predastore.s3db.commands import Delete, Put, batch
from support.waiting import eventually_async

ALICE, BOB = OWNER.owner, "000000000002"
KEY = records.bucket_key("bucket")


def owned_by(account: str) -> Judge:
    def judge(found: BucketRecord | None) -> None:
        if found is None:
            raise S3Error("NoSuchBucket")
        if found.owner != account:
            raise S3Error("AccessDenied")

    return judge


async def code_of(work: Awaitable[Any]) -> str:
    with pytest.raises(S3Error) as caught:
        await work
    return caught.value.s3_code


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda: BACKENDS[request.param](tmp_path)


async def remake(at: Harness, owner: str) -> None:
    """As another process would: nothing here hears of it."""
    record = BucketRecord("bucket", owner, "us-east-1", records.now_ms() + 1)
    await at.state.commit(batch(Delete(BUCKETS, KEY)))
    await at.state.commit(batch(Put(BUCKETS, KEY, records.encode(record))))


async def remove(at: Harness) -> None:
    await at.state.commit(batch(Delete(BUCKETS, KEY)))


async def interrupted_put(at: Harness, meanwhile: Awaitable[None]) -> None:
    """A PUT by Alice, during whose body something happens to the bucket."""
    permit = await at.objects.permit("bucket", owned_by(ALICE))
    source = StalledSource(b"x" * 100_000)
    putting = asyncio.ensure_future(
        at.objects.put("bucket", "k", source, 100_000, OWNER, permit=permit)
    )
    await source.stalled.wait()
    await meanwhile
    source.proceed.set()
    await putting


async def holds_nothing(at: Harness) -> bool:
    _, record = await at.objects.lookup("bucket", "k")
    if at.nodes is not None:
        nodes = at.nodes
        await eventually_async(lambda: nodes.shard_count == 0)
    return record is None and not await at.keys()


def test_a_bucket_deleted_under_a_put_takes_nothing(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            assert await code_of(interrupted_put(at, remove(at))) == "NoSuchBucket"
            assert await holds_nothing(at)

    run(test())


def test_a_bucket_remade_by_another_account_under_a_put_takes_nothing(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            assert await code_of(interrupted_put(at, remake(at, BOB))) == "AccessDenied"
            assert await holds_nothing(at)

    run(test())


def test_a_bucket_remade_by_the_same_account_takes_the_put(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            await interrupted_put(at, remake(at, ALICE))
            assert await at.get("k") == b"x" * 100_000

    run(test())


CHANGES: dict[str, Callable[[Harness, Permit], Awaitable[Any]]] = {
    "put": lambda at, permit: at.objects.put(
        "bucket", "k", BytesSource(b"new"), 3, OWNER, permit=permit
    ),
    "put on a condition": lambda at, permit: at.objects.put(
        "bucket", "k", BytesSource(b"new"), 3, OWNER, condition=Condition(if_match="*"),
        permit=permit,
    ),
    "delete": lambda at, permit: at.objects.delete("bucket", "k", permit=permit),
    "delete many": lambda at, permit: at.objects.delete_many("bucket", ["k"], permit=permit),
    "create upload": lambda at, permit: at.objects.create_upload(
        "bucket", "k", OWNER, permit=permit
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_judged_by_the_bucket_that_is_there(backend: Any, change: str) -> None:
    async def test() -> None:
        async with backend() as at:
            await at.put("k", b"old")
            permit = await at.objects.permit("bucket", owned_by(ALICE))
            await CHANGES[change](at, permit)
            await at.put("k", b"old")
            await remake(at, BOB)
            assert await code_of(CHANGES[change](at, permit)) == "AccessDenied"
            assert await at.get("k") == b"old"
            await remove(at)
            assert await code_of(CHANGES[change](at, permit)) == "NoSuchBucket"
            assert await at.get("k") == b"old"

    run(test())


def test_a_copy_is_judged_too(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            source = await at.put("k", b"old")
            permit = await at.objects.permit("bucket", owned_by(ALICE))
            await at.objects.copy(source, "bucket", "copy", OWNER, permit=permit)
            await remake(at, BOB)
            copying = at.objects.copy(source, "bucket", "copy2", OWNER, permit=permit)
            assert await code_of(copying) == "AccessDenied"
            assert await at.keys() == ["copy", "k"]

    run(test())


def test_what_is_remembered_never_refuses(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            await at.objects.permit("bucket", owned_by(ALICE))  # is remembered now
            await remake(at, BOB)
            permit = await at.objects.permit("bucket", owned_by(BOB))
            await at.put("k", b"bob's", permit=permit)
            assert await code_of(at.objects.permit("bucket", owned_by(ALICE))) == "AccessDenied"
            await remove(at)
            assert await code_of(at.objects.permit("bucket", owned_by(ALICE))) == "NoSuchBucket"

    run(test())


class CountingState:
    """One bucket, and how often it was read."""

    def __init__(self) -> None:
        self.reads = 0

    async def get(self, table: str, key: bytes) -> bytes | None:
        assert table == BUCKETS
        self.reads += 1
        return records.encode(BucketRecord(key.decode(), ALICE, "us-east-1", 1))


def test_a_record_is_read_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        state: Any = CountingState()
        asked = Permits(state)
        for _ in range(10):
            await asked.ask("bucket", owned_by(ALICE))
        assert state.reads == 1
        asked.forget("bucket")
        await asked.ask("bucket", owned_by(ALICE))
        assert state.reads == 2
        monkeypatch.setattr(permits, "BACKEND_BUCKET_SEEN_MS", 0)
        for _ in range(10):
            await asked.ask("other", owned_by(ALICE))
        assert state.reads == 12

    run(test())


def test_few_records_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permits, "BACKEND_BUCKETS_SEEN_MAX", 3)

    async def test() -> None:
        state: Any = CountingState()
        asked = Permits(state)
        for number in range(20):
            await asked.ask(f"bucket{number}", owned_by(ALICE))
        assert len(asked._seen) == 3
        await asked.ask("bucket19", owned_by(ALICE))
        assert state.reads == 20

    run(test())
