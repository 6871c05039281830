"""How this process finds the rest of the cluster, and keeps up with it.

Gossip tells who is there, under which address, and the version of the table of nodes
(backend/ring_table.py) that each uses. `Discovery` ties the two to this process: it announces the
nodes that run here, follows the table, and gives the ring to the store, the addresses to the
endpoint. `joined` is what a process does first that knows nothing but a seed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from predastore import __version__
from predastore.backend.distributed import DistributedStore, ready_ring
from predastore.backend.ring_table import (
    LEAVING,
    Change,
    NodeRow,
    RingStore,
    RingTable,
    announcement,
    departure,
    difference,
)
from predastore.config import Config, Db, Node, Rs
from predastore.errors import PeerRefused, PredastoreError, StartupError, TooFewNodes
from predastore.gossip import Agent, DbFacts, Facts, NodeFacts, Record
from predastore.gossip.messages import Welcome, Welcomed, shortened
from predastore.limits import (
    GOSSIP_FACTS_MS,
    JOIN_ASK_MS,
    JOIN_PAUSE_MS,
    READY_LOG_MS,
    RING_NODE_TIMEOUT_MS,
    RING_REFRESH_MS,
    RING_RETRY_MS,
)
from predastore.node.client import NodeClient
from predastore.node.store import Store as NodeStore
from predastore.roles import Roles
from predastore.rpc import CallContext, Endpoint, Method, Reply, Service, self_signed

_log = logging.getLogger(__name__)

WELCOME = "cluster.welcome"


# --- joining ----------------------------------------------------------------------------------


async def joined(settings: Config, cluster_key: bytes) -> Callable[[Config], Config]:
    """Asks a process of [cluster] join what the cluster is, and waits until one answers. What this
    returns completes a configuration with that. StartupError where it is another cluster."""
    endpoint = Endpoint(cluster_key=cluster_key, certificate=self_signed(), name="joining")
    loop = asyncio.get_running_loop()
    said_s = loop.time()
    try:
        while True:
            for host, port in settings.cluster.join:
                try:
                    told = await welcomed(endpoint, endpoint.add_seed(host, port))
                except PeerRefused as error:
                    raise StartupError(
                        f"join {host}:{port}: refused ({error}); give [cluster] name and secret, "
                        "or [[auth]], as the files of that cluster have them"
                    ) from None
                except PredastoreError as error:
                    if loop.time() - said_s > READY_LOG_MS / 1000:
                        said_s = loop.time()
                        _log.warning("waiting for a process to join", extra={"error": str(error)})
                else:
                    return partial(_completed, told)
            await asyncio.sleep(JOIN_PAUSE_MS / 1000)
    finally:
        await endpoint.close()


async def welcomed(endpoint: Endpoint, peer: str) -> Welcomed:
    told, _ = await endpoint.call(peer, WELCOME, Welcome(), Welcomed, timeout_ms=JOIN_ASK_MS)
    return told


def _completed(told: Welcomed, settings: Config) -> Config:
    rs = Rs(told.data, told.parity, told.block_bytes)
    if settings.rs not in (rs, Rs()):
        raise StartupError(
            f"[rs]: the cluster has RS({rs.data},{rs.parity}), blocks of {rs.block_bytes} bytes; "
            "leave [rs] out of the file of a process that joins"
        )
    nowhere = settings.base_path / "elsewhere"
    known = {row.id for row in settings.nodes}
    nodes = [
        Node(row.id, row.host, row.port, nowhere / f"node-{row.id}")
        for row in told.nodes
        if row.id not in known
    ]
    members = settings.db or tuple(
        Db(row.id, row.host, row.port, row.raft_port, nowhere / f"db-{row.id}")
        for row in told.members
    )
    return replace(settings, rs=rs, db=members, nodes=(*settings.nodes, *nodes))


# --- following --------------------------------------------------------------------------------


class Discovery:
    """`stores`: of the nodes that run in this process. `config_changed`: called after the store
    got another ring."""

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Config,
        chosen: Roles,
        stores: Sequence[NodeStore],
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._roles = chosen
        self._stores = stores
        self._file = rows_of(settings.nodes)
        self._own = rows_of(chosen.nodes)
        self._ring: RingStore | None = None
        self._store: DistributedStore | None = None
        self._config_changed: Callable[[], None] = lambda: None
        self._announced = False
        self._life = random.getrandbits(63)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.table: RingTable | None = None
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
    ) -> None:
        """Takes part; with a ring and a store also announces and follows the nodes."""
        for name in sorted(self._local):
            self._endpoint.serve(name, {**self.agent.service(), **self._service()})
        self._ring, self._store, self._config_changed = ring, store, config_changed
        self.agent.start()
        self._tasks.append(asyncio.create_task(self._tell()))
        if ring is not None:
            self._tasks.append(asyncio.create_task(self._follow()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.agent.close()

    @property
    def is_current(self) -> bool:
        """Whether the table of nodes has been read."""
        return self._ring is None or self.table is not None

    # --- what this process says ---------------------------------------------------------------

    def _facts(self, nodes: tuple[NodeFacts, ...] | None = None) -> Facts:
        rows = [(row.host, row.port) for row in self._roles.nodes]
        rows += [(row.host, row.raft_port) for row in self._roles.members]
        host, port = rows[0] if rows else ("", 0)
        if nodes is None:
            nodes = tuple(NodeFacts(row.id, row.host, row.port) for row in self._own)
        version = self.table.version if self.table is not None else 0
        members = _members(self._roles.members)
        return Facts(host, port, self._life, nodes, members, version, __version__)

    async def _tell(self) -> None:
        while True:
            nodes = []
            for row, store in zip(self._own, self._stores, strict=True):
                status = await store.status()
                failure = shortened(status.failure)
                used, free = status.used_bytes, status.free_bytes
                nodes.append(NodeFacts(row.id, row.host, row.port, used, free, failure))
            self.agent.say(self._facts(tuple(nodes)))
            await asyncio.sleep(GOSSIP_FACTS_MS / 1000)

    def _service(self) -> Service:
        return {WELCOME: Method(Welcome, Welcomed, self._on_welcome, 0)}

    async def _on_welcome(self, _: Welcome, __: memoryview, ___: CallContext) -> Reply:
        rs = self._settings.rs
        rows = self.table.nodes if self.table is not None else self._file
        nodes = tuple(NodeFacts(row.id, row.host, row.port) for row in rows)
        members = _members(self._settings.db)
        return Reply(Welcomed(rs.data, rs.parity, rs.block_bytes, members, nodes))

    # --- what it hears ------------------------------------------------------------------------

    def _heard(self, record: Record) -> None:
        if not record.is_here:
            return
        facts = record.facts
        self._reach(record.name, facts.host, facts.port)
        for node in facts.nodes:
            self._reach(f"node/{node.id}", node.host, node.port)
        if facts.ring_version > (self.table.version if self.table is not None else 0):
            self._wake.set()

    def _reach(self, name: str, host: str, port: int) -> None:
        if name not in self._local:
            self._endpoint.add_peer(name, host, port)

    # --- the table of nodes -------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            pause_ms = RING_REFRESH_MS
            self._wake.clear()
            try:
                await self._refresh()
            except PredastoreError as error:
                _log.info("the table of nodes", extra={"error": str(error)})
                pause_ms = RING_RETRY_MS
            try:
                async with asyncio.timeout(pause_ms / 1000):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _refresh(self) -> None:
        assert self._ring is not None
        table = await self._ring.read()
        if table is None and self._settings.cluster.join:
            return  # the cluster that it joins founds it
        if table is None or not self._announced:
            table = await self._ring.change(announcement(self._own), founding=self._file)
            self._announced = True
        await self._use(table)
        for row in table.nodes:
            if row.state == LEAVING and await self._is_empty(row.id):
                await self._use(await self._ring.change(departure(row.id)))
                _log.info("a node has left", extra={"node": row.id})

    async def _use(self, table: RingTable) -> None:
        old = self.table
        if old is not None and old.version >= table.version:
            return
        told = {node.id for one in self.agent.records if one.is_here for node in one.facts.nodes}
        for row in table.nodes:
            if row.id not in told:
                self._reach(f"node/{row.id}", row.host, row.port)
        assert self._store is not None
        ring = await asyncio.to_thread(ready_ring, table.active(), self._store.cluster.code)
        self._store.set_ring(ring, table.going())
        self.table = table
        self._config_changed()
        self.agent.say(self._facts(self.agent.core.roster.own.facts.nodes))
        _log.info(
            "nodes",
            extra={
                "version": table.version,
                "active": len(table.active()),
                "all": len(table.nodes),
            },
        )
        if old is None:
            self._compare_with_file(table)

    def _compare_with_file(self, table: RingTable) -> None:
        known = {row.id: row for row in table.nodes}
        for row in self._own if self._settings.cluster.join else self._file:
            other = known.get(row.id)
            if other is not None and (other.weight, other.state) != (row.weight, row.state):
                _log.warning(
                    "the file says otherwise than the cluster, whose table counts; change the file "
                    "and send SIGHUP to change the table",
                    extra={"node": row.id, "weight": other.weight, "state": other.state},
                )

    async def _is_empty(self, node: int) -> bool:
        client = NodeClient(self._endpoint)
        try:
            status = await client.status(node, timeout_ms=RING_NODE_TIMEOUT_MS)
        except PredastoreError:
            return False
        return status.shard_count == 0

    # --- reload -------------------------------------------------------------------------------

    def prepare(self, settings: Config) -> Callable[[], None]:
        """A hook of predastore.reload for [[nodes]]."""

        def apply() -> None:
            after = rows_of(settings.nodes)
            if after != self._file:
                self._tasks.append(asyncio.create_task(self._change_to(after)))

        return apply

    async def _change_to(self, after: Sequence[NodeRow]) -> None:
        assert self._ring is not None
        change: Change = difference(self._file, after)
        while True:
            try:
                table = await self._ring.change(change, founding=self._file)
                break
            except TooFewNodes as error:
                _log.error("[[nodes]] not changed", extra={"problem": str(error)})
                return
            except PredastoreError as error:
                _log.warning("[[nodes]] not changed yet", extra={"error": str(error)})
                await asyncio.sleep(RING_RETRY_MS / 1000)
        self._file = list(after)
        known = {row.id for row in table.nodes}
        for row in after:
            if row.id not in known:
                _log.info("a node is added when its process starts", extra={"node": row.id})
        await self._use(table)


def rows_of(nodes: Sequence[Node]) -> list[NodeRow]:
    return [NodeRow(row.id, row.host, row.port, row.weight, row.state) for row in nodes]


def _members(rows: Sequence[Db]) -> tuple[DbFacts, ...]:
    return tuple(DbFacts(row.id, row.host, row.port, row.raft_port) for row in rows)
