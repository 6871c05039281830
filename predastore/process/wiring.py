"""The one place where layers are wired together: what a process runs, opened and closed.

Everything is opened in the order of the layer table onto one stack, and closed in reverse:
locks, cluster endpoint, shard nodes, database members, backend, S3. A database member that can
not go on (its fsync failed) resolves `failed`: nothing after it could be trusted. A shard node
whose disk fails takes no more writes, and its reads are checked; one that can not be opened is
tried again (node.running): the others carry on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from dataclasses import replace
from functools import partial
from typing import Any

from predastore.auth.sigv4 import Verifier
from predastore.base.config import Auth, Config, Db, Node
from predastore.base.errors import (
    ConfigError,
    CorruptData,
    InUse,
    OtherVersion,
    PredastoreError,
    StartupError,
)
from predastore.catalog.adoption import Adoption
from predastore.catalog.catalog import Catalog
from predastore.catalog.files import Files
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.readers import Readers
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring
from predastore.httpd.message import Done, Handler
from predastore.httpd.server import Server
from predastore.jobs.garbage import Garbage
from predastore.jobs.healing.healer import Healing
from predastore.node import server as node_server
from predastore.node.client import NodeClient
from predastore.node.running import RunningNode
from predastore.process import credentials, daemon, descriptors, rivals, roles
from predastore.process.accesslog import AccessLog
from predastore.process.cluster_tls import Authorities
from predastore.process.discovery import Discovery, rows_of
from predastore.process.edited import EditedFile
from predastore.process.readiness import Writes
from predastore.process.reload import Apply, Reloader
from predastore.process.telemetry import Telemetry
from predastore.process.tls import Tls
from predastore.process.watchdog import Probe
from predastore.rpc import Endpoint, self_signed
from predastore.s3 import accounting
from predastore.s3.server import S3Service, host_id_of
from predastore.s3db import rest, service
from predastore.s3db.client import Client
from predastore.s3db.global_state import DistributedState, GlobalState, LocalState
from predastore.s3db.member import Member
from predastore.s3db.opening import open_tables
from predastore.s3db.raft.messages import Address
from predastore.storage.distributed import DistributedStore
from predastore.storage.filesystem import FilesystemStore
from predastore.storage.node_owners import Owners
from predastore.storage.ring_table import RingStore, RingTable


class Parts:
    """The parts of one process."""

    def __init__(self, settings: Config, chosen: roles.Roles) -> None:
        self.settings = settings
        self.roles = chosen
        # Resolved with the reason, or that is raised, should a part be unable to go on.
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.auth = settings.auth  # [[auth]] as it is in force
        self.catalog: Catalog | None = None
        self.store: DistributedStore | FilesystemStore | None = None
        self.adoption: Adoption | None = None  # where objects are plain files
        self.nodes: list[RunningNode] = []
        self.members: list[Member] = []
        self.healing: Healing | None = None
        self.discovery: Discovery | None = None
        self.endpoint: Endpoint | None = None
        self.s3: Server | None = None
        self.is_ready = False  # what /-/health/ready says; kept by predastore.process.host
        self.tls = Tls(settings, chosen)
        self.reloader = Reloader(settings)
        self.edited: EditedFile | None = None  # set by predastore.process.host
        self.telemetry: Telemetry | None = None  # set before `open` where requests are traced
        self.probes: list[Probe] = []  # of the metadata in this process: can it be read?
        self.shares = descriptors.shares_of(settings, chosen)
        self._writes: Writes | None = None
        self._known = credentials.Known(())
        self._known_to_members: list[tuple[Db, credentials.Known]] = []

    async def open(self, stack: contextlib.AsyncExitStack) -> None:
        """Opens every part; on an error what was opened is closed by `stack`."""
        settings = self.settings
        if settings.backend == "filesystem":
            stack.enter_context(daemon.held(settings.base_path))
        for member in self.roles.members:
            stack.enter_context(daemon.held(member.path))
        self.keys = self._keys(self.auth)
        self._known.replace(self.keys.auth)
        self.tls.begin()
        if settings.backend == "filesystem":
            await self._open_filesystem(stack)
        else:
            await self._open_cluster(stack)
        self.reloader.add(("auth",), self._prepare_auth)
        self.reloader.add(("tls_cert", "tls_key"), self.tls.prepare)

    async def open_s3(self, stack: contextlib.AsyncExitStack) -> None:
        """Begins with S3, if that is to be served, once there is a certificate to show."""
        if self.roles.s3:
            await self._open_s3(stack, await self.tls.settled())

    # --- what a reload changes ----------------------------------------------------------------

    def _prepare_auth(self, settings: Config) -> Apply:
        auth = settings.auth
        keys = self._keys(auth)
        if self.settings.backend == "distributed":
            self._check_cluster_key(keys.cluster)

        def apply() -> None:
            self.auth, self.keys = auth, keys
            self._known.replace(keys.auth)
            for row, known in self._known_to_members:
                known.replace(self._database_credentials(row))

        return apply

    def _keys(self, auth: tuple[Auth, ...]) -> credentials.Keys:
        """What these rows of [[auth]] come to."""
        generated = partial(credentials.ensure, self.settings.base_path)
        return credentials.keys(replace(self.settings, auth=auth), generated, roles.is_local)

    def _check_cluster_key(self, key: bytes) -> None:
        """Other processes prove themselves by the key that this one has: it stays what it is."""
        settings, roles_ = self.settings, self.roles
        alone = set(settings.nodes) <= set(roles_.nodes) and set(settings.db) <= set(roles_.members)
        alone = alone and (self.discovery is None or self.discovery.is_alone)
        if not alone and key != self._keys(self.auth).cluster:
            raise ConfigError(
                [
                    "[[auth]]: the cluster key is made of the credentials, as there is no "
                    "[cluster] secret; write one, and restart every process with the new file"
                ]
            )

    # --- parts --------------------------------------------------------------------------------

    async def _open_filesystem(self, stack: contextlib.AsyncExitStack) -> None:
        base_path = self.settings.base_path
        try:
            state = LocalState(base_path / ".predastore" / "state", PROCEDURES)
        except CorruptData as error:
            raise StartupError(
                f"{error}. It holds the records of all buckets and objects: put it back from a "
                f"copy; the objects' own files, below {base_path}, were not touched"
            ) from error
        stack.push_async_callback(state.close)
        self.probes.append(lambda: state.get("buckets", b"-"))
        rows = self.settings.buckets
        pathnames = {row.name: row.pathname for row in rows if row.pathname is not None}
        self.tls.keep(None)
        stack.push_async_callback(self.tls.close)
        store = await FilesystemStore.open(base_path, state, Files(state), pathnames)
        self.adoption = Adoption(store, state)
        await self._open_catalog(stack, state, store)

    async def _open_cluster(self, stack: contextlib.AsyncExitStack) -> None:
        settings, key = self.settings, self.keys.cluster
        name = f"s3d/{socket.gethostname()}/{os.getpid()}"
        endpoint = Endpoint(cluster_key=key, certificate=self_signed(), name=name)
        stack.push_async_callback(endpoint.close)
        self.endpoint = endpoint
        for row in settings.nodes:
            if row not in self.roles.nodes:
                endpoint.add_peer(f"node/{row.id}", row.host, row.port)
        for peer in settings.db:
            if peer not in self.roles.members:
                endpoint.add_peer(f"db/{peer.id}", peer.host, peer.raft_port)
        await rivals.check(settings, self.roles, key)
        for row in self.roles.nodes:
            await self._open_node(stack, endpoint, row)
        for kind in (InUse, OtherVersion):  # started twice; the wrong program
            errors = [node.error for node in self.nodes if isinstance(node.error, kind)]
            if errors and len(errors) == len(self.nodes):
                raise errors[0]
        for member in self.roles.members:
            await self._open_member(stack, endpoint, member)
        self.discovery = Discovery(
            *(endpoint, settings, self.roles, self.nodes, key),
            in_force=lambda: self.reloader.in_force,
            authority=lambda: self.tls.authority,
        )
        local = self.roles.members[0].id if self.roles.members else None
        state = DistributedState(Client(endpoint, [row.id for row in settings.db], prefer=local))
        stack.push_async_callback(state.close)
        if self.roles.s3:
            await self._open_distributed(stack, endpoint, self.discovery, state)
        else:
            self.discovery.start()
        stack.push_async_callback(self.discovery.close)
        self.tls.keep(Authorities(state, key, settings.cluster.name))
        stack.push_async_callback(self.tls.close)

    async def _open_node(
        self, stack: contextlib.AsyncExitStack, endpoint: Endpoint, row: Node
    ) -> None:
        node = RunningNode(
            row.path,
            node_id=row.id,
            cluster_id=credentials.cluster_id(self.settings),
            scrub_days=self.settings.cluster.scrub_days,
            open_segments_max=self.shares.segments,
        )
        stack.push_async_callback(node.close)
        await node.start()
        self.nodes.append(node)  # not served before this process owns the node
        with daemon.listening(row.listen_host, row.port, f"[[nodes]] id {row.id}, port"):
            await endpoint.listen(f"node/{row.id}", row.listen_host, row.port)

    async def _open_member(
        self, stack: contextlib.AsyncExitStack, endpoint: Endpoint, row: Db
    ) -> None:
        store = open_tables(row.path, row.id, PROCEDURES)
        stack.callback(store.close)
        self.probes.append(lambda: asyncio.to_thread(store.get, "buckets", b"-"))
        member = await Member.open(
            path=row.path / "raft",
            member_id=row.id,
            members=[other.id for other in self.settings.db],
            store=store,
            endpoint=endpoint,
            addresses=[
                Address(other.id, other.host, other.port, other.raft_port)
                for other in self.settings.db
            ],
            cluster_id=credentials.cluster_id(self.settings),
        )
        stack.push_async_callback(member.close)
        self.members.append(member)
        member.failed.add_done_callback(self._fail)
        endpoint.serve(f"db/{row.id}", service.service(member, endpoint))
        with daemon.listening(row.listen_host, row.raft_port, f"[[db]] id {row.id}, raft_port"):
            await endpoint.listen(f"db/{row.id}", row.listen_host, row.raft_port)
        client = Client(endpoint, [other.id for other in self.settings.db], prefer=row.id)
        known = credentials.Known(self._database_credentials(row))
        self._known_to_members.append((row, known))
        verifier = Verifier(known.find, region=self.settings.region, service="s3db")
        served = self.tls.served
        server = rest.server(
            client,
            member,
            verifier,
            host=row.listen_host,
            port=row.port,
            ssl_context=served.context if served is not None else None,
            bounds=self.shares.side,
        )
        await server.start()
        stack.push_async_callback(server.close)

    def _database_credentials(self, row: Db) -> tuple[Auth, ...]:
        if row.access_key_id:
            return (Auth(row.access_key_id, row.secret_access_key),)
        return (self.keys.operator,)

    async def _open_distributed(
        self,
        stack: contextlib.AsyncExitStack,
        endpoint: Endpoint,
        discovery: Discovery,
        state: DistributedState,
    ) -> None:
        settings = self.settings
        code = Code(settings.rs.data, settings.rs.parity)
        # Those of the file until the table of nodes has been read.
        table = RingTable(0, tuple(rows_of(settings.nodes)))
        store = DistributedStore(
            NodeClient(endpoint),
            Ring(table.active()),
            code,
            settings.rs.block_bytes,
            write_shards=settings.rs.write_shards,
            draining=table.going(),
        )
        await self._open_catalog(stack, state, store)
        self.healing = healing = Healing(state, store, endpoint.name)
        stack.push_async_callback(healing.close)

        def ring_changed() -> None:
            healing.start()  # once the table of nodes has been read, not before
            healing.config_changed()

        def owned() -> None:
            for node in self.nodes:
                endpoint.serve(f"node/{node.node_id}", node_server.service_of(node.opened))

        discovery.start(
            RingStore(state, code.shards),
            store,
            ring_changed,
            lambda: healing.given_up,
            Owners(state),
            owned,
            self._end,
        )
        self.reloader.add(("nodes",), discovery.prepare)

    async def write_obstacle(self) -> str:
        """Why no object could be stored now, some seconds ago at most; "" where one could, and in a
        process that stores none."""
        return await self._writes.obstacle() if self._writes is not None else ""

    async def _open_catalog(
        self,
        stack: contextlib.AsyncExitStack,
        state: GlobalState,
        store: DistributedStore | FilesystemStore,
    ) -> None:
        self.store = store
        stack.push_async_callback(store.close)
        readers = Readers()
        self.garbage = Garbage(state, store, readers, self._collects)
        stack.push_async_callback(self.garbage.close)
        inline_max = self.settings.rs.inline_max
        self.catalog = Catalog(state, store, self.garbage, readers, inline_max=inline_max)
        stack.push_async_callback(self.catalog.close)
        self.garbage.start()
        self._writes = Writes(self.catalog.write_obstacle)
        stack.push_async_callback(self._writes.close)

    def _collects(self) -> bool:
        """Whether it is this process that works off what is due: whoever heals, in a cluster."""
        if self.settings.backend == "filesystem":
            return True
        return self.healing is not None and self.healing.is_working

    async def _open_s3(
        self, stack: contextlib.AsyncExitStack, ssl_context: ssl.SSLContext | None
    ) -> None:
        settings = self.settings
        assert self.catalog is not None
        verifier = Verifier(self._known.find, region=settings.region, service="s3")
        listener = daemon.inherited()
        handler = S3Service(
            self.catalog,
            verifier,
            region=settings.region,
            token_key=credentials.token_key(self.keys.cluster),
            domains=settings.domains,
            ready=lambda: self.is_ready,
            write_obstacle=self.write_obstacle,
            operator=lambda: self.keys.operator.account_id,
            host_id=host_id_of(f"{socket.gethostname()}:{settings.port}"),
        )
        on_done = await self._accounts(stack)
        handle: Handler = handler.handle
        if self.telemetry is not None:
            handle = self.telemetry.handler(handle)
        server = Server(
            handle,
            host=settings.host,
            port=settings.port,
            ssl_context=ssl_context,
            listener=listener,
            on_error=handler.on_error,
            on_done=on_done,
            bounds=self.shares.s3,
        )
        await server.start()
        stack.push_async_callback(server.close)
        self.s3 = server
        if listener is not None:  # the service manager has chosen the address
            host, port = listener.getsockname()[:2]
            self.settings = replace(settings, host=host, port=port)

    async def _accounts(self, stack: contextlib.AsyncExitStack) -> Done:
        """What is told of each request: metrics, and the access log and traces if there are."""
        told: list[Done] = [accounting.count]
        if self.settings.access_log:
            log = AccessLog(self.settings.access_log)
            stack.push_async_callback(log.close)
            self.reloader.add(("access_log",), log.prepare)
            told.append(log.note)
        if self.telemetry is not None:
            told.append(self.telemetry.done)
        return accounting.all_of(told)

    def _end(self, error: PredastoreError) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _fail(self, part: asyncio.Future[Any]) -> None:
        if not self.failed.done() and not part.cancelled():
            self.failed.set_result(str(part.exception() or part.result()))
