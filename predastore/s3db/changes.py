"""Who belongs to the cluster, and who leads it: changed through any member, decided by the leader.

    db.join       a member comes as a learner, and votes as soon as it has caught up
    db.leave      a member goes; what it holds is not needed any more
    db.step_down  the leader hands over to whoever is most advanced
    db.announce   a member says where it is, and the level of its program (announcing.py)
    db.members    who belongs to it, as far as this member knows

One change is under way at a time (Raft 4.1). A member that does not lead passes a call on to the
leader, once. All may be repeated: what is done already is answered as done.

Raises NotLeader, NoLeader, OutcomeUnknown; PreconditionFailed for what would leave the cluster
without a majority, or without a member; LevelTooLow for a program that is too old for what was done
here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from predastore.base.errors import (
    DeadlineExceeded,
    NoLeader,
    NotLeader,
    Overloaded,
    PreconditionFailed,
)
from predastore.base.limits import DB_MEMBERS_MAX, RAFT_CHANGE_PAUSE_MS
from predastore.rpc import CallContext, Endpoint, Method, Reply, Service
from predastore.s3db import levels
from predastore.s3db.raft.membership import MemberChange
from predastore.s3db.raft.messages import (
    BASE_LEVEL,
    ENCODER,
    UNKNOWN_LEVEL,
    Address,
    Configuration,
)
from predastore.s3db.raft.state import Role

if TYPE_CHECKING:
    from predastore.s3db.raft.engine import Engine
    from predastore.s3db.raft.leadership import Leadership

JOIN: Final = "db.join"
LEAVE: Final = "db.leave"
STEP_DOWN: Final = "db.step_down"
ANNOUNCE: Final = "db.announce"
MEMBERS: Final = "db.members"


class JoinRequest(msgspec.Struct, frozen=True, array_like=True):
    """`is_new`: the member holds nothing, whatever the cluster may know of one of its id."""

    member: int
    address: Address | None
    is_new: bool
    forwarded: bool = False


class LeaveRequest(msgspec.Struct, frozen=True, array_like=True):
    member: int
    forwarded: bool = False


class StepDownRequest(msgspec.Struct, frozen=True, array_like=True):
    forwarded: bool = False


class AnnounceRequest(msgspec.Struct, frozen=True, array_like=True):
    address: Address
    forwarded: bool = False


class MembersRequest(msgspec.Struct, frozen=True, array_like=True):
    """Of any member; not passed on."""


class MembersChanged(msgspec.Struct, frozen=True, array_like=True):
    """The header of every answer, alike that of all others (service.Answered)."""

    leader: int | None
    members: int = 0
    level: int = BASE_LEVEL
    is_crowded: bool = False


class Changes:
    """As a leader does them; NotLeader from everybody else."""

    def __init__(self, member_id: int, engine: Engine) -> None:
        self._id = member_id
        self._engine = engine
        self._core = engine.core
        self._one_at_a_time = asyncio.Lock()

    @property
    def leader(self) -> int | None:
        return self._core.leader

    @property
    def members_index(self) -> int:
        """Of the entry that says who the members are, once it is committed; until then 0."""
        index = self._core.membership.index
        return index if index <= self._core.commit else 0

    @property
    def level(self) -> int:
        """The least level of the members' programs, as far as this member knows."""
        return self._engine.levels.known

    @property
    def is_crowded(self) -> bool:
        """Whether this member has no room for bodies (crowding.py)."""
        return self._engine.crowding.look()

    def header(self) -> MembersChanged:
        return MembersChanged(self.leader, self.members_index, self.level, self.is_crowded)

    @property
    def is_settled(self) -> bool:
        """Whether that entry is committed."""
        return self._core.membership.index <= self._core.commit

    @property
    def members(self) -> Configuration:
        return self._core.membership.current

    async def join(self, member: int, address: Address | None, *, is_new: bool) -> Configuration:
        """With an address of UNKNOWN_LEVEL, the level stays what it is known to be."""
        async with self._one_at_a_time:
            address = self._with_level(member, address)
            self._check_level(member, address)
            if is_new and member in self._configuration().members():
                if member == self._id:
                    raise PreconditionFailed(f"member {member} leads; it is not new")
                await self._remove(member)
            configuration = self._configuration()
            if member not in configuration.members():
                if len(configuration.members()) >= DB_MEMBERS_MAX:
                    raise PreconditionFailed(f"a cluster has at most {DB_MEMBERS_MAX} members")
                await self._change(MemberChange.ADD_LEARNER, member, address)
            elif address is not None and address not in configuration.addresses:
                await self._change(MemberChange.MOVE, member, address)
            return self._configuration()

    async def announce(self, address: Address) -> Configuration:
        async with self._one_at_a_time:
            if address.member not in self._configuration().members():
                raise PreconditionFailed(f"member {address.member} does not belong to the cluster")
            self._check_level(address.member, address)
            if address not in self._configuration().addresses:
                await self._change(MemberChange.MOVE, address.member, address)
            return self._configuration()

    def _with_level(self, member: int, address: Address | None) -> Address | None:
        if address is None or address.level != UNKNOWN_LEVEL:
            return address
        level = levels.of_members(self._configuration()).get(member, BASE_LEVEL)
        return msgspec.structs.replace(address, level=level)

    def _check_level(self, member: int, address: Address | None) -> None:
        """Before anything is changed for it; the engine checks again where it proposes the change.
        LevelTooLow."""
        self._lead()
        levels.check_member(member, address, self._engine.level_used)

    async def leave(self, member: int) -> Configuration:
        async with self._one_at_a_time:
            if member in self._configuration().members():
                if member == self._id:
                    await self.step_down()
                    raise NotLeader("leadership was handed over first", leader=self.leader)
                await self._remove(member)
            return self._configuration()

    async def step_down(self) -> Configuration:
        self._lead()
        if not self._core.transfer_to_fittest():
            raise PreconditionFailed("no other member can lead now")
        self._engine.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * self._core.timing.election_s):
                await self._engine.follows.wait()
        if self._core.role is Role.LEADER:
            raise NoLeader("the other member did not take over in time; this one leads on")
        return self._core.membership.current

    async def _remove(self, member: int) -> None:
        configuration = self._configuration()
        if configuration.voters == (member,):
            raise PreconditionFailed(f"member {member} is the last one that votes")
        if not self._lead().can_do_without(member):
            raise PreconditionFailed(
                f"without member {member} the cluster would have no majority: too few of the "
                "other members answer"
            )
        await self._change(MemberChange.REMOVE, member, None)

    async def _change(self, change: MemberChange, member: int, address: Address | None) -> None:
        """As soon as the change before is committed; the caller's deadline ends the waiting."""
        while True:
            try:
                future = self._engine.change(change, member, address)
            except Overloaded:
                await asyncio.sleep(RAFT_CHANGE_PAUSE_MS / 1000)
            else:
                await future
                return

    def _lead(self) -> Leadership:
        if self._core.leadership is None:
            raise NotLeader("this member does not lead; nothing was changed", leader=self.leader)
        return self._core.leadership

    def _configuration(self) -> Configuration:
        self._lead()
        return self._core.membership.current


def methods(changes: Changes, endpoint: Endpoint) -> Service:
    """The rpc methods of a member; `endpoint` reaches the leader, where that is another."""
    handlers = _Handlers(changes, endpoint)
    return {
        JOIN: Method(JoinRequest, MembersChanged, handlers.join, 0),
        LEAVE: Method(LeaveRequest, MembersChanged, handlers.leave, 0),
        ANNOUNCE: Method(AnnounceRequest, MembersChanged, handlers.announce, 0),
        STEP_DOWN: Method(StepDownRequest, MembersChanged, handlers.step_down, 0),
        MEMBERS: Method(MembersRequest, MembersChanged, handlers.members, 0),
    }


class _Handlers:
    def __init__(self, changes: Changes, endpoint: Endpoint) -> None:
        self._changes = changes
        self._endpoint = endpoint

    async def join(self, request: JoinRequest, _: memoryview, context: CallContext) -> Reply:
        async def here() -> Configuration:
            return await self._changes.join(request.member, request.address, is_new=request.is_new)

        return await self._do(JOIN, request, here, context)

    async def leave(self, request: LeaveRequest, _: memoryview, context: CallContext) -> Reply:
        async def here() -> Configuration:
            return await self._changes.leave(request.member)

        return await self._do(LEAVE, request, here, context)

    async def announce(
        self, request: AnnounceRequest, _: memoryview, context: CallContext
    ) -> Reply:
        async def here() -> Configuration:
            return await self._changes.announce(request.address)

        return await self._do(ANNOUNCE, request, here, context)

    async def step_down(
        self, request: StepDownRequest, _: memoryview, context: CallContext
    ) -> Reply:
        return await self._do(STEP_DOWN, request, self._changes.step_down, context)

    async def members(self, _: MembersRequest, __: memoryview, ___: CallContext) -> Reply:
        return Reply(self._changes.header(), [ENCODER.encode(self._changes.members)])

    async def _do(
        self,
        method: str,
        request: Any,
        here: Callable[[], Awaitable[Configuration]],
        context: CallContext,
    ) -> Reply:
        async def encoded() -> bytes:
            return ENCODER.encode(await here())

        changes, endpoint = self._changes, self._endpoint
        return await through_leader(method, request, encoded, context, changes, endpoint)


async def through_leader(
    method: str,
    request: Any,
    here: Callable[[], Awaitable[bytes]],
    context: CallContext,
    changes: Changes,
    endpoint: Endpoint,
) -> Reply:
    """What `here` answers, if this member leads, else what the leader answers to `request`."""
    try:
        async with asyncio.timeout_at(context.deadline):
            answer = await here()
    except TimeoutError:
        raise DeadlineExceeded(f"{method}: not done in time") from None
    except NotLeader as error:
        if request.forwarded or error.leader is None:
            raise
        left_ms = int((context.deadline - asyncio.get_running_loop().time()) * 1000)
        changed, payload = await endpoint.call(
            f"db/{error.leader}",
            method,
            msgspec.structs.replace(request, forwarded=True),
            MembersChanged,
            timeout_ms=max(1, left_ms),
        )
        return Reply(changed, [payload])
    return Reply(changes.header(), [answer])
