"""One process heals at a time, and another takes its place."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from predastore.base.errors import PreconditionFailed
from predastore.jobs.healing.lease import Lease
from predastore.s3db.commands import Put, batch
from predastore.s3db.global_state import LocalState
from support.backends import run
from support.healing import until


def test_of_many_one_holds_it_and_when_it_falls_silent_another_does(tmp_path: Path) -> None:
    async def main() -> None:
        state = LocalState(tmp_path)
        leases = [Lease(state, f"p{number}", expiry_s=0.3) for number in range(4)]
        assert sum(await asyncio.gather(*(lease.beat() for lease in leases))) == 1
        (first,) = [lease for lease in leases if lease.is_held]
        others = [lease for lease in leases if lease is not first]
        check = first.check
        for _ in range(3):
            assert await first.beat(Put("t", b"news", b"1"))
            assert not any([await lease.beat() for lease in others])
        assert await state.get("t", b"news") == b"1"

        async def another_has_it() -> bool:
            return any([await lease.beat() for lease in others])

        await until(another_has_it)
        assert not first.is_held, "it knows by its own clock that it is too late"
        assert not await first.beat()
        with pytest.raises(PreconditionFailed):  # what the former holder does has no effect
            await state.commit(batch(Put("t", b"k", b"v"), checks=(check,)))
        await state.close()

    run(main())


def test_one_that_is_given_up_is_free_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        state = LocalState(tmp_path)
        first, second = Lease(state, "a", expiry_s=60), Lease(state, "b", expiry_s=60)
        assert await first.beat()
        assert not await second.beat()
        await first.give_up()
        assert not first.is_held
        assert await second.beat()
        await state.close()

    run(main())
