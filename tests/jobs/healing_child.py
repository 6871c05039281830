"""A process that puts, deletes, loses nodes, heals and grows, until it is killed or has done all.

`python healing_child.py DIRECTORY`: prints "putting KEY SEED" and "deleting KEY" before, "put" and
"delete" after each is done.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from pathlib import Path

from predastore.catalog.keys import HEALING
from predastore.jobs.healing.healer import Healing
from predastore.jobs.healing.records import MOVED_PREFIX
from support.backends import some_bytes
from support.healing import BLOCK, FAST, Cluster, cluster, healing, until

PACE = dataclasses.replace(FAST, orphan_age_ms=0)
NODES = (1, 2, 3, 4, 5)
GROWN = (1, 2, 3, 4, 5, 6)


async def put(at: Cluster, key: str, seed: int) -> None:
    print(f"putting {key} {seed}", flush=True)
    await at.put(key, body_of(seed))
    print(f"put {key} {seed}", flush=True)


def body_of(seed: int) -> bytes:
    return some_bytes((700, 3 * BLOCK, 30_000)[seed % 3], seed)


async def at_rest(at: Cluster, healer: Healing) -> bool:
    """What is too young to be an orphan is one for a later pass."""
    if (
        await at.at.table(HEALING, MOVED_PREFIX)
        or await at.notes()
        or not await at.lies_where_the_ring_wants()
    ):
        return False
    if await at.faults():
        healer.want_full_pass()
        return False
    return True


async def main(base: Path) -> None:
    async with cluster(base, NODES) as at:
        async with healing(at, PACE):
            await until(at.is_checked)
        for seed in range(12):
            await put(at, f"k{seed}", seed)
        await put(at, "k3", 100)
        for seed in (1, 5):
            print(f"deleting k{seed}", flush=True)
            await at.catalog.delete("bucket", f"k{seed}")
            print(f"delete k{seed}", flush=True)
            del at.bodies[f"k{seed}"]
        await until(lambda: nothing_waits(at))
        print("deleting k7", flush=True)
        await at.forget("k7")
        print("delete k7", flush=True)
        await at.wipe(2)
        async with healing(at, PACE) as healer:
            await until(lambda: at_rest(at, healer))
            await at.run_node(6)
            at.set_nodes(GROWN)
            healer.config_changed()
            await until(lambda: at_rest(at, healer))
    print("done", flush=True)


async def nothing_waits(at: Cluster) -> bool:
    return not await at.at.due()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
