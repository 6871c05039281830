"""What a process offers to its peers: services of methods, and how one request is handled.

A service maps method names ("shard.put") to `Method`s. A handler gets the request struct, the
payload (valid until the handler returns), and a `CallContext`; it returns a `Reply` or raises.
A PredastoreError crosses to the caller as itself; any other exception is logged here, with its
traceback, and reaches the caller as RemoteFailure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from predastore import tracing
from predastore.errors import PredastoreError, RemoteFailure
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


Handler = Callable[[Any, memoryview, CallContext], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Method:
    """`payload_bytes_max`: a request with more is refused before its payload is read."""

    request: type[msgspec.Struct]
    response: type[msgspec.Struct]
    handler: Handler
    payload_bytes_max: int


Service = Mapping[str, Method]


def run(
    name: str, method: Method, request: msgspec.Struct, payload: memoryview, context: CallContext
) -> Awaitable[Reply]:
    """The handler's work, to be awaited; whatever it raises leaves as a PredastoreError or a
    cancellation."""
    if tracing.tracer is None:
        return _run(name, method, request, payload, context)
    return _traced(tracing.tracer, name, method, request, payload, context)


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
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Something that the handler awaited was cancelled, not the call.
        raise RemoteFailure(f"{name}: cancelled within the handler") from None
    except Exception as error:
        logger.exception("rpc handler failed", extra={"method": name, "peer": context.peer})
        raise RemoteFailure(f"{name}: {type(error).__name__}: {error}") from error
