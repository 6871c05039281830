"""Cluster time for operators: what `s3d db status` says of it, and `s3d db set-time`.

Without --confirm, set-time says what it would do and exits with 1. The state of the filesystem
backend has no API: --filesystem sets its time in the files, while no server has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from predastore.base.config import Config
from predastore.base.errors import ConfigError, PreconditionFailed
from predastore.process import daemon
from predastore.process.commands import ownership
from predastore.s3db import clock, commands
from predastore.s3db.clock import ClusterClock
from predastore.s3db.store import FILE_NAME, Store

_STATE: Final = (".predastore", "state")  # below the base path, as wiring.py has it


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Of a `/status?members=all`."""
    members: dict[str, Any] = found["members"]
    led = members.get(str(found["leader"]), {}).get("time")
    if led is not None and not led["cluster_ms"]:
        yield "cluster time: not begun"
    elif led is not None:
        yield (
            f"cluster time: {_told(led['cluster_ms'])}; the leader's clock is "
            f"{_apart(led['wall_ms'] - led['cluster_ms'])}"
        )
    for name in sorted(members, key=int):
        warning = members[name].get("time", {}).get("warning")
        if warning:
            yield f"{name}: {warning}"


def set_time(
    status: dict[str, Any],
    post: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    confirm: bool,
    backwards: bool,
) -> Iterator[str]:
    """What to print; `status` is a `/status?members=all`, `post` calls `/v1/set-time`. Nothing is
    done without `confirm`."""
    if confirm:
        done = post({"confirm": True, "backwards": backwards})
        yield f"done: cluster time was {_told(done['before_ms'])}, is {_told(done['after_ms'])}"
        return
    led = status["members"].get(str(status["leader"]), {}).get("time")
    if led is None:
        yield "no leader is known, or it does not tell its time"
    else:
        yield from _proposed(led["cluster_ms"], led["wall_ms"], "s3d db set-time")


def set_filesystem_time(settings: Config, *, confirm: bool, backwards: bool) -> Iterator[str]:
    """The same in the files of the filesystem backend. ConfigError, StartupError."""
    directory = settings.base_path.joinpath(*_STATE)
    if not (directory / FILE_NAME).exists():
        raise ConfigError(
            [f"set-time --filesystem: {directory} holds no state; name the server's -base-path"]
        )
    ownership.check("db set-time", settings.base_path, [directory])
    with daemon.held(settings.base_path):
        store = Store(directory, durable=True)
        try:
            yield from _set_in(store, confirm=confirm, backwards=backwards)
        finally:
            store.close()


def _set_in(store: Store, *, confirm: bool, backwards: bool) -> Iterator[str]:
    clocks = clock.system()
    now, wall_ms = clocks.now(), clocks.wall_ms()
    kept = ClusterClock(store.time, now)
    before_ms = kept.time_ms(now)
    if not confirm:
        yield from _proposed(before_ms, wall_ms, "s3d db set-time --filesystem")
        return
    if wall_ms < before_ms and not backwards:
        raise PreconditionFailed(
            f"the wall clock is {(before_ms - wall_ms) // 1000} s behind; add --backwards to set "
            "the time of the files back; nothing was changed"
        )
    call = commands.call(clock.SET, clock.pack(kept.set(now, wall_ms)))
    store.apply([(store.applied_index + 1, commands.encode(call))])
    yield f"done: the time was {_told(before_ms)}, is {_told(store.time.time_ms)}"


def _proposed(cluster_ms: int | None, wall_ms: int, command: str) -> Iterator[str]:
    flags = "--confirm"
    yield f"cluster time:     {_told(cluster_ms)}"
    yield f"the wall clock:   {_told(wall_ms)}"
    if cluster_ms:
        ahead_ms = wall_ms - cluster_ms
        yield f"it is {_apart(ahead_ms)}"
        if ahead_ms < 0:
            flags += " --backwards"
    yield "nothing was changed. What is retained may be deleted when cluster time is past its date:"
    yield f"make sure that the wall clock is right; then: {command} {flags}"


def _apart(ahead_ms: int) -> str:
    return f"{abs(ahead_ms) / 1000:.1f} s {'ahead' if ahead_ms >= 0 else 'behind'}"


def _told(time_ms: int | None) -> str:
    if not time_ms:
        return "not begun"
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
