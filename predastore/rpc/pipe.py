"""Calls to a service of the same process: the same checks and errors, no socket.

Structs and payloads are handed over as they are. So that what works here works over the wire, tests
have each struct encoded and decoded on its way (`is_strict`). A handler runs in the caller's task,
so cancelling the caller cancels the handler, and a handler that does not stop when cancelled holds
up its caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import msgspec

from predastore.base.errors import PeerRefused, PredastoreError, from_wire, to_wire
from predastore.rpc import service
from predastore.rpc.deadlines import Deadlines
from predastore.rpc.framing import (
    Buffer,
    check_lengths,
    decode_struct,
    encode_struct,
    joined,
)
from predastore.rpc.service import CallContext, Method, Reply

S = TypeVar("S", bound=msgspec.Struct)

is_strict = False


async def call(
    methods: Mapping[str, Method],
    name: str,
    request: msgspec.Struct,
    response_type: type[S],
    *,
    payload: Sequence[Buffer],
    deadline: float,
    deadlines: Deadlines,
) -> tuple[S, memoryview]:
    """One call; `deadline` is loop time."""
    method = methods.get(name)
    if method is None:
        raise PeerRefused(f"no method {name!r} is served here")
    view = _checked(name, method, payload)
    try:
        context = CallContext("local", deadline)
        request = _passed(method.request, request)
        reply = service.run_at_once(name, method, request, view, context)
        if not isinstance(reply, Reply):
            with deadlines.limit(deadline, name):
                if reply is None:
                    reply = await service.run(name, method, request, view, context)
                else:
                    reply = await reply.given()
    except PredastoreError as error:
        raise from_wire(*to_wire(error)) from error
    return _answer(response_type, reply)


def _checked(name: str, method: Method, payload: Sequence[Buffer]) -> memoryview:
    view = joined(payload)
    if len(view) > method.payload_bytes_max:
        raise PeerRefused(
            f"{name}: a payload of {len(view)} bytes is over {method.payload_bytes_max}"
        )
    return view


def _answer(response_type: type[S], reply: Reply) -> tuple[S, memoryview]:
    result = joined(reply.payload)
    check_lengths(0, len(result))
    return _passed(response_type, cast(S, reply.header)), result


def _passed(kind: type[S], struct: S) -> S:
    """The struct as the other side gets it."""
    if not is_strict:
        return struct
    encoded = encode_struct(struct)
    check_lengths(len(encoded), 0)
    return decode_struct(kind, encoded)
