"""A metadata cluster of three `s3d -db` processes with a million keys.

    s3db.million.list.flat       a page of 1,000 keys, through a client of another process
    s3db.million.list.delimiter  a page of 1,000 common prefixes, each of 1,000 keys
    s3db.million.restart         a follower is killed and started again, until it has answered a
                                 linearizable read itself; yardstick: one with no keys
    s3db.million.join            a new member is started empty, until it votes, while 200 writes a
                                 second go on; yardstick: a copy of the tables' file, synced
    s3db.million.write           the median of those writes; yardstick: before the member came
    s3db.million.write.p99       and their 99th percentile; yardstick: the same before
    s3db.million.write.rate      how many were done a second; yardstick: how many were wanted
    s3db.million.memory          the largest anonymous memory of a member; yardstick: its tables

S3DB_KEYS: another number than a million.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.load import ROOT
from benchmarks.measure import Row, row
from benchmarks.served import scratch
from predastore.base import config
from predastore.base.errors import PredastoreError
from predastore.process import credentials
from predastore.rpc import Endpoint, self_signed
from predastore.s3db import commands
from predastore.s3db.client import Client
from predastore.s3db.commands import Put

KEYS: Final = int(os.environ.get("S3DB_KEYS", "1000000"))
KEYS_PER_PREFIX: Final = 1000
PUTS_PER_COMMIT: Final = 5_000
LOADERS: Final = 2
VALUE_BYTES: Final = 200
PAGE: Final = 1000
PAGES: Final = 30
WRITES_PER_SECOND: Final = 200
WRITES_AT_ONCE: Final = 64
CALM_S: Final = 10.0
START_S: Final = 120.0
TABLE: Final = "objects"
AUTH: Final = (
    '[[auth]]\naccess_key_id = "BENCHBENCHBENCHBENCH"\nsecret_access_key = "for benchmarks"\n'
)


def rows() -> list[Row]:
    with scratch() as folder, _Cluster(folder, 3).running() as cluster:
        return uvloop.run(_rows(cluster))


@dataclass
class _Cluster:
    folder: Path
    count: int
    hosts: list[str] = field(init=False)
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        network = f"127.{random.randrange(10, 250)}.{random.randrange(1, 250)}"
        self.hosts = [f"{network}.{n}" for n in range(1, 8)]

    def file(self, ids: list[int]) -> Path:
        """A configuration of these members."""
        text = 'backend = "distributed"\n' + AUTH
        for n in ids:
            text += f'[[db]]\nid = {n}\nhost = "{self.hosts[n - 1]}"\nport = 6660\n'
        file = self.folder / f"members-{'-'.join(map(str, ids))}.toml"
        file.write_text(text)
        return file

    def start(self, member: int, ids: list[int] | None = None) -> None:
        file = self.file(ids or list(range(1, self.count + 1)))
        with (self.folder / f"{member}.log").open("ab") as log:
            self.processes[member] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "predastore", "-db", "-db-node", str(member)),
                    *("-config", str(file), "-base-path", str(self.folder / f"data-{member}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def check(self) -> None:
        """RuntimeError, with what it said, if one has ended by itself."""
        for member, process in self.processes.items():
            if process.poll() is not None:
                said = (self.folder / f"{member}.log").read_text("utf-8", "replace")
                raise RuntimeError(f"member {member} ended with {process.poll()}: {said[-3000:]}")

    def kill(self, member: int) -> None:
        self.processes[member].kill()
        self.processes[member].wait()

    def tables(self, member: int) -> Path:
        return next((self.folder / f"data-{member}").rglob("store.mdb"))

    def anonymous_mib(self, member: int) -> float:
        status = Path(f"/proc/{self.processes[member].pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) / 1024

    def client(self, endpoint: Endpoint, ids: list[int]) -> Client:
        for n in ids:
            endpoint.add_peer(f"db/{n}", self.hosts[n - 1], 7660)
        return Client(endpoint, ids, None)

    def endpoint(self) -> Endpoint:
        settings = config.load(self.file([1]))
        key = credentials.cluster_key(settings, settings.auth)
        return Endpoint(cluster_key=key, certificate=self_signed(), name="bench")

    @contextmanager
    def running(self) -> Iterator[_Cluster]:
        with ExitStack() as stack:
            stack.callback(lambda: [self.kill(member) for member in self.processes])
            for member in range(1, self.count + 1):
                self.start(member)
            yield self


async def _rows(cluster: _Cluster) -> list[Row]:
    endpoint = cluster.endpoint()
    try:
        client = cluster.client(endpoint, [1, 2, 3])
        await _until(cluster, lambda: _answers(client), START_S)
        empty_s = await _empty_start(cluster, endpoint)
        await _load(client)
        found = await _lists(client)
        found.append(await _restart(cluster, client, endpoint, empty_s))
        found += await _join(cluster, client, endpoint)
        largest = max(map(cluster.anonymous_mib, cluster.processes))
        found.append(_row("memory", [largest], "MiB", "its tables' file", _size_mib(cluster)))
        return found
    finally:
        await endpoint.close()


def _row(name: str, values: list[float], unit: str, yardstick: str, other: float) -> Row:
    value = statistics.median(values)
    return row(
        f"s3db.million.{name}",
        value,
        unit,
        spread=(max(values) - min(values)) / value,
        yardstick=yardstick,
        yardstick_value=other,
    )


def _key(number: int) -> bytes:
    return b"bench/%04d/%06d" % divmod(number, KEYS_PER_PREFIX)


def _size_mib(cluster: _Cluster) -> float:
    return cluster.tables(1).stat().st_blocks * 512 / (1 << 20)


async def _answers(client: Client) -> bool:
    await client.get(TABLE, b"x")
    return True


async def _until(cluster: _Cluster, probe: Any, within_s: float) -> float:
    """Seconds until `probe` is true; one that raises is not yet."""
    begun_s = time.perf_counter()
    while True:
        try:
            if await probe():
                return time.perf_counter() - begun_s
        except PredastoreError as error:
            last: object = error
        else:
            last = "not yet"
        cluster.check()
        if time.perf_counter() - begun_s > within_s:
            raise RuntimeError(f"not within {within_s} s: {last}")
        await asyncio.sleep(0.02)


async def _empty_start(cluster: _Cluster, endpoint: Endpoint) -> float:
    """A cluster of one without a key, from the command to the first answer."""
    alone = 7
    client = cluster.client(endpoint, [alone])
    cluster.start(alone, [alone])
    taken_s = await _until(cluster, lambda: _answers(client), START_S)
    cluster.kill(alone)
    del cluster.processes[alone]
    return taken_s


async def _load(client: Client) -> None:
    value = os.urandom(VALUE_BYTES)
    starts = iter(range(0, KEYS, PUTS_PER_COMMIT))

    async def loader() -> None:
        for start in starts:
            numbers = range(start, min(start + PUTS_PER_COMMIT, KEYS))
            puts = tuple(Put(TABLE, _key(number), value) for number in numbers)
            await client.commit(commands.batch(*puts), timeout_ms=60_000)

    await asyncio.gather(*(loader() for _ in range(LOADERS)))


async def _lists(client: Client) -> list[Row]:
    found = []
    for name, delimiter in (("flat", b""), ("delimiter", b"/")):
        taken_ms, bare_ms = [], []
        for number in range(PAGES):
            after = b"" if delimiter else _key(number * KEYS // PAGES)
            begun_s = time.perf_counter()
            page = await client.list(TABLE, b"bench/", delimiter, after, PAGE)
            taken_ms.append((time.perf_counter() - begun_s) * 1e3)
            count = len(page.entries) + len(page.prefixes)
            if count != PAGE and KEYS >= PAGE * KEYS_PER_PREFIX:
                raise RuntimeError(f"a page of {count} rows")
            begun_s = time.perf_counter()
            await client.get(TABLE, _key(number))
            bare_ms.append((time.perf_counter() - begun_s) * 1e3)
        bare = statistics.median(bare_ms)
        found.append(_row(f"list.{name}", taken_ms, "ms", "a read of one key", bare))
    return found


async def _restart(cluster: _Cluster, client: Client, endpoint: Endpoint, empty_s: float) -> Row:
    taken_s = []
    for _ in range(3):
        leader = (await client.status())["leader"]
        member = next(n for n in (1, 2, 3) if n != leader)
        own = cluster.client(endpoint, [member])
        cluster.kill(member)
        cluster.start(member)
        taken_s.append(await _until(cluster, lambda own=own: _answers(own), START_S))
    return _row("restart", taken_s, "s", "with no keys", empty_s)


async def _join(cluster: _Cluster, client: Client, endpoint: Endpoint) -> list[Row]:
    source = cluster.tables(1)
    copied_s = await asyncio.to_thread(_copy, source, cluster.folder / "copy")
    writes = _Writes(client)
    await asyncio.sleep(CALM_S)
    calm_ms, _ = writes.take()

    async def votes() -> bool:
        said = await client.status()
        return 4 in said["voters"]

    cluster.start(4, [1, 2, 3, 4])
    joined_s = await _until(cluster, votes, START_S)
    busy_ms, rate = writes.take()
    await writes.stop()
    added = cluster.client(endpoint, [4])
    if await added.get(TABLE, _key(KEYS - 1)) is None:
        raise RuntimeError("the new member lacks a key")
    return [
        _row("join", [joined_s], "s", "a copy of the tables, synced", copied_s),
        _row("write", [statistics.median(busy_ms)], "ms", "before", statistics.median(calm_ms)),
        _row("write.p99", [_p99(busy_ms)], "ms", "before", _p99(calm_ms)),
        _row("write.rate", [rate], "/s", "wanted", WRITES_PER_SECOND),
    ]


def _copy(source: Path, target: Path) -> float:
    begun_s = time.perf_counter()
    shutil.copyfile(source, target)
    fd = os.open(target, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    target.unlink()
    return time.perf_counter() - begun_s


def _p99(taken_ms: list[float]) -> float:
    return sorted(taken_ms)[int(0.99 * len(taken_ms))]


class _Writes:
    """So many writes a second, whether or not the ones before are done, but for WRITES_AT_ONCE of
    them; how long each took."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._taken_ms: list[float] = []
        self._value = os.urandom(VALUE_BYTES)
        self._running: set[asyncio.Task[None]] = set()
        self._since_s = time.perf_counter()
        self._clock = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        begun_s, count = loop.time(), 0
        while True:
            await asyncio.sleep(max(0.0, begun_s + count / WRITES_PER_SECOND - loop.time()))
            count += 1
            if len(self._running) >= WRITES_AT_ONCE:
                continue
            task = asyncio.create_task(self._write(count))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _write(self, number: int) -> None:
        begun_s = time.perf_counter()
        put = Put(TABLE, _key(number * 7919 % KEYS), self._value)
        try:
            await self._client.commit(commands.batch(put))
        except PredastoreError:
            return  # it lacks in the rate
        self._taken_ms.append((time.perf_counter() - begun_s) * 1e3)

    def take(self) -> tuple[list[float], float]:
        """Those done since the last call, and how many that was a second."""
        taken_ms, self._taken_ms = self._taken_ms, []
        now = time.perf_counter()
        seconds, self._since_s = now - self._since_s, now
        return taken_ms, len(taken_ms) / seconds

    async def stop(self) -> None:
        self._clock.cancel()
        await asyncio.wait([self._clock, *self._running])
