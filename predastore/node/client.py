"""Calls to shard nodes, by number: the methods of `server.py` with their types.

Errors: what the store raises (ShardNotFound, ShardCorrupt, NodeFull, StoreFailed, NodeError,
CorruptData, Overloaded), and those of rpc. Every method may be repeated after PeerUnreachable or
DeadlineExceeded. A block is borrowed until the call has returned or raised.
"""

from __future__ import annotations

from collections.abc import Sequence

from predastore.node import messages
from predastore.node.messages import (
    BadShards,
    Done,
    NodeStatus,
    ScrubStatus,
    ShardPlaces,
    ShardRows,
    ShardStat,
)
from predastore.node.shard import ShardRef
from predastore.rpc import Buffer, Endpoint


def peer_name(node: int) -> str:
    """What a node is called in the cluster."""
    return f"node/{node}"


class NodeClient:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def put(
        self, node: int, ref: ShardRef, block: Buffer, crc: int, *, timeout_ms: int
    ) -> None:
        """A whole shard of one block; durable on return. `crc`: CRC32C of the block."""
        request = messages.PutRequest(ref, crc)
        await self._endpoint.call(
            peer_name(node), "shard.put", request, Done, (block,), timeout_ms=timeout_ms
        )

    async def append(
        self, node: int, ref: ShardRef, stripe: int, block: Buffer, crc: int, *, timeout_ms: int
    ) -> None:
        """One block of a shard; durable when `commit` is. `crc`: CRC32C of the block."""
        request = messages.AppendRequest(ref, stripe, crc)
        await self._endpoint.call(
            peer_name(node), "shard.append", request, Done, (block,), timeout_ms=timeout_ms
        )

    async def commit(
        self, node: int, ref: ShardRef, block_count: int, byte_count: int, *, timeout_ms: int
    ) -> None:
        """The shard is whole; it exists, durably, on return."""
        request = messages.CommitShardRequest(ref, block_count, byte_count)
        await self._endpoint.call(
            peer_name(node), "shard.commit", request, Done, timeout_ms=timeout_ms
        )

    async def read(
        self, node: int, ref: ShardRef, stripe: int, offset: int, length: int, *, timeout_ms: int
    ) -> memoryview:
        """Part of a block, checked by the node."""
        request = messages.Read(ref, stripe, offset, length)
        _, found = await self._endpoint.call(
            peer_name(node), "shard.read", request, Done, timeout_ms=timeout_ms
        )
        return found

    async def stat(self, node: int, ref: ShardRef, *, timeout_ms: int) -> ShardStat:
        request = messages.Stat(ref)
        found, _ = await self._endpoint.call(
            peer_name(node), "shard.stat", request, ShardStat, timeout_ms=timeout_ms
        )
        return found

    async def delete(self, node: int, refs: Sequence[ShardRef], *, timeout_ms: int) -> None:
        """At most NODE_DELETE_REFS_MAX shards, known or not; durable on return."""
        request = messages.DeleteRequest(list(refs))
        await self._endpoint.call(
            peer_name(node), "shard.delete", request, Done, timeout_ms=timeout_ms
        )

    async def abort(self, node: int, ref: ShardRef, *, timeout_ms: int) -> None:
        """Forgets a shard that is not committed."""
        request = messages.AbortRequest(ref)
        await self._endpoint.call(
            peer_name(node), "shard.abort", request, Done, timeout_ms=timeout_ms
        )

    async def status(self, node: int, *, timeout_ms: int) -> NodeStatus:
        status, _ = await self._endpoint.call(
            peer_name(node),
            "node.status",
            messages.StoreStatusRequest(),
            NodeStatus,
            timeout_ms=timeout_ms,
        )
        return status

    async def locate(
        self, node: int, ref: ShardRef, first: int = 0, *, timeout_ms: int
    ) -> ShardPlaces:
        """Where the blocks of a shard are, from stripe `first` on."""
        request = messages.Locate(ref, first)
        found, _ = await self._endpoint.call(
            peer_name(node), "shard.locate", request, ShardPlaces, timeout_ms=timeout_ms
        )
        return found

    async def shards(self, node: int, after: bytes, limit: int, *, timeout_ms: int) -> ShardRows:
        """Up to `limit` shards in the order of their keys, beyond the key `after` (empty: from
        the first on)."""
        request = messages.ListShards(after, limit)
        found, _ = await self._endpoint.call(
            peer_name(node), "node.shards", request, ShardRows, timeout_ms=timeout_ms
        )
        return found

    async def bad(self, node: int, after: bytes, limit: int, *, timeout_ms: int) -> BadShards:
        """As `shards`, those with blocks that are known to be bad."""
        request = messages.ListBad(after, limit)
        found, _ = await self._endpoint.call(
            peer_name(node), "node.bad", request, BadShards, timeout_ms=timeout_ms
        )
        return found

    async def scrub(self, node: int, *, start: bool, timeout_ms: int) -> ScrubStatus:
        """How far the scrub is; with `start`, a new round begins now, from the first segment on."""
        found, _ = await self._endpoint.call(
            peer_name(node), "node.scrub", messages.Scrub(start), ScrubStatus, timeout_ms=timeout_ms
        )
        return found
