"""The member in this process, for the client of the same process: no call is made to it.

A call within a process costs more than what most commits and questions need for themselves. So the
client hands them over as they are, where the member can do them by itself: questions, where it can
tell without asking others, and commits, where it leads. Whatever it can not do goes the long way,
by calls (client.py), to this member as well.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from predastore.base import tracing
from predastore.s3db.raft.state import Role

if TYPE_CHECKING:
    from predastore.s3db.commands import Applied
    from predastore.s3db.member import Member


class Near:
    """`level`, `is_crowded`: as each of its answers would say."""

    def __init__(self, member: Member) -> None:
        self.id = member.id
        self._member = member
        self._store = member.store

    @property
    def level(self) -> int:
        return self._member.changes.level

    @property
    def is_crowded(self) -> bool:
        return self._member.changes.is_crowded

    def can_tell(self, name: str, arguments: bytes) -> bool:
        """Whether `ask` answers at once. Traces follow calls, so not while they are taken."""
        if tracing.tracer is not None or not self._store.is_quick(name, arguments):
            return False
        return self._member.asking.is_current()

    def ask(self, name: str, arguments: bytes) -> Awaitable[bytes]:
        """The answer to a question; what `Asking.ask` raises."""
        return self._member.asking.ask(name, arguments)

    def can_commit(self) -> bool:
        """Whether it leads."""
        return tracing.tracer is None and self._member.role is Role.LEADER

    def commit(self, command: bytes, *, timeout_ms: int) -> Awaitable[Applied]:
        """Commits an encoded command that is valid; what `Member.propose` raises."""
        return self._member.propose(command, timeout_ms=timeout_ms)
