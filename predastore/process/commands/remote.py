"""A command's way into a running cluster: the cluster key of its configuration, and calls.

The configuration that the processes have is enough; so is one that names a process to join. The
nodes are those of the table in s3db, reached at the addresses that gossip tells.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from predastore.base.config import Auth, Config
from predastore.base.errors import (
    ConfigError,
    PeerRefused,
    PeerUnreachable,
    PredastoreError,
    StartupError,
    reason,
)
from predastore.base.limits import COMMAND_CALL_TIMEOUT_MS
from predastore.coding.erasure import Code
from predastore.gossip import Record
from predastore.gossip.agent import VIEW
from predastore.gossip.messages import Changed, GossipView, Heeded, Viewed
from predastore.node.client import NodeClient
from predastore.process import credentials, discovery, flags, joining, roles
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.client import Client
from predastore.s3db.global_state import DistributedState
from predastore.storage.ring_table import NodeRow, RingStore, RingTable

FLAGS: Final = ("config", "node", "base-path")


@dataclass(frozen=True)
class Remote:
    """`records`: of the processes, as one of them sees them. `db`: the metadata cluster."""

    settings: Config
    endpoint: Endpoint
    db: Client
    state: DistributedState
    nodes: NodeClient
    table: RingTable
    records: tuple[Record, ...]

    @property
    def code(self) -> Code:
        return Code(self.settings.rs.data, self.settings.rs.parity)

    def row(self, node: int) -> NodeRow | None:
        return next((row for row in self.table.nodes if row.id == node), None)


def parser(
    name: str, usage: str, description: str, epilog: str, names: Sequence[str] = FLAGS
) -> flags.Parser:
    """The parser of a command with the flags that find the cluster."""
    made = flags.Parser(
        prog=f"s3d {name}",
        usage=usage,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add(made, tuple(flag for flag in flags.FLAGS if flag.name in names))
    about = made.add_argument_group("About")
    about.add_argument("-h", "-help", "--help", action="help", help="show this and exit")
    return made


def resolved(
    given: Mapping[str, object], environment: Mapping[str, str]
) -> tuple[Config, flags.Options]:
    """Configuration and options; it is a cluster's, whatever backend the file has."""
    return flags.resolved({**given, "backend": "distributed"}, environment, serves=False)


def run(settings: Config, work: Callable[[Remote], Awaitable[int]]) -> int:
    """The exit code of `work`; PredastoreError where the cluster can not be reached."""

    async def connected_work() -> int:
        async with connected(settings) as remote:
            return await work(remote)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(connected_work())


@contextlib.asynccontextmanager
async def connected(settings: Config) -> AsyncIterator[Remote]:
    key = keys(settings).cluster
    if settings.cluster.join:
        settings = (await joining.joined(settings, key))(settings)
    endpoint = Endpoint(cluster_key=key, certificate=self_signed(), name="s3d-command")
    try:
        for node in settings.nodes:
            endpoint.add_peer(f"node/{node.id}", node.host, node.port)
        for member in settings.db:
            endpoint.add_peer(f"db/{member.id}", member.host, member.raft_port)
        records = await _view(endpoint, settings)
        client = Client(endpoint, [row.id for row in settings.db], prefer=None)
        state = DistributedState(client)
        shards = settings.rs.data + settings.rs.parity
        table = await RingStore(state, shards).read() or RingTable(0, ())
        reach(endpoint, table, records)
        yield Remote(settings, endpoint, client, state, NodeClient(endpoint), table, records)
    finally:
        await endpoint.close()


def reach(endpoint: Endpoint, table: RingTable, records: Sequence[Record]) -> None:
    """Where the nodes are: as their processes say, else as the table does."""
    for row in (*table.nodes, *table.removed):
        endpoint.add_peer(f"node/{row.id}", row.host, row.port)
    for record in records:
        if record.is_here:
            endpoint.add_peer(record.name, record.facts.host, record.facts.port)
            for node in record.facts.nodes:
                endpoint.add_peer(f"node/{node.id}", node.host, node.port)


async def tell_changed(remote: Remote, version: int) -> None:
    """Has every process that answers use this version of the table of nodes now; the others read
    it by themselves soon."""

    async def tell(name: str) -> None:
        with contextlib.suppress(PredastoreError):
            await remote.endpoint.call(
                name,
                discovery.CHANGED,
                Changed(version),
                Heeded,
                timeout_ms=COMMAND_CALL_TIMEOUT_MS,
            )

    await asyncio.gather(*(tell(one.name) for one in remote.records if one.is_here))


async def view(remote: Remote) -> tuple[Record, ...]:
    """The processes as they are seen now."""
    return await _view(remote.endpoint, remote.settings)


async def _view(endpoint: Endpoint, settings: Config) -> tuple[Record, ...]:
    """Of the first process that answers; all are asked at once. PeerRefused where none does, and
    one refuses: what is wrong then does not pass."""
    names = [f"node/{row.id}" for row in settings.nodes] + [f"db/{row.id}" for row in settings.db]

    async def ask(name: str) -> Viewed:
        request = GossipView()
        found, _ = await endpoint.call(
            name, VIEW, request, Viewed, timeout_ms=COMMAND_CALL_TIMEOUT_MS
        )
        return found

    failures: list[PredastoreError] = []
    asked = [asyncio.ensure_future(ask(name)) for name in names]
    try:
        for answer in asyncio.as_completed(asked):
            try:
                return (await answer).records
            except PredastoreError as error:
                failures.append(error)
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    reasons = "\n  ".join(sorted(map(str, failures)))
    if any(isinstance(error, PeerRefused) for error in failures):
        raise PeerRefused(
            "no process of the cluster takes this command for one of its own; give [cluster] name "
            f"and secret, or [[auth]], as the files of the cluster have them:\n  {reasons}"
        )
    raise PeerUnreachable(f"no process of the cluster answers:\n  {reasons}")


def keys(settings: Config) -> credentials.Keys:
    """Those that the processes of this configuration have."""
    return credentials.keys(settings, lambda: generated(settings), roles.is_local)


def generated(settings: Config) -> Auth:
    """The credentials of a cluster that was started without any; they are not made here."""
    file = settings.base_path / credentials.FILE_NAME
    with reading(file):
        if file.exists():
            return credentials.ensure(settings.base_path)
    raise ConfigError(
        [
            f"no [[auth]]{' without a policy' if settings.auth else ''} in the configuration, and "
            f"no {file}; name the cluster's file with -config, or its data with -base-path"
        ]
    )


@contextlib.contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turns the failure to read a file below the base path into a StartupError."""
    try:
        yield
    except OSError as error:
        raise StartupError.because(
            error,
            f"{file} can not be read ({reason(error)}); run it as the user of the "
            "server, or name other data with -base-path",
        ) from None


# --- output -----------------------------------------------------------------------------------


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under each other, the first being the heads."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def span(seconds: float) -> str:
    """A time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def bar(share: float, width: int = 30) -> str:
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)
