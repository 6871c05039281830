"""A leader's commits, and what becomes of each."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from predastore.base.errors import OutcomeUnknown, PredastoreError, TooLarge, anew
from predastore.base.limits import RAFT_COMMAND_BYTES_MAX
from predastore.s3db import shell
from predastore.s3db.raft.state import Role

if TYPE_CHECKING:
    from predastore.s3db.commands import Applied
    from predastore.s3db.raft.engine import Engine


class Proposals:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._core = engine.core
        self._loop = asyncio.get_running_loop()

    async def propose(self, command: bytes, *, timeout_ms: int) -> Applied:
        """Commit an encoded command; what applying it gave. See Member.propose for the errors."""
        if len(command) > RAFT_COMMAND_BYTES_MAX:
            raise TooLarge(f"a commit of {len(command)} bytes; {RAFT_COMMAND_BYTES_MAX} may be")
        if self._core.role is not Role.LEADER:
            leader = self._core.leader
            reason = shell.MISSING_LEADER if leader is None else shell.NOT_LEADER
            raise shell.failure(reason, leader)
        future: asyncio.Future[Applied] = self._loop.create_future()
        self._engine.submit(command, partial(self._settle, future))
        timer = self._loop.call_later(timeout_ms / 1000, _give_up, future, timeout_ms)
        try:
            return await future
        finally:
            timer.cancel()
            del future  # its error has a traceback with this frame

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


def _give_up(future: asyncio.Future[Applied], timeout_ms: int) -> None:
    if not future.done():
        message = f"the commit was not decided within {timeout_ms} ms"
        future.set_exception(OutcomeUnknown(message))
