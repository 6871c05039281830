"""A node against peers that hold the cluster key and misbehave, and against those that are wrong
here: what was stored stays, nothing half-sent is stored, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from node_support import block_of, opened, read_back, ref_of, run

from predastore._fast.crc import crc32c
from predastore.base.errors import CorruptData, NodeError, PeerRefused, ShardNotFound
from predastore.base.limits import BLOCK_BYTES_MAX, MIB
from predastore.node import messages
from predastore.node.client import NodeClient, peer_name
from predastore.node.server import service
from predastore.node.shard import ShardRef
from predastore.node.store import ShardStore
from predastore.rpc import Endpoint, quic_calls, self_signed
from predastore.rpc.framing import decode_response, encode_prefix, encode_request, encode_struct
from predastore.rpc.quic import REFUSED
from rpc.rpc_world import KEY, Stranger, stranger
from support.waiting import eventually_async

CERTIFICATE = self_signed()
NODE = 3
TESTS = Path(__file__).resolve().parents[1]
T = 20_000


@dataclass
class Scene:
    store: ShardStore
    client: NodeClient
    endpoint: Endpoint
    port: int

    async def serves(self, number: int) -> None:
        """An honest peer puts a block and reads it back."""
        block = block_of(number, 50_000)
        await self.client.put(NODE, ref_of(number), block, crc32c(block), timeout_ms=T)
        found = await self.client.read(NODE, ref_of(number), 0, 0, len(block), timeout_ms=T)
        assert found == block


@contextlib.asynccontextmanager
async def scene(path: Path) -> AsyncIterator[Scene]:
    async with opened(path, segment_bytes_max=64 * MIB) as store:
        there = Endpoint(cluster_key=KEY, certificate=CERTIFICATE, name="host/a")
        here = Endpoint(cluster_key=KEY, certificate=CERTIFICATE, name="host/b")
        there.serve(peer_name(NODE), service(store))
        port = await there.listen(peer_name(NODE), "127.0.0.1", 0)
        here.add_peer(peer_name(NODE), "127.0.0.1", port)
        try:
            yield Scene(store, NodeClient(here), here, port)
        finally:
            await here.close()
            await there.close()


@contextlib.asynccontextmanager
async def proven(at: Scene) -> AsyncIterator[Stranger]:
    async with stranger(at.port) as peer:
        await peer.prove(wanted=peer_name(NODE))
        yield peer


def head(ref: ShardRef, block: bytes, *, crc: int | None = None) -> bytes:
    """A shard.put up to its payload."""
    body = encode_struct(messages.PutRequest(ref, crc32c(block) if crc is None else crc))
    return encode_prefix(encode_request("shard.put", T, body), len(block))


async def is_absent(store: ShardStore, number: int) -> None:
    with pytest.raises(ShardNotFound):
        await store.stat(ref_of(number))


def test_puts_that_stall_and_drip_are_cut_and_nobody_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quic_calls, "RPC_REQUEST_TIMEOUT_MS", 1500)

    async def main() -> None:
        async with scene(tmp_path) as at, proven(at) as peer:
            block = block_of("slow", MIB)
            stalled, dripping = peer.open(), peer.open()
            peer.write(stalled, head(ref_of(10**9), block) + block[:1000])
            peer.write(dripping, head(ref_of(10**9 + 1), block))
            sent = 0
            number = 0
            # Honest peers are served while the two are waited for.
            while not {stalled, dripping} <= peer.reset.keys() | peer.stopped.keys():
                assert peer.terminated is None
                number += 1
                peer.write(dripping, block[sent : sent + 1])
                sent += 1
                await at.serves(number)
            assert number
            for absent in (10**9, 10**9 + 1):  # honest ones count up from 1
                await is_absent(at.store, absent)
            await at.serves(0)

    run(main())


@pytest.mark.parametrize("cut", [1, 30, 100, 5_000])
def test_a_put_that_is_cut_short_stores_nothing(tmp_path: Path, cut: int) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            block = block_of("cut", 5_000)
            async with proven(at) as peer:
                whole = head(ref_of(900), block) + block
                peer.write(peer.open(), whole[:-cut], end=True)
                await peer.until(lambda: peer.terminated)
                assert peer.terminated is not None
                assert peer.terminated.error_code == REFUSED
            await is_absent(at.store, 900)
            await at.serves(1)

    run(main())


def test_garbage_in_place_of_a_block_or_a_request_stores_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at, proven(at) as peer:
            block = block_of("good", 5_000)
            stream = peer.open()
            peer.write(stream, head(ref_of(900), block) + block_of("bad", 5_000), end=True)
            with pytest.raises(CorruptData):
                decode_response(messages.Done, await peer.message(stream))
            await is_absent(at.store, 900)
            wrong: list[tuple[str, msgspec.Struct]] = [
                ("shard.put", messages.StoreStatusRequest()),  # of another method
                ("shard.read", messages.Read(ShardRef(b"x", b"y", 70_000), -1, -5, 1 << 40)),
                ("shard.commit", messages.CommitShardRequest(ref_of(1), -1, 1 << 62)),
                ("shard.delete", messages.DeleteRequest([ref_of(n) for n in range(5_000)])),
                ("node.shards", messages.ListShards(b"\xff" * 300, 1 << 40)),
                ("node.nothing", messages.StoreStatusRequest()),
            ]
            for method, request in wrong:
                async with proven(at) as other:
                    stream = other.open()
                    data = encode_request(method, T, encode_struct(request))
                    other.write(stream, encode_prefix(data, 0), end=True)
                    # An error, or the end of the connection.
                    await other.until(lambda other=other: other.terminated or other.received)
                await at.serves(1)

    run(main())


def test_a_flood_of_puts_from_one_peer_leaves_room_for_others(tmp_path: Path) -> None:
    """1,600 puts at once over four connections of another process, some thousand a second."""

    async def main() -> None:
        async with scene(tmp_path) as at:
            flood = await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(__file__).with_name("flood_child.py")),
                str(at.port),
                str(NODE),
                env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
            )
            try:
                before = 0
                for number in range(40):
                    await at.serves(number)
                    if number % 10 == 0:  # and it is still at it
                        before = await flooded(at.store, before + 1_000)
            finally:
                flood.kill()
                await flood.wait()
            await at.serves(500)

    run(main())


async def flooded(store: ShardStore, count: int) -> int:
    """How many shards there are, once there are so many."""
    within_s = 60.0
    await eventually_async(
        lambda: store._index.shard_count >= count, within_s=within_s, what="a flood"
    )
    return store._index.shard_count


def test_a_put_sent_again_changes_nothing_and_another_one_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            block, other = block_of("one", 9_000), block_of("two", 9_000)
            await at.client.put(NODE, ref_of(1), block, crc32c(block), timeout_ms=T)
            before = await at.client.status(NODE, timeout_ms=T)
            for _ in range(3):
                async with proven(at) as peer:
                    stream = peer.open()
                    peer.write(stream, head(ref_of(1), block) + block, end=True)
                    decode_response(messages.Done, await peer.message(stream))
                    stream = peer.open()
                    peer.write(stream, head(ref_of(1), other) + other, end=True)
                    with pytest.raises(NodeError):
                        decode_response(messages.Done, await peer.message(stream))
            after = await at.client.status(NODE, timeout_ms=T)
            assert (after.shard_count, after.used_bytes) == (1, before.used_bytes)
            assert await read_back(at.store, ref_of(1), [block])

    run(main())


def test_a_peer_of_another_cluster_is_refused_and_stores_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at:
            foreign = Endpoint(cluster_key=bytes(32), certificate=CERTIFICATE, name="host/x")
            foreign.add_peer(peer_name(NODE), "127.0.0.1", at.port)
            with pytest.raises(PeerRefused):
                await NodeClient(foreign).put(NODE, ref_of(9), b"x", crc32c(b"x"), timeout_ms=T)
            await foreign.close()
            await is_absent(at.store, 9)
            await at.serves(1)

    run(main())


def test_another_node_at_an_address_is_refused_by_name(tmp_path: Path) -> None:
    """A file with the address of node 3 under the id 4: no shard goes to the wrong node."""

    async def main() -> None:
        async with scene(tmp_path) as at:
            at.endpoint.add_peer(peer_name(4), "127.0.0.1", at.port)
            with pytest.raises(PeerRefused, match="'node/4' is not here: this is 'node/3'"):
                await at.client.put(4, ref_of(9), b"x", crc32c(b"x"), timeout_ms=T)
            await is_absent(at.store, 9)
            await at.serves(1)

    run(main())


def test_a_block_over_the_bound_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with scene(tmp_path) as at, proven(at) as peer:
            stream = peer.open()
            large = bytes(BLOCK_BYTES_MAX + 1)
            peer.write(stream, head(ref_of(9), large))
            with pytest.raises(PeerRefused):
                decode_response(messages.Done, await peer.message(stream))
            await is_absent(at.store, 9)
            await at.serves(1)

    run(main())
