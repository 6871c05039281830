"""Small PUTs through three members, each in a process, while one of them is gone and comes back.

    s3db.rejoin.puts    `object.put` with inline bodies a second, by 256 writers in the leader's
                        process, from the moment that a follower's process is killed until it is
                        level again; yardstick: with all three there
    s3db.rejoin.level   seconds from the start of its process until it lags less than a quarter of
                        a second's load; yardstick: for how long it was gone

REJOIN_BYTES=n for bodies of another size than 1 KiB, REJOIN_AWAY_S=n for another time than 10 s.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import closing, suppress
from typing import Final

from benchmarks.measure import Row, row
from benchmarks.s3db import Deployment
from benchmarks.s3db_member import CLUSTER_KEY, HOST, Done, Work
from benchmarks.served import scratch
from predastore.base.errors import PredastoreError
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.client import Client

BODY_BYTES: Final = int(os.environ.get("REJOIN_BYTES", "1024"))
AWAY_S: Final = float(os.environ.get("REJOIN_AWAY_S", "10"))
WRITERS: Final = 256
LOAD_S: Final = 3.0  # before
PIECE_S: Final = 1.0  # of load, after which the writers begin anew
LEVEL_S: Final = 0.25
WITHIN_S: Final = 300.0


def rows() -> list[Row]:
    with scratch() as folder, closing(Deployment(folder, 3, 3)) as deployment:
        deployment.work(Work(WRITERS, 1.0, "put", BODY_BYTES))
        before = deployment.work(Work(WRITERS, LOAD_S, "put", BODY_BYTES))
        return asyncio.run(_rejoined(deployment, before.count / before.seconds))


async def _rejoined(deployment: Deployment, before: float) -> list[Row]:
    endpoint = Endpoint(cluster_key=CLUSTER_KEY, certificate=self_signed(), name="bench")
    for member, port in deployment.ports.items():
        endpoint.add_peer(f"db/{member}", HOST, port)
    client = Client(endpoint, list(deployment.ports), None)
    done: list[Done] = []
    is_level = asyncio.Event()

    async def load() -> None:
        while not is_level.is_set():
            deployment.begin(Work(WRITERS, PIECE_S, "put", BODY_BYTES))
            done.append(await asyncio.to_thread(deployment.ended))

    try:
        deployment.kill_follower()
        begun = time.monotonic()
        loading = asyncio.create_task(load())
        await asyncio.sleep(AWAY_S)
        started = time.monotonic()
        deployment.restart_follower()
        try:
            await asyncio.wait_for(_level(client, deployment, before * LEVEL_S), WITHIN_S)
        finally:
            is_level.set()
        level_s = time.monotonic() - started
        await loading
    finally:
        await endpoint.close()
    rate = sum(each.count for each in done) / sum(each.seconds for each in done)
    return [
        row(
            "s3db.rejoin.puts", rate, "/s",
            spread=0.0, yardstick="all three there", yardstick_value=before,
        ),
        row(
            "s3db.rejoin.level", level_s, "s",
            spread=0.0, yardstick="that it was gone", yardstick_value=started - begun,
        ),
    ]  # fmt: skip


async def _level(client: Client, deployment: Deployment, lag_max: float) -> None:
    while True:
        if await _lag(client, deployment) <= lag_max:
            return
        await asyncio.sleep(0.05)


async def _lag(client: Client, deployment: Deployment) -> float:
    """Entries that the leader has committed and the follower has not applied."""
    with suppress(PredastoreError):
        leader = await client.status(deployment.leader_id)
        follower = await client.status(deployment.follower_id)
        return float(leader["commit_index"] - follower["applied_index"])
    return float("inf")
