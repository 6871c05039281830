"""Levels: how members of several programs, in the middle of an upgrade, stay one state machine.

A program has a level (`s3db.LEVEL`), and so has each procedure: that of the first program that had
it. Members say their level in the replicated configuration, beside their address (announcing.py);
one that has not spoken counts as of the first release. The level of the cluster is the least of
its members', learners included, and a call of a higher one is refused by the leader before it is
in any log. The configuration counts from where it stands in the log, committed or not: a call that
stands behind it is never in a log without it, and who is added behind a call can do it.

A program that is too old for what was done is told so, and never passes anything over: a member
that joins with it is refused, one that starts on such a state, is sent such a snapshot, or meets
such a command in its log, stops (store.py, apply.py).

What has a level is everything that decides what a command does: a procedure, a kind of op or
check, a bound of limits.py that makes a command fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from predastore.base.errors import FormatError, LevelTooLow, PredastoreError
from predastore.s3db import clock, commands
from predastore.s3db.procedures import Procedures
from predastore.s3db.raft.callers import SUCCESS, Callback
from predastore.s3db.raft.messages import BASE_LEVEL, COMMAND, Address, Configuration, Entry

if TYPE_CHECKING:
    from predastore.s3db.raft.membership import Membership

_CALL: Final = bytes([commands.CALL])


def of_members(configuration: Configuration) -> dict[int, int]:
    """The level of each member, by its id."""
    said = {known.member: known.level for known in configuration.addresses}
    return {member: said.get(member, BASE_LEVEL) for member in configuration.members()}


def check_member(member: int, address: Address | None, used: int) -> None:
    """LevelTooLow where a member's program is too old for a state to which commands of the level
    `used` were done."""
    level = BASE_LEVEL if address is None else address.level
    if level < used:
        raise LevelTooLow(
            f"member {member} runs a program of level {level}, as far as it has said; commands of "
            f"level {used} were done here: install on it the version that the other members run, "
            "and start it: it says so itself. Nothing was changed"
        )


class Levels:
    """What the cluster of a member can do, by the configuration in force there."""

    def __init__(self, membership: Membership, procedures: Procedures) -> None:
        self._membership = membership
        self._procedures = procedures
        self._configuration: Configuration | None = None
        self.known = BASE_LEVEL
        self.look()

    def look(self) -> int:
        """The level of the cluster; `known` has it until the configuration changes."""
        configuration = self._membership.current
        if configuration is not self._configuration:
            self._configuration = configuration
            self.known = min(of_members(configuration).values(), default=BASE_LEVEL)
        return self.known

    def permitted(self, proposals: list[tuple[bytes, Callback]]) -> list[tuple[bytes, Callback]]:
        """Those that every member can do; the others are told why not."""
        permitted = []
        for proposal in proposals:
            refusal = self.refusal(proposal[0])
            if refusal is None:
                permitted.append(proposal)
            else:
                proposal[1](refusal, SUCCESS)
        return permitted

    def refusal(self, command: bytes) -> PredastoreError | None:
        """Why the leader does not propose an encoded command; None: it may."""
        if command[:1] != _CALL:
            return None
        try:
            name = commands.procedure_of(command)
        except FormatError as error:
            return error
        assert name is not None
        return self.refusal_of(name)

    def highest(self, entries: Iterable[Entry], used: int) -> int:
        """`used`, or the level of a command among the entries that is higher: who is added behind
        them in the log will have to do them."""
        for entry in entries:
            if entry.kind == COMMAND and entry.data[:1] == _CALL:
                procedure = self._procedures.get(commands.procedure_of(entry.data) or "")
                used = max(used, BASE_LEVEL if procedure is None else procedure.level)
        return used

    def refusal_of(self, name: str) -> LevelTooLow | None:
        if name in clock.BUILT_IN:
            return None
        procedure = self._procedures.get(name)
        if procedure is None:
            return self._procedures.unknown(name)
        if procedure.level <= self.look():
            return None
        behind = [
            f"{member} (level {level})"
            for member, level in of_members(self._membership.current).items()
            if level < procedure.level
        ]
        return LevelTooLow(
            f'the cluster is being upgraded: "{name}" has level {procedure.level}, and older '
            f"programs run, as far as they have said, on the members {', '.join(behind)}: upgrade "
            "or remove them; nothing was changed"
        )
