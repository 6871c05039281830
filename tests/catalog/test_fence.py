"""Writes and the horizon of orphans."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from predastore.base.errors import S3Error
from predastore.catalog.fence import HORIZON_KEY, HorizonRecord
from predastore.storage import records
from predastore.storage.records import HEALING
from support.backends import (
    OWNER,
    BytesSource,
    Harness,
    StalledSource,
    distributed,
    run,
    some_bytes,
)
from support.waiting import eventually_async

SMALL, LARGE = 5_000, 50_000


async def set_horizon(at: Harness, before_ms: int) -> None:
    record = HorizonRecord(before_ms, records.new_id())
    await at.state.set(HEALING, HORIZON_KEY, records.encode(record))


@pytest.mark.parametrize("size", [0, SMALL, LARGE])
def test_a_write_goes_on_where_the_horizon_lies_before_it(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with distributed(tmp_path) as at:
            await at.put("before", some_bytes(size))
            for number in range(3):
                await set_horizon(at, records.now_ms() - 60_000)
                await at.put(f"k{number}", some_bytes(size, number))
                assert await at.get(f"k{number}") == some_bytes(size, number)
            upload = await at.objects.create_upload("bucket", "parts", OWNER)
            await set_horizon(at, records.now_ms() - 60_000)
            await at.objects.put_part(upload, 1, BytesSource(b"part"), 4)

    run(main())


@pytest.mark.parametrize("what", ["object", "part"])
def test_a_write_whose_shards_may_be_gone_is_refused(tmp_path: Path, what: str) -> None:
    async def main() -> None:
        async with distributed(tmp_path) as at:
            upload = await at.objects.create_upload("bucket", "parts", OWNER)
            stands_still, go_on = asyncio.Event(), asyncio.Event()
            commit = at.state.commit

            async def stopped(batch: object) -> object:
                at.state.commit = commit
                stands_still.set()
                await go_on.wait()
                return await commit(batch)

            at.state.commit = stopped
            body = BytesSource(some_bytes(SMALL))
            write = (
                at.objects.put("bucket", "k", body, SMALL, OWNER)
                if what == "object"
                else at.objects.put_part(upload, 1, body, SMALL)
            )
            task = asyncio.ensure_future(write)
            await stands_still.wait()
            await set_horizon(at, records.now_ms() + 1)
            go_on.set()
            with pytest.raises(S3Error) as refused:
                await task
            assert refused.value.s3_code == "ServiceUnavailable"
            assert (await at.objects.lookup("bucket", "k"))[1] is None
            assert at.nodes is not None
            await eventually_async(lambda: at.nodes.shard_count == 0)

    run(main())


def test_a_body_that_comes_slowly_is_not_too_old(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path) as at:
            data = some_bytes(LARGE)
            source = StalledSource(data)
            task = asyncio.ensure_future(at.objects.put("bucket", "k", source, LARGE, OWNER))
            await source.stalled.wait()
            await set_horizon(at, records.now_ms())
            source.proceed.set()
            await task
            assert await at.get("k") == data

    run(main())
