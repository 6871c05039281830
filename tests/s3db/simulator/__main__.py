"""`python -m tests.s3db.simulator --seeds 20000 [--first 0] [--jobs 2]`, from the checkout.

Prints each seed that breaks a rule, which replays exactly, and a summary; exit 1 if there is one.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import tests.conftest  # noqa: F401 (it puts tests/ on the path)

from .world import Violation, of_seed, simulate

_SHARE = 50  # seeds that a process takes at a time


def _run(first: int, last: int) -> tuple[list[str], int, int]:
    """(failures, operations, snapshots installed) of the seeds first..last-1."""
    logging.disable(logging.CRITICAL)
    failures: list[str] = []
    operations = installs = 0
    for seed in range(first, last):
        try:
            world = simulate(seed, of_seed(seed))
        except (Violation, AssertionError) as error:
            failures.append(f"seed {seed}: {type(error).__name__}: {error}")
        else:
            operations += len(world.history)
            installs += sum(member.installs for member in world.members.values())
    return failures, operations, installs


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    begun = time.monotonic()
    end = options.first + options.seeds
    starts = range(options.first, end, _SHARE)
    failures: list[str] = []
    operations = installs = 0
    with ProcessPoolExecutor(options.jobs) as pool:
        shares = pool.map(_run, starts, [min(start + _SHARE, end) for start in starts])
        for failed, done, installed in shares:
            for line in failed:
                sys.stdout.write(line + "\n")
            failures += failed
            operations += done
            installs += installed
    took = time.monotonic() - begun
    sys.stdout.write(
        f"{options.seeds} seeds, {len(failures)} failed, {operations} operations, "
        f"{installs} snapshots installed, {took:.0f} s\n"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
