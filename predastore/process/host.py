"""The life of the process: start, announcement, readiness, drain, exit code.

What runs is put together in predastore.process.wiring.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvloop

from predastore.base import fs, metrics
from predastore.base.config import Config, owner_of
from predastore.base.errors import PredastoreError, StartupError, located
from predastore.base.limits import (
    DRAIN_MS_MAX,
    EXHAUSTED_WAIT_S,
    READY_CHECK_MS,
    READY_LOG_MS,
    READY_POLL_MS,
)
from predastore.process import (
    advice,
    banner,
    certificates,
    credentials,
    daemon,
    descriptors,
    joining,
    logs,
    looplag,
    memory,
    monitoring,
    roles,
    telemetry,
    watchdog,
)
from predastore.process.edited import EditedFile
from predastore.process.gateway_role import new_buckets
from predastore.process.gauges import Gauges
from predastore.process.reload import Apply
from predastore.process.wiring import Process

_log = logging.getLogger(__name__)


def run(
    settings: Config, node: int, db_only: bool, db_node: int, reread: Callable[[], Config]
) -> int:
    """Runs the parts that the flags name until a signal; the exit code. `reread`: what flags and
    file come to at a later time."""
    descriptors.raise_limit()
    chosen = roles.choose(
        settings, node=node, db_only=db_only, db_node=db_node, is_local=roles.is_local
    )
    os.umask(int(settings.umask, 8))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    if settings.cluster.join and settings.backend == "distributed":
        logs.configure(settings.log_level)
        with _started():
            generated = partial(credentials.ensure, settings.base_path)
            keys = credentials.keys(settings, generated, roles.is_local)
        completed = asyncio.run(_joined(settings, keys.cluster))
        if completed is None:
            return 0
        settings, reread = completed(settings), _chain(reread, completed)
    roles.check_shared_keys(settings, chosen, roles.is_local)
    certificates.check(settings.tls_cert, settings.tls_key)
    logs.configure(settings.log_level)
    memory.tune()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_main(settings, chosen, reread))


def _chain(first: Callable[[], Config], then: Callable[[Config], Config]) -> Callable[[], Config]:
    return lambda: then(first())


@contextlib.contextmanager
def _started() -> Iterator[None]:
    """Turns what the operating system refuses into a StartupError."""
    try:
        yield
    except OSError as error:
        raise StartupError.because(error, f"can not start: {located(error)}") from error


async def _joined(settings: Config, cluster_key: bytes) -> Callable[[Config], Config] | None:
    """What completes a configuration; None where a signal came first."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    asking = asyncio.create_task(joining.joined(settings, cluster_key))
    waiter = asyncio.create_task(stopping.wait())
    await asyncio.wait((asking, waiter), return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if asking.done():
        return asking.result()
    asking.cancel()
    await asyncio.wait((asking,))
    return None


async def _main(settings: Config, chosen: roles.Roles, reread: Callable[[], Config]) -> int:
    stopping = asyncio.Event()
    process = Process(settings, chosen)
    common = process.common
    host = Host(process)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, host.hangup.set)
    async with contextlib.AsyncExitStack() as stack:
        common.telemetry = await stack.enter_async_context(telemetry.traced())
        with _started():
            await process.open(stack)
        fs.wait_for_descriptors(EXHAUSTED_WAIT_S)
        stack.callback(fs.wait_for_descriptors, 0.0)
        # What start-up made stays: full collections need not look at it again and again.
        gc.collect()
        gc.freeze()
        stack.enter_context(looplag.watched())
        await host.open_monitoring(stack)
        waiter = asyncio.create_task(stopping.wait())
        living = asyncio.create_task(host.live(reread, stack))
        failed = common.failed
        ends: set[asyncio.Future[Any]] = {waiter, failed, living}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if living.done():
            living.result()  # never returns: it goes on until it is cancelled
        waiter.cancel()
        living.cancel()
        await asyncio.wait((living,))  # it may just be opening something
        daemon.notify("STOPPING=1")
        if failed.done():
            _log.error("stopping", extra={"reason": failed.exception() or failed.result()})
            failed.result()  # or what it raises
            return 1
        _log.info("draining", extra={"seconds_max": DRAIN_MS_MAX // 1000})
        await host.drain()
    _log.info("stopped")
    return 0


class Host:
    """What is done with the roles of one process while they run."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._common = process.common
        self.hangup = asyncio.Event()  # SIGHUP came
        self._advised: frozenset[str] = frozenset()
        self._common.reloader.add(("log_level",), _prepare_log_level)

    async def open_monitoring(self, stack: contextlib.AsyncExitStack) -> None:
        """Gauges, and the listener that serves them where one is asked for."""
        common, settings = self._common, self._common.settings
        stack.enter_context(looplag.sampled())
        stack.enter_context(metrics.filled_by(Gauges(self._process).fill))
        if settings.metrics_port:
            server = monitoring.server(
                settings.metrics_host,
                settings.metrics_port,
                lambda: common.is_ready,
                self._process.gateway.write_obstacle,
                common.shares.side,
            )
            await server.start()
            stack.push_async_callback(server.close)

    async def live(self, reread: Callable[[], Config], stack: contextlib.AsyncExitStack) -> None:
        """Begins with S3, announces the process, then keeps it healthy and up to date until it is
        cancelled. `stack` closes what is opened."""
        with _started():
            await self._open_s3(stack)
        await self._announce()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_readiness())
            tasks.create_task(self._reload_when_told(reread))
            tasks.create_task(watchdog.run(self._common.probes))
            tasks.create_task(self._watch_file(reread))

    async def _open_s3(self, stack: contextlib.AsyncExitStack) -> None:
        opening = asyncio.ensure_future(self._process.open_s3(stack))
        try:
            while not (await asyncio.wait((opening,), timeout=READY_LOG_MS / 1000))[0]:
                awaited = "S3 waits for the authority of the cluster"
                _log.warning("not ready yet: %s: %s", awaited, self._why_not())
        finally:
            opening.cancel()
            await asyncio.wait((opening,))
        opening.result()

    def _why_not(self) -> str:
        """Why the process is not ready yet."""
        process = self._process
        refusal = process.endpoint.refusal if process.endpoint is not None else ""
        problem = process.discovery.problem if process.discovery is not None else ""
        none = "no leader of the metadata cluster answers"
        return refusal or problem or self._common.tls.problem or none

    async def _watch_file(self, reread: Callable[[], Config]) -> None:
        reloader = self._common.reloader
        self._process.edited = edited = EditedFile(reread, lambda: reloader.settings)
        await edited.watch()

    async def _reload_when_told(self, reread: Callable[[], Config]) -> None:
        while True:
            await self.hangup.wait()
            self.hangup.clear()
            daemon.notify_reloading()
            if await self._common.reloader.reload(reread):
                self._warn()
            daemon.notify("READY=1")

    async def _announce(self) -> None:
        """Waits until metadata answers, makes the buckets of the file, prints the banner."""
        common, loop = self._common, asyncio.get_running_loop()
        said_s = loop.time()
        while not (await self._answers() and await self._make_buckets()):
            if loop.time() - said_s > READY_LOG_MS / 1000:
                said_s = loop.time()
                _log.warning("not ready yet: %s", self._why_not())
            await asyncio.sleep(READY_POLL_MS / 1000)
        common.is_ready = True
        ca = common.tls.files.ca if common.tls.files is not None else None
        keys = common.keyring.keys
        facts = banner.BannerFacts(common.settings, common.roles, keys.auth[0], keys.generated, ca)
        sys.stdout.write(banner.text(facts))
        sys.stdout.flush()
        self._warn()
        daemon.notify("READY=1")

    def _warn(self) -> None:
        """Logs what is worth a second look in the settings, but for what was said before."""
        settings = self._common.reloader.settings
        levels = dict.fromkeys(advice.notes(settings), logging.INFO)
        levels |= dict.fromkeys(advice.warnings(settings, roles.is_local), logging.WARNING)
        for line, level in levels.items():
            if line not in self._advised:
                _log.log(level, "%s", line)
        self._advised = frozenset(levels)

    async def _watch_readiness(self) -> None:
        """Keeps an eye on whether metadata still answers."""
        while True:
            await asyncio.sleep(READY_CHECK_MS / 1000)
            self._common.is_ready = await self._answers()

    async def _answers(self) -> bool:
        """Whether metadata can be read now: a leader is known, and a majority with it."""
        catalog, discovery = self._process.gateway.catalog, self._process.discovery
        if catalog is None:
            return True
        if discovery is not None and not discovery.is_current:
            return False
        try:
            await catalog.bucket("-")
        except PredastoreError:
            return False
        return True

    async def _make_buckets(self) -> bool:
        """Makes the buckets of the file where they are absent; False when to try again."""
        catalog, settings = self._process.gateway.catalog, self._common.settings
        if catalog is None:
            return True
        try:
            given = new_buckets(settings)
            for bucket in settings.buckets:
                owner = owner_of(bucket, self._common.keyring.keys.auth)
                await catalog.create_bucket(
                    bucket.name,
                    owner,
                    settings.region,
                    public=bucket.public,
                    ownership=given.ownership,
                    block=None if bucket.public else given.block,
                )
                if bucket.pathname is not None:
                    await self._adopt(bucket.name)
        except PredastoreError as error:
            _log.warning("buckets of the configuration", extra={"error": str(error)})
            return False
        return True

    async def _adopt(self, bucket: str) -> None:
        """Makes objects of the files that lie in the bucket's own directory already."""
        gateway = self._process.gateway
        assert gateway.catalog is not None
        found = await gateway.catalog.bucket(bucket)
        if found is None or gateway.adoption is None:
            return
        adopted = await gateway.adoption.adopt(bucket, found.owner)
        if any(adopted):
            counts = {"taken": adopted.taken, "passed_over": adopted.passed_over}
            _log.info("files became objects", extra={"bucket": bucket, **counts})

    async def drain(self) -> None:
        """Finishes the requests that run, up to a bound."""
        server = self._process.gateway.server
        if server is not None:
            await server.drain(DRAIN_MS_MAX / 1000)


def _prepare_log_level(settings: Config) -> Apply:
    return partial(logs.set_level, settings.log_level)
