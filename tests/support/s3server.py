"""A real HTTP server with the S3 service over a real backend, in a thread of this process.

with running(filesystem_objects, tmp_path) as server:
    server.client().create_bucket(Bucket="b")
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from botocore import UNSIGNED as NO_SIGNATURE
from botocore.client import BaseClient
from botocore.config import Config

from predastore.auth.sigv4 import Credential, Verifier
from predastore.base.config.policy import Policy, Rule
from predastore.base.limits import BLOCK_BYTES_DEFAULT
from predastore.catalog import keys
from predastore.catalog.catalog import Catalog
from predastore.catalog.files import Files
from predastore.catalog.readers import Readers
from predastore.coding.erasure import Code
from predastore.coding.placement import Ring, RingNode
from predastore.httpd.server import Server
from predastore.jobs.garbage import Garbage
from predastore.node import server as node_server
from predastore.node.client import NodeClient
from predastore.node.store import ShardStore as NodeStore
from predastore.process.program import PROCEDURES
from predastore.rpc import Endpoint, self_signed
from predastore.s3.ownership import NOTHING_SAID, NewBuckets
from predastore.s3.server import S3Service
from predastore.s3db import LEVEL
from predastore.s3db import service as db_service
from predastore.s3db.client import Client
from predastore.s3db.global_state import DistributedState, GlobalState, LocalState
from predastore.s3db.member import Member
from predastore.s3db.near import Near
from predastore.s3db.raft.messages import Address
from predastore.s3db.store import Store as DbStore
from predastore.storage.distributed import DistributedStore
from predastore.storage.filesystem import FilesystemStore
from support.boto import Clients
from support.s3raw import Signer

T = TypeVar("T")
Rows = dict[tuple[str, bytes], bytes]
Opened = tuple[Catalog, GlobalState]
OpenCatalog = Callable[[Path], contextlib.AbstractAsyncContextManager[Opened]]

REGION = "eu-test-1"
HOST = "127.0.0.1"
DOMAIN = "s3.localhost"
_WAIT_S = 30.0
_INLINE_MAX = 1024
_TABLES = (keys.BUCKETS, keys.DOCUMENTS, keys.OBJECTS, keys.VERSIONS, keys.NULLS, keys.INLINE,
           keys.REFS, keys.UPLOADS, keys.PARTS, keys.COMPLETED)  # fmt: skip
_ROWS_MAX = 10_000
_KEY = b"the cluster key of the s3 tests."

ALICE = Credential("AKIDALICE", "alice-secret/with+odd=characters", "111111111111")
BOB = Credential("AKIDBOB", "bob-secret", "222222222222")
CREDENTIALS = {one.access_key_id: one for one in (ALICE, BOB)}


@contextlib.asynccontextmanager
async def filesystem_catalog(path: Path) -> AsyncIterator[Opened]:
    """Objects as files under `path`, state in an lmdb of its own."""
    async with contextlib.AsyncExitStack() as stack:
        state = LocalState(path / "state", PROCEDURES)
        stack.push_async_callback(state.close)
        store = await FilesystemStore.open(path / "files", state, Files(state))
        yield await _opened(stack, state, store, inline_max=0)


async def until_level(state: DistributedState, level: int) -> None:
    """Waits until all members have said that their programs are of that level."""
    while state.level < level:
        await state.get(keys.BUCKETS, b"-")
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def distributed_catalog(path: Path) -> AsyncIterator[Opened]:
    """Objects as RS(3,2) shards on five real nodes, small ones in the metadata, state in a real
    database member; all of them in this process, behind in-process pipes."""
    async with contextlib.AsyncExitStack() as stack:
        endpoint = Endpoint(cluster_key=_KEY, certificate=self_signed(), name="s3-tests")
        stack.push_async_callback(endpoint.close)
        for node in range(1, 6):
            node_store = await NodeStore.open(
                path / f"node{node}", node_id=node, cluster_id=_KEY[:16]
            )
            stack.push_async_callback(node_store.close)
            endpoint.serve(f"node/{node}", node_server.service(node_store))
        db_store = DbStore(path / "db", durable=False, procedures=PROCEDURES)
        stack.callback(db_store.close)
        own = Address(1, HOST, 1, 2)  # so that it says its level
        member = await Member.open(
            path=path / "raft",
            member_id=1,
            members=[1],
            addresses=[own],
            store=db_store,
            endpoint=endpoint,
        )
        stack.push_async_callback(member.close)
        endpoint.serve("db/1", db_service.service(member, endpoint))
        state = DistributedState(Client(endpoint, [1], prefer=1, near=Near(member)))
        stack.push_async_callback(state.close)
        await until_level(state, LEVEL)
        ring = Ring([RingNode(node, f"host{node}") for node in range(1, 6)])
        store = DistributedStore(NodeClient(endpoint), ring, Code(3, 2), BLOCK_BYTES_DEFAULT)
        yield await _opened(stack, state, store, inline_max=_INLINE_MAX)


async def _opened(
    stack: contextlib.AsyncExitStack,
    state: GlobalState,
    store: DistributedStore | FilesystemStore,
    *,
    inline_max: int,
) -> Opened:
    stack.push_async_callback(store.close)
    readers = Readers()
    garbage = Garbage(state, store, readers)
    stack.push_async_callback(garbage.close)
    catalog = Catalog(state, store, garbage, readers, inline_max=inline_max)
    stack.push_async_callback(catalog.close)
    garbage.start()
    return catalog, state


async def rows_of(state: GlobalState) -> Rows:
    """All that a catalog keeps there, but for what waits to be deleted."""
    found: Rows = {}
    for table in _TABLES:
        rows = await state.scan(table, b"", b"", _ROWS_MAX)
        assert len(rows) < _ROWS_MAX
        found |= {(table, key): row for key, row in rows if not key.startswith(keys.DELETED)}
    return found


@dataclass
class S3Server:
    """`ready`: what the readiness endpoint says; `obstacle`: what keeps writes from being done."""

    catalog: Catalog
    state: GlobalState
    loop: asyncio.AbstractEventLoop
    port: int
    clock: Clock
    connections: Callable[[], int]
    region: str
    ready: bool = True
    obstacle: str = ""
    clients: Clients = field(default_factory=Clients)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    def client(self, who: Credential | None = ALICE, *, url: str = "", **config: Any) -> BaseClient:
        """boto3 as it comes, closed when the server ends; None: anonymous."""
        options: dict[str, Any] = {"retries": {"total_max_attempts": 1}, **config}
        options.setdefault("s3", {"addressing_style": "path"})
        if who is None:
            options["signature_version"] = NO_SIGNATURE
        return self.clients.make(
            endpoint_url=url or self.url,
            region_name=self.region,
            aws_access_key_id=who.access_key_id if who else None,
            aws_secret_access_key=who.secret_access_key if who else None,
            config=Config(**options),
        )

    def limited(self, *rules: tuple[str, str]) -> Credential:
        """A key of Alice's that may do just that: (bucket, actions with spaces between them)."""
        policy = Policy(tuple(Rule(where, tuple(what.lower().split())) for where, what in rules))
        name = f"AKIDLIMITED{len(CREDENTIALS)}"
        CREDENTIALS[name] = Credential(name, "limited", ALICE.account_id, policy)
        return CREDENTIALS[name]

    def signer(self, who: Credential = ALICE, *, region: str = "") -> Signer:
        return Signer(
            HOST, self.port, who.access_key_id, who.secret_access_key, region or self.region
        )

    def rows(self) -> Rows:
        """All that the catalog keeps, but for what waits to be deleted."""
        return self.run(rows_of(self.state))

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Nothing that the block does may change what is kept."""
        before = self.rows()
        yield
        assert self.rows() == before

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_WAIT_S)


class Clock:
    """The verifier's: real time, and an offset that a test may set."""

    offset_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset_s


@contextlib.contextmanager
def running(
    open_catalog: OpenCatalog,
    path: Path,
    *,
    region: str = REGION,
    new_buckets: NewBuckets = NOTHING_SAID,
) -> Iterator[S3Server]:
    """The server, until the block ends."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="s3-server")
    thread.start()

    def run(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(_WAIT_S)

    stack = contextlib.AsyncExitStack()

    async def start() -> tuple[Server, S3Server]:
        catalog, state = await stack.enter_async_context(open_catalog(path))
        clock = Clock()
        verifier = Verifier(CREDENTIALS.get, region=region, service="s3", now=clock)
        shown = S3Server(catalog, state, loop, 0, clock, lambda: server.connection_count, region)

        async def write_obstacle() -> str:
            return shown.obstacle

        async def is_account(account: str) -> bool:
            return account in {one.account_id for one in CREDENTIALS.values()}

        service = S3Service(
            catalog,
            verifier,
            region=region,
            token_keys=lambda: (b"a key of the tests",),
            domains=(DOMAIN,),
            ready=lambda: shown.ready,
            write_obstacle=write_obstacle,
            is_account=is_account,
            new_buckets=new_buckets,
        )
        server = Server(service.handle, host=HOST, port=0, on_error=service.on_error)
        await server.start()
        shown.port = server.port
        return server, shown

    async def stop(server: Server) -> None:
        await server.drain(5.0)
        await stack.aclose()

    try:
        server, shown = run(start())
        try:
            yield shown
        finally:
            shown.clients.close()
            run(stop(server))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
