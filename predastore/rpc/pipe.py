"""Calls to a service of the same process: the same structs, checks and errors, no socket.

Header structs are encoded and decoded as on the wire, so that what works here works there; the
payload is handed over as it is. The handler runs in the caller's task, so cancelling the caller
cancels the handler, and a handler that does not stop when cancelled holds up its caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from predastore.base.errors import PeerRefused, PredastoreError, from_wire, to_wire
from predastore.rpc import service
from predastore.rpc.deadlines import Deadlines
from predastore.rpc.framing import Buffer, check_lengths, decode_struct, encode_struct, joined
from predastore.rpc.service import CallContext, Method

S = TypeVar("S", bound=msgspec.Struct)


async def call(
    methods: Mapping[str, Method],
    name: str,
    body: bytes,
    response_type: type[S],
    *,
    payload: Sequence[Buffer],
    deadline: float,
    deadlines: Deadlines,
) -> tuple[S, memoryview]:
    """One call; `body` is the encoded request struct, `deadline` is loop time."""
    method = methods.get(name)
    if method is None:
        raise PeerRefused(f"no method {name!r} is served here")
    view = joined(payload)
    check_lengths(len(body), len(view))
    if len(view) > method.payload_bytes_max:
        raise PeerRefused(
            f"{name}: a payload of {len(view)} bytes is over {method.payload_bytes_max}"
        )
    try:
        request = decode_struct(method.request, body)
        with deadlines.limit(deadline, name):
            context = CallContext("local", deadline)
            reply = await service.run(name, method, request, view, context)
    except PredastoreError as error:
        raise from_wire(*to_wire(error)) from error
    header, result = encode_struct(reply.header), joined(reply.payload)
    check_lengths(len(header), len(result))
    return decode_struct(response_type, header), result
