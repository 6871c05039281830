"""What all operations of the catalog share: calls of procedures, and what follows one.

A procedure checks that the bucket is still as it was when the request was given its permit; where
it is not, the permit is asked for again, and the procedure called anew. All else that a request
demands is decided in the procedure.

Once a body is durable, the call and what follows it run to their end even if the request is
cancelled: what is committed is always published, and what is certainly not is discarded. After
OutcomeUnknown the bytes stay, as the commit may have happened.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from predastore.base.errors import (
    BodyMismatch,
    LevelTooLow,
    NodeFull,
    NoLeader,
    NotLeader,
    Overloaded,
    PreconditionFailed,
    PredastoreError,
    ProcedureFailed,
    TooLarge,
)
from predastore.base.limits import BACKEND_CONDITION_TRIES_MAX
from predastore.catalog import refusals
from predastore.catalog.documents import BucketDocuments
from predastore.catalog.errors import CatalogError, Contended, RequesterChanged
from predastore.catalog.fence import Fence
from predastore.catalog.keys import BUCKETS
from predastore.catalog.permits import Permit, Permits, anybody
from predastore.catalog.procedures.arguments import Arguments, Reason
from predastore.catalog.readers import Readers
from predastore.catalog.repair_queue import RepairQueue
from predastore.catalog.rows import Checksum
from predastore.catalog.values import Expectation
from predastore.coding.checksum import Digests
from predastore.s3db.commands import Exists, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.interface import ByteStore, Written

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

_NO_BUCKET: Final = b"-"  # a name that no bucket can have

NOTHING_DONE: Final = (
    *(PreconditionFailed, NoLeader, NotLeader, TooLarge, CatalogError, BodyMismatch),
    *(Overloaded, NodeFull, ProcedureFailed, LevelTooLow),
)

logger = logging.getLogger(__name__)


class Collector(Protocol):
    """Works off what is due. With no grace time, what was let go of is collected on return."""

    async def retire(self, names: Sequence[bytes]) -> None:
        """Takes note of names that a procedure has let go of; does not raise."""
        ...


class CatalogCore:
    """`state` and `store` belong to the caller, who closes them after this."""

    def __init__(
        self,
        state: GlobalState,
        store: ByteStore,
        collector: Collector,
        readers: Readers,
        *,
        inline_max: int = 0,
    ) -> None:
        """`inline_max`: a body of up to so many bytes lies in the metadata."""
        self._inline_max = inline_max
        self._grace_ms = int(store.grace_s * 1000)
        self._state = state
        self._store = store
        self.documents = BucketDocuments(state)
        self._permits = Permits(self.documents)
        self._readers = readers
        self._collector = collector
        self._repairs = RepairQueue(state)
        self._fence = Fence(state)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Waits for commits under way, and ends background work."""
        while self._tasks:
            await asyncio.wait(self._tasks)
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

    # --- calls ----------------------------------------------------------------------------

    async def _permit(self, bucket: str, permit: Permit | None) -> Permit:
        """`permit`; where there is none, one for anybody. NoSuchBucket."""
        return await self._permits.ask(bucket, anybody) if permit is None else permit

    async def _call(
        self,
        name: str,
        permit: Permit,
        arguments: Callable[[Permit], Arguments],
        kind: type[S],
        written: Written | None = None,
        renewed: Callable[[Permit], Awaitable[None]] | None = None,
    ) -> S:
        """Calls a procedure with the arguments for a permit. What it refuses is raised as the
        CatalogError that it means; what the permit's judge raises.

        `written`: what the call refers to. WriteTooOld if something of it may have been taken for
        an orphan. It is discarded if the call raises, unless the commit may have happened.
        `renewed`: told of each other permit before the call is made with it.
        """
        may_be_done = False
        try:
            for _ in range(BACKEND_CONDITION_TRIES_MAX):
                encoded = arguments(permit).encode()
                fences = () if written is None else (self._fence.check,)
                try:
                    may_be_done = True
                    checks = fences + permit.checks
                    answer = (await self._state.call(name, encoded, checks)).answer
                except PreconditionFailed as error:
                    may_be_done = False
                    if error.check >= len(fences):
                        raise RequesterChanged from None
                    await self._fence.renew(0 if written is None else written.began_ms)
                    continue
                may_be_done = refusals.reason_of(answer) is Reason.DONE
                if refusals.reason_of(answer) is not Reason.BUCKET_CHANGED:
                    return refusals.read(kind, answer)
                permit = await self._permits.renew(permit)
                if renewed is not None:
                    await renewed(permit)
            raise Contended
        except PredastoreError as error:
            if written is not None and (not may_be_done or isinstance(error, NOTHING_DONE)):
                await self._store.discard((written.extent,))
            raise

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

    async def _verified(
        self, written: Written | None, digests: Digests, expectation: Expectation
    ) -> dict[str, bytes]:
        """All digests of the body; a mismatch drops what was written."""
        values = digests.all()
        try:
            _verify(values, expectation.digests)
            if expectation.late is not None:
                _verify(values, expectation.late())
        except BaseException:
            if written is not None:
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
