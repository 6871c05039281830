"""What `make bench BENCH=s3db.million` does, on a small scale: a state that no log holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from predastore.s3db import commands
from predastore.s3db.client import Client
from predastore.s3db.commands import Put
from predastore.s3db.member import Member
from predastore.s3db.raft import snapshots, upkeep
from s3db.test_membership import Cluster, run

KEYS, PREFIXES = 20_000, 20
PUTS = 4_000


def key_of(number: int) -> bytes:
    return b"%02d/%06d" % (number % PREFIXES, number)


async def load(client: Client) -> None:
    for start in range(0, KEYS, PUTS):
        numbers = range(start, start + PUTS)
        puts = [Put("t", key_of(n), b"v%d" % n) for n in numbers]
        await client.commit(commands.batch(*puts), timeout_ms=30_000)


class Writer:
    """Overwrites one key after the other until it is stopped."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stopping = False
        self.written: dict[bytes, bytes] = {}
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        number = 0
        while not self._stopping:
            number += 1
            key, value = key_of(number * 7 % KEYS), b"new%d" % number
            await self._client.commit(commands.batch(Put("t", key, value)))
            self.written[key] = value

    async def stop(self) -> None:
        self._stopping = True
        await self._task


async def holds_all(member: Member, written: dict[bytes, bytes]) -> None:
    await member.read_barrier(timeout_ms=15_000)
    rows = dict(member.store.scan("t", b"", b"", KEYS + 1))
    assert rows == {key_of(n): b"v%d" % n for n in range(KEYS)} | written


def test_a_new_member_gets_a_snapshot_under_writes_and_restarts_with_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "RAFT_LOG_KEPT_BYTES", 20_000)
    monkeypatch.setattr(upkeep, "RAFT_LOG_CUT_BYTES", 20_000)
    monkeypatch.setattr(snapshots, "RAFT_SNAPSHOT_CHUNK_BYTES", 64 << 10)

    async def test(cluster: Cluster) -> None:
        await cluster.found(3)
        client = cluster.client(1)
        await load(client)
        assert all(member.status()["first_index"] > 1 for member in cluster.members())
        writer = Writer(client)
        fourth = await cluster.site(4)
        joined = await fourth.open(cluster.file())
        await cluster.voters_are(1, 2, 3, 4)
        before = len(writer.written)
        await holds_page(client)
        await writer.stop()
        assert len(writer.written) >= before > 0
        await holds_all(joined, writer.written)
        await cluster.stop(4)
        again = await cluster.restart(4, cluster.file())
        await holds_all(again, writer.written)

    run(tmp_path, test)


async def holds_page(client: Client) -> None:
    """A page of keys, and one of common prefixes, each of a thousand keys."""
    flat = await client.list("t", b"", b"", b"", 1000)
    assert [key for key, _ in flat.entries] == [key_of(n * PREFIXES) for n in range(1000)]
    whole = await client.list("t", b"", b"/", b"", 1000)
    assert whole.prefixes == [b"%02d/" % n for n in range(PREFIXES)]
