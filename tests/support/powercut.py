"""A power cut, for stores that sync their file only now and then: what of it the disk keeps.

A page that has changed since the last sync may be there as it was, as it is, in halves, or as
garbage; what was added to the file may be cut off.
"""

from __future__ import annotations

import random
from pathlib import Path

import lmdb
import pytest

from predastore.s3db.checkpoint import Checkpoints, PendingCheckpoint
from predastore.s3db.store import Store

PAGE_BYTES = 4096


def crash(store: Store) -> None:
    """The process is gone; what the kernel holds of its files is not."""
    store._environment.env.close()


class PowerCut:
    """Notes at each sync what the disk holds; `strike` does to the rest what it likes."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rng = random.Random(seed)
        self.held: dict[Path, bytes] = {}
        begin, finish = Checkpoints.begin, Checkpoints.finish
        begun: dict[Path, bytes] = {}

        def beginning(
            checkpoints: Checkpoints, env: lmdb.Environment, applied_index: int
        ) -> PendingCheckpoint:
            begun[checkpoints.file] = checkpoints.file.read_bytes()  # nobody writes meanwhile
            return begin(checkpoints, env, applied_index)

        def synced(checkpoints: Checkpoints, pending: PendingCheckpoint) -> None:
            self.held[checkpoints.file] = begun[checkpoints.file]
            finish(checkpoints, pending)

        monkeypatch.setattr(Checkpoints, "begin", beginning)
        monkeypatch.setattr(Checkpoints, "finish", synced)

    def strike(self, file: Path) -> int:
        """How many pages were hit."""
        held, now = self.held[file], file.read_bytes()
        rng, pages, hit_count = self.rng, [], 0
        for offset in range(0, len(now), PAGE_BYTES):
            old = held[offset : offset + PAGE_BYTES].ljust(PAGE_BYTES, b"\0")
            new = now[offset : offset + PAGE_BYTES]
            if old != new:
                hit_count += 1
                half = rng.randrange(0, PAGE_BYTES, 512)
                torn = new[:half] + old[half:]
                new = rng.choice((old, new, torn, rng.randbytes(PAGE_BYTES), bytes(PAGE_BYTES)))
            pages.append(new)
        size = rng.choice((len(held), len(now)))
        file.write_bytes(b"".join(pages)[:size])
        return hit_count
