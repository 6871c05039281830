"""Three real members under load, while one after the other is killed, stopped, or cut off.

What clients saw is checked for linearizability (by the simulator's checker): a lost acknowledged
write, or a read that is linearizable and stale, breaks it. `make faults` does it for two minutes,
or for S3DB_FAULT_SECONDS, and prints how long writes were interrupted.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import statistics
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from predastore.base.errors import NoLeader, OutcomeUnknown, PreconditionFailed
from predastore.s3db import commands
from predastore.s3db.client import Client
from predastore.s3db.commands import Absent, Check, Delete, Equals, Op, Put
from s3db.simulator.checker import NEVER, Operation, first_violation
from support.dbprocesses import DbCluster, DbProcess, db_cluster
from support.networks import Hosts, hosts_of_their_own, why_not
from support.waiting import eventually, eventually_async

pytestmark = pytest.mark.e2e

FAULT_SECONDS = float(os.environ.get("S3DB_FAULT_SECONDS", "20"))
CLIENTS = 9
WINDOW_S = 1.0  # keys change so often, so that the history of each is short enough to be checked
KEYS_PER_WINDOW = 6
KINDS = ("get", "get", "get", "put", "put", "cas", "cas", "delete", "scan")


class Clients:
    """Each does one operation after the other, through a member of its own where it can."""

    def __init__(self, gateways: list[Client]) -> None:
        self._loop = asyncio.get_running_loop()
        self._gateways = gateways
        self._values = itertools.count(1)
        self._stopping = asyncio.Event()
        self.history: list[Operation] = []
        self.acknowledged_at: list[tuple[float, float]] = []  # of writes: (invoked, returned)
        self._tasks = [
            asyncio.create_task(self._run(gateways[n % len(gateways)], random.Random(n)))
            for n in range(CLIENTS)
        ]

    async def _run(self, gateway: Client, rng: random.Random) -> None:
        seen: dict[str, int | None] = {}
        while not self._stopping.is_set():
            window = f"{int(self._loop.time() / WINDOW_S)}/"
            key = f"{window}{rng.randrange(KEYS_PER_WINDOW)}"
            kind = rng.choice(KINDS)
            try:
                if kind == "scan":
                    await self._scan(gateway, window, seen)
                elif kind == "get":
                    await self._get(gateway, key, seen)
                else:
                    await self._write(gateway, key, kind, seen)
            except NoLeader:
                pass  # nothing was read or changed

    async def _get(self, gateway: Client, key: str, seen: dict[str, int | None]) -> None:
        operation = Operation(key, "get", self._loop.time())
        found = await gateway.get("t", key.encode())
        operation.returned = self._loop.time()
        seen[key] = operation.found = None if found is None else int(found)
        self.history.append(operation)

    async def _scan(self, gateway: Client, prefix: str, seen: dict[str, int | None]) -> None:
        operation = Operation(prefix, "scan", self._loop.time())
        page = await gateway.scan_page("t", prefix.encode(), b"", KEYS_PER_WINDOW)
        operation.returned = self._loop.time()
        operation.rows = {key.decode(): int(value) for key, value in page.entries}
        seen.update(operation.rows)
        self.history.append(operation)

    async def _write(
        self, gateway: Client, key: str, kind: str, seen: dict[str, int | None]
    ) -> None:
        operation = Operation(key, kind, self._loop.time())
        checks: tuple[Check, ...] = ()
        if kind == "cas":
            expected = operation.expected = seen.get(key)
            checks = (
                Absent("t", key.encode())
                if expected is None
                else Equals("t", key.encode(), b"%d" % expected),
            )
        op: Op = Delete("t", key.encode())
        if kind != "delete":
            operation.value = next(self._values)
            op = Put("t", key.encode(), b"%d" % operation.value)
        try:
            await gateway.commit(commands.batch(op, checks=checks))
        except PreconditionFailed:
            return  # nothing was changed
        except OutcomeUnknown:
            operation.returned = NEVER
        else:
            operation.returned = self._loop.time()
            operation.found = operation.expected
            seen[key] = operation.value
            self.acknowledged_at.append((operation.invoked, operation.returned))
        self.history.append(operation)

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def read_all(self) -> None:
        """Every key once more, through every member: what was acknowledged is there."""
        keys = sorted({operation.key for operation in self.history})
        for gateway in self._gateways:
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                invoked = self._loop.time()
                found = await gateway.read([("t", key.encode()) for key in part])
                for key, value in zip(part, found, strict=True):
                    number = None if value is None else int(value)
                    self.history.append(
                        Operation(key, "get", invoked, self._loop.time(), found=number)
                    )

    async def resumed(self, since: float) -> float:
        """Seconds from `since` to the first acknowledgement of a write that began after it."""

        def first() -> float | None:
            for task in self._tasks:
                if task.done():
                    task.result()
            times = [back for begun, back in self.acknowledged_at[-200:] if begun >= since]
            return min(times, default=None)

        found = await eventually_async(first, within_s=30, what="writes resume")
        assert found is not None
        return found - since


class Story:
    """What was done to the cluster, and how long writes then took to resume."""

    def __init__(self, cluster: DbCluster, clients: Clients) -> None:
        self.cluster = cluster
        self.clients = clients
        self.gaps_s: dict[str, list[float]] = {}
        self._loop = asyncio.get_running_loop()

    async def leader(self) -> DbProcess:
        """The one that leads, once all others follow it: one fault at a time."""

        def probe() -> DbProcess | None:
            leader = self.cluster.leader()
            said = leader.status()
            followed = [said.get("connected", {}).get(peer) for peer in said.get("lag", {"": 0})]
            all_vote = len(said.get("voters", ())) == len(self.cluster.processes)
            is_whole = all_vote and all(followed) and max(said["lag"].values(), default=100) < 100
            return leader if is_whole else None

        found = await asyncio.to_thread(eventually, probe, within_s=30, what="a whole cluster")
        assert found is not None
        return found

    async def follower(self) -> DbProcess:
        leader = await self.leader()
        return random.choice([p for p in self.cluster.processes if p is not leader])

    async def strike(
        self,
        name: str,
        harm: Callable[[], object],
        heal: Callable[[], object],
        *,
        for_s: float,
    ) -> None:
        struck = self._loop.time()
        await asyncio.to_thread(harm)
        try:
            gap_s = await self.clients.resumed(struck)
        except AssertionError as error:
            said = [process.status() for process in self.cluster.processes]
            logs = "\n".join(process.output[-3000:] for process in self.cluster.processes)
            raise AssertionError(f"{name}: {error}\n{said}\n{logs}") from None
        self.gaps_s.setdefault(name, []).append(gap_s)
        await eventually_async(lambda: self._loop.time() - struck >= for_s, within_s=for_s + 5)
        await asyncio.to_thread(heal)
        await self.leader()

    def report(self) -> str:
        lines = [f"{len(self.clients.history)} operations; writes resumed after (s):"]
        for name, gaps in self.gaps_s.items():
            ordered = sorted(gaps)
            lines.append(
                f"  {name}: median {statistics.median(ordered):.2f}, worst {ordered[-1]:.2f}, "
                f"of {len(ordered)}: {' '.join(f'{gap:.2f}' for gap in ordered)}"
            )
        return "\n".join(lines)


async def under_load(
    cluster: DbCluster, seconds: float, act: Callable[[Story], Awaitable[None]]
) -> Story:
    """Repeat `act` for so long, then check all that was seen."""
    loop = asyncio.get_running_loop()
    async with cluster.client() as shared:
        gateways = [Client(shared._endpoint, [1, 2, 3], member) for member in (1, 2, 3)]
        clients = Clients(gateways)
        story = Story(cluster, clients)
        ends = loop.time() + seconds
        while loop.time() < ends:
            await act(story)
        await story.leader()
        await clients.stop()
        await clients.read_all()
    broken = await asyncio.to_thread(first_violation, clients.history)
    assert broken is None, [op for op in clients.history if op.key == broken]

    def agree() -> bool:
        said = [process.api().get("/status", "digest=1") for process in cluster.processes]
        return len({(row["digest"], row["digest_index"]) for row in said}) == 1

    await asyncio.to_thread(eventually, agree, within_s=15, what="one state on all members")
    assert len(clients.acknowledged_at) > 100
    print(story.report())
    return story


async def _kill(story: Story) -> None:
    for name, choose in (("leader", story.leader), ("follower", story.follower)):
        victim = await choose()
        await story.strike(
            f"SIGKILL of the {name}", victim.kill, lambda p=victim: p.start(), for_s=1
        )


async def _stop(story: Story) -> None:
    victim = await story.leader()
    await story.strike(
        "SIGSTOP of the leader",
        lambda: victim.signal(signal.SIGSTOP),
        lambda: victim.signal(signal.SIGCONT),
        for_s=5,
    )


async def _cut_off(story: Story, hosts: Hosts) -> None:
    """From the other members, and not from clients."""
    for name, choose in (("leader", story.leader), ("follower", story.follower)):
        number = (await choose()).id
        await story.strike(
            f"partition of the {name}",
            lambda n=number: hosts.cut(n),
            lambda n=number: hosts.mend(n),
            for_s=4,
        )


def test_members_are_killed_and_stopped_and_cut_off_in_turn(tmp_path: Path) -> None:
    """Without network namespaces nobody is cut off."""
    reason = why_not()
    with ExitStack() as stack:
        hosts = None if reason else stack.enter_context(hosts_of_their_own(3))

        async def act(story: Story) -> None:
            await _kill(story)
            await _stop(story)
            await _kill(story)
            if hosts is not None:
                await _cut_off(story, hosts)

        places: dict[str, Any] = {}
        if hosts is not None:
            prefixes = [hosts.prefix(n) for n in (1, 2, 3)]
            places = {"hosts": hosts.addresses, "prefixes": prefixes}
        cluster = stack.enter_context(db_cluster(tmp_path, **places))
        asyncio.run(under_load(cluster, FAULT_SECONDS, act))
    if reason:
        pytest.skip(f"the rest was done, but nobody was cut off: {reason}")
