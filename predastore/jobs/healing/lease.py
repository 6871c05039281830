"""One process of the cluster heals at a time.

The lease is a record in s3db. Its holder commits a new heartbeat every LEASE_BEAT_MS; a process
that has seen the same lease and the same heartbeat for LEASE_EXPIRY_MS, by its own clock, takes the
lease over with a commit that checks both. So no two clocks are ever compared.

A holder that was stopped for long may not know that it has lost the lease. Every commit of its
work checks that the lease is still its own, so that it changes nothing; and what it does to nodes
is harmless when it is done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from predastore.base.errors import PreconditionFailed
from predastore.base.limits import LEASE_EXPIRY_MS
from predastore.catalog.keys import HEALING
from predastore.jobs.healing.records import BEAT_KEY, LEASE_KEY, LeaseRecord
from predastore.s3db.commands import Absent, Check, Delete, Equals, Op, Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage import extents
from predastore.storage.formats import encode


class Lease:
    """`process`: who asks, for logs and `s3d cluster`."""

    def __init__(
        self, state: GlobalState, process: str, *, expiry_s: float = LEASE_EXPIRY_MS / 1000
    ) -> None:
        self._state = state
        self._process = process
        self._expiry_s = expiry_s
        self._mine: bytes | None = None
        self._held_until = 0.0
        self._seen: tuple[bytes | None, bytes | None] = (None, None)
        self._seen_since = 0.0

    @property
    def is_held(self) -> bool:
        """False too when the last heartbeat is so old that another may have taken it."""
        return self._mine is not None and asyncio.get_running_loop().time() < self._held_until

    @property
    def check(self) -> Check:
        """For every commit of the holder's work."""
        assert self._mine is not None
        return Equals(HEALING, LEASE_KEY, self._mine)

    async def beat(self, *news: Op) -> bool:
        """Keeps the lease, with `news` in the same commit, or takes it if nobody does; whether it
        is held. What the state raises says nothing about that: it is kept until it expires."""
        now = asyncio.get_running_loop().time()
        if self._mine is not None:
            return await self._renew(now, news)
        lease, beat = await self._state.read(((HEALING, LEASE_KEY), (HEALING, BEAT_KEY)))
        if lease is not None:
            if (lease, beat) != self._seen:
                self._seen, self._seen_since = (lease, beat), now
            if now - self._seen_since < self._expiry_s:
                return False
        return await self._take(lease, beat, now)

    async def _renew(self, now: float, news: Sequence[Op]) -> bool:
        beat = Put(HEALING, BEAT_KEY, extents.new_id())
        try:
            await self._state.commit(batch(beat, *news, checks=(self.check,)))
        except PreconditionFailed:
            self._mine = None
            return False
        self._held_until = now + self._expiry_s
        return True

    async def _take(self, lease: bytes | None, beat: bytes | None, now: float) -> bool:
        record = LeaseRecord(extents.new_id(), self._process, extents.now_ms())
        mine = encode(record)
        ops = (Put(HEALING, LEASE_KEY, mine), Put(HEALING, BEAT_KEY, extents.new_id()))
        checks = (_same(LEASE_KEY, lease), _same(BEAT_KEY, beat))
        try:
            await self._state.commit(batch(*ops, checks=checks))
        except PreconditionFailed:
            return False
        self._mine, self._held_until = mine, now + self._expiry_s
        return True

    async def give_up(self) -> None:
        """Lets another process have it at once."""
        if self._mine is not None:
            check, self._mine = self.check, None
            try:
                await self._state.commit(batch(Delete(HEALING, LEASE_KEY), checks=(check,)))
            except PreconditionFailed:
                return


def _same(key: bytes, value: bytes | None) -> Check:
    return Absent(HEALING, key) if value is None else Equals(HEALING, key, value)
