"""A process of the metadata benchmarks: members, or a client alone (`Site.local` is empty).

Started with a JSON `Site` as its argument, it prints the leader's id once it knows one, and then
does one JSON `Work` a line, as many writers or readers at once as that says:

    propose   commits through the member that leads, in its own process
    put       `object.put` of the catalog with an inline body, in the same way
    commit    through the client that gateways use; it prefers the member of its own process
    read      of one key through that client, linearizable
    stale     the same, of the local replica where there is one
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from predastore._fast.crc import crc32c
from predastore.base.limits import COMMIT_TIMEOUT_MS
from predastore.catalog import keys
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.procedures.arguments import Content, CreateBucket, HeldBucket, PutObject
from predastore.catalog.rows import BucketRow, Detail, Kind, Summary
from predastore.process import memory
from predastore.rpc import Endpoint, self_signed
from predastore.s3db import commands, service
from predastore.s3db.client import Client
from predastore.s3db.commands import Batch, Put
from predastore.s3db.member import Member
from predastore.s3db.store import Store
from predastore.storage.formats import pack

ELECTED_S: Final = 30.0
VALUE_BYTES: Final = 200
KEYS: Final = 1000  # that are read
HOST: Final = "127.0.0.1"
CLUSTER_KEY: Final = b"b" * 32
TABLE: Final = "objects"
BUCKET: Final = "bench"
NOW_MS: Final = 1_790_000_000_000


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One process. `ports`: of all members, by id; 0: all members are in this process."""

    path: str
    local: list[int]
    ports: dict[int, int]


class Work(msgspec.Struct, frozen=True):
    writers: int
    seconds: float
    kind: str = "propose"
    value_bytes: int = VALUE_BYTES


class Done(msgspec.Struct, frozen=True):
    count: int
    seconds: float
    p50_us: float


async def _run(site: Site) -> None:
    endpoint = Endpoint(cluster_key=CLUSTER_KEY, certificate=self_signed(), name=f"{site.local}")
    members = []
    for member_id, port in site.ports.items():
        if member_id not in site.local:
            endpoint.add_peer(f"db/{member_id}", HOST, port)
            continue
        path = Path(site.path) / str(member_id)
        member = await Member.open(
            path=path / "raft",
            member_id=member_id,
            members=list(site.ports),
            store=Store(path / "store", durable=False, procedures=PROCEDURES),
            endpoint=endpoint,
        )
        members.append(member)
        # One that starts late is taken in by those that have founded the cluster.
        endpoint.serve(f"db/{member_id}", service.service(member, endpoint))
        if port:
            await endpoint.listen(f"db/{member_id}", HOST, port)
    client = Client(endpoint, list(site.ports), site.local[0] if site.local else None)
    print(await _leader(members, client), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        work = msgspec.json.decode(line, type=Work)
        print(msgspec.json.encode(await _do(work, members, client)).decode(), flush=True)


async def _leader(members: list[Member], client: Client) -> int:
    deadline_s = time.monotonic() + ELECTED_S
    while True:
        known = [member.leader for member in members]
        if not members:
            known = [(await client.status())["leader"]]
        if known[0] is not None and None not in known:
            return known[0]
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"no leader within {ELECTED_S} s")
        await asyncio.sleep(0.05)


async def _do(work: Work, members: list[Member], client: Client) -> Done:
    step = await _step(work, members, client)
    taken_s: list[float] = []
    start_s = time.perf_counter()
    stop_s = start_s + work.seconds

    async def worker(number: int) -> None:
        count = 0
        while (begun_s := time.perf_counter()) < stop_s:
            count += 1
            await step(number, count)
            taken_s.append(time.perf_counter() - begun_s)

    await asyncio.gather(*map(worker, range(work.writers)))
    taken = time.perf_counter() - start_s
    return Done(len(taken_s), taken, statistics.median(taken_s) * 1e6)


async def _step(
    work: Work, members: list[Member], client: Client
) -> Callable[[int, int], Awaitable[object]]:
    """What a worker (its number, how often so far) does over and over."""
    kind, value = work.kind, os.urandom(work.value_bytes)

    def batch(key: bytes) -> Batch:
        return Batch((), (Put(TABLE, key, value),), os.urandom(16), 0)

    leader = next((member for member in members if member.leader == member.id), None)
    if kind == "put":
        assert leader is not None
        return await _puts(leader, value)
    if kind == "propose":
        assert leader is not None

        async def propose(number: int, count: int) -> object:
            encoded = commands.encode(batch(b"bench/%d/%d" % (number, count)))
            return await leader.propose(encoded, timeout_ms=COMMIT_TIMEOUT_MS)

        return propose
    if kind == "commit":
        return lambda number, count: client.commit(batch(b"bench/%d/%d" % (number, count)))
    names = [b"read/%d" % n for n in range(KEYS)]
    if await client.get(TABLE, names[-1]) is None:
        puts = tuple(Put(TABLE, key, value) for key in names)
        await client.commit(commands.batch(*puts))
    is_stale = kind == "stale"
    return lambda number, count: client.get(
        TABLE, names[(number * 31 + count) % KEYS], stale=is_stale
    )


async def _puts(leader: Member, body: bytes) -> Callable[[int, int], Awaitable[object]]:
    """Each worker replaces a thousand objects of its own, one after the other."""
    bucket = HeldBucket(BUCKET, BUCKET.encode().ljust(16), 1)

    async def call(procedure: str, arguments: bytes) -> bytes:
        encoded = commands.encode(commands.call(procedure, arguments))
        applied = await leader.propose(encoded, timeout_ms=COMMIT_TIMEOUT_MS)
        return applied.answer

    row = BucketRow(BUCKET, bucket.id, "bench", "us-east-1", NOW_MS)
    await call("bucket.create", CreateBucket(row).encode())  # or it is there
    summary = Summary(len(body), "d41d8cd98f00b204e9800998ecf8427e", NOW_MS, "bench")
    detail, crc = msgspec.Raw(pack(Detail("image/jpeg"))), crc32c(body)

    async def put(number: int, count: int) -> object:
        key = f"{number}/{count % 1000}"
        random = os.urandom(keys.RANDOM_BYTES)
        layout = keys.layout(BUCKET, key, random)
        content = Content(Kind.INLINE, layout, body=body, crc=crc)
        args = PutObject(bucket, key, random, content, summary, detail, NOW_MS, 300_000)
        answer = await call("object.put", args.encode())
        if answer[:1] != b"\0":
            raise RuntimeError(f"object.put was refused: {answer!r}")
        return answer

    return put


def main() -> None:
    site = msgspec.json.decode(sys.argv[1], type=Site)
    memory.tune()  # as s3d does
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(site))


if __name__ == "__main__":
    main()
