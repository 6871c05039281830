"""SIGKILL at every named step: what was acknowledged is there, and nothing else comes to be."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from node_support import KIB, block_of, opened, read_back, ref_of, run

from predastore.base import failpoints
from predastore.node.shard import ShardRef

TESTS = Path(__file__).resolve().parents[1]
ROUNDS_MAX = 100
PACKAGE = Path(failpoints.__file__).parents[1] / "node"

# Puts, writes, deletes and compacts; says what it begins, and what was acknowledged.
WORKLOAD = """
import asyncio, sys
from pathlib import Path
from node_support import KIB, block_of, open_store, put, ref_of, write
import predastore.node.appender, predastore.node.index

predastore.node.index.NODE_INDEX_LAYER_SHARDS_MAX = 40
predastore.node.appender.NODE_FOOTER_PART_BYTES = 2000

def say(*words):
    print(*words, flush=True)

async def one(store, number):
    blocks = [block_of((number, i), 3000) for i in range(1 + number % 3)]
    say("put", number)
    await (put(store, ref_of(number), blocks[0]) if len(blocks) == 1 else
           write(store, ref_of(number), blocks))
    say("is", number)

async def gone(store, number):
    say("delete", number)
    await store.delete([ref_of(number)])
    say("gone", number)

async def main():
    store = await open_store(Path(sys.argv[1]), segment_bytes_max=64 * KIB)
    for start in range(0, 120, 20):
        await asyncio.gather(*(one(store, n) for n in range(start, start + 20)))
        await asyncio.gather(*(gone(store, n) for n in range(start, start + 20) if n % 4))
        for _ in range(30):
            if not await store.compact():
                break
    await store.close()

asyncio.run(main())
"""


def names() -> list[str]:
    """The failpoints of a node, from its source."""
    found = []
    for file in sorted(PACKAGE.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant)
                found.append(str(argument.value))
    return found


def killed(path: Path, name: str, passage: int) -> tuple[dict[int, str], int]:
    """The last that a workload said of each shard until it was killed, and its exit code."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "node"))),
        failpoints.VARIABLE: f"{name}=kill:{passage}",
    }
    command = [sys.executable, "-c", WORKLOAD, str(path)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False, timeout=45)
    said = {}
    for line in done.stdout.decode().split("\n")[:-1]:
        word, number = line.split()
        said[int(number)] = word
    return said, done.returncode


async def check(path: Path, said: dict[int, str]) -> set[ShardRef]:
    """What is there, after it was found to be as it was said; and after another compaction."""
    async with opened(path, segment_bytes_max=64 * KIB) as store:
        assert store.recovery.damaged == 0
        for rewritten in (False, True):
            for number, word in said.items():
                blocks = [block_of((number, i), 3000) for i in range(1 + number % 3)]
                there = await read_back(store, ref_of(number), blocks)
                if word in ("is", "gone"):
                    assert there == (word == "is"), f"{word} {number}, rewritten: {rewritten}"
            for _ in range(ROUNDS_MAX):
                if rewritten or not await store.compact():
                    break
            else:
                raise AssertionError("compaction does not end")
        rows = (await store.shards(b"", 1000)).rows
        assert {row.ref for row in rows} <= {ref_of(number) for number in said}
        status = await store.status()
        assert status.shard_count == len(rows)
        assert status.live_bytes == sum(row.block_count * (80 + 3000) for row in rows)
        return {row.ref for row in rows}


@pytest.mark.parametrize("name", names())
def test_a_process_killed_at_a_step_loses_nothing(tmp_path: Path, name: str) -> None:
    passages = [passage for passage in (1, 5) if passage == 1 or "batch" in name]
    for passage in passages:
        path = tmp_path / f"{passage}"
        said, code = killed(path, name, passage)
        assert code == -signal.SIGKILL, "the step is never reached"
        found = run(check(path, said))
        shutil.rmtree(path / "index")
        assert run(check(path, said)) == found, "a rebuilt index says something else"


def test_every_step_has_a_name() -> None:
    assert {
        "node.batch.written", "node.batch.synced", "node.batch.applied", "node.index.written",
        "node.segment.sealed", "node.segment.begun", "node.segment.unlinked",
        "node.compact.copied", "node.compact.relocated", "node.compact.carried",
        "node.compact.retired",
    } <= set(names())  # fmt: skip
