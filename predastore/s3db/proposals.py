"""A leader's commits, and what becomes of each."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from predastore.base.errors import OutcomeUnknown, PredastoreError, TooLarge, anew
from predastore.base.limits import RAFT_COMMAND_BYTES_MAX
from predastore.rpc.deadlines import Deadlines
from predastore.s3db import shell
from predastore.s3db.raft.state import Role

if TYPE_CHECKING:
    from predastore.s3db.commands import Applied
    from predastore.s3db.raft.engine import Engine


class _Waiting:
    """For a commit to be decided; what is late may be done yet."""

    __slots__ = ("_timeout_ms", "future")

    def __init__(self, future: asyncio.Future[Applied], timeout_ms: int) -> None:
        self.future = future
        self._timeout_ms = timeout_ms

    def expire(self) -> None:
        if not self.future.done():
            message = f"the commit was not decided within {self._timeout_ms} ms"
            self.future.set_exception(OutcomeUnknown(message))


class Proposals:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines()

    async def propose(self, command: bytes, *, timeout_ms: int) -> Applied:
        """Commit an encoded command; what applying it gave. See Member.propose for the errors."""
        if len(command) > RAFT_COMMAND_BYTES_MAX:
            raise TooLarge(f"a commit of {len(command)} bytes; {RAFT_COMMAND_BYTES_MAX} may be")
        if self._core.role is not Role.LEADER:
            leader = self._core.leader
            reason = shell.MISSING_LEADER if leader is None else shell.NOT_LEADER
            raise shell.failure(reason, leader)
        waiting = _Waiting(self._loop.create_future(), timeout_ms)
        due = self._deadlines.due(self._loop.time() + timeout_ms / 1000)
        due.add(waiting)
        self._engine.submit(command, partial(self._settle, waiting.future))
        try:
            return await waiting.future
        finally:
            due.discard(waiting)
            del waiting  # its error has a traceback with this frame

    def _settle(self, future: asyncio.Future[Applied], outcome: Any, reason: int) -> None:
        """pysyncobj's callback: an outcome of the state machine, or a fail reason."""
        if future.done():
            return
        if reason != shell.SUCCESS:
            future.set_exception(shell.failure(reason, self._core.leader))
        elif isinstance(outcome, PredastoreError):
            future.set_exception(anew(outcome))
        else:
            future.set_result(outcome)
