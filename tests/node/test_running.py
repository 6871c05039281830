"""A node that can not be opened: its process goes on, callers are told, and it is tried again."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from node_support import CLUSTER, block_of, opened, put, ref_of, run

from predastore._fast.crc import crc32c
from predastore.base.errors import InUse, StoreFailed
from predastore.node import server
from predastore.node.client import NodeClient
from predastore.node.running import RunningNode
from predastore.rpc import Endpoint, self_signed
from support.waiting import eventually_async

REF, BLOCK = ref_of(1), block_of(1, 5000)


def node(path: Path) -> RunningNode:
    return RunningNode(path, node_id=3, cluster_id=CLUSTER, scrub_days=14, retry_ms=5)


async def filled(path: Path) -> None:
    async with opened(path) as store:
        await put(store, REF, BLOCK)


def _garbage_id(path: Path) -> None:
    (path / "node.id").write_bytes(b"\0" * 40)


def _anothers_id(path: Path) -> None:
    text = (path / "node.id").read_text()
    (path / "node.id").write_text(text.replace('"node_id":3', '"node_id":4'))


def _newer(path: Path) -> None:
    text = (path / "node.id").read_text()
    (path / "node.id").write_text(text.replace('"format":1', '"format":9'))


def _segments_are_a_file(path: Path) -> None:
    shutil.move(path / "segments", path / "elsewhere")
    (path / "segments").touch()


def _a_file(path: Path) -> None:
    shutil.move(path, path.with_name("elsewhere"))
    path.touch()


def mended(path: Path, before: bytes) -> None:
    if path.is_file():
        path.unlink()
        shutil.move(path.with_name("elsewhere"), path)
    if (path / "elsewhere").exists():
        (path / "segments").unlink()
        shutil.move(path / "elsewhere", path / "segments")
    (path / "node.id").write_bytes(before)


@pytest.mark.parametrize("harm", [_garbage_id, _anothers_id, _newer, _segments_are_a_file, _a_file])
def test_it_is_opened_once_it_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "node"

    async def main() -> None:
        await filled(path)
        before = (path / "node.id").read_bytes()
        harm(path)
        endpoint = Endpoint(cluster_key=bytes(32), certificate=self_signed(), name="test")
        running = node(path)
        await running.start()
        endpoint.serve("node/3", server.service_of(running.opened))
        client = NodeClient(endpoint)
        with pytest.raises(StoreFailed, match="node 3: it can not be opened"):
            await client.status(3, timeout_ms=1000)
        with pytest.raises(StoreFailed, match="node 3: it can not be opened"):
            await client.put(3, ref_of(2), BLOCK, crc32c(BLOCK), timeout_ms=1000)
        assert str(path) in running.problem
        mended(path, before)
        await eventually_async(lambda: running.error is None, what="the node")
        assert await client.read(3, REF, 0, 0, len(BLOCK), timeout_ms=1000) == BLOCK
        await client.put(3, ref_of(2), BLOCK, crc32c(BLOCK), timeout_ms=1000)
        assert running.problem == ""
        await endpoint.close()
        await running.close()

    run(main())
    said = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(said) == 1, "once, however often it was tried"
    assert said[0].exc_info is None


def test_what_nobody_foresaw_ends_nobody_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a broken invariant")

    async def main() -> None:
        with monkeypatch.context() as patched:
            patched.setattr("predastore.node.opening.recover", broken)
            running = node(tmp_path)
            await running.start()
            assert "a broken invariant" in running.problem
        await eventually_async(lambda: running.error is None, what="the node")
        await running.close()

    run(main())
    assert [one for one in caplog.records if one.exc_info], "with its traceback"


def test_one_that_another_process_has_is_opened_when_that_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as other:
            await put(other, REF, BLOCK)
            running = node(tmp_path)
            await running.start()
            assert isinstance(running.error, InUse)
        await eventually_async(lambda: running.error is None, what="the node")
        assert (await running.status()).shard_count == 1
        await running.close()

    run(main())


def test_closed_while_it_is_being_opened_it_lets_go_of_the_directory(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "node.id").mkdir()
        running = node(tmp_path)
        await running.start()
        (tmp_path / "node.id").rmdir()
        await asyncio.sleep(0)
        await running.close()
        async with opened(tmp_path):
            pass

    before = len(os.listdir("/proc/self/fd"))
    run(main())
    assert len(os.listdir("/proc/self/fd")) == before
