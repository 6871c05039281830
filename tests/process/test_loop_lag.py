"""The loop's lag is measured and reported; a real `s3d` under load reports its own."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.client import BaseClient

from predastore.process import looplag
from support.processes import S3d, development

BUCKET = "lag"
LARGE = bytes(range(256)) * (10 << 12)  # 10 MiB
SMALL = LARGE[:4096]


def fields(text: str) -> dict[str, float]:
    """The numbers of the one line about the loop's lag."""
    lines = [line for line in text.splitlines() if 'msg="loop lag"' in line]
    assert len(lines) == 1, text
    return {name: float(value) for name, value in re.findall(r"(\w+)=([0-9.]+)(?= |$)", lines[0])}


def test_a_callback_that_blocks_the_loop_shows_in_full() -> None:
    pause = threading.Event()

    async def main() -> dict[str, object]:
        loop = asyncio.get_running_loop()
        watch = looplag.LoopWatch(loop)
        done = loop.create_future()
        loop.call_later(0.02, pause.wait, 0.2)
        loop.call_later(0.06, done.set_result, None)
        await done
        watch.stop()
        return watch.fields()

    found = asyncio.run(main())
    assert float(str(found["max_ms"])) >= 190
    assert float(str(found["max_cpu_ms"])) < 190, "it waited, and used no CPU"
    assert found["over_50_ms"] == 1


@pytest.mark.parametrize(("environment", "lines"), [({}, 0), ({looplag.VARIABLE: "1"}, 1)])
def test_it_is_watched_only_where_the_environment_asks(
    environment: dict[str, str], lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with looplag.watched(environment):
            await asyncio.get_running_loop().run_in_executor(None, int)

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert [record.getMessage() for record in caplog.records].count("loop lag") == lines


@pytest.mark.e2e
def test_s3d_reports_its_loops_lag_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(looplag.VARIABLE, "1")
    with development(tmp_path) as server:
        load(server)
        assert server.stop() == 0
        found = fields(server.output)
    print(f"loop lag under load: {found}")  # no limit here: the machine has other work too
    assert found["samples"] > 50
    assert found["max_ms"] > 0
    assert found.keys() >= {"max_cpu_ms", "over_10_ms", "over_50_ms"}


def load(server: S3d) -> None:
    """Eight clients, each with large and small objects, there and back."""
    server.client().create_bucket(Bucket=BUCKET)

    def client(number: int) -> None:
        s3: BaseClient = server.client()
        for body, key in ((LARGE, f"large-{number}"), *((SMALL, f"small-{number}"),) * 10):
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)
            assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
        s3.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))
