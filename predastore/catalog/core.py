"""What all operations share: commits with conditions, and what follows a commit.

A commit that changes what is in a bucket checks that the bucket is still the one that the request
was permitted to change, then what the operation demands, then the client's condition. A
condition that compares an ETag is decided on the record as it is read, and committed under the
check that the record is still the same; when it is not, it is read and decided anew.

Once a body is durable, the commit and what follows it run to their end even if the request is
cancelled: what is committed is always published, and what is certainly not is discarded. After
OutcomeUnknown the bytes stay, as the commit may have happened.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

from predastore.base.errors import (
    BodyMismatch,
    NodeFull,
    NoLeader,
    NotLeader,
    Overloaded,
    PreconditionFailed,
    PredastoreError,
    S3Error,
    TooLarge,
)
from predastore.base.limits import BACKEND_CONDITION_TRIES_MAX
from predastore.catalog.collector import Collector
from predastore.catalog.fence import Fence
from predastore.catalog.permits import Permit, Permits, anybody
from predastore.catalog.readers import Readers
from predastore.catalog.repair_queue import RepairQueue
from predastore.coding.checksum import Digests
from predastore.s3db.commands import Absent, Applied, Check, Equals, Exists, Op, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage import records
from predastore.storage.interface import ByteStore, Condition, Expectation, Written
from predastore.storage.records import (
    BUCKETS,
    OBJECTS,
    BucketRecord,
    Checksum,
    ObjectRecord,
)

T = TypeVar("T")

_NO_BUCKET: Final = b"-"  # a name that no bucket can have

NOTHING_DONE: Final = (
    *(PreconditionFailed, NoLeader, NotLeader, TooLarge, S3Error),
    *(Overloaded, NodeFull),
)


class Core:
    """`state` and `store` belong to the caller, who closes them after this."""

    def __init__(self, state: GlobalState, store: ByteStore) -> None:
        self._state = state
        self._store = store
        self._permits = Permits(state)
        self._readers = Readers()
        self._collector = Collector(state, store, self._readers)
        self._repairs = RepairQueue(state)
        self._fence = Fence(state)
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Begins background work: what earlier runs left behind is collected."""
        self._collector.start()

    async def close(self) -> None:
        """Waits for commits under way, and ends background work."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._collector.close()
        await self._repairs.close()

    async def write_obstacle(self) -> str:
        """Why no object could be stored now; "" where one could. Asks the store, and makes a commit
        that changes nothing, so that a leader, a majority and room on its disk are there."""
        obstacle = await self._store.write_obstacle()
        if obstacle:
            return obstacle
        try:
            await self._state.commit(batch(checks=(Exists(BUCKETS, _NO_BUCKET),)))
        except PreconditionFailed:
            return ""
        except NodeFull:
            return "metadata takes no commits: the disk of a member is nearly full"
        except PredastoreError:  # of which the details are nobody's who asks for health
            return "metadata takes no commits: no leader, or no majority, answers"
        return ""

    def held_bytes(self) -> dict[str, int]:
        """As `ByteStore.held_bytes`."""
        return self._store.held_bytes()

    # --- commits --------------------------------------------------------------------------

    async def _permit(self, bucket: str, permit: Permit | None) -> Permit:
        """`permit`; where there is none, one for anybody. NoSuchBucket."""
        return await self._permits.ask(bucket, anybody) if permit is None else permit

    async def _read_permitted(self, permit: Permit, table: str, key: bytes) -> bytes | None:
        """A value as of a moment at which the bucket was the one that the permit is for; what the
        permit's judge raises."""
        place = (BUCKETS, records.bucket_key(permit.record.name))
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            bucket, stored = await self._state.read((place, (table, key)))
            if bucket == permit.stored:
                return stored
            permit = await self._permits.renew(permit)
        raise S3Error("ConditionalRequestConflict")

    async def _commit_in_bucket(
        self,
        permit: Permit,
        ops: Callable[[BucketRecord], Sequence[Op]],
        checks: Sequence[Check] = (),
    ) -> Applied:
        """A commit of the ops for the bucket's record; NoSuchBucket, or what the permit's judge
        raises. A failure of `checks` is raised as PreconditionFailed with `check` counted from 0 in
        `checks`."""
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            try:
                return await self._state.commit(
                    batch(
                        *ops(permit.record),
                        checks=(permit.check, *checks),
                        request_id=records.new_id(),
                    )
                )
            except PreconditionFailed as failed:
                if failed.check > 0:
                    raise PreconditionFailed(str(failed), failed.check - 1) from failed
            permit = await self._permits.renew(permit)
        raise S3Error("ConditionalRequestConflict")

    async def _commit_object(
        self,
        permit: Permit,
        key: str,
        ops: Sequence[Op],
        condition: Condition,
        checks: Sequence[Check] = (),
    ) -> Applied:
        """`_commit_in_bucket` about one object, under the client's condition."""
        hash_ = records.object_hash(permit.record.name, key)
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            guard = await self._guard(permit, hash_, condition)
            try:
                return await self._commit_in_bucket(permit, lambda _: ops, (*checks, *guard))
            except PreconditionFailed as failed:
                if failed.check < len(checks):
                    raise
                if not _compares(condition):
                    raise S3Error("PreconditionFailed", Condition=_which(condition)) from failed
        raise S3Error("ConditionalRequestConflict")

    async def _fenced(
        self, written: Written, commit: Callable[[Check], Awaitable[Applied]]
    ) -> Applied:
        """`commit`, whose first check is the one that it is given: nothing of `written` can have
        been taken for an orphan. S3Error if it may have been."""
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            try:
                return await commit(self._fence.check)
            except PreconditionFailed as failed:
                if failed.check:
                    raise
                await self._fence.renew(written.began_ms)
        raise S3Error("ConditionalRequestConflict")

    async def _guard(self, permit: Permit, hash_: bytes, condition: Condition) -> tuple[Check, ...]:
        """The checks that make `condition` exact at the commit; S3Error when it fails now, in the
        bucket that the permit is for."""
        if not condition:
            return ()
        if not _compares(condition):
            return (Absent(OBJECTS, hash_),)
        stored = await self._read_permitted(permit, OBJECTS, hash_)
        if stored is None:
            if condition.if_match is not None:
                raise S3Error("NoSuchKey")
            return (Absent(OBJECTS, hash_),)
        etag = records.decode(ObjectRecord, stored).etag
        if condition.if_match not in (None, "*", etag) or condition.if_none_match in ("*", etag):
            raise S3Error("PreconditionFailed", Condition=_which(condition))
        return (Equals(OBJECTS, hash_, stored),)

    # --- after the body -------------------------------------------------------------------

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work`, which goes on when the awaiting request is cancelled."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        finally:
            del task  # its error has a traceback with this frame

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: where the request is gone, nobody is left to be told

    async def _discard_unless_unknown(self, written: Written, error: BaseException) -> None:
        """After a commit that raised `error`."""
        if isinstance(error, NOTHING_DONE):
            await self._store.discard((written.extent,))

    async def _verified(
        self, written: Written, digests: Digests, expectation: Expectation
    ) -> dict[str, bytes]:
        """All digests of the body; a mismatch drops what was written."""
        values = digests.all()
        try:
            _verify(values, expectation.digests)
            if expectation.late is not None:
                _verify(values, expectation.late())
        except BaseException:
            await self._store.discard((written.extent,))
            raise
        return values


def algorithms(expectation: Expectation, *more: str) -> frozenset[str]:
    """Every digest that must be computed while the body passes."""
    return frozenset({"md5", *expectation.digests, *expectation.compute, *more} - {""})


def checksums_of(values: Mapping[str, bytes], names: frozenset[str]) -> tuple[Checksum, ...]:
    """The checksums to store, in a fixed order."""
    return tuple(Checksum(name, values[name]) for name in sorted(names - {""}))


def _verify(values: Mapping[str, bytes], expected: Mapping[str, bytes]) -> None:
    for name, digest in expected.items():
        if not hmac.compare_digest(values[name], digest):
            raise BodyMismatch(f"the body's {name} is not the one that was declared", name)


def _compares(condition: Condition) -> bool:
    """Whether the record has to be read to decide the condition."""
    return condition.if_match is not None or condition.if_none_match not in (None, "*")


def _which(condition: Condition) -> str:
    return "If-Match" if condition.if_match is not None else "If-None-Match"
