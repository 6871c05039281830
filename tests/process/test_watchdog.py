"""Signs of life: only while the probes answer, and only where somebody waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from predastore.base.errors import NoLeader
from predastore.process import watchdog
from support.loops import on_a_loop


async def well() -> None:
    pass


async def ill() -> None:
    raise NoLeader("stopped")


async def hung() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
    ],
)
def test_the_interval_is_the_service_managers(
    environment: dict[str, str], expected: float | None
) -> None:
    assert watchdog.interval_s(environment, 7) == expected


@on_a_loop
async def test_every_probe_must_answer_in_time() -> None:
    assert await watchdog.answer([well, well], 5)
    assert not await watchdog.answer([well, ill], 5)
    assert not await watchdog.answer([hung], 0.01)


@on_a_loop
async def test_signs_of_life_are_sent_while_the_probes_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[bool] = []  # of each probe: well or not
    is_well = True
    asked_when_ill = asyncio.Event()

    async def probe() -> None:
        states.append(is_well)
        if not is_well:
            if states.count(False) == 2:
                asked_when_ill.set()
            await ill()

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        environment = {"WATCHDOG_USEC": "300000", "WATCHDOG_PID": str(os.getpid())}
        running = asyncio.create_task(watchdog.run([probe], environment))
        loop = asyncio.get_running_loop()
        assert await asyncio.wait_for(loop.sock_recv(manager, 100), 10) == b"WATCHDOG=1"
        is_well = False
        await asyncio.wait_for(asked_when_ill.wait(), 10)
        running.cancel()
        await asyncio.wait([running])
        sent = 1
        with contextlib.suppress(BlockingIOError):
            while manager.recv(100) == b"WATCHDOG=1":
                sent += 1
        assert sent == states.count(True)


@on_a_loop
async def test_without_a_service_manager_nobody_is_asked() -> None:
    await watchdog.run([ill], {})
