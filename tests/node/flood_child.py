"""A process that floods a node with puts over several connections, as fast as they go.

python flood_child.py PORT NODE     until it is killed; needs tests/ on the path
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from predastore._fast.crc import crc32c
from predastore.base.errors import PredastoreError
from predastore.node.client import NodeClient, peer_name
from predastore.node.shard import ShardRef
from predastore.rpc import Endpoint
from rpc.rpc_world import CERTIFICATE, KEY

BLOCK = bytes(range(256)) * 64  # 16 KiB
CONNECTIONS, UNDER_WAY = 4, 400  # puts at once on each; a connection carries 256, the others wait


async def flood(client: NodeClient, node: int, numbers: itertools.count[int]) -> None:
    while True:
        ref = ShardRef(b"flood".ljust(32), next(numbers).to_bytes(16, "big"), 0)
        try:
            await client.put(node, ref, BLOCK, crc32c(BLOCK), timeout_ms=20_000)
        except PredastoreError:
            await asyncio.sleep(0)  # refused, or too late: the next one


async def main(port: int, node: int) -> None:
    numbers = itertools.count()
    async with asyncio.TaskGroup() as tasks:
        for connection in range(CONNECTIONS):
            name = f"host/flood-{connection}"
            endpoint = Endpoint(cluster_key=KEY, certificate=CERTIFICATE, name=name)
            endpoint.add_peer(peer_name(node), "127.0.0.1", port)
            for _ in range(UNDER_WAY):
                tasks.create_task(flood(NodeClient(endpoint), node, numbers))


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
