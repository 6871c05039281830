"""The database as the rest of the product sees it: finds the leader, follows it, tries again.

Every call has one deadline, and tries members in turn until then, with short growing pauses:
first whoever is likely to answer (for a commit the last known leader, for a read the local
member), then the others. A leader that an answer or a NotLeader names is asked next, unless it has
just not answered: those who followed it may not know yet. A member that did not answer is asked
last for a while, by all calls, so that no two calls wait for it one after the other. Who the
members are it has from the configuration file at first, and then from the cluster, whenever an
answer says that there is news; when none of those answers, those of the file are asked as well.

A commit may be tried again because its request id makes the database apply it once. What it
raises at the deadline says what is known: NoLeader when no try can have changed anything,
OutcomeUnknown when one may have. Reads are linearizable, unless `stale` is asked for; at the
deadline they raise NoLeader. Errors that another try would not mend (PreconditionFailed,
TooLarge, FormatError, ProcedureFailed, LevelTooLow, NodeFull) are raised as they come, but for
NodeFull and LevelTooLow after a try that may have done it: they say nothing of that one.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Awaitable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from predastore.base.errors import (
    LevelTooLow,
    MemberFailed,
    NodeFull,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    PredastoreError,
    RpcError,
    StoreFailed,
)
from predastore.base.limits import (
    CHANGE_TIMEOUT_MS,
    COMMIT_ATTEMPT_MS,
    COMMIT_TIMEOUT_MS,
    DIGEST_TIMEOUT_MS,
    LIST_ROWS_MAX,
    MEMBER_SILENT_MS,
    READ_ATTEMPT_MS,
    READ_TIMEOUT_MS,
)
from predastore.rpc import Endpoint
from predastore.s3db import changes, clock, commands, service, timekeeping
from predastore.s3db.clock import TimeSet
from predastore.s3db.commands import Applied, Batch, Check, Command, Page
from predastore.s3db.raft.messages import BASE_LEVEL, CONFIGURATION, Address, Configuration
from predastore.s3db.rotation import Rotation
from predastore.s3db.tries import Tries

if TYPE_CHECKING:
    from predastore.s3db.near import Near

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Nothing was done: another member, or the same one a little later, may do it.
_NOTHING_DONE: Final = (NotLeader, NoLeader, Overloaded, NodeFull, LevelTooLow)
# It may have been done, or not.
_UNKNOWN: Final = (OutcomeUnknown, RpcError, StoreFailed, MemberFailed)

_APPLIED: Final = msgspec.msgpack.Decoder(Applied)
_VALUES: Final = msgspec.msgpack.Decoder(list[bytes | None])
_PAGE: Final = msgspec.msgpack.Decoder(Page)
_STATUS: Final = msgspec.msgpack.Decoder(dict[str, Any])


class Client:
    """`members`: the ids in the configuration file; `prefer`: the one in this process, if any.

    `level`: of the cluster, as the last answer said, the first release's before there was one: of
    two procedures, call the newer one where its level is not above that. It may fall again (a call
    then is LevelTooLow) while a member goes back to an older program. `is_crowded`: bodies are to
    lie elsewhere, as the leader said last."""

    def __init__(
        self,
        endpoint: Endpoint,
        members: Sequence[int],
        prefer: int | None,
        near: Near | None = None,
    ) -> None:
        """`near`: of the member in this process."""
        if not members:
            raise ValueError("a database has members")
        self._endpoint = endpoint
        self._near = near
        self._members = self._of_file = tuple(members)
        self._members_index = 0
        self.level = BASE_LEVEL
        self.is_crowded = False
        self._prefer = prefer
        self._leader: int | None = None
        self._silent_until: dict[int, float] = {}  # loop time; members that did not answer

    async def commit(self, batch: Batch, *, timeout_ms: int = COMMIT_TIMEOUT_MS) -> Applied:
        """Do a batch, once. PreconditionFailed, TooLarge, NoLeader, OutcomeUnknown."""
        return await self._commit(batch, timeout_ms)

    async def call(
        self,
        name: str,
        arguments: bytes,
        checks: tuple[Check, ...] = (),
        *,
        timeout_ms: int = COMMIT_TIMEOUT_MS,
    ) -> Applied:
        """Run a procedure, once; its answer is in what comes back. As `commit`, and
        ProcedureFailed; LevelTooLow: the leader does not have it, or another member may not."""
        return await self._commit(commands.call(name, arguments, checks), timeout_ms)

    async def _commit(self, command: Command, timeout_ms: int) -> Applied:
        encoded = commands.encode(command)
        tries = Tries(timeout_ms, COMMIT_ATTEMPT_MS)
        near = self._near
        if near is not None and near.can_commit():
            applied = await self._commit_near(near, encoded, tries)
            if applied is not None:
                return applied
        call = _Request(service.COMMIT, service.CommitRequest(), [encoded])
        first = self._leader if self._leader is not None else self._prefer
        return _APPLIED.decode(await self._try(call, first, tries))

    async def _commit_near(self, near: Near, encoded: bytes, tries: Tries) -> Applied | None:
        """None: another try is to be made."""
        try:
            applied = await near.commit(encoded, timeout_ms=tries.attempt_ms())
        except _NOTHING_DONE as error:
            if tries.is_last_word(error):
                raise
            tries.failed(error, unknown=False)
            return None
        except _UNKNOWN as error:
            tries.failed(error, unknown=True)
            return None
        self._leader, self.level, self.is_crowded = near.id, near.level, near.is_crowded
        return applied

    async def ask(self, name: str, arguments: bytes, *, stale: bool = False) -> bytes:
        """The answer to a question, of one moment. TooLarge, ProcedureFailed; LevelTooLow: the
        member that was asked does not have it. Where the member in this process can tell by itself,
        it is asked without a call."""
        near = self._near
        if near is not None and self._leader is not None and near.can_tell(name, arguments):
            return await near.ask(name, arguments)
        request = service.AskRequest(name, stale)
        return bytes(await self._read(service.ASK, request, [arguments]))

    async def read(
        self, wanted: Sequence[tuple[str, bytes]], *, stale: bool = False
    ) -> builtins.list[bytes | None]:
        """The values of keys (table, key), all of one moment; at most READ_KEYS_MAX."""
        request = service.ReadRequest(builtins.list(wanted), stale)
        return _VALUES.decode(await self._read(service.READ, request))

    async def get(self, table: str, key: bytes, *, stale: bool = False) -> bytes | None:
        request = service.ReadRequest([(table, key)], stale)
        return _VALUES.decode(await self._read(service.READ, request))[0]

    async def exists(self, table: str, key: bytes, *, stale: bool = False) -> bool:
        return await self.get(table, key, stale=stale) is not None

    async def list(
        self,
        table: str,
        prefix: bytes,
        delimiter: bytes,
        after: bytes,
        limit: int,
        *,
        stale: bool = False,
    ) -> Page:
        """One page: `limit` rows, or fewer and `truncated` where a bound on bytes is met."""
        request = service.ListRequest(table, prefix, delimiter, after, limit, stale)
        return _PAGE.decode(await self._read(service.LIST, request))

    async def scan_page(
        self,
        table: str,
        prefix: bytes,
        after: bytes,
        limit: int,
        *,
        keys_only: bool = False,
        stale: bool = False,
    ) -> Page:
        """`list` without a delimiter; with `keys_only`, values are b""."""
        request = service.ScanRequest(table, prefix, after, limit, keys_only, stale)
        return _PAGE.decode(await self._read(service.SCAN, request))

    async def scan(
        self, table: str, prefix: bytes, after: bytes, limit: int, *, stale: bool = False
    ) -> builtins.list[tuple[bytes, bytes]]:
        """The first `limit` entries after `after`; of several pages, so not of one moment."""
        return await self._rows(table, prefix, after, limit, keys_only=False, stale=stale)

    async def list_keys(
        self, table: str, prefix: bytes, limit: int, *, stale: bool = False
    ) -> builtins.list[bytes]:
        rows = await self._rows(table, prefix, b"", limit, keys_only=True, stale=stale)
        return [key for key, _ in rows]

    async def status(self, member: int | None = None, *, digest: bool = False) -> dict[str, Any]:
        """What one member says of itself: that one, or the first that answers."""
        if member is None:
            request = service.StatusRequest(digest)
            return _STATUS.decode(await self._read(service.STATUS, request))
        _, answer = await self._endpoint.call(
            f"db/{member}",
            service.STATUS,
            service.StatusRequest(digest),
            service.Answered,
            timeout_ms=DIGEST_TIMEOUT_MS if digest else READ_ATTEMPT_MS,
        )
        return _STATUS.decode(answer)

    async def join(
        self,
        member: int,
        address: Address | None,
        *,
        is_new: bool,
        timeout_ms: int = CHANGE_TIMEOUT_MS,
    ) -> Configuration:
        """Take a member in; it votes once it has caught up. See changes.py for the errors."""
        return await self._change(
            changes.JOIN, changes.JoinRequest(member, address, is_new), timeout_ms
        )

    async def leave(self, member: int) -> Configuration:
        return await self._change(changes.LEAVE, changes.LeaveRequest(member), CHANGE_TIMEOUT_MS)

    async def step_down(self) -> Configuration:
        """Another member is to lead."""
        return await self._change(changes.STEP_DOWN, changes.StepDownRequest(), CHANGE_TIMEOUT_MS)

    async def set_time(self, *, backwards: bool) -> TimeSet:
        """The leader's wall clock becomes cluster time (clock.py). PreconditionFailed."""
        request = timekeeping.SetTimeRequest(backwards)
        tries = Tries(CHANGE_TIMEOUT_MS, COMMIT_ATTEMPT_MS)
        call = _Request(timekeeping.SET_TIME, request, [])
        return clock.unpack_set(bytes(await self._try(call, self._leader, tries)))

    async def _change(self, method: str, request: msgspec.Struct, timeout_ms: int) -> Configuration:
        tries = Tries(timeout_ms, COMMIT_ATTEMPT_MS)
        answer = await self._try(_Request(method, request, []), self._leader, tries)
        return CONFIGURATION.decode(answer)

    async def _rows(
        self, table: str, prefix: bytes, after: bytes, limit: int, *, keys_only: bool, stale: bool
    ) -> builtins.list[tuple[bytes, bytes]]:
        rows: builtins.list[tuple[bytes, bytes]] = []
        while True:
            part = min(limit - len(rows), LIST_ROWS_MAX)
            page = await self.scan_page(
                table, prefix, after, part, keys_only=keys_only, stale=stale
            )
            rows += page.entries
            if not page.truncated or len(rows) >= limit:
                return rows
            after = page.next

    def _read(
        self, method: str, request: msgspec.Struct, payload: Sequence[bytes] = ()
    ) -> Awaitable[memoryview]:
        first = self._prefer if self._prefer is not None else self._leader
        tries = Tries(READ_TIMEOUT_MS, READ_ATTEMPT_MS)
        return self._try(_Request(method, request, payload), first, tries)

    async def _try(self, call: _Request, first: int | None, tries: Tries) -> memoryview:
        """The answer of the first member that gives one."""
        turn = Rotation(self._members, first, self._silent())
        while True:
            member = turn.take()
            try:
                answered, answer = await self._endpoint.call(
                    f"db/{member}",
                    call.method,
                    call.request,
                    service.Answered,
                    call.payload,
                    timeout_ms=tries.attempt_ms(),
                )
            except _NOTHING_DONE as error:
                if tries.is_last_word(error):
                    raise
                tries.failed(error, unknown=False)
                if isinstance(error, NotLeader) and error.leader != member:
                    turn.hint(error.leader)
            except _UNKNOWN as error:
                tries.failed(error, unknown=True)
                if isinstance(error, RpcError):
                    turn.did_not_answer.add(member)
                    self._silent_until[member] = tries.now() + MEMBER_SILENT_MS / 1000
            else:
                if self._silent_until:
                    self._silent_until.pop(member, None)
                self._heard(member, answered)
                if answered.members > self._members_index:
                    await self._learn(member, answered.members)
                return answer
            if self._leader == member:
                self._leader = None
            if not turn.hinted:
                await tries.pause()
            if tries.are_over():
                self._members = tuple(dict.fromkeys((*self._members, *self._of_file)))
                tries.give_up(call.method)

    def _heard(self, member: int, answered: service.Answered) -> None:
        self._leader = answered.leader
        self.level = answered.level
        if answered.leader == member:
            self.is_crowded = answered.is_crowded

    def _silent(self) -> Collection[int]:
        if not self._silent_until:
            return ()
        now = asyncio.get_running_loop().time()
        return {member for member, until in self._silent_until.items() if now < until}

    async def _learn(self, member: int, index: int) -> None:
        """Who the members are, and where, as one of them says; not vital to the call."""
        before, self._members_index = self._members_index, index  # one call learns for all
        try:
            _, answer = await self._endpoint.call(
                f"db/{member}",
                changes.MEMBERS,
                changes.MembersRequest(),
                changes.MembersChanged,
                timeout_ms=READ_ATTEMPT_MS,
            )
        except PredastoreError as error:
            logger.info("s3db: who the members are is not known: %s", error)
            self._members_index = before
            return
        configuration = CONFIGURATION.decode(answer)
        known = set(self._of_file)
        for address in configuration.addresses:
            if address.member not in self._of_file:  # the file's addresses go before
                known.add(address.member)
                self._endpoint.add_peer(f"db/{address.member}", address.host, address.raft_port)
        self._members = tuple(m for m in configuration.members() if m in known) or self._of_file


class _Request(msgspec.Struct, frozen=True):
    method: str
    request: msgspec.Struct
    payload: Sequence[bytes]
