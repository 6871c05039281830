"""Whether a member's disk has room for new entries.

Writes are refused early: below a reserve a leader takes no commits (and hands over, in case
another has room); below half of it, so that leaders refuse first, a follower takes no commands, as
if they had been lost on the way. Terms, votes, a leader's first entry, changes of the membership,
checkpoints and what is committed already may use the reserve; so a member on a full disk goes on
voting and reading, and takes what it missed as soon as there is room again. A disk that is full
to the last byte ends the member, as every failed write does (engine.py).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from predastore.base.errors import NodeFull
from predastore.base.limits import (
    RAFT_FULL_TRANSFER_MS,
    RAFT_LOG_BYTES_MAX,
    RAFT_RESERVE_BYTES,
    RAFT_ROOM_CHECK_MS,
)
from predastore.s3db.environment import free_bytes_of
from predastore.s3db.raft.messages import COMMAND, AppendEntries, Message, SnapshotChunk

logger = logging.getLogger(__name__)

_NEVER: Final = float("-inf")


class MemberRoom:
    def __init__(self, directory: Path, member: int, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._member = member
        self._clock = clock
        self._checked_at = _NEVER
        self._transferred_at = _NEVER
        self._is_full = False
        self.free_bytes = free_bytes_of(directory)

    def is_full(self) -> bool:
        """Too full for a leader to take commits."""
        return self.left_bytes() < RAFT_RESERVE_BYTES

    def left_bytes(self) -> int:
        """Asks the file system now and then."""
        now = self._clock()
        if now - self._checked_at >= RAFT_ROOM_CHECK_MS / 1000:
            self._checked_at = now
            self.free_bytes = free_bytes_of(self._directory)
            self._note(self.free_bytes < RAFT_RESERVE_BYTES)
        return self.free_bytes

    def _note(self, is_full: bool) -> None:
        if is_full is not self._is_full:
            self._is_full = is_full
            what = "nearly full: writes are refused" if is_full else "no longer full"
            extra = {"member": self._member, "free_bytes": self.free_bytes}
            logger.warning("raft: the disk is %s", what, extra=extra)

    def may_transfer(self) -> bool:
        """Whether a leader should look for one with room: now and then, or they go in circles."""
        now = self._clock()
        if now - self._transferred_at < RAFT_FULL_TRANSFER_MS / 1000:
            return False
        self._transferred_at = now
        return True

    def refusal(self) -> NodeFull:
        return NodeFull(
            f"the disk of database member {self._member} is nearly full ({self.free_bytes >> 20} "
            f"MiB are free, {RAFT_RESERVE_BYTES >> 20} are kept): nothing was changed. Make room "
            f"on {self._directory}"
        )

    def admitted(self, messages: Sequence[Message], log_bytes: int) -> Sequence[Message]:
        """`messages` without what would fill the disk: commands, and chunks of snapshots; or the
        memory, where the log has `log_bytes`, since applying is slower than what comes."""
        if not any(isinstance(message, AppendEntries | SnapshotChunk) for message in messages):
            return messages
        if self.left_bytes() >= RAFT_RESERVE_BYTES // 2 and log_bytes <= RAFT_LOG_BYTES_MAX:
            return messages
        return [_without_commands(m) for m in messages if not isinstance(m, SnapshotChunk)]


def _without_commands(message: Message) -> Message:
    """An append up to its first command: what is left still follows on its `prev_index`."""
    if not isinstance(message, AppendEntries):
        return message
    small = list(itertools.takewhile(lambda entry: entry.kind != COMMAND, message.entries))
    return msgspec.structs.replace(message, entries=small)
