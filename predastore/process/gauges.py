"""The state of a process as gauges, read when somebody asks for its metrics."""

from __future__ import annotations

import os
import resource
import time
from typing import Final

from predastore import __version__
from predastore.base import metrics
from predastore.base.errors import StoreFailed
from predastore.process.wiring import Process
from predastore.storage.distributed import DistributedStore

_NODE_UP = metrics.gauge(
    "predastore_node_up", "1 where a node did what this gateway last asked of it, else 0.", "node"
)
_NODE_FAILED = metrics.gauge(
    "predastore_node_failed", "1 where a node of this process writes no more, else 0.", "node"
)
_NODE_SHARDS = metrics.gauge("predastore_node_shards", "Shards on a node of this process.", "node")
_NODE_BAD = metrics.gauge("predastore_node_bad_shards", "Of these, known to be damaged.", "node")
_NODE_BYTES = metrics.gauge(
    "predastore_node_bytes", "Bytes of segments (live, dead), and left to be put (free).",
    *("node", "state"),
)  # fmt: skip
_NODE_CORRUPT = metrics.gauge(
    "predastore_node_corrupt_reads", "Blocks that failed their CRC when read, since start.", "node"
)
_TERM = metrics.gauge("predastore_raft_term", "The Raft term that a member is in.", "member")
_LEADER = metrics.gauge("predastore_raft_is_leader", "1 where this member leads, else 0.", "member")
_HAS_LEADER = metrics.gauge(
    "predastore_raft_has_leader", "1 where this member knows a leader, else 0.", "member"
)
_COMMIT = metrics.gauge("predastore_raft_commit_index", "The last committed entry.", "member")
_BEHIND = metrics.gauge(
    "predastore_raft_unapplied_entries", "Entries that are committed and not yet applied.", "member"
)
_LAG = metrics.gauge(
    "predastore_raft_follower_lag_entries", "Entries that a leader's follower lacks.",
    *("member", "follower"),
)  # fmt: skip
_JOURNAL = metrics.gauge("predastore_db_journal_bytes", "Bytes of a member's journal.", "member")
_HEALS = metrics.gauge(
    "predastore_healing_here", "1 where this process heals the cluster; it tells the following."
).child()
_REPAIR_OBJECTS = metrics.gauge("predastore_repair_objects_left", "Objects to be repaired.")
_REPAIR_SHARDS = metrics.gauge("predastore_repair_shards_left", "Shards to be rebuilt.")
_REPAIR_STUCK = metrics.gauge(
    "predastore_repair_stuck_shards", "Of these, such as can not be rebuilt now."
)
_REPAIR_BYTES = metrics.gauge("predastore_repair_bytes_left", "Bytes of shards to be rebuilt.")
_REPAIR_RATE = metrics.gauge("predastore_repair_bytes_per_second", "Rebuilt and moved of late.")
_REPAIR_ETA = metrics.gauge(
    "predastore_repair_seconds_left", "Until all is repaired at that rate; -1: unknown."
)
_HEALED = metrics.gauge(
    "predastore_healed_shards",
    "Shards repaired, moved to where the ring wants them, or deleted as orphans, since this "
    "process heals.",
    "how",
)
_MOVES = metrics.gauge("predastore_moves_left", "Shards that are not where the ring wants them.")
_LAST_PASS = metrics.gauge(
    "predastore_last_full_pass_seconds",
    "When all nodes were last compared with all records, since 1970; 0: not yet.",
)
_HEALING_NODES = metrics.gauge(
    "predastore_healing_nodes", "Nodes that do not answer (down), or are given up (lost).", "state"
)
_OF_HEALING = (
    *(_REPAIR_OBJECTS, _REPAIR_SHARDS, _REPAIR_STUCK, _REPAIR_BYTES, _REPAIR_RATE, _REPAIR_ETA),
    *(_HEALED, _MOVES, _LAST_PASS, _HEALING_NODES),
)
_CONNECTIONS = metrics.gauge("predastore_s3_connections", "Open connections of clients.").child()
_HELD = metrics.gauge("predastore_held_bytes", "Bytes in use of a budget.", "budget")
_READY = metrics.gauge("predastore_ready", "1 where metadata answered lately, else 0.").child()
_WRITES = metrics.gauge(
    "predastore_writes_possible", "1 where objects could be stored just now, else 0."
).child()
_EDITED = metrics.gauge(
    "predastore_config_edited",
    "1 where the file says something else than what is in force, else 0.",
).child()
_INFO = metrics.gauge("predastore_info", "1; what runs here.", "version", "backend")
_CPU = metrics.counter("process_cpu_seconds_total", "CPU time, user and system.").child()
_MEMORY = metrics.gauge("process_resident_memory_bytes", "Resident memory.").child()
_FILES = metrics.gauge("process_open_fds", "Open file descriptors.").child()
_START = metrics.gauge("process_start_time_seconds", "Start, since 1970.").child()

_STARTED_S: Final = time.time()


class Gauges:
    """Fills the gauges from the roles of a process: `fill` is a source of base/metrics.py."""

    def __init__(self, process: Process) -> None:
        self._process = process
        _INFO.child(__version__, process.common.settings.backend).value = 1
        _START.value = _STARTED_S

    async def fill(self) -> None:
        process, gateway = self._process, self._process.gateway
        is_ready, server, store = process.common.is_ready, gateway.server, gateway.store
        _READY.value = int(is_ready)
        _EDITED.value = int(process.edited is not None and process.edited.differs)
        _WRITES.value = int(is_ready and not await gateway.write_obstacle())
        _CONNECTIONS.value = server.connection_count if server is not None else 0
        self._fill_process()
        self._fill_members()
        if store is not None:
            for budget, held in store.held_bytes().items():
                _HELD.child(budget).value = held
            _NODE_UP.clear()
        if isinstance(store, DistributedStore):
            for node, is_well in store.nodes_well().items():
                _NODE_UP.child(str(node)).value = int(is_well)
        await self._fill_healing()
        await self._fill_nodes()

    async def _fill_healing(self) -> None:
        """Only the process that heals knows, and tells, where that stands."""
        healing = self._process.gateway.healing
        working = healing is not None and healing.is_working
        _HEALS.value = int(working)
        for family in _OF_HEALING:
            family.clear()
        if healing is None or not working:
            return
        said = await healing.status()
        if said is None:
            return
        _REPAIR_OBJECTS.child().value = said.objects_left
        _REPAIR_SHARDS.child().value = said.shards_left
        _REPAIR_STUCK.child().value = said.stuck_shards
        _REPAIR_BYTES.child().value = said.bytes_left
        _REPAIR_RATE.child().value = said.rate_bytes_s
        _REPAIR_ETA.child().value = said.seconds_left
        _HEALED.child("repaired").value = said.repaired_shards
        _HEALED.child("moved").value = said.moved_shards
        _HEALED.child("orphans").value = said.orphans_shards
        _MOVES.child().value = said.moves_left
        _LAST_PASS.child().value = said.last_pass_ms / 1000
        _HEALING_NODES.child("down").value = len(said.down_nodes)
        _HEALING_NODES.child("lost").value = len(said.lost_nodes)

    async def _fill_nodes(self) -> None:
        nodes = self._process.nodes
        for running in nodes.nodes if nodes is not None else ():
            node = str(running.node_id)
            try:
                status = await running.status()
            except StoreFailed:
                _NODE_FAILED.child(node).value = 1
                continue
            _NODE_FAILED.child(node).value = int(bool(status.failure))
            _NODE_SHARDS.child(node).value = status.shard_count
            _NODE_BAD.child(node).value = status.bad_shards
            _NODE_CORRUPT.child(node).value = status.corrupt_reads
            _NODE_BYTES.child(node, "live").value = status.live_bytes
            _NODE_BYTES.child(node, "dead").value = status.dead_bytes
            _NODE_BYTES.child(node, "free").value = status.free_bytes

    def _fill_members(self) -> None:
        _LAG.clear()
        members = self._process.members
        for member in members.members if members is not None else ():
            status, name = member.status(), str(member.id)
            _TERM.child(name).value = status["term"]
            _LEADER.child(name).value = int(status["role"] == "leader")
            _HAS_LEADER.child(name).value = int(status["leader"] is not None)
            _COMMIT.child(name).value = status["commit_index"]
            _BEHIND.child(name).value = status["commit_index"] - status["applied_index"]
            _JOURNAL.child(name).value = status["journal_bytes"]
            for follower, lag in status["lag"].items():
                _LAG.child(name, follower).value = lag

    @staticmethod
    def _fill_process() -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        _CPU.value = round(usage.ru_utime + usage.ru_stime, 3)
        with open("/proc/self/statm", encoding="ascii") as statm:
            _MEMORY.value = int(statm.read().split()[1]) * resource.getpagesize()
        _FILES.value = len(os.listdir("/proc/self/fd"))
