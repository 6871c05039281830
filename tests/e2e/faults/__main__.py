"""The long form: every way of failing, as many pairs as are asked for, and the figures.

    python -m e2e.faults [--pairs N] [--after N] [--ways kill,stop,...] [--fault-s S] [--calm-s S]

Exit code 1 when a GET of an acknowledged object failed, or returned a wrong byte, or no PUT went
through while a pair was down. No request is sent again, unless --patience-s says so.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path

from e2e.faults.load import Load
from e2e.faults.story import Chapter, Story
from e2e.faults.world import PAIRS, WAYS, World, world
from support import disks, networks


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.faults")
    parser.add_argument("--pairs", type=int, default=1, help="of hosts, for each way (at most 15)")
    parser.add_argument("--after", type=int, default=0, help="so many pairs are left out")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--fault-s", type=float, default=20.0)
    parser.add_argument("--calm-s", type=float, default=8.0)
    parser.add_argument("--repaired-within-s", type=float, default=300.0)
    parser.add_argument("--patience-s", type=float, default=0.0, help="with 503s")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # hosts and disks are removed
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        reason = networks.why_not() or disks.why_not(Path(folder))
        if reason:
            print(reason)
            return 2
        with world(Path(folder)) as made:
            return run(made, given)


def run(made: World, given: argparse.Namespace) -> int:
    load = Load(made.gateways, given.patience_s)
    story = Story(
        made,
        load,
        calm_s=given.calm_s,
        fault_s=given.fault_s,
        repaired_within_s=given.repaired_within_s,
    )
    try:
        for way in given.ways.split(","):
            pairs = random.Random(given.seed).sample(PAIRS, len(PAIRS))
            pairs = pairs[given.after : given.after + given.pairs]
            chapters = []
            for pair in pairs:
                # Of a pair that comes back as it was nothing is missing in what was there before.
                is_due = way == "disk" or pair == pairs[-1]
                chapters.append(story.tell(way, pair, repair=is_due))
                show(chapters[-1])
            show(Chapter.of_all(chapters))
    finally:
        load.stop()
    print(f"{story.read_all()} objects of calm times read once more, all right")
    for kind in ("GET", "PUT"):
        total = sum(one.kind == kind for one in load.seen)
        failed = load.failures(kind)
        longest = max(one.took_s for one in load.seen if one.kind == kind and not one.wrong)
        print(f"{kind}: {total} in all, {len(failed)} failed, longest {longest:.2f} s")
        for one in failed[:20]:
            print(f"    {one.wrong[:300]}")
    return 1 if load.failures("GET") else 0


def show(chapter: Chapter) -> None:
    for line in chapter.lines():
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
