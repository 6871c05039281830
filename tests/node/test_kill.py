"""SIGKILL in the middle of writes: what was acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from node_support import block_of, opened, read_back, ref_of, run

from support.waiting import eventually

TESTS = Path(__file__).resolve().parents[1]

# Writes until it is killed; each acknowledged shard is a line: number, number of blocks.
WRITER = """
import asyncio, sys
from pathlib import Path
from node_support import block_of, open_store, put, ref_of, write

async def worker(store, numbers):
    for number in numbers:
        blocks = [block_of((number, i), 1 + number * 37 % 9000) for i in range(1 + number % 3)]
        await (put(store, ref_of(number), blocks[0]) if len(blocks) == 1 else
               write(store, ref_of(number), blocks))
        sys.stdout.write(f"{number} {len(blocks)}\\n")
        sys.stdout.flush()

async def main():
    store = await open_store(Path(sys.argv[1]))
    first = int(sys.argv[2])
    await asyncio.gather(*(worker(store, range(first + i, first + 100_000, 8)) for i in range(8)))

asyncio.run(main())
"""


def killed_writer(path: Path, output: Path, first: int, acknowledged: int) -> dict[int, int]:
    """What a writer acknowledged before it was killed."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS, TESTS / "node")))
    }
    with open(output, "wb") as out:
        command = [sys.executable, "-c", WRITER, str(path), str(first)]
        process = subprocess.Popen(command, stdout=out, env=environment)
        try:
            eventually(
                lambda: output.read_bytes().count(b"\n") >= acknowledged or process.poll(),
                within_s=30,
                what="the writer's progress",
            )
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    # The last line may have been cut short.
    lines = output.read_text().split("\n")[:-1]
    return {int(number): int(count) for number, count in (line.split() for line in lines)}


def test_what_a_killed_process_acknowledged_is_there(tmp_path: Path) -> None:
    source = random.Random(5)
    everything: dict[int, int] = {}

    async def check() -> None:
        async with opened(tmp_path / "node") as store:
            assert store.recovery.damaged == 0
            for number, count in everything.items():
                blocks = [block_of((number, i), 1 + number * 37 % 9000) for i in range(count)]
                assert await read_back(store, ref_of(number), blocks)

    for life in range(3):
        everything |= killed_writer(
            tmp_path / "node", tmp_path / "output", life * 100_000, source.randint(100, 600)
        )
        run(check())
    assert len(everything) >= 300
