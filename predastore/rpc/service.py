"""What a process offers to its peers: services of methods, and how one request is handled.

A service maps method names ("shard.put") to `Method`s. A handler gets the request struct, the
payload (valid until the handler returns), and a `CallContext`; it returns a `Reply` or raises.
A PredastoreError crosses to the caller as itself; any other exception is logged here, with its
traceback, and reaches the caller as RemoteFailure.

A handler is a coroutine, in a task of its own, which costs more than many a call's work. So a
method may have a plain function besides, `at_once`, for calls that need not wait (it returns the
Reply), or whose reply somebody else will give (a `Later`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from predastore.base import tracing
from predastore.base.errors import (
    Overloaded,
    PredastoreError,
    RemoteFailure,
    RpcError,
    is_exhausted,
)
from predastore.rpc.framing import Buffer

logger = logging.getLogger(__name__)


class Reply(NamedTuple):
    """What a handler returns: the response struct, and raw bytes after it, sent unjoined."""

    header: msgspec.Struct
    payload: Sequence[Buffer] = ()


class CallContext(msgspec.Struct, frozen=True):
    """`peer`: the name of the caller, proven to hold the cluster key, or "local" in the pipe.
    `deadline`: loop time at which the handler is cancelled. `trace`: the caller's place in a
    trace, where it is another process's."""

    peer: str
    deadline: float
    trace: str = ""


class Later:
    """A reply that is given once the handler has returned. Nobody need give it: the call ends at
    its deadline, or with its connection."""

    __slots__ = ("_reply", "_take", "is_dropped")

    def __init__(self) -> None:
        self.is_dropped = False  # by the caller: nobody wants the reply any more
        self._reply: Reply | None = None
        self._take: Callable[[Reply], None] | None = None

    def give(self, reply: Reply) -> None:
        """Once."""
        if self._take is None:
            self._reply = reply
        else:
            self._take(reply)

    async def given(self) -> Reply:
        """Waits for the reply; whoever is cancelled drops it."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def take(reply: Reply) -> None:
            if not future.done():  # cancelled, in this turn of the loop
                future.set_result(reply)

        self.when_given(take)
        try:
            return await future
        finally:
            self.is_dropped = True

    def when_given(self, take: Callable[[Reply], None]) -> None:
        """`take` gets the reply, at once if it is there."""
        self._take = take
        if self._reply is not None:
            take(self._reply)


Handler = Callable[[Any, memoryview, CallContext], Awaitable[Reply]]
AtOnce = Callable[[Any, memoryview, CallContext], Reply | Later | None]


def in_task(at_once: Callable[[Any, memoryview, CallContext], Reply | Later]) -> Handler:
    """The handler that does the same as `at_once`, and waits for the reply."""

    async def handler(request: Any, payload: memoryview, context: CallContext) -> Reply:
        reply = at_once(request, payload, context)
        return await reply.given() if isinstance(reply, Later) else reply

    return handler


@dataclass(frozen=True, slots=True)
class Method:
    """`payload_bytes_max`: a request with more is refused before its payload is read. `at_once`
    does in microseconds what `handler` would, or returns None: then it has done nothing, and
    `handler` is asked."""

    request: type[msgspec.Struct]
    response: type[msgspec.Struct]
    handler: Handler
    payload_bytes_max: int
    at_once: AtOnce | None = None


Service = Mapping[str, Method]


def run(
    name: str, method: Method, request: msgspec.Struct, payload: memoryview, context: CallContext
) -> Awaitable[Reply]:
    """The handler's work, to be awaited; whatever it raises leaves as a PredastoreError or a
    cancellation."""
    if tracing.tracer is None:
        return _run(name, method, request, payload, context)
    return _traced(tracing.tracer, name, method, request, payload, context)


def run_at_once(
    name: str, method: Method, request: msgspec.Struct, payload: memoryview, context: CallContext
) -> Reply | Later | None:
    """What `Method.at_once` says; None while traces are taken, for they follow tasks. Whatever it
    raises leaves as a PredastoreError."""
    if method.at_once is None or tracing.tracer is not None:
        return None
    try:
        return method.at_once(request, payload, context)
    except PredastoreError:
        raise
    except Exception as error:
        raise _failed(name, context, error) from error


async def _traced(
    tracer: tracing.Tracer,
    name: str,
    method: Method,
    request: msgspec.Struct,
    payload: memoryview,
    context: CallContext,
) -> Reply:
    with tracer.serving(name, context.trace):
        return await _run(name, method, request, payload, context)


async def _run(
    name: str, method: Method, request: msgspec.Struct, payload: memoryview, context: CallContext
) -> Reply:
    try:
        return await method.handler(request, payload, context)
    except PredastoreError:
        raise
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        # Something that the handler awaited was cancelled, not the call.
        raise RemoteFailure(f"{name}: cancelled within the handler") from None
    except Exception as error:
        raise _failed(name, context, error) from error


def _is_cancelled() -> bool:
    # Not where the error passes: its traceback would have the task, which keeps the error.
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failed(name: str, context: CallContext, error: Exception) -> RpcError:
    if is_exhausted(error):
        return Overloaded(f"{name}: {error}")
    logger.exception("rpc handler failed", extra={"method": name, "peer": context.peer})
    return RemoteFailure(f"{name}: {type(error).__name__}: {error}")
