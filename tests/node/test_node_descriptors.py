"""A store without a descriptor, or memory, left: it waits, or says so, and goes on later."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from node_support import block_of, open_store, opened, put, read_back, ref_of, run, segments

from predastore.base.errors import Overloaded, StartupError
from predastore.base.limits import KIB, NODE_SEGMENT_BYTES_MIN
from predastore.node import disk as disk_module
from predastore.node import index as index_module
from predastore.node import reader as reader_module
from predastore.node.client import NodeClient
from predastore.node.server import service
from predastore.rpc import Endpoint, self_signed
from support.descriptors import no_descriptors, patience
from support.garbage import fails

BLOCK = 20 * KIB  # more than is read on the loop


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    with patience():
        yield


def test_a_read_says_that_it_lacks_a_descriptor_and_calls_nothing_bad(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), block_of(1, BLOCK))
        endpoint = Endpoint(cluster_key=bytes(32), certificate=self_signed(), name="test")
        async with opened(tmp_path) as store:
            endpoint.serve("node/3", service(store))
            client = NodeClient(endpoint)
            with no_descriptors():
                read = client.read(3, ref_of(1), 0, 0, BLOCK, timeout_ms=5_000)
                await fails(Overloaded, read)
            assert await read_back(store, ref_of(1), [block_of(1, BLOCK)])
            status = await store.status()
            assert (status.corrupt_reads, status.bad_shards) == (0, 0)
        await endpoint.close()

    run(main())


def test_a_read_that_lacks_memory_calls_nothing_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any) -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), block_of(1, BLOCK))
            with monkeypatch.context() as patch:
                patch.setattr(reader_module, "read_block", short)
                await fails(OSError, store.read(ref_of(1), 0, 0, BLOCK))
            assert await read_back(store, ref_of(1), [block_of(1, BLOCK)])
            assert (await store.status()).bad_shards == 0

    run(main())


def test_a_full_segment_waits_for_the_descriptor_of_the_next(tmp_path: Path) -> None:
    blocks = {ref_of(number): block_of(number, BLOCK) for number in range(20)}

    async def main() -> None:
        async with opened(tmp_path, segment_bytes_max=NODE_SEGMENT_BYTES_MIN) as store:
            with no_descriptors():
                writes = [asyncio.ensure_future(put(store, *each)) for each in blocks.items()]
                _, waiting = await asyncio.wait(writes, timeout=0.3)
                assert waiting, "they do not fit into one segment"
            await asyncio.gather(*writes)
            assert store.failure == ""
            assert len(segments(tmp_path)) > 1
            for ref, block in blocks.items():
                assert await read_back(store, ref, [block])

    run(main())


def test_a_write_that_lacks_memory_is_written_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.pwritev, [2]

    def short(*arguments: Any) -> int:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(*arguments)

    async def main() -> None:
        async with opened(tmp_path) as store:
            with monkeypatch.context() as patch:
                patch.setattr(disk_module.os, "pwritev", short)
                await put(store, ref_of(1), block_of(1, BLOCK))
            assert left[0] < 0
            assert store.failure == ""
        async with opened(tmp_path) as store:
            assert await read_back(store, ref_of(1), [block_of(1, BLOCK)])

    run(main())


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_an_index_that_can_not_be_opened_for_want_of_them_is_not_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def short(*_: Any, **__: Any) -> Any:
        error = lmdb.Error("no more")
        error.code = code
        raise error

    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), block_of(1, BLOCK))
        before = (tmp_path / "index" / "data.mdb").stat().st_ino
        with monkeypatch.context() as patch:
            patch.setattr(index_module.lmdb, "open", short)
            await fails(StartupError, open_store(tmp_path))
        assert (tmp_path / "index" / "data.mdb").stat().st_ino == before
        async with opened(tmp_path) as store:
            assert not store.recovery.rebuilt
            assert await read_back(store, ref_of(1), [block_of(1, BLOCK)])

    run(main())


def test_an_index_that_lacks_memory_says_so_and_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as store:
            await put(store, ref_of(1), block_of(1, BLOCK))
        async with opened(tmp_path) as store:

            class Short:
                def begin(self, **_: Any) -> Any:
                    error = lmdb.MemoryError("no more")
                    error.code = errno.ENOMEM
                    raise error

            with monkeypatch.context() as patch:
                patch.setattr(store._index, "_environment", Short())
                await fails(Overloaded, store.stat(ref_of(1)))
            assert (await store.stat(ref_of(1))).byte_count == BLOCK

    run(main())
