"""How this process finds the rest of the cluster, and keeps up with it.

Gossip tells who is there, under which address, and the version of the table of nodes
(storage/ring_table.py) that each uses. `Discovery` ties the two to this process: it announces the
nodes that run here, follows the table, and gives the ring to the store, the addresses to the
endpoint. Before it serves its nodes, and tells others of them, it makes sure that no other process
runs them (predastore.process.rivals).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Sequence

from predastore import __version__
from predastore.base.config import Config, Db, Node
from predastore.base.config.shared import Differences, marks
from predastore.base.errors import InUse, PredastoreError, StoreFailed, TooFewNodes
from predastore.base.limits import (
    GOSSIP_FACTS_MS,
    RING_NODE_TIMEOUT_MS,
    RING_REFRESH_MS,
    RING_RETRY_MS,
)
from predastore.gossip import Agent, DbFacts, Facts, NodeFacts, Record
from predastore.gossip.messages import Changed, Heeded, Welcome, Welcomed, shortened
from predastore.node.client import NodeClient
from predastore.node.running import RunningNode
from predastore.process.joining import WELCOME
from predastore.process.rivals import Ownership, other_addresses
from predastore.process.roles import Roles
from predastore.rpc import CallContext, Endpoint, Method, Reply, Service
from predastore.storage.distributed import DistributedStore, ready_ring
from predastore.storage.node_owners import Owners
from predastore.storage.ring_table import (
    LEAVING,
    Change,
    FileRows,
    NodeRow,
    RingStore,
    RingTable,
    announcement,
    departure,
)

_log = logging.getLogger(__name__)

CHANGED = "cluster.changed"


# --- following --------------------------------------------------------------------------------


class Discovery:
    """`nodes`: those that run in this process. `config_changed`: called after the store
    got another ring."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Config,
        chosen: Roles,
        nodes: Sequence[RunningNode],
        in_force: Callable[[], Config] | None = None,
        authority: Callable[[], bytes] = bytes,
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._in_force = in_force or (lambda: settings)
        self._authority = authority
        self._differences = Differences()
        self._roles = chosen
        self._nodes = nodes
        self._file = FileRows(rows_of(settings.nodes))
        self._own = rows_of(chosen.nodes)
        self._ring: RingStore | None = None
        self._store: DistributedStore | None = None
        self._config_changed: Callable[[], None] = lambda: None
        self._given_up: Callable[[], Collection[int]] = frozenset
        self._using = asyncio.Lock()  # the table, from its reading on until it is in use
        self._announced = False
        self._changing: asyncio.Task[None] | None = None
        self.life = random.getrandbits(63)
        others = other_addresses(settings, chosen)
        self._ownership = Ownership(self._own, self.life, others, endpoint)
        self._owners: Owners | None = None
        self._owned: Callable[[], None] = lambda: None
        self._superseded: Callable[[InUse], None] = lambda error: None
        self._takes_part = False
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.table: RingTable | None = None
        self.problem = ""  # why the table is not current
        local = {f"node/{row.id}" for row in chosen.nodes}
        local |= {f"db/{row.id}" for row in chosen.members}
        peers = [f"node/{row.id}" for row in settings.nodes]
        peers += [f"db/{row.id}" for row in settings.db]
        seeds = [endpoint.add_seed(*address) for address in settings.cluster.join]
        self._local = frozenset(local)
        self.agent = Agent(
            endpoint,
            self._name(),
            self._facts(),
            [*(peer for peer in peers if peer not in local), *seeds],
            heard=self._heard,
            doubted=self._wake.set if self._own else None,
        )

    def _name(self) -> str:
        if self._roles.nodes:
            return f"node/{self._roles.nodes[0].id}"
        if self._roles.members:
            return f"db/{self._roles.members[0].id}"
        return self._endpoint.name

    def start(
        self,
        ring: RingStore | None = None,
        store: DistributedStore | None = None,
        config_changed: Callable[[], None] = lambda: None,
        given_up: Callable[[], Collection[int]] = frozenset,
        owners: Owners | None = None,
        owned: Callable[[], None] = lambda: None,
        superseded: Callable[[InUse], None] = lambda error: None,
    ) -> None:
        """Takes part; with a ring and a store also announces and follows the nodes. With `owners`
        not before this process owns its nodes: then `owned` is called. `superseded`: another
        process owns one."""
        for name in sorted(self._local):
            self._endpoint.serve(name, {**self.agent.service(), **self._service()})
        self._ring, self._store = ring, store
        self._config_changed, self._given_up = config_changed, given_up
        self._owners, self._owned, self._superseded = owners, owned, superseded
        if owners is None or not self._own:
            self._take_part()
        if ring is not None:
            self._tasks.append(asyncio.create_task(self._follow()))

    def _take_part(self) -> None:
        if not self._takes_part:
            self._takes_part = True
            self._owned()
            self.agent.start()
            self._tasks.append(asyncio.create_task(self._tell()))

    async def close(self) -> None:
        self._config_changed = lambda: None
        tasks = [*self._tasks, *([self._changing] if self._changing is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.agent.close()

    @property
    def is_current(self) -> bool:
        """Whether the table of nodes has been read."""
        return self._ring is None or self.table is not None

    @property
    def is_alone(self) -> bool:
        """Whether nobody else is known: neither processes nor their nodes."""
        rows = self.table.nodes if self.table is not None else ()
        own = {row.id for row in self._own}
        return len(self.agent.records) == 1 and all(row.id in own for row in rows)

    # --- what this process says ---------------------------------------------------------------

    def _facts(self, nodes: tuple[NodeFacts, ...] | None = None) -> Facts:
        rows = [(row.host, row.port) for row in self._roles.nodes]
        rows += [(row.host, row.raft_port) for row in self._roles.members]
        host, port = rows[0] if rows else ("", 0)
        if nodes is None:
            nodes = tuple(NodeFacts(row.id, row.host, row.port) for row in self._own)
        members = _members(self._roles.members)
        settings = marks(self._in_force(), self._endpoint.cluster_keys[0])
        said = (self._version, __version__, settings, self._authority())
        return Facts(host, port, self.life, nodes, members, *said)

    async def _tell(self) -> None:
        while True:
            try:
                self.agent.say(self._facts(await self._node_facts()))
            except Exception:
                _log.exception("what this process says of its nodes is old; it goes on")
            await asyncio.sleep(GOSSIP_FACTS_MS / 1000)

    async def _node_facts(self) -> tuple[NodeFacts, ...]:
        nodes = []
        for row, node in zip(self._own, self._nodes, strict=True):
            try:
                status = await node.status()
            except StoreFailed:
                failure = shortened(node.problem)
                nodes.append(NodeFacts(row.id, row.host, row.port, failure=failure))
                continue
            used, free = status.used_bytes, status.free_bytes
            failure = shortened(status.failure)
            nodes.append(NodeFacts(row.id, row.host, row.port, used, free, failure))
        return tuple(nodes)

    def _service(self) -> Service:
        return {
            WELCOME: Method(Welcome, Welcomed, self._on_welcome, 0),
            CHANGED: Method(Changed, Heeded, self._on_changed, 0),
        }

    async def _on_changed(self, request: Changed, _: memoryview, __: CallContext) -> Reply:
        """The table of nodes was changed: it is in use here when this is answered."""
        if self._ring is not None and request.version > self._version:
            await self._refresh()
        return Reply(Heeded(self._version))

    async def _on_welcome(self, _: Welcome, __: memoryview, ___: CallContext) -> Reply:
        rs = self._settings.rs
        rows = self.table.nodes if self.table is not None else self._file.taken_in
        nodes = tuple(NodeFacts(row.id, row.host, row.port) for row in rows)
        members = _members(self._settings.db)
        code = (rs.data, rs.parity, rs.block_bytes)
        return Reply(Welcomed(*code, members, nodes, rs.write_min, rs.inline_max))

    # --- what it hears ------------------------------------------------------------------------

    def _heard(self, record: Record) -> None:
        if not record.is_here:
            return
        facts = record.facts
        self._reach(record.name, facts.host, facts.port)
        for node in facts.nodes:
            self._reach(f"node/{node.id}", node.host, node.port)
        own_settings = self.agent.core.roster.own.facts.settings
        self._differences.heard(record.name, facts.host, own_settings, facts.settings)
        own = {row.id for row in self._own}
        if facts.ring_version > self._version or any(node.id in own for node in facts.nodes):
            self._wake.set()

    def _reach(self, name: str, host: str, port: int) -> None:
        if name not in self._local:
            self._endpoint.add_peer(name, host, port)

    # --- the table of nodes -------------------------------------------------------------------

    @property
    def _version(self) -> int:
        return self.table.version if self.table is not None else 0

    async def _follow(self) -> None:
        while True:
            pause_ms = RING_REFRESH_MS
            self._wake.clear()
            try:
                await self._refresh()
                self.problem = ""
            except InUse as error:
                self.problem = str(error)
                self._superseded(error)
                return
            except PredastoreError as error:
                self.problem, pause_ms = str(error), RING_RETRY_MS
                _log.info("the table of nodes", extra={"error": str(error)})
            except Exception:
                pause_ms = RING_RETRY_MS
                _log.exception("the table of nodes could not be taken in; tried again")
            try:
                async with asyncio.timeout(pause_ms / 1000):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _refresh(self) -> None:
        assert self._ring is not None
        if self._owners is not None and self._own:
            await self._ownership.confirm(self._owners)
            self.agent.insist()
            self._take_part()
        async with self._using:
            table = await self._ring.read()
            if table is None and self._settings.cluster.join:
                return  # the cluster that it joins founds it
            if table is None or not self._announced:
                announced = announcement(self._own)
                table = await self._ring.change(announced, founding=self._file.taken_in)
                self._announced = True
                self._warn_of_removed(table)
            await self._use(table)
        leaving = [row.id for row in table.nodes if row.state == LEAVING]
        gone = await asyncio.gather(*(self._is_gone(node) for node in leaving))
        for node, is_gone in zip(leaving, gone, strict=True):
            if is_gone:
                await self._change(departure(node))
                _log.info("a node has left", extra={"node": node})

    async def _change(self, change: Change) -> None:
        assert self._ring is not None
        async with self._using:
            table = await self._ring.change(change, founding=self._file.taken_in)
            try:
                await self._use(table)
            except TooFewNodes as error:  # the change is made all the same
                self.problem = str(error)
                _log.warning("the table of nodes", extra={"error": self.problem})

    async def _use(self, table: RingTable) -> None:
        """Has `table`, just read, used here. TooFewNodes: objects need more."""
        old = self.table
        if old == table:
            return
        told = {node.id for one in self.agent.records if one.is_here for node in one.facts.nodes}
        for row in table.nodes:
            if row.id not in told:
                self._reach(f"node/{row.id}", row.host, row.port)
        assert self._store is not None
        code = self._store.cluster.code
        if len(table.active()) < code.shards:
            raise TooFewNodes(
                f"{len(table.active())} nodes of the cluster are active, and each object has "
                f"{code.shards} shards: start more nodes, activate some, or correct [rs]"
            )
        ring = await asyncio.to_thread(ready_ring, table.active(), code)
        self._store.set_ring(ring, table.going(), [row.id for row in table.removed])
        self.table = table
        self._config_changed()
        self.agent.say(self._facts(self.agent.core.roster.own.facts.nodes))
        counts = {"active": len(table.active()), "all": len(table.nodes)}
        _log.info("nodes", extra={"version": table.version, **counts})
        if old is None:
            self._compare_with_file(table)

    def _compare_with_file(self, table: RingTable) -> None:
        known = {row.id: row for row in table.nodes}
        for row in self._own if self._settings.cluster.join else self._file.taken_in:
            other = known.get(row.id)
            if other is not None and (other.weight, other.state) != (row.weight, row.state):
                _log.warning(
                    "the file says otherwise than the cluster, whose table counts; change the file "
                    "and send SIGHUP to change the table",
                    extra={"node": row.id, "weight": other.weight, "state": other.state},
                )

    def _warn_of_removed(self, table: RingTable) -> None:
        own = {row.id for row in self._own}
        for row in table.removed:
            if row.id in own:
                _log.warning(
                    "node %d was removed from the cluster and takes no part; to take it back: "
                    "s3d cluster activate %d",
                    *(row.id, row.id),
                )

    async def _is_gone(self, node: int) -> bool:
        """Whether a node that leaves has nothing any more that somebody needs."""
        if node in self._given_up():
            return True
        client = NodeClient(self._endpoint)
        try:
            status = await client.status(node, timeout_ms=RING_NODE_TIMEOUT_MS)
        except PredastoreError:
            return False
        return status.shard_count == 0 and status.pending_shards == 0

    # --- reload -------------------------------------------------------------------------------

    def prepare(self, settings: Config) -> Callable[[], None]:
        """A hook of predastore.process.reload for [[nodes]]."""

        def apply() -> None:
            is_idle = self._changing is None or self._changing.done()
            if self._file.says(rows_of(settings.nodes)) and is_idle:
                self._changing = asyncio.create_task(self._take_in_file())

        return apply

    async def _take_in_file(self) -> None:
        while True:
            try:
                await self._file.take_in(self._change)
            except TooFewNodes as error:
                _log.error("[[nodes]] not changed", extra={"problem": str(error)})
                return
            except PredastoreError as error:
                _log.warning("[[nodes]] not changed yet", extra={"error": str(error)})
                await asyncio.sleep(RING_RETRY_MS / 1000)
            else:
                break
        known = {row.id for row in self.table.nodes} if self.table is not None else set()
        for row in self._file.taken_in:
            if row.id not in known:
                _log.info("a node is added when its process starts", extra={"node": row.id})


def rows_of(nodes: Sequence[Node]) -> list[NodeRow]:
    return [NodeRow(row.id, row.host, row.port, row.weight, row.state) for row in nodes]


def _members(rows: Sequence[Db]) -> tuple[DbFacts, ...]:
    return tuple(DbFacts(row.id, row.host, row.port, row.raft_port) for row in rows)
