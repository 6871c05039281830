from __future__ import annotations

import subprocess
import sys

# Blocks as they come and go while a transfer is under way; prints pages that were taken meanwhile.
_PROGRAM = """
import resource, sys
from predastore.process import memory
if sys.argv[1] == "tuned":
    memory.tune()
def burst():
    blocks = [bytes(size) for size in [1 << 20] * 8]
    for block in blocks:
        hash(block[:1 << 19])
    del block, blocks
for _ in range(5):
    burst()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    burst()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _pages(kind: str) -> int:
    command = [sys.executable, "-c", _PROGRAM, kind]
    return int(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


def test_blocks_that_come_and_go_keep_their_pages() -> None:
    assert _pages("tuned") * 10 < _pages("not")
