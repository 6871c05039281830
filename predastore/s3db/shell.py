"""The shell of a member: pysyncobj's SyncObj, with the Raft protocol inside it replaced.

What is pysyncobj's: the bounded command queue and its callbacks with their fail reasons, nodes,
the Transport interface between a member and the network, and the status report. What is not:
its tick (which elects, replicates and applies), its message handler, its journal, dump files,
compaction and threads. They are never reached: the queue is drained, messages are handed on and
the status is filled in by the methods here.

pysyncobj 0.3.17 exactly: the subclass relies on the private names listed in PRIVATE_NAMES, and
a test compares them with the package, so that an upgrade can not break this silently.

Its import puts a function for Windows in the place of `socket.inet_ntop`, on every system, which
fails elsewhere. The real one is put back here, where alone the product imports it.
"""

from __future__ import annotations

import _socket
import queue
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from predastore.base.errors import (
    MemberFailed,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    PredastoreError,
)
from predastore.base.limits import RAFT_COMMANDS_QUEUED_MAX, RAFT_LINKS_MAX
from predastore.s3db.raft.callers import DISCARDED, SUCCESS, UNKNOWN_OUTCOME, Callback
from predastore.s3db.raft.core import RaftCore
from predastore.s3db.raft.messages import Message
from predastore.s3db.raft.state import Role

if TYPE_CHECKING:

    class SyncObj:
        """As much of pysyncobj.SyncObj as is used here."""

        def __init__(
            self,
            self_node: Node,
            other_nodes: Sequence[Node],
            *,
            conf: Any,
            transport: Transport,
        ) -> None: ...

        def _applyCommand(self, command: bytes, callback: Callback) -> None: ...

        def doTick(self, timeToWait: float = 0.0) -> None: ...

        def destroy(self) -> None: ...

        def getStatus(self) -> dict[str, Any]: ...

    class Transport:
        def __init__(
            self, sync_obj: None, self_node: Node, other_nodes: Sequence[Node]
        ) -> None: ...

        def _onMessageReceived(self, node: Node, message: Any) -> None: ...

        def _onNodeConnected(self, node: Node) -> None: ...

        def _onNodeDisconnected(self, node: Node) -> None: ...

    class Node:
        def __init__(self, id: str) -> None: ...

        @property
        def id(self) -> str: ...

    class SyncObjConf:
        def __init__(self, **options: Any) -> None: ...

else:
    from pysyncobj import SyncObj, SyncObjConf
    from pysyncobj.node import Node
    from pysyncobj.transport import Transport

    socket.inet_ntop = _socket.inet_ntop

VERSION: Final = "0.3.17"

# pysyncobj.config.FAIL_REASON, with SUCCESS, DISCARDED and UNKNOWN_OUTCOME of raft.callers
QUEUE_FULL: Final = 1
MISSING_LEADER: Final = 2
NOT_LEADER: Final = 4
REQUEST_DENIED: Final = 6

_STATE: Final = {  # pysyncobj.syncobj._RAFT_STATE
    Role.FOLLOWER: 0,
    Role.PRE_CANDIDATE: 1,
    Role.CANDIDATE: 1,
    Role.LEADER: 2,
}

PRIVATE_NAMES: Final = (
    "_SyncObj__commandsQueue",
    "_SyncObj__connectedNodes",
    "_SyncObj__leaderCommitIndex",
    "_SyncObj__otherNodes",
    "_SyncObj__raftCommitIndex",
    "_SyncObj__raftCurrentTerm",
    "_SyncObj__raftLastApplied",
    "_SyncObj__raftLeader",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__raftNextIndex",
    "_SyncObj__raftState",
)


def failure(reason: int, leader: int | None) -> PredastoreError:
    """What a caller is told for one of pysyncobj's fail reasons."""
    if reason == QUEUE_FULL:
        return Overloaded("too many commits wait at this member; nothing was changed")
    if reason == NOT_LEADER:
        return NotLeader("this member does not lead; nothing was changed", leader=leader)
    if reason == MISSING_LEADER:
        return NoLeader("no leader is known; nothing was changed")
    if reason == DISCARDED:
        return NoLeader("the leader changed and the commit was dropped; nothing was changed")
    if reason == REQUEST_DENIED:
        return NoLeader("leadership is being handed over, or too much waits; nothing was changed")
    if reason == UNKNOWN_OUTCOME:
        return OutcomeUnknown("the leader changed before the commit was decided")
    return MemberFailed(f"unexpected fail reason {reason}")


class RpcTransport(Transport):
    """pysyncobj's interface to the network, over whatever `post` sends messages with."""

    def __init__(
        self,
        self_node: Node,
        nodes: dict[int, Node],
        post: Callable[[int, Sequence[Message]], None],
    ) -> None:
        super().__init__(None, self_node, list(nodes.values()))
        self._nodes = nodes
        self._ids = {node.id: member for member, node in nodes.items()}
        self._post = post

    def meet(self, members: Iterable[int]) -> None:
        """Know exactly these members from now on (and the own one)."""
        wanted = {f"db/{member}": member for member in members}
        for gone in self._ids.keys() - wanted.keys():
            del self._nodes[self._ids.pop(gone)]
        for name in wanted.keys() - self._ids.keys():
            self._ids[name] = wanted[name]
            self._nodes[wanted[name]] = Node(name)

    def send(self, node: Node, message: Sequence[Message]) -> bool:
        """Hand messages for one member on; they may get lost, as Raft allows."""
        self._post(self._ids[node.id], message)
        return True

    def send_to(self, member: int, messages: Sequence[Message]) -> None:
        if member in self._nodes:
            self.send(self._nodes[member], messages)

    def received(self, source: int, messages: Sequence[Message]) -> None:
        if source not in self._nodes:
            self._welcome(source)
        if source in self._nodes:
            self._onMessageReceived(self._nodes[source], messages)

    def _welcome(self, member: int) -> None:
        """A stranger who holds the cluster key: perhaps of a configuration that is on its way."""
        if len(self._nodes) < RAFT_LINKS_MAX:
            self._nodes[member] = node = Node(f"db/{member}")
            self._ids[node.id] = member

    def connected(self, member: int, is_connected: bool) -> None:
        """Keep pysyncobj's picture of who answers; for its status only."""
        if member not in self._nodes:
            return
        if is_connected:
            self._onNodeConnected(self._nodes[member])
        else:
            self._onNodeDisconnected(self._nodes[member])


class Shell(SyncObj):
    """SyncObj whose tick and message handler call `on_tick` and `on_messages`."""

    def __init__(
        self,
        name: str,
        nodes: dict[int, Node],
        transport: RpcTransport,
        *,
        on_tick: Callable[[], None],
        on_messages: Callable[[Sequence[Message]], None],
    ) -> None:
        self._on_tick = on_tick
        self._on_messages = on_messages
        self._member_nodes = nodes
        conf = SyncObjConf(
            autoTick=False,  # no thread; no fixed period
            appendEntriesUseBatch=True,  # no notification pipe either
            journalFile=None,
            fullDumpFile=None,
            dynamicMembershipChange=False,
            commandsQueueSize=RAFT_COMMANDS_QUEUED_MAX,
        )
        others = [node for node in nodes.values() if node.id != name]
        super().__init__(Node(name), others, conf=conf, transport=transport)

    def _onTick(self, timeToWait: float = 0.0) -> None:
        """In place of pysyncobj's: one turn of the core."""
        self._on_tick()

    def _SyncObj__onMessageReceived(self, node: Node, message: Sequence[Message]) -> None:
        """In place of pysyncobj's handler, which its constructor registers by this name."""
        self._on_messages(message)

    def submit(self, command: bytes, callback: Callback) -> None:
        """Queue a proposal for the next tick; `callback` gets (None, QUEUE_FULL) if it is full."""
        self._applyCommand(command, callback)

    def drain(self) -> list[tuple[bytes, Callback]]:
        """All queued proposals."""
        drained: list[tuple[bytes, Callback]] = []
        waiting = vars(self)["_SyncObj__commandsQueue"]
        while True:
            try:
                drained.append(waiting.get_nowait())
            except queue.Empty:
                return drained

    def mirror(self, core: RaftCore, applied_index: int) -> None:
        """Let pysyncobj's status report tell the truth."""
        known = {peer: progress for peer, progress in _progress(core) if peer in self._member_nodes}
        vars(self).update(
            _SyncObj__otherNodes={
                node for member, node in self._member_nodes.items() if member != core.id
            },
            _SyncObj__raftState=_STATE[core.role],
            _SyncObj__raftCurrentTerm=core.term,
            _SyncObj__raftLeader=self._member_nodes.get(-1 if core.leader is None else core.leader),
            _SyncObj__raftCommitIndex=core.commit,
            _SyncObj__leaderCommitIndex=core.commit,
            _SyncObj__raftLastApplied=applied_index,
            _SyncObj__raftNextIndex={
                self._member_nodes[peer]: next_index for peer, (next_index, _) in known.items()
            },
            _SyncObj__raftMatchIndex={
                self._member_nodes[peer]: match for peer, (_, match) in known.items()
            },
        )


def _progress(core: RaftCore) -> list[tuple[int, tuple[int, int]]]:
    """(peer, (next, match)) as the leader sees them; nothing on a follower."""
    if core.leadership is None:
        return []
    peers = core.leadership.peers.items()
    return [(peer, (progress.next, progress.match)) for peer, progress in peers]


__all__ = [
    "DISCARDED",
    "MISSING_LEADER",
    "NOT_LEADER",
    "PRIVATE_NAMES",
    "QUEUE_FULL",
    "REQUEST_DENIED",
    "SUCCESS",
    "UNKNOWN_OUTCOME",
    "VERSION",
    "Node",
    "RpcTransport",
    "Shell",
    "failure",
]
