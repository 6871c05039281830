"""What a database member does for gateways, over rpc, under the name "db/<id>".

    db.commit   a command, as the journal has it, in the payload -> Applied
    db.ask      a question of procedures.py, its arguments in the payload -> its answer, as it is
    db.read     values of several keys, of one moment -> list of values or nil
    db.list     a page with common prefixes -> Page
    db.scan     a page without; with or without values -> Page
    db.status   -> what the member and its store say of themselves

Answers travel as msgpack in the payload, since the header is for small things. A read waits for
the member's read barrier first, so that it is linearizable on every member, unless it is
marked `stale`. A member that is not the leader passes a commit on to the leader, once: a commit
that was passed on is answered with NotLeader instead. An answer is bounded: a page is cut
and says so, a `read` of more than READ_BYTES_MAX is TooLarge.

Raises what Member raises (NotLeader, NoLeader, OutcomeUnknown, PreconditionFailed, TooLarge),
FormatError for what is not a command, LevelTooLow where the leader, or for a question the member,
does not have the procedure, and rpc's errors where passing on failed.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeAlias, TypeVar

import msgspec

from predastore.base.errors import FormatError, NotLeader, TooLarge
from predastore.base.limits import (
    ASK_BYTES_MAX,
    COMMIT_BYTES_MAX,
    LIST_ROWS_MAX,
    READ_BYTES_MAX,
    READ_INLINE_MAX,
    READ_KEYS_MAX,
)
from predastore.rpc import CallContext, Endpoint, Method, Reply, Service
from predastore.s3db import changes, commands, timekeeping
from predastore.s3db.changes import Changes
from predastore.s3db.commands import Applied, Call, Page
from predastore.s3db.raft.messages import BASE_LEVEL
from predastore.s3db.timekeeping import Timekeeper

if TYPE_CHECKING:
    from predastore.s3db.asking import Asking
    from predastore.s3db.store import Store

Answer: TypeAlias = Applied | Page | list[bytes | None] | dict[str, Any]

P = ParamSpec("P")
T = TypeVar("T")

COMMIT: Final = "db.commit"
ASK: Final = "db.ask"
READ: Final = "db.read"
LIST: Final = "db.list"
SCAN: Final = "db.scan"
STATUS: Final = "db.status"


class CommitRequest(msgspec.Struct, frozen=True, array_like=True):
    forwarded: bool = False


class ReadRequest(msgspec.Struct, frozen=True, array_like=True):
    wanted: list[tuple[str, bytes]]
    stale: bool = False


class AskRequest(msgspec.Struct, frozen=True, array_like=True):
    name: str
    stale: bool = False


class ListRequest(msgspec.Struct, frozen=True, array_like=True):
    table: str
    prefix: bytes
    delimiter: bytes
    after: bytes
    limit: int
    stale: bool = False


class ScanRequest(msgspec.Struct, frozen=True, array_like=True):
    table: str
    prefix: bytes
    after: bytes
    limit: int
    keys_only: bool = False
    stale: bool = False


class StatusRequest(msgspec.Struct, frozen=True, array_like=True):
    digest: bool = False


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """The header of every answer. `leader`: who leads, as far as the member knows; `members`: the
    index of the entry that says who the members are (Client asks for them when it is news);
    `level`: of the cluster; `is_crowded`: the member has no room for bodies (crowding.py)."""

    leader: int | None
    members: int = 0
    level: int = BASE_LEVEL
    is_crowded: bool = False


class Consensus(Protocol):
    """What is needed of a Member."""

    @property
    def store(self) -> Store: ...

    @property
    def leader(self) -> int | None: ...

    async def propose(self, command: bytes, *, timeout_ms: int) -> Applied: ...

    async def read_barrier(self, *, timeout_ms: int) -> None: ...

    @property
    def asking(self) -> Asking: ...

    def status(self) -> dict[str, Any]: ...

    @property
    def changes(self) -> Changes: ...

    @property
    def timekeeper(self) -> Timekeeper: ...


_ENCODER: Final = msgspec.msgpack.Encoder()


def service(member: Consensus, endpoint: Endpoint) -> Service:
    """The methods of `member`; `endpoint` reaches the leader, where that is another."""
    handlers = _Handlers(member, endpoint)
    return {
        **changes.methods(member.changes, endpoint),
        **timekeeping.methods(member.timekeeper, member.changes, endpoint),
        COMMIT: Method(CommitRequest, Answered, handlers.commit, COMMIT_BYTES_MAX),
        READ: Method(ReadRequest, Answered, handlers.read, 0, at_once=handlers.read_at_once),
        ASK: Method(
            AskRequest, Answered, handlers.ask, ASK_BYTES_MAX, at_once=handlers.ask_at_once
        ),
        LIST: Method(ListRequest, Answered, handlers.list, 0),
        SCAN: Method(ScanRequest, Answered, handlers.scan, 0),
        STATUS: Method(StatusRequest, Answered, handlers.status, 0),
    }


class _Handlers:
    def __init__(self, member: Consensus, endpoint: Endpoint) -> None:
        self._member = member
        self._endpoint = endpoint

    async def commit(
        self, request: CommitRequest, payload: memoryview, context: CallContext
    ) -> Reply:
        command = bytes(payload)
        decoded = commands.decode(command)  # what can not be applied gets into no journal
        if isinstance(decoded, Call) and decoded.procedure.startswith(commands.OWN_PREFIX):
            raise FormatError(f"{decoded.procedure} is for members alone")
        try:
            applied = await self._member.propose(command, timeout_ms=_left_ms(context))
        except NotLeader as error:
            if request.forwarded or error.leader is None:
                raise
            return await self._pass_on(error.leader, command, context)
        return self._answer(applied)

    async def _pass_on(self, leader: int, command: bytes, context: CallContext) -> Reply:
        answered, answer = await self._endpoint.call(
            f"db/{leader}",
            COMMIT,
            CommitRequest(forwarded=True),
            Answered,
            [command],
            timeout_ms=_left_ms(context),
        )
        return Reply(answered, [answer])

    async def read(self, request: ReadRequest, _: memoryview, context: CallContext) -> Reply:
        count = len(request.wanted)
        if count > READ_KEYS_MAX:
            raise TooLarge(f"{count} keys in one read; at most {READ_KEYS_MAX}")
        await self._barrier(request.stale, context)
        return self._values(await _run(count, self._member.store.read, request.wanted))

    def _values(self, values: builtins.list[bytes | None]) -> Reply:
        size_bytes = sum(len(value) for value in values if value is not None)
        if size_bytes > READ_BYTES_MAX:
            raise TooLarge(f"{size_bytes} bytes in one read; at most {READ_BYTES_MAX}")
        return self._answer(values)

    def read_at_once(
        self, request: ReadRequest, _: memoryview, context: CallContext
    ) -> Reply | None:
        if len(request.wanted) > READ_INLINE_MAX or not self._may_read(request.stale):
            return None
        return self._values(self._member.store.read(request.wanted))

    async def ask(self, request: AskRequest, payload: memoryview, context: CallContext) -> Reply:
        store, arguments = self._member.store, bytes(payload)
        if store.is_quick(request.name, arguments):
            return self._told(await self._member.asking.ask(request.name, arguments))
        await self._barrier(request.stale, context)
        return self._told(await asyncio.to_thread(store.ask, request.name, arguments))

    def ask_at_once(
        self, request: AskRequest, payload: memoryview, context: CallContext
    ) -> Reply | None:
        store, arguments = self._member.store, bytes(payload)
        if not request.stale or not store.is_quick(request.name, arguments):
            return None
        return self._told(store.ask(request.name, arguments))

    async def list(self, request: ListRequest, _: memoryview, context: CallContext) -> Reply:
        await self._barrier(request.stale, context)
        limit = min(request.limit, LIST_ROWS_MAX)
        page = await _run(
            limit,
            self._member.store.list,
            request.table,
            request.prefix,
            request.delimiter,
            request.after,
            limit,
        )
        return self._answer(page)

    async def scan(self, request: ScanRequest, _: memoryview, context: CallContext) -> Reply:
        await self._barrier(request.stale, context)
        limit = min(request.limit, LIST_ROWS_MAX)
        page = await _run(
            limit,
            self._member.store.list,
            request.table,
            request.prefix,
            b"",
            request.after,
            limit,
            keys_only=request.keys_only,
        )
        return self._answer(page)

    async def status(self, request: StatusRequest, _: memoryview, __: CallContext) -> Reply:
        return self._answer(await status(self._member, digest=request.digest))

    def _may_read(self, stale: bool) -> bool:
        """Whether a read need not wait for the barrier."""
        return stale or self._member.asking.is_current()

    async def _barrier(self, stale: bool, context: CallContext) -> None:
        if not stale:
            await self._member.read_barrier(timeout_ms=_left_ms(context))

    def _answer(self, answer: Answer) -> Reply:
        return self._told(_ENCODER.encode(answer))

    def _told(self, answer: bytes) -> Reply:
        changes = self._member.changes
        header = Answered(
            self._member.leader, changes.members_index, changes.level, changes.is_crowded
        )
        return Reply(header, [answer])


async def status(member: Consensus, *, digest: bool) -> dict[str, Any]:
    """What the member says of itself, and its store under "store"; on demand with its digest,
    which is that of the state as of "digest_index" if nothing was applied meanwhile."""
    found = {**member.status(), "store": member.store.status()}
    if digest:
        before = member.store.applied_index
        found["digest"] = (await asyncio.to_thread(member.store.digest)).hex()
        found["digest_index"] = before if member.store.applied_index == before else None
    return found


def _left_ms(context: CallContext) -> int:
    return max(1, int((context.deadline - asyncio.get_running_loop().time()) * 1000))


async def _run(rows: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Here, when it is a matter of microseconds; else in a thread."""
    if rows <= READ_INLINE_MAX:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)
