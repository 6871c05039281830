"""How a process joins that knows nothing of a cluster but a seed and the cluster key.

It asks whoever listens at an address of [cluster] join what the cluster is: its code, its members
and its nodes. With that its configuration is complete, at the start and at each reload.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from predastore.base.config import Config, Db, Node, Rs
from predastore.base.errors import PeerRefused, PredastoreError, StartupError
from predastore.base.limits import JOIN_ASK_MS, JOIN_PAUSE_MS, READY_LOG_MS
from predastore.gossip.messages import Welcome, Welcomed
from predastore.rpc import Endpoint, self_signed

_log = logging.getLogger(__name__)

WELCOME = "cluster.welcome"


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
                    return partial(completed, told, frozenset(row.id for row in settings.nodes))
            await asyncio.sleep(JOIN_PAUSE_MS / 1000)
    finally:
        await endpoint.close()


async def welcomed(endpoint: Endpoint, peer: str) -> Welcomed:
    told, _ = await endpoint.call(peer, WELCOME, Welcome(), Welcomed, timeout_ms=JOIN_ASK_MS)
    return told


def completed(told: Welcomed, own: frozenset[int], settings: Config) -> Config:
    """`settings` with what the cluster told. `own`: nodes that the file had when it was read first:
    of these, it alone speaks."""
    rs = Rs(told.data, told.parity, told.block_bytes, told.write_min, told.inline_max)
    if settings.rs not in (rs, Rs()):
        raise StartupError(
            f"[rs]: the cluster has RS({rs.data},{rs.parity}), blocks of {rs.block_bytes} bytes; "
            "leave [rs] out of the file of a process that joins"
        )
    nowhere = settings.base_path / "elsewhere"
    known = own.union(row.id for row in settings.nodes)
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
