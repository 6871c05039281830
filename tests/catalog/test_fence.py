"""Writes and the horizon of orphans."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from predastore.catalog.errors import WriteTooOld
from predastore.catalog.fence import HORIZON_KEY, HorizonRecord
from predastore.catalog.keys import HEALING
from predastore.storage.extents import new_id, now_ms
from predastore.storage.formats import encode
from support.backends import (
    OWNER,
    BytesSource,
    Harness,
    StalledSource,
    distributed,
    failing,
    run,
    some_bytes,
)

SMALL, LARGE = 5_000, 50_000


async def set_horizon(at: Harness, before_ms: int) -> None:
    record = HorizonRecord(before_ms, new_id())
    await at.state.set(HEALING, HORIZON_KEY, encode(record))


@pytest.mark.parametrize("size", [0, SMALL, LARGE])
def test_a_write_goes_on_where_the_horizon_lies_before_it(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with distributed(tmp_path) as at:
            await at.put("before", some_bytes(size))
            for number in range(3):
                await set_horizon(at, now_ms() - 60_000)
                await at.put(f"k{number}", some_bytes(size, number))
                assert await at.get(f"k{number}") == some_bytes(size, number)
            upload = await at.begin("parts")
            await set_horizon(at, now_ms() - 60_000)
            await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)

    run(main())


@pytest.mark.parametrize("what", ["object", "part"])
def test_a_write_whose_shards_may_be_gone_is_refused(tmp_path: Path, what: str) -> None:
    async def main() -> None:
        async with distributed(tmp_path) as at:
            upload = await at.begin("parts")
            stands_still, go_on = asyncio.Event(), asyncio.Event()
            call = at.state.call

            async def stopped(*arguments: object) -> object:
                at.state.call = call
                stands_still.set()
                await go_on.wait()
                return await call(*arguments)

            at.state.call = stopped
            body = BytesSource(some_bytes(SMALL))
            write = (
                at.catalog.put("bucket", "k", body, SMALL, OWNER)
                if what == "object"
                else at.catalog.put_part(upload, 1, body, SMALL)
            )
            task = asyncio.ensure_future(write)
            await stands_still.wait()
            await set_horizon(at, now_ms() + 1)
            go_on.set()
            await failing(WriteTooOld, task)
            assert await at.find("k") is None
            await at.holds_extents(0)

    run(main())


def test_a_body_that_comes_slowly_is_not_too_old(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path) as at:
            data = some_bytes(LARGE)
            source = StalledSource(data)
            task = asyncio.ensure_future(at.catalog.put("bucket", "k", source, LARGE, OWNER))
            await source.stalled.wait()
            await set_horizon(at, now_ms())
            source.proceed.set()
            await task
            assert await at.get("k") == data

    run(main())
