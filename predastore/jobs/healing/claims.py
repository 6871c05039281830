"""What healing makes, and what it deletes as an orphan: neither takes the other's.

A pass remembers the shards that records named as it walked by. Repair and moves go on meanwhile,
in the same process, and make records name others; a node may have had such a shard for long, left
there by a delete that was lost, so that it would look like an orphan. So whoever makes a shard
claims it until its record names it, and a running pass remembers what is claimed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from predastore.jobs.healing.sieve import Sieve


def name_of(write_id: bytes, shard: int, node: int) -> bytes:
    return write_id + shard.to_bytes(2, "big") + node.to_bytes(4, "big")


class Claims:
    """One for the process that heals."""

    def __init__(self) -> None:
        self._made: Counter[bytes] = Counter()
        self._deleted: set[bytes] = set()
        self._sieve: Sieve | None = None

    @contextmanager
    def passing(self, sieve: Sieve) -> Iterator[None]:
        """While a pass lasts, its sieve gets all that is claimed."""
        self._sieve = sieve
        for name in self._made:
            sieve.add(name)
        try:
            yield
        finally:
            self._sieve = None

    @contextmanager
    def job(self) -> Iterator[Job]:
        """What it claims is its until it ends: by then a record names it, or nobody made it."""
        job = Job(self)
        try:
            yield job
        finally:
            self._made.subtract(job.names)
            self._made += Counter()  # without those that are nobody's

    def of_one(self, names: Iterable[bytes]) -> list[bytes]:
        """Those that no two jobs have claimed."""
        return [name for name in names if self._made[name] <= 1]

    @contextmanager
    def deleting(self, names: Iterable[bytes]) -> Iterator[None]:
        """While they are deleted, nobody makes them."""
        names = set(names)
        self._deleted |= names
        try:
            yield
        finally:
            self._deleted.difference_update(names)

    def take(self, name: bytes) -> bool:
        if name in self._deleted:
            return False
        self._made[name] += 1
        if self._sieve is not None:
            self._sieve.add(name)
        return True


class Job:
    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self.names: list[bytes] = []

    def claim(self, write_id: bytes, shard: int, node: int) -> bool:
        """False while it is being deleted: later, then."""
        name = name_of(write_id, shard, node)
        if not self._claims.take(name):
            return False
        self.names.append(name)
        return True
