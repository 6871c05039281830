"""The REST API of a database member, for operators and other programs; over HTTPS.

    POST, PUT  /v1/put/{table}/{key}     the body is the value                     204
    GET        /v1/get/{table}/{key}     the value, as it was put                  200, 404
    DELETE     /v1/delete/{table}/{key}  also when there is none                   204
    GET        /v1/scan/{table}          ?prefix= &after= &limit= (1000)           200
    GET        /v1/leader                {"leader": id, "self": id}                200, 503
    POST       /v1/join                  {"id", "host", "port", "raft_port"}       200, 409
    POST       /v1/leave                 {"id"}                                    200, 409
    POST       /v1/step-down             another member is to lead                 200, 409
    POST       /v1/set-time              {"confirm": true, "backwards": false}     200, 409
    GET        /v1/backup                the whole state of this moment            200
    GET        /status                   ?members=all &digest=1                    200
    GET        /health                   unsigned: can this member serve now?      200, 503

Keys and values are arbitrary bytes. Keys are percent-encoded in the path, prefix and after in
the query, where "+" is a blank. `?consistency=stale` on get and scan reads this member's own
replica, and x-s3db-staleness-ms in the answer says how old it may be at most ("unknown" on a
member that has not heard from a leader since its start); else reads are linearizable. A scan
answers {"entries": [{"key", "value"}], "truncated", "next"}, all bytes in base64; pass `next`,
percent-encoded, as `after` to go on.

Join, leave and step-down answer {"members", "voters", "learners", "leader"}, and may be repeated.
A member that joins receives the log at first, and votes once it has caught up (changes.py).
Set-time makes the leader's wall clock cluster time (clock.py), and answers {"before_ms",
"after_ms"}; 409 where that would go back, and "backwards" does not say so. backup.py draws a
backup. `?members=all` adds what each member says of itself to the status, and `?digest=1` a digest
of its state, which takes reading all of it.

Requests are signed with SigV4 for the service "s3db", x-amz-content-sha256 among the signed
headers. As for every AWS service but S3, the canonical path is the path as it was sent,
percent-encoded once more. Signers drop empty and dot segments from it, so such a path is
refused: a "/" beside another is to be sent as %2F. A change that was signed once is done once
(rest_replays.py): 403 when it comes again later; its signature covers its body, by the body's
SHA-256, so that it does not come with another one meanwhile.

Errors are {"error": code, "message": text}: 400 what is malformed, 403 signature, 404 no such
key or path, 405 method, 409 a change that the cluster can not bear, 411 no length, 413 too large,
503 no leader or outcome unknown (with Retry-After; puts and deletes may be repeated), 507 no room,
500 anything else.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from predastore.auth.sigv4 import Verifier
from predastore.base.errors import (
    BodyMismatch,
    FormatError,
    HttpError,
    LevelTooLow,
    NodeFull,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    PreconditionFailed,
    PredastoreError,
    RpcError,
    SignatureError,
    TooLarge,
)
from predastore.base.limits import DB_VALUE_BYTES_MAX, LIST_ROWS_MAX
from predastore.httpd.bounds import Bounds
from predastore.httpd.message import Request, Response
from predastore.httpd.server import Server
from predastore.s3db import commands, percent
from predastore.s3db.client import Client
from predastore.s3db.commands import Delete, Put
from predastore.s3db.rest_call import Refused, RestCall, error_response, json_response
from predastore.s3db.rest_operators import Named, Operators
from predastore.s3db.rest_replays import Replays

_log = logging.getLogger(__name__)

_SCAN_ROWS_DEFAULT: Final = 1_000

# What an error is to a client; the first row that fits.
_STATUS_OF: Final[tuple[tuple[type[PredastoreError], int], ...]] = (
    (TooLarge, 413),
    (FormatError, 400),
    (PreconditionFailed, 409),
    (LevelTooLow, 409),
    (NoLeader, 503),
    (NotLeader, 503),
    (OutcomeUnknown, 503),
    (RpcError, 503),
    (NodeFull, 507),
)


# A request that no right key could have made valid; every other refusal is 403.
_SIGNATURE_STATUS_OF: Final = {
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "InvalidRequest": 400,
    "XAmzContentSHA256Mismatch": 400,
}


_Operation = Callable[["RestService", RestCall], Awaitable[Response]]


@dataclass(frozen=True)
class _Route:
    methods: tuple[str, ...]
    parts: int  # of the path after the name: 2 are table and key, 1 is the table
    parameters: tuple[str, ...]
    operation: _Operation


class RestService:
    """`client` does what is asked, through whichever member can; `member` is asked of itself."""

    def __init__(self, client: Client, member: Named, verifier: Verifier) -> None:
        self._client = client
        self._member = member
        self._verifier = verifier
        self._replays = Replays(time.monotonic)
        self.operators = Operators(client, member)

    async def handle(self, request: Request) -> Response:
        """The answer to `request`. HttpError, BodyMismatch: of its body."""
        try:
            if request.raw_path == b"/health":
                return self._health(request)
            return await self._answer(request)
        except Refused as refused:
            return refused.response
        except SignatureError as error:
            return error_response(
                _SIGNATURE_STATUS_OF.get(error.s3_code, 403), error.s3_code, str(error)
            )
        except (HttpError, BodyMismatch):
            raise  # httpd knows what becomes of the connection, and asks on_error for the answer
        except PredastoreError as error:
            return _translated(error)

    async def _answer(self, request: Request) -> Response:
        route, parts = _route(request.raw_path)
        signed = replace(request, raw_path=percent.encoded_path(request.raw_path))
        verified = self._verifier.verify(signed)
        if verified.credential is None:
            raise Refused(403, "AccessDenied", "requests must be signed")
        self._replays.check(signed, verified)
        if request.method not in route.methods:
            raise Refused(
                405,
                "method-not-allowed",
                f"use {' or '.join(route.methods)}",
                headers=[("Allow", ", ".join(route.methods))],
            )
        table = percent.decoded(parts[0]).decode("utf-8", "replace") if parts else ""
        key = percent.decoded(parts[1]) if len(parts) == 2 else b""
        if parts:
            commands.check_table(table)
        if len(parts) == 2:
            commands.check_key(key)
        query = percent.query(request.raw_query, (*route.parameters, *_SIGNATURE_PARAMETERS))
        return await route.operation(self, RestCall(signed, verified, table, key, query))

    async def put(self, call: RestCall) -> Response:
        if not call.request.has_length:
            raise Refused(411, "length-required", "a put declares its length")
        value = await call.body(DB_VALUE_BYTES_MAX)
        await self._client.commit(commands.batch(Put(call.table, call.key, value)))
        return Response(204)

    async def get(self, call: RestCall) -> Response:
        headers = [("Content-Type", "application/octet-stream")]
        if call.stale:
            headers.append(await self._staleness())
            value = self._member.store.get(call.table, call.key)
        else:
            value = await self._client.get(call.table, call.key)
        if value is None:
            raise Refused(404, "not-found", "no such key", headers=headers[1:])
        return Response(200, headers, value)

    async def _staleness(self) -> tuple[str, str]:
        """Taken before the replica is read, which may only be newer then."""
        age_ms = await self._member.freshness.age_ms()
        return "x-s3db-staleness-ms", "unknown" if age_ms is None else str(age_ms)

    async def delete(self, call: RestCall) -> Response:
        await call.body(0)
        await self._client.commit(commands.batch(Delete(call.table, call.key)))
        return Response(204)

    async def scan(self, call: RestCall) -> Response:
        wanted = call.query.get("limit", b"%d" % _SCAN_ROWS_DEFAULT)
        if not wanted.isdigit() or len(wanted) > 9 or not 0 < int(wanted) <= LIST_ROWS_MAX:
            raise Refused(400, "bad-request", f"limit is 1 to {LIST_ROWS_MAX}")
        prefix, after = call.query.get("prefix", b""), call.query.get("after", b"")
        headers = []
        if call.stale:
            headers.append(await self._staleness())
            page = await asyncio.to_thread(
                self._member.store.list, call.table, prefix, b"", after, int(wanted)
            )
        else:
            page = await self._client.scan_page(call.table, prefix, after, int(wanted))
        entries = [{"key": _base64(key), "value": _base64(value)} for key, value in page.entries]
        answer = json_response(
            200, {"entries": entries, "truncated": page.truncated, "next": _base64(page.next)}
        )
        answer.headers += headers
        return answer

    def _health(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return error_response(405, "method-not-allowed", "use GET")
        if self._member.leader is None:
            return error_response(503, "no-leader", "no leader is known")
        return json_response(200, {"status": "ok"})


def _operators(
    operation: Callable[[Operators, RestCall], Awaitable[Response]],
) -> Callable[[RestService, RestCall], Awaitable[Response]]:
    return lambda service, call: operation(service.operators, call)


_SIGNATURE_PARAMETERS: Final = (
    "X-Amz-Algorithm",
    "X-Amz-Content-Sha256",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)

_READ_PARAMETERS: Final = ("consistency",)
_SCAN_PARAMETERS: Final = ("prefix", "after", "limit", "consistency")
_ROUTES: Final[Mapping[bytes, _Route]] = {
    b"/v1/put": _Route(("POST", "PUT"), 2, (), RestService.put),
    b"/v1/get": _Route(("GET",), 2, _READ_PARAMETERS, RestService.get),
    b"/v1/delete": _Route(("DELETE",), 2, (), RestService.delete),
    b"/v1/scan": _Route(("GET",), 1, _SCAN_PARAMETERS, RestService.scan),
    b"/v1/leader": _Route(("GET",), 0, (), _operators(Operators.leader)),
    b"/v1/join": _Route(("POST",), 0, (), _operators(Operators.join)),
    b"/v1/leave": _Route(("POST",), 0, (), _operators(Operators.leave)),
    b"/v1/step-down": _Route(("POST",), 0, (), _operators(Operators.step_down)),
    b"/v1/set-time": _Route(("POST",), 0, (), _operators(Operators.set_time)),
    b"/v1/backup": _Route(("GET",), 0, (), _operators(Operators.backup)),
    b"/status": _Route(("GET",), 0, ("members", "digest"), _operators(Operators.status)),
}


def server(
    client: Client,
    member: Named,
    verifier: Verifier,
    *,
    host: str,
    port: int,
    ssl_context: ssl.SSLContext | None,
    bounds: Bounds | None = None,
) -> Server:
    """The REST server of `member`, not yet started."""
    handler = RestService(client, member, verifier)
    return Server(
        handler.handle,
        host=host,
        port=port,
        ssl_context=ssl_context,
        on_error=on_error,
        bounds=bounds,
    )


def on_error(_: Request | None, error: HttpError) -> Response:
    """What can not be served as HTTP, in this API's words."""
    return error_response(error.status, "too-large" if error.status == 413 else "http", str(error))


def _route(raw_path: bytes) -> tuple[_Route, list[bytes]]:
    """The route of a path, and its parts after the name, not yet decoded."""
    segments = raw_path.split(b"/")
    if any(segment in (b"", b".", b"..") for segment in segments[1:]):
        raise Refused(400, "bad-request", "a path has no empty and no dot segments: encode them")
    named = 3 if segments[1] == b"v1" else 2
    route = _ROUTES.get(b"/".join(segments[:named]))
    parts = segments[named:]
    if route is not None and route.parts == 2 and len(parts) > 2:
        parts = [parts[0], b"/".join(parts[1:])]
    if route is None or len(parts) != route.parts:
        raise Refused(404, "not-found", "no such path")
    return route, parts


def _translated(error: PredastoreError) -> Response:
    for kind, http_status in _STATUS_OF:
        if isinstance(error, kind):
            return error_response(http_status, error.code, str(error))
    _log.error("s3db rest: unexpected error", exc_info=error)
    return error_response(500, error.code, str(error))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
