"""catalog.permits: who may write is right at the commit, whatever was remembered before it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from predastore.base.errors import PredastoreError
from predastore.catalog import keys, permits
from predastore.catalog.buckets import new_id
from predastore.catalog.documents import BucketDocuments, Meanings
from predastore.catalog.errors import NoSuchBucket, NoSuchKey, NoSuchUpload, RequesterChanged
from predastore.catalog.keys import BUCKETS, OBJECTS, PARTS, UPLOADS, VERSIONS
from predastore.catalog.permits import Judge, Permit, Permits
from predastore.catalog.procedures.arguments import CompletedPart, Condition
from predastore.catalog.rows import BucketRow
from predastore.catalog.uploads import Upload
from predastore.catalog.values import ObjectVersion, Wanted
from predastore.s3db.commands import Delete, Equals, Put, batch
from predastore.storage.extents import now_ms
from predastore.storage.formats import encode
from support.backends import BACKENDS, OWNER, BytesSource, Harness, StalledSource, failing, run
from support.interleaving import interleaved
from support.waiting import until

TABLES = (BUCKETS, OBJECTS, VERSIONS, UPLOADS, PARTS)
ALICE, BOB = OWNER.owner, "000000000002"
KEY = keys.bucket("bucket")


class Denied(PredastoreError):
    """What the judges here raise."""


def owned_by(account: str) -> Judge:
    def judge(found: BucketRow | None, _: Meanings) -> None:
        if found is not None and found.owner != account:
            raise Denied(found.owner)

    return judge


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda: BACKENDS[request.param](tmp_path)


async def remake(at: Harness, owner: str) -> None:
    """As another process would: nothing here hears of it."""
    row = BucketRow("bucket", new_id(), owner, "us-east-1", now_ms())
    await at.state.commit(batch(Delete(BUCKETS, KEY)))
    await at.state.commit(batch(Put(BUCKETS, KEY, encode(row))))


async def remove(at: Harness) -> None:
    await at.state.commit(batch(Delete(BUCKETS, KEY)))


async def interrupted_put(at: Harness, meanwhile: Awaitable[None]) -> None:
    """A PUT by Alice, during whose body something happens to the bucket."""
    permit = await at.catalog.permit("bucket", owned_by(ALICE))
    source = StalledSource(b"x" * 100_000)
    putting = asyncio.ensure_future(
        at.catalog.put("bucket", "k", source, 100_000, OWNER, permit=permit)
    )
    await source.stalled.wait()
    await meanwhile
    source.proceed.set()
    await putting


async def holds_nothing(at: Harness) -> bool:
    await at.holds_extents(0)
    return await at.find("k") is None and not await at.keys()


def test_a_bucket_deleted_under_a_put_takes_nothing(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            await failing(NoSuchBucket, interrupted_put(at, remove(at)))
            assert await holds_nothing(at)

    run(test())


def test_a_bucket_remade_by_another_account_under_a_put_takes_nothing(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            await failing(Denied, interrupted_put(at, remake(at, BOB)))
            assert await holds_nothing(at)

    run(test())


def test_a_bucket_remade_by_the_same_account_takes_the_put(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            await interrupted_put(at, remake(at, ALICE))
            assert await at.get("k") == b"x" * 100_000

    run(test())


@dataclass
class Judged:
    """A change, ready to be made by Alice: what it is of lies there, and her permit was given."""

    at: Harness
    permit: Permit
    source: ObjectVersion  # of "k"
    upload: Upload
    part: CompletedPart

    @classmethod
    async def ready(cls, at: Harness, *, is_empty: bool) -> Judged:
        await at.put("k", b"old")
        source = await at.found("k")
        if is_empty:
            await at.catalog.delete("bucket", "k")
        permit = await at.catalog.permit("bucket", owned_by(ALICE))
        row = await at.catalog.create_upload("bucket", "u", OWNER)
        upload = await at.catalog.upload("bucket", "u", row.upload_id, permit=permit)
        part = await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
        return cls(at, permit, source, upload, CompletedPart(1, part.etag))

    async def stored(self) -> list[Mapping[bytes, bytes]]:
        return [await self.at.table(name) for name in TABLES]


def put(judged: Judged, condition: Condition) -> Awaitable[Any]:
    body = BytesSource(b"new")
    return judged.at.catalog.put(
        *("bucket", "k", body, 3, OWNER), condition=condition, permit=judged.permit
    )


async def copy_part(judged: Judged) -> None:
    async with await judged.at.catalog.open_source(judged.source, 0, 3) as body:
        await judged.at.catalog.put_part(judged.upload, 2, body, 3)


CHANGES: dict[str, Callable[[Judged], Awaitable[Any]]] = {
    "put": lambda j: put(j, Condition()),
    "put in place of one": lambda j: put(j, Condition(if_match=j.source.etag)),
    "put in place of any": lambda j: put(j, Condition(if_match="*")),
    "put but in place of one": lambda j: put(j, Condition(if_none_match="0")),
    "delete": lambda j: j.at.catalog.delete("bucket", "k", permit=j.permit),
    "delete one": lambda j: j.at.catalog.delete(
        "bucket", "k", condition=Condition(if_match=j.source.etag), permit=j.permit
    ),
    "delete many": lambda j: j.at.catalog.delete_many("bucket", [Wanted("k")], permit=j.permit),
    "delete bucket": lambda j: j.at.catalog.delete_bucket("bucket", permit=j.permit),
    "copy": lambda j: j.at.copy(j.source, "copy", permit=j.permit),
    "create upload": lambda j: j.at.catalog.create_upload("bucket", "k", OWNER, permit=j.permit),
    "put part": lambda j: j.at.catalog.put_part(j.upload, 1, BytesSource(b"new"), 3),
    "copy part": copy_part,
    "complete": lambda j: j.at.catalog.complete(j.upload, [j.part]),
    "complete in place of none": lambda j: j.at.catalog.complete(
        j.upload, [j.part], Condition(if_none_match="*")
    ),
    "abort": lambda j: j.at.catalog.abort(j.upload),
}  # fmt: skip
OF_ONE = {"put in place of one", "put in place of any", "delete one"}
OF_UPLOADS = {"put part", "copy part", "complete", "complete in place of none", "abort"}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_judged_by_the_bucket_that_is_there(backend: Any, change: str) -> None:
    async def test() -> None:
        async with backend() as at:
            judged = await Judged.ready(at, is_empty=change == "delete bucket")
            await remake(at, BOB)
            before = await judged.stored()
            await failing(Denied, CHANGES[change](judged))
            assert await judged.stored() == before
            await remove(at)
            before = await judged.stored()
            await failing(NoSuchBucket, CHANGES[change](judged))
            assert await judged.stored() == before

    run(test())


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("owner", [ALICE, BOB])
def test_a_bucket_made_anew_at_any_step_of_a_change_is_another(
    backend: Any, change: str, owner: str
) -> None:
    """Before each call that it makes to the state: what is changed then is the old bucket, or
    nothing, or what its owner may change in the new one."""

    async def step(at: Harness, number: int) -> bool:
        await remake(at, ALICE)
        judged = await Judged.ready(at, is_empty=change == "delete bucket")
        after: list[Any] = []

        async def meanwhile() -> None:
            await remake(at, owner)
            after.extend(await judged.stored())

        seen = await interleaved(at.state, number, lambda: CHANGES[change](judged), meanwhile)
        if not seen.had_committed and (owner == BOB or change in OF_UPLOADS):
            assert isinstance(seen.result, Denied if owner == BOB else NoSuchUpload)
            assert await judged.stored() == after
        elif not seen.had_committed and change in OF_ONE:
            assert isinstance(seen.result, NoSuchKey)
        else:
            assert not isinstance(seen.result, Exception)
        return seen.was_reached

    async def test() -> None:
        async with backend() as at:
            number = 0
            while await step(at, number):
                number += 1
            assert number, "it made no call"

    run(test())


@pytest.mark.parametrize("owner", [ALICE, BOB])
def test_a_list_is_of_the_bucket_that_was_judged(backend: Any, owner: str) -> None:
    """Whatever happens at any step of it."""

    async def step(at: Harness, number: int) -> bool:
        await at.catalog.delete("bucket", "anew")
        await remake(at, ALICE)
        await at.put("alices", b"")
        permit = await at.catalog.permit("bucket", owned_by(ALICE))

        async def meanwhile() -> None:
            await at.catalog.delete("bucket", "alices")
            await remake(at, owner)
            await at.put("anew", b"")

        async def listing() -> Any:
            return (await at.catalog.list("bucket", permit=permit)).entries

        seen = await interleaved(at.state, number, listing, meanwhile)
        if not seen.was_reached:
            assert [key for key, _ in seen.result] == ["alices"]
        elif owner == BOB:
            assert isinstance(seen.result, Denied)
        else:
            assert [key for key, _ in seen.result] == ["anew"]
        return seen.was_reached

    async def test() -> None:
        async with backend() as at:
            number = 0
            while await step(at, number):
                number += 1
            assert number == 2

    run(test())


@pytest.mark.parametrize("change", ["put in place of one", "put but in place of one", "delete one"])
def test_a_condition_tells_nothing_of_anothers_bucket(backend: Any, change: str) -> None:
    async def test() -> None:
        async with backend() as at:
            for number in range(3):
                await remake(at, ALICE)
                judged = await Judged.ready(at, is_empty=False)

                async def is_gone() -> bool:
                    return await at.find("k") is None

                deleting: list[asyncio.Future[Any]] = []

                async def meanwhile(deleting: Any = deleting) -> None:
                    # its file may have to wait for the put that is held up
                    deleting.append(asyncio.ensure_future(at.catalog.delete("bucket", "k")))
                    await until(is_gone)
                    await remake(at, BOB)

                async def changing(judged: Judged = judged) -> Any:
                    return await CHANGES[change](judged)

                seen = await interleaved(at.state, number, changing, meanwhile)
                await asyncio.gather(*deleting)
                if not seen.had_committed:
                    assert isinstance(seen.result, Denied)

    run(test())


def test_what_is_remembered_never_refuses(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            await at.catalog.permit("bucket", owned_by(ALICE))  # is remembered now
            await remake(at, BOB)
            permit = await at.catalog.permit("bucket", owned_by(BOB))
            await at.put("k", b"bob's", permit=permit)
            await failing(Denied, at.catalog.permit("bucket", owned_by(ALICE)))
            await remove(at)
            await failing(NoSuchBucket, at.catalog.permit("bucket", owned_by(ALICE)))

    run(test())


class CountingState:
    """One bucket, and how often it was read."""

    def __init__(self) -> None:
        self.reads = 0

    async def get(self, table: str, key: bytes) -> bytes | None:
        assert table == BUCKETS
        self.reads += 1
        return encode(BucketRow(key.decode(), new_id(), ALICE, "us-east-1", 1))


def test_a_record_is_read_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        state: Any = CountingState()
        asked = Permits(BucketDocuments(state))
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
        asked = Permits(BucketDocuments(state))
        for number in range(20):
            await asked.ask(f"bucket{number}", owned_by(ALICE))
        assert len(asked._seen) == 3
        await asked.ask("bucket19", owned_by(ALICE))
        assert state.reads == 20

    run(test())


def test_what_has_to_hold_of_the_requester_is_checked_by_the_commit(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.state.set("requesters", b"alice", b"1")
            ground = Equals("requesters", b"alice", b"1")
            permit = await at.catalog.permit("bucket", owned_by(ALICE), checks=(ground,))

            def put(key: str) -> Awaitable[Any]:
                return at.catalog.put("bucket", key, BytesSource(b"new"), 3, OWNER, permit=permit)

            await put("before")
            await at.state.set("requesters", b"alice", b"2")
            await failing(RequesterChanged, put("after"))
            await failing(RequesterChanged, at.catalog.delete("bucket", "before", permit=permit))
            keys_left = [key for key, _ in (await at.catalog.list("bucket")).entries]
            assert keys_left == ["before"]

    run(main())
