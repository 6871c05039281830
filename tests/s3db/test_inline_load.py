"""Under commits of 8 KiB as fast as they go a member comes back, and nobody's memory grows."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest

from predastore.base.errors import PredastoreError
from predastore.base.limits import KIB, MIB, RAFT_STEP_BYTES_MAX
from predastore.s3db.client import Client
from predastore.s3db.commands import Put, batch
from predastore.s3db.raft import room, upkeep
from predastore.s3db.raft.journal import Journal
from support.databases import Database, database
from support.waiting import eventually_async

BODY = os.urandom(8 * KIB)
KEYS = 3_000  # that are written, again and again: the state has 24 MiB
WRITERS = 24
LOG_BYTES = 512 * KIB  # in memory: far less than comes while a snapshot is made and sent
UNAPPLIED_BYTES = 6 * MIB  # of who comes back: it takes them faster than it applies them
LAG_ENTRIES = 4 * WRITERS


class Load:
    """Commits of 8 KiB, until it is ended."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.done = 0
        self._numbers = itertools.count()
        self._is_over = False
        self._tasks = [asyncio.create_task(self._write()) for _ in range(WRITERS)]

    async def _write(self) -> None:
        while not self._is_over:
            key = b"%d" % (next(self._numbers) % KEYS)
            try:
                await self.client.commit(batch(Put("inline", key, BODY)))
            except PredastoreError:
                continue  # a member that went, or comes, may cost one
            self.done += 1

    async def more(self, count: int) -> None:
        wanted = self.done + count
        await eventually_async(lambda: self.done >= wanted, within_s=120, what="commits")

    async def end(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)


@pytest.mark.parametrize("has_lost_its_disk", [False, True])
def test_a_member_that_was_away_catches_up_while_the_load_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_lost_its_disk: bool
) -> None:
    monkeypatch.setattr(upkeep, "RAFT_LOG_KEPT_BYTES", LOG_BYTES)
    monkeypatch.setattr(upkeep, "RAFT_LOG_CUT_BYTES", LOG_BYTES)
    monkeypatch.setattr(room, "RAFT_LOG_BYTES_MAX", UNAPPLIED_BYTES)
    monkeypatch.setitem(Journal.__init__.__kwdefaults__, "segment_bytes_max", 4 * MIB)

    async def scenario(base: Database) -> None:
        leader = base.sites[await base.leader()].member
        away = next(member for member in base.ids if member != leader.id)
        load = Load(base.client())
        await load.more(100)
        await base.stop(away)
        if has_lost_its_disk:
            base.forget(away)
        await load.more(KEYS)
        back = (await base.start(away)).member
        largest = 0

        def has_caught_up() -> bool:
            nonlocal largest
            sizes = [site.member._core.log.size_bytes for site in base.sites.values()]
            largest = max(largest, *sizes)
            assert leader._core.leadership is not None
            votes = away in leader._core.membership.current.voters
            return votes and leader._core.commit - back.applied_index <= LAG_ENTRIES

        before = load.done
        await eventually_async(has_caught_up, within_s=60, what="a member that has caught up")
        assert load.done > before  # all the while
        await load.more(500)
        await eventually_async(has_caught_up, within_s=60, what="a member that keeps up")
        assert largest < UNAPPLIED_BYTES + 2 * RAFT_STEP_BYTES_MAX
        assert leader._journal.size_bytes < 200 * MIB
        await load.end()
        for site in base.sites.values():
            await site.member.read_barrier(timeout_ms=10_000)
        await eventually_async(
            lambda: len({site.store.digest() for site in base.sites.values()}) == 1,
            within_s=60,
            what="one state",
        )

    async def main() -> None:
        async with database(tmp_path, 3) as base:
            await scenario(base)

    asyncio.run(main())
