"""`python -m tests.rpc.simulator --seeds 1000 [--first 0] [--jobs 2] [--pair NAME]`.

Prints each seed that breaks a promise, and a summary of each pair of ends; exit 1 if one did.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from .pairs import PAIRS
from .world import simulate

_SHARE = 20  # seeds that a process takes at a time


def run(pair: str, first: int, last: int) -> tuple[list[str], Counter[str]]:
    """Failures, and what the seeds first..last-1 have done in all."""
    logging.disable(logging.CRITICAL)
    failures: list[str] = []
    totals: Counter[str] = Counter()
    for seed in range(first, last):
        try:
            totals.update(vars(simulate(seed, PAIRS[pair])))
        except Exception as error:
            failures.append(f"{pair}, seed {seed}: {type(error).__name__}: {error}")
    return failures, totals


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulate-quic", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--pair", choices=PAIRS, action="append")
    options = parser.parse_args()
    end = options.first + options.seeds
    starts = range(options.first, end, _SHARE)
    failed = False
    with ProcessPoolExecutor(options.jobs) as pool:
        for pair in options.pair or PAIRS:
            begun = time.monotonic()
            totals: Counter[str] = Counter()
            count = 0
            for failures, done in pool.map(
                run, [pair] * len(starts), starts, [min(start + _SHARE, end) for start in starts]
            ):
                for line in failures:
                    sys.stdout.write(line + "\n")
                count += len(failures)
                totals.update(done)
            said = ", ".join(f"{value:,.0f} {name}" for name, value in totals.items())
            took_s = time.monotonic() - begun
            sys.stdout.write(
                f"{pair}: {options.seeds} seeds, {count} failed, {said}, {took_s:.0f} s\n"
            )
            failed = failed or count > 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
