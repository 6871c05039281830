"""A store reached through rpc: the same answers, the same errors."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from node_support import block_of, opened, ref_of, run

from predastore._fast.crc import crc32c
from predastore.base.errors import (
    CorruptData,
    FormatError,
    NodeError,
    PeerRefused,
    PeerUnreachable,
    ShardCorrupt,
    ShardNotFound,
)
from predastore.base.limits import BLOCK_BYTES_MAX, MIB, NODE_DELETE_REFS_MAX
from predastore.node.client import NodeClient, peer_name
from predastore.node.server import service
from predastore.node.shard import ShardRef
from predastore.rpc import Endpoint, self_signed

CERTIFICATE = self_signed()
T = 10_000


def endpoint(name: str) -> Endpoint:
    return Endpoint(cluster_key=bytes(32), certificate=CERTIFICATE, name=name)


async def exercise(client: NodeClient, node: int) -> None:
    """Each method, and its errors."""
    blocks = [block_of(i, size) for i, size in enumerate((300_000, 300_000, 5))]
    for stripe, block in enumerate(blocks):
        await client.append(node, ref_of(1), stripe, block, crc32c(block), timeout_ms=T)
    with pytest.raises(ShardNotFound, match="is not on node 3"):
        await client.stat(node, ref_of(1), timeout_ms=T)
    await client.commit(node, ref_of(1), 3, 600_005, timeout_ms=T)
    stat = await client.stat(node, ref_of(1), timeout_ms=T)
    assert (stat.block_count, stat.byte_count) == (3, 600_005)
    for stripe, block in enumerate(blocks):
        found = await client.read(node, ref_of(1), stripe, 0, len(block), timeout_ms=T)
        assert found == block
    part = await client.read(node, ref_of(1), 1, 1000, 77, timeout_ms=T)
    assert part == blocks[1][1000:1077]

    await client.put(node, ref_of(2), b"small", crc32c(b"small"), timeout_ms=T)
    assert await client.read(node, ref_of(2), 0, 0, 5, timeout_ms=T) == b"small"
    with pytest.raises(CorruptData):
        await client.put(node, ref_of(3), b"small", 1, timeout_ms=T)
    with pytest.raises(NodeError):
        await client.commit(node, ref_of(3), 1, 5, timeout_ms=T)
    with pytest.raises(FormatError):
        await client.stat(node, ShardRef(b"short", bytes(16), 0), timeout_ms=T)
    await client.append(node, ref_of(4), 0, b"x", crc32c(b"x"), timeout_ms=T)
    await client.abort(node, ref_of(4), timeout_ms=T)
    many = [ref_of(2), *(ref_of(number) for number in range(100, 99 + NODE_DELETE_REFS_MAX))]
    await client.delete(node, many, timeout_ms=T)
    with pytest.raises(ShardNotFound):
        await client.read(node, ref_of(2), 0, 0, 5, timeout_ms=T)
    status = await client.status(node, timeout_ms=T)
    assert (status.id, status.shard_count, status.failure) == (3, 1, "")
    assert status.used_bytes > 600_000
    assert status.free_bytes > 0
    assert status.used_bytes == status.live_bytes + status.dead_bytes
    assert 600_005 < status.live_bytes < 601_000
    assert 0 < status.disk_free_bytes <= status.disk_total_bytes
    rows = await client.shards(node, b"", 10, timeout_ms=T)
    assert [(row.ref, row.block_count, row.byte_count, row.bad) for row in rows.rows] == [
        (ref_of(1), 3, 600_005, False)
    ]
    assert abs(rows.rows[0].written_ms - time.time() * 1000) < 60_000
    assert not (await client.shards(node, ref_of(1).key(), 10, timeout_ms=T)).rows
    places = await client.locate(node, ref_of(1), 1, timeout_ms=T)
    assert [(place.length, place.bad) for place in places.blocks] == [(300_000, False), (5, False)]
    assert not (await client.bad(node, b"", 10, timeout_ms=T)).rows
    assert not (await client.scrub(node, start=False, timeout_ms=T)).running
    assert (await client.scrub(node, start=True, timeout_ms=T)).running


def test_a_node_in_this_process_is_reached_through_the_pipe(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=16 * MIB) as store:
            here = endpoint("host/a")
            here.serve(peer_name(3), service(store))
            client = NodeClient(here)
            await exercise(client, 3)
            with pytest.raises(PeerUnreachable):
                await client.status(4, timeout_ms=T)
            large = bytes(BLOCK_BYTES_MAX + 1)
            with pytest.raises(PeerRefused, match="is over"):
                await client.put(3, ref_of(9), large, crc32c(large), timeout_ms=T)
            await here.close()

    run(main())


def test_a_node_of_another_process_is_reached_over_quic(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=16 * MIB) as store:
            there, here = endpoint("host/a"), endpoint("host/b")
            there.serve(peer_name(3), service(store))
            port = await there.listen(peer_name(3), "127.0.0.1", 0)
            here.add_peer(peer_name(3), "127.0.0.1", port)
            await exercise(NodeClient(here), 3)
            await here.close()
            await there.close()

    run(main())


def test_a_corrupt_block_is_a_corrupt_shard_at_the_client_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            here = endpoint("host/a")
            here.serve(peer_name(3), service(store))
            client = NodeClient(here)
            block = block_of(1, 1000)
            await client.put(3, ref_of(1), block, crc32c(block), timeout_ms=T)
            segment = tmp_path / "segments" / "00000001.seg"
            content = bytearray(segment.read_bytes())
            content[500] ^= 1
            segment.write_bytes(content)
            with pytest.raises(ShardCorrupt):
                await client.read(3, ref_of(1), 0, 0, 10, timeout_ms=T)
            (row,) = (await client.bad(3, b"", 10, timeout_ms=T)).rows
            assert (row.ref, row.stripes) == (ref_of(1), [0])
            assert (await client.shards(3, b"", 10, timeout_ms=T)).rows[0].bad
            await here.close()

    run(main())


def test_many_clients_at_once_have_each_their_own_bytes(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=16 * MIB) as store:
            here = endpoint("host/a")
            here.serve(peer_name(3), service(store))
            client = NodeClient(here)

            async def one(number: int) -> None:
                block = block_of(number, 1000 + 999 * number)
                await client.put(3, ref_of(number), block, crc32c(block), timeout_ms=T)
                found = await client.read(3, ref_of(number), 0, 0, len(block), timeout_ms=T)
                assert found == block

            await asyncio.gather(*(one(number) for number in range(100)))
            await here.close()

    run(main())
