"""What fails, or is given up, leaves nothing behind that only a collection would free."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from predastore.base.errors import NotEnoughNodes, ObjectUnreadable, StoreFailed
from predastore.storage import file_io
from predastore.storage.shared_sync import SharedSync
from support.backends import (
    BACKENDS,
    KIB,
    OWNER,
    BytesSource,
    Harness,
    StalledSource,
    distributed,
    filesystem,
    run,
    some_bytes,
)
from support.garbage import Garbage, fails
from support.waiting import eventually_async

STRIPE = 3 * 4 * KIB
DATA = some_bytes(6 * STRIPE)
FILE = some_bytes(5 << 20)


async def leaves_nothing(at: Harness, work: Callable[[], Awaitable[None]]) -> None:
    def all_is_given_back() -> bool:
        held = at.store.held_bytes()
        return not any(held[name] for name in ("bodies_in", "bodies_out", "pool_used"))

    await work()  # what is made but once is there after this
    with Garbage() as garbage:
        for _ in range(2):
            await work()
        await eventually_async(all_is_given_back)  # a thread may still hold its last view
        assert not garbage.left()


def test_a_put_whose_nodes_fail_in_its_middle(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            assert at.nodes is not None
            nodes = at.nodes

            async def work() -> None:
                for each in nodes.nodes.values():
                    each.down = False
                source = StalledSource(DATA, stalls_at=2 * STRIPE)
                put = asyncio.ensure_future(at.catalog.put("bucket", "k", source, len(DATA), OWNER))
                await source.stalled.wait()
                for node in (1, 2, 3):
                    nodes[node].down = True
                source.proceed.set()
                await fails(NotEnoughNodes, put)

            await leaves_nothing(at, work)

    run(main())


def test_a_get_of_what_too_few_nodes_have(tmp_path: Path) -> None:
    async def main() -> None:
        async with distributed(tmp_path, node_count=5) as at:
            assert at.nodes is not None
            await at.put("k", DATA)
            await at.put("small", DATA[:1000])
            for node in (1, 2, 3):
                at.nodes.lose(node)

            async def work() -> None:
                await fails(ObjectUnreadable, at.get("k"))
                await fails(ObjectUnreadable, at.get("small"))

            await leaves_nothing(at, work)

    run(main())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("at_once", [True, False])
def test_a_put_that_is_cancelled(tmp_path: Path, backend: str, at_once: bool) -> None:
    data = DATA if backend == "distributed" else FILE

    async def main() -> None:
        async with BACKENDS[backend](tmp_path) as at:

            async def work() -> None:
                source = StalledSource(data[: len(data) // 2])
                put = asyncio.ensure_future(at.catalog.put("bucket", "k", source, len(data), OWNER))
                if at_once:
                    await asyncio.sleep(0)
                else:
                    await source.stalled.wait()
                put.cancel()
                await asyncio.wait((put,))

            await leaves_nothing(at, work)

    run(main())


@pytest.mark.parametrize("where", ["pwrite", "fsync"])
def test_a_file_whose_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    async def main() -> None:
        async with filesystem(tmp_path) as at:
            with monkeypatch.context() as patch:
                patch.setattr(file_io.os, where, broken)

                async def work() -> None:
                    put = at.catalog.put("bucket", "k", BytesSource(FILE), len(FILE), OWNER)
                    await fails(StoreFailed, put)

                await leaves_nothing(at, work)

    run(main())


def test_a_file_that_is_damaged(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", FILE)
            content = bytearray((tmp_path / "bucket" / "k").read_bytes())
            content[2 << 20] ^= 1
            with (tmp_path / "bucket" / "k").open("r+b") as file:
                file.write(content)

            async def work() -> None:
                await fails(ObjectUnreadable, at.get("k"))

            await leaves_nothing(at, work)

    run(main())


class Held:
    """What a request works with."""


def test_a_shared_sync_that_fails() -> None:
    async def main() -> None:
        async def broken() -> None:
            raise StoreFailed("the disk failed")

        shared = SharedSync(broken)
        held: list[weakref.ref[Held]] = []

        async def waiter() -> None:
            mine = Held()
            held.append(weakref.ref(mine))
            await shared()
            assert mine, "it is used after the sync"

        with Garbage() as garbage:
            for _ in range(3):
                await asyncio.gather(*(fails(StoreFailed, waiter()) for _ in range(3)))
            assert [ref() for ref in held] == [None] * 9
            assert not garbage.left()

    run(main())
