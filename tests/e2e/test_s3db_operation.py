"""Operating a real metadata cluster: rolling restarts, members that come and go, backups."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from predastore.s3db import commands
from predastore.s3db.client import Client
from predastore.s3db.commands import Put
from support.dbprocesses import DbCluster, DbProcess, db_cluster
from support.waiting import eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DbCluster]:
    with db_cluster(tmp_path, 3, spare=1) as running:
        yield running


class Load:
    """Writers that count what was acknowledged; an error of any is an error of the test."""

    def __init__(self, client: Client, writers: int = 4) -> None:
        self.client = client
        self.written: dict[bytes, bytes] = {}
        self._stopping = asyncio.Event()
        self._tasks = [asyncio.create_task(self._write(n)) for n in range(writers)]

    async def _write(self, writer: int) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            key, value = b"%d/%d" % (writer, number), b"%d" % number
            await self.client.commit(commands.batch(Put("t", key, value)))
            self.written[key] = value

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def check(self) -> None:
        assert len(self.written) > 50
        wanted = list(self.written.items())
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            found = await self.client.read([("t", key) for key, _ in part])
            assert found == [value for _, value in part]


def test_a_rolling_restart_costs_no_failed_request(cluster: DbCluster) -> None:
    async def scenario() -> None:
        async with cluster.client() as client:
            load = Load(client)
            for process in cluster.processes:
                before = len(load.written)
                assert await asyncio.to_thread(process.stop) == 0
                process.start()
                await asyncio.to_thread(_wait_for_member, process)
                await asyncio.to_thread(
                    eventually, lambda n=before: len(load.written) > n + 20, what="writes"
                )
            await load.stop()
            await load.check()

    asyncio.run(scenario())


def _wait_for_member(process: DbProcess) -> None:
    eventually(
        lambda: process.status().get("leader") is not None, within_s=30, what="a leader is known"
    )


def test_a_process_joins_under_writes_and_another_is_removed(cluster: DbCluster) -> None:
    async def scenario() -> None:
        async with cluster.client() as client:
            load = Load(client)
            joining = DbProcess(
                4, cluster.hosts[3], cluster.folder, cluster.file_of([1, 2, 3, 4], "new.toml")
            )
            cluster.processes.append(joining.start())

            def votes() -> bool:
                return 4 in cluster.processes[0].status().get("voters", [])

            await asyncio.to_thread(eventually, votes, within_s=30, what="member 4 votes")
            removed = await asyncio.to_thread(joining.db, "remove-member", "2")
            assert removed.returncode == 0, removed.stderr
            assert "[1, 3, 4]" in removed.stdout
            cluster.processes[1].kill()
            before = len(load.written)
            await asyncio.to_thread(eventually, lambda: len(load.written) > before + 20)
            await load.stop()
            await load.check()

    asyncio.run(scenario())
    table = cluster.processes[0].db("status")
    assert table.returncode == 0, table.stderr
    *rows, time = table.stdout.splitlines()
    assert [line.split()[0] for line in rows] == ["member", "1", "3", "4"]
    assert time.startswith("cluster time: 20")


def test_status_step_down_backup_check_and_restore(cluster: DbCluster) -> None:
    async def write() -> None:
        async with cluster.client() as client:
            for number in range(200):
                await client.commit(commands.batch(Put("t", b"%d" % number, bytes(1000))))

    async def read() -> None:
        async with cluster.client([1]) as client:
            assert len(await client.list_keys("t", b"", 1000)) == 200

    asyncio.run(write())
    first, second, third = cluster.processes

    old = cluster.leader()
    assert first.db("step-down").returncode == 0
    assert cluster.leader() is not old
    said = json.loads(first.db("status", "--json", "--digest").stdout)
    assert len({row["digest"] for row in said["members"].values()}) == 1
    assert {row["role"] for row in said["members"].values()} == {"leader", "follower"}

    file = cluster.folder / "backup.s3db"
    made = second.db("backup", str(file))
    assert made.returncode == 0, made.stderr
    assert "done" in made.stdout
    assert second.db("backup", str(file)).returncode == 2  # nothing is overwritten

    busy = first.db("check", "-db-node", "1")
    assert busy.returncode == 69
    assert "in use by another s3d" in busy.stderr
    assert first.db("status").returncode == 0
    third.kill()
    down = first.db("status")
    assert down.returncode == 1, "a member is down"
    assert "no answer" in down.stdout
    assert first.stop() == 0
    second.kill()
    checked = first.db("check", "-db-node", "1")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "table t: 200 entries" in checked.stdout
    assert "no damage found" in checked.stdout
    checked = second.db("check", "-db-node", "2")  # its tables may lie behind its journal
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "the next start goes back to entry" in checked.stdout
    assert "no damage found" in checked.stdout
    refused = first.db("restore", str(file), "-db-node", "1")
    assert refused.returncode == 1
    assert "overwrites nothing" in refused.stderr

    for process in cluster.processes:
        shutil.rmtree(process.directory)
    restored = first.db("restore", str(file), "-db-node", "1")
    assert restored.returncode == 0, restored.stderr
    assert "start [2, 3] with empty directories" in restored.stdout
    for process in cluster.processes:
        process.start()

    def whole() -> bool:
        return set(first.status().get("voters", ())) == {1, 2, 3}

    eventually(whole, within_s=30, what="the others have joined")
    asyncio.run(read())
    gone = third.db("status", "-db-node", "9")
    assert gone.returncode == 2
    assert "no [[db]] has this id" in gone.stderr
