"""Read indexes that can not be had."""

from __future__ import annotations

import asyncio

import pytest

from predastore.base.errors import NoLeader, NotLeader
from predastore.s3db.raft.reads import ReadIndexes, while_it_leads
from support.garbage import Garbage, fails


async def _refused() -> int:
    raise NotLeader("ask another")


@pytest.mark.parametrize("count", [1, 3])
def test_a_read_index_that_nobody_gives_leaves_nothing_for_a_collection(count: int) -> None:
    async def main() -> None:
        reads = ReadIndexes(_refused)
        now = asyncio.get_running_loop().time()

        async def asked() -> None:
            await asyncio.gather(
                *(fails(NoLeader, asyncio.ensure_future(reads.index(now))) for _ in range(count))
            )

        with Garbage() as garbage:
            for _ in range(2):
                await asked()
            assert not garbage.left()

    asyncio.run(main())


def test_a_leader_that_refuses_or_leads_no_more_leaves_nothing_for_a_collection() -> None:
    async def main() -> None:
        never = asyncio.Event()

        with Garbage() as garbage:
            for _ in range(2):
                refused = while_it_leads(_refused(), lambda: True)
                await fails(NotLeader, asyncio.ensure_future(refused))
                gone = while_it_leads(never.wait(), lambda: False)
                await fails(NoLeader, asyncio.ensure_future(gone))
            assert not garbage.left()

    asyncio.run(main())
