"""The role of a gateway: the catalog over either byte store, what goes on in the background, S3."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace

from predastore.auth.sigv4 import Verifier
from predastore.base.config import Config
from predastore.base.errors import CorruptData, StartupError
from predastore.catalog.adoption import Adoption
from predastore.catalog.catalog import Catalog
from predastore.catalog.files import Files
from predastore.catalog.readers import Readers
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring
from predastore.httpd.message import Done, Handler
from predastore.httpd.server import Server
from predastore.jobs.garbage import Garbage
from predastore.jobs.healing.healer import Healing
from predastore.node.client import NodeClient
from predastore.process import credentials, daemon
from predastore.process.accesslog import AccessLog
from predastore.process.common import Common
from predastore.process.discovery import Discovery, rows_of
from predastore.process.identities_role import IdentitiesRole
from predastore.process.program import PROCEDURES
from predastore.process.readiness import WriteReadiness
from predastore.rpc import Endpoint
from predastore.s3 import accounting
from predastore.s3.ownership import NewBuckets, new_buckets_of
from predastore.s3.server import S3Service, host_id_of
from predastore.s3db.global_state import DistributedState, GlobalState, LocalState
from predastore.storage.distributed import DistributedStore
from predastore.storage.filesystem import FilesystemStore
from predastore.storage.node_owners import Owners
from predastore.storage.ring_table import RingStore, RingTable


class GatewayRole:
    """`open_filesystem` or `open_distributed` it, then `open_s3`."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self.catalog: Catalog | None = None
        self.store: DistributedStore | FilesystemStore | None = None
        self.adoption: Adoption | None = None  # where objects are plain files
        self.healing: Healing | None = None
        self.server: Server | None = None
        self._writes: WriteReadiness | None = None
        self._identities: IdentitiesRole | None = None

    async def open_filesystem(self, stack: AsyncExitStack) -> None:
        common = self._common
        base_path = common.settings.base_path
        try:
            state = LocalState(base_path / ".predastore" / "state", PROCEDURES)
        except CorruptData as error:
            raise StartupError(
                f"{error}. It holds the records of all buckets and objects: put it back from a "
                f"copy; the objects' own files, below {base_path}, were not touched"
            ) from error
        stack.push_async_callback(state.close)
        common.probes.append(lambda: state.get("buckets", b"-"))
        rows = common.settings.buckets
        pathnames = {row.name: row.pathname for row in rows if row.pathname is not None}
        common.tls.follow(None)
        stack.push_async_callback(common.tls.close)
        store = await FilesystemStore.open(base_path, state, Files(state), pathnames)
        self.adoption = Adoption(store, state)
        await self._open_catalog(stack, state, store)

    async def open_distributed(
        self,
        stack: AsyncExitStack,
        endpoint: Endpoint,
        discovery: Discovery,
        state: DistributedState,
        owned: Callable[[], None],
    ) -> None:
        """`owned`: called once this process owns its nodes."""
        settings = self._common.settings
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

        discovery.start(
            RingStore(state, code.shards),
            store,
            ring_changed,
            lambda: healing.given_up,
            Owners(state),
            owned,
            self._common.end,
        )
        self._common.reloader.add(("nodes",), discovery.prepare)

    async def _open_catalog(
        self,
        stack: AsyncExitStack,
        state: GlobalState,
        store: DistributedStore | FilesystemStore,
    ) -> None:
        self.store = store
        stack.push_async_callback(store.close)
        readers = Readers()
        garbage = Garbage(state, store, readers, self._collects)
        stack.push_async_callback(garbage.close)
        inline_max = self._common.settings.rs.inline_max
        self.catalog = Catalog(state, store, garbage, readers, inline_max=inline_max)
        stack.push_async_callback(self.catalog.close)
        garbage.start()
        self._identities = IdentitiesRole(self._common, state)
        self._identities.open(stack)
        self._writes = WriteReadiness(self.catalog.write_obstacle)
        stack.push_async_callback(self._writes.close)

    def _collects(self) -> bool:
        """Whether it is this process that works off what is due: whoever heals, in a cluster."""
        if self._common.settings.backend == "filesystem":
            return True
        return self.healing is not None and self.healing.is_working

    async def write_obstacle(self) -> str:
        """Why no object could be stored now, some seconds ago at most; "" where one could, and in a
        process that stores none."""
        return await self._writes.obstacle() if self._writes is not None else ""

    # --- S3 -------------------------------------------------------------------------------

    async def open_s3(self, stack: AsyncExitStack, ssl_context: ssl.SSLContext | None) -> None:
        common = self._common
        settings, keyring = common.settings, common.keyring
        assert self.catalog is not None
        assert self._identities is not None
        verifier = Verifier(keyring.known.find, region=settings.region, service="s3")
        listener = daemon.inherited()
        handler = S3Service(
            self.catalog,
            verifier,
            region=settings.region,
            token_keys=lambda: [credentials.token_key(key) for key in keyring.cluster_keys()],
            find=self._identities.find,
            domains=settings.domains,
            ready=lambda: common.is_ready,
            write_obstacle=self.write_obstacle,
            operator=lambda: keyring.keys.operator.account_id,
            host_id=host_id_of(f"{socket.gethostname()}:{settings.port}"),
            is_account=self._identities.has_account,
            new_buckets=new_buckets(settings),
        )
        on_done = await self._accounts(stack)
        handle: Handler = self._identities.before(handler.handle)
        if common.telemetry is not None:
            handle = common.telemetry.handler(handle)
        server = Server(
            handle,
            host=settings.host,
            port=settings.port,
            ssl_context=ssl_context,
            listener=listener,
            on_error=handler.on_error,
            on_done=on_done,
            bounds=common.shares.s3,
        )
        await server.start()
        stack.push_async_callback(server.close)
        self.server = server
        if listener is not None:  # the service manager has chosen the address
            host, port = listener.getsockname()[:2]
            common.settings = replace(settings, host=host, port=port)

    async def _accounts(self, stack: AsyncExitStack) -> Done:
        """What is told of each request: metrics, and the access log and traces if there are."""
        common = self._common
        told: list[Done] = [accounting.count]
        if common.settings.access_log:
            log = AccessLog(common.settings.access_log)
            stack.push_async_callback(log.close)
            common.reloader.add(("access_log",), log.prepare)
            told.append(log.note)
        if common.telemetry is not None:
            told.append(common.telemetry.done)
        return accounting.all_of(told)


def new_buckets(settings: Config) -> NewBuckets:
    """What new buckets have, by the configuration."""
    chosen = settings.s3
    return new_buckets_of(chosen.object_ownership, blocks=chosen.block_public_access)
