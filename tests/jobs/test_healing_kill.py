"""SIGKILL at every step of writing, deleting, repairing and moving: after a restart nothing that
was acknowledged is lost, and nothing that nobody names remains after a pass."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path

import pytest
from catalog_kill_child import STEPS as CATALOG_STEPS
from healing_child import GROWN, NODES, PACE, at_rest, body_of

from predastore.base.failpoints import VARIABLE
from support.backends import run
from support.healing import cluster, healing, until

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "predastore"

STEPS = {
    "put.stripe.sent": 2,
    "put.shards.durable": 9,
    "put.committed": 13,
    "delete.committed": 2,
    "collector.released": 1,
    "healing.rebuild.stripe": 4,
    "healing.repair.rebuilt": 3,
    "healing.repair.committed": 5,
    "healing.pass.walked": 2,
    "healing.pass.horizon": 2,
    "healing.pass.deleted": 1,
    "healing.rebalance.copied": 2,
    "healing.rebalance.committed": 3,
    "healing.rebalance.page": 4,
    "healing.moved.deleted": 1,
}


def test_every_step_has_a_test() -> None:
    names = set()
    for package in ("storage", "catalog", "jobs"):
        for file in (SOURCE / package).rglob("*.py"):
            names |= set(re.findall(r'failpoint\("([a-z.]+)"\)', file.read_text()))
    assert names == set(STEPS) | {step for _, step, _, _ in CATALOG_STEPS}


@pytest.mark.parametrize("step", STEPS)
def test_after_a_kill_nothing_is_lost_and_nothing_is_left(tmp_path: Path, step: str) -> None:
    async def main() -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HERE / "healing_child.py"),
            str(tmp_path),
            stdout=asyncio.subprocess.PIPE,
            env={
                "PYTHONPATH": f"{SOURCE.parent}:{HERE}:{HERE.parent}",
                VARIABLE: f"{step}=kill:{STEPS[step]}",
            },
        )
        output, _ = await asyncio.wait_for(child.communicate(), 120)
        assert child.returncode == -signal.SIGKILL, "the step was reached"
        nodes = GROWN if (tmp_path / "node-6").exists() else NODES
        async with cluster(tmp_path, nodes) as at:
            at.bodies, doubtful = acknowledged(output.decode())
            async with healing(at, PACE) as healer:
                healer.want_full_pass()
                await until(lambda: at_rest(at, healer))
            assert set(await at.at.keys()) - set(at.bodies) <= doubtful

    run(main())


def acknowledged(output: str) -> tuple[dict[str, bytes], set[str]]:
    """The bodies that must be there, and keys that may or may not."""
    bodies: dict[str, bytes] = {}
    doubtful: set[str] = set()
    for line in output.splitlines():
        what, _, rest = line.partition(" ")
        key, _, seed = rest.partition(" ")
        if what == "putting":
            bodies.pop(key, None)
            doubtful.add(key)
        elif what == "put":
            bodies[key] = body_of(int(seed))
            doubtful.discard(key)
        elif what == "deleting":
            del bodies[key]
            doubtful.add(key)
        elif what == "delete":
            doubtful.discard(key)
    return bodies, doubtful
