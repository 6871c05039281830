"""The S3 service: from a request to its answer.

    target -> signature -> route -> access -> operation -> answer, or an error in S3's words

The order matters: nothing about the request is obeyed before its signature is verified, and
nothing is done before everything that it asks for is known to be understood, and the route's action
is known to be allowed (access.py): operations have no other way to a bucket. OPTIONS alone is
answered before the signature. An answer to a request that names its origin, an error too, has the
fields of CORS (cross_origin.py). Every answer carries x-amz-request-id, and x-amz-id-2, which names
the process. Some addresses are no S3 at all ("-" can not be a bucket):

    GET /-/health/live    200: the process answers
    GET /-/health/ready   200 or 503: it can serve requests (the host's `ready` decides); with
                          `?writes`, also writes, or the answer says why not (`write_obstacle`)
    GET /-/metrics        what is counted here, for Prometheus; signed by the operator's account

    GET /minio/health/live            as /-/health/live
    GET /minio/health/ready           as /-/health/ready
    GET /minio/health/cluster/read    likewise
    GET /minio/health/cluster         as /-/health/ready?writes

The latter are those of another server, whose tools ask for them: `mc ready`. "minio" can be a
bucket, so they are so only for requests that nobody signed.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from predastore.auth.sigv4 import Find, Verified, Verifier
from predastore.base import metrics
from predastore.base.errors import (
    BodyMismatch,
    HttpError,
    Overloaded,
    PredastoreError,
    S3Error,
    is_exhausted,
)
from predastore.catalog.catalog import Catalog
from predastore.httpd.message import Request, Response
from predastore.iam import audit
from predastore.iam.identities import identity_of
from predastore.s3 import accounting, audited, control
from predastore.s3.access import Access
from predastore.s3.checksums import is_of_payload
from predastore.s3.condition_keys import ConditionKeys
from predastore.s3.context import Context
from predastore.s3.cross_origin import Crossing, CrossOrigin, crossing_of
from predastore.s3.errors import error_response, status_of, translate
from predastore.s3.names import check_bucket_name
from predastore.s3.ownership import NOTHING_SAID, NewBuckets
from predastore.s3.routes import (
    ACCOUNT,
    BUCKET,
    OBJECT,
    RESOURCE,
    SERVICE,
    Route,
    hoisted_headers,
    select,
)
from predastore.s3.services import IsAccount, Services, anybody
from predastore.s3.target import host_bucket, parse_query, parse_target
from predastore.s3.tokens import Tokens

LIVE_PATH: Final = b"/-/health/live"
READY_PATH: Final = b"/-/health/ready"
METRICS_PATH: Final = b"/-/metrics"
# path -> the one of ours that it is
_ABOUT: Final = {
    **{path: path for path in (LIVE_PATH, READY_PATH, METRICS_PATH)},
    b"/minio/health/live": LIVE_PATH,
    b"/minio/health/ready": READY_PATH,
    b"/minio/health/cluster": READY_PATH,
    b"/minio/health/cluster/read": READY_PATH,
}
_WRITES_TOO: Final = frozenset({b"/minio/health/cluster"})

_log = logging.getLogger("predastore.s3")


def _always() -> bool:
    return True


def _nobody() -> str:
    return ""


async def _none() -> str:
    return ""


def asks_for_writes(raw_query: bytes) -> bool:
    """Whether the query of a question after readiness has the parameter `writes`."""
    return any(part.partition(b"=")[0] == b"writes" for part in raw_query.split(b"&"))


def _level(bucket: str, key: str, is_control: bool) -> int:
    """What a request is about, for the table of routes."""
    if is_control:
        return RESOURCE if bucket else ACCOUNT
    return OBJECT if key else BUCKET if bucket else SERVICE


def host_id_of(name: str) -> str:
    """What x-amz-id-2 and HostId say in answers of the process `name`, which they do not tell."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


async def _operated(route: Route, ctx: Context) -> Response:
    if route.needs_account:
        ctx.signer()
    if not ctx.bucket_name:
        ctx.access.check_absent()
    return await route.operation(ctx)


def _shown(request: Request, error: PredastoreError) -> S3Error:
    """What an error is in S3's words, in the answer to this request."""
    if isinstance(error, BodyMismatch) and is_of_payload(error, request.headers):
        return S3Error("XAmzContentSHA256Mismatch")
    return translate(error)


class S3Service:
    """A handler for httpd. `token_keys`: of the cluster; the first makes continuation tokens.

    `find`: finds the credentials of requests; None: the verifier has them.
    `domains`: base domains of virtual-host style addresses, lower case, without a port.
    `operator`: the account that may read metrics. `host_id`: what x-amz-id-2 says. `is_account`: to
    whom ACLs may give something. `new_buckets`: what they have that nobody said.
    """

    def __init__(
        self,
        catalog: Catalog,
        verifier: Verifier,
        *,
        region: str,
        token_keys: Callable[[], Sequence[bytes]],
        find: Find | None = None,
        domains: tuple[str, ...] = (),
        ready: Callable[[], bool] = _always,
        write_obstacle: Callable[[], Awaitable[str]] = _none,
        operator: Callable[[], str] = _nobody,
        host_id: str = "",
        is_account: IsAccount = anybody,
        new_buckets: NewBuckets = NOTHING_SAID,
    ) -> None:
        self._cross_origin = CrossOrigin(catalog.documents)
        self._services = Services(
            catalog,
            region,
            Tokens(token_keys),
            verifier,
            find,
            domains,
            is_account=is_account,
            new_buckets=new_buckets,
        )
        self._verifier = verifier
        self._find = find
        self._ready = ready
        self._write_obstacle = write_obstacle
        self._operator = operator
        self._host_id = host_id or host_id_of(secrets.token_hex())

    async def handle(self, request: Request) -> Response:
        """The answer to `request`; raises nothing but cancellation."""
        crossing = crossing_of(request)
        answer = await self._answer_or_error(request, crossing)
        if crossing is not None:
            await self._cross_origin.decorate(request, crossing, answer)
        return answer

    async def _answer_or_error(self, request: Request, crossing: Crossing | None) -> Response:
        try:
            about = self._about_path(request)
            if about:
                return await self._about(request, about)
            answer = await self._answer(request, crossing)
        except PredastoreError as error:
            return self._failed(request, error)
        except Exception as error:
            if is_exhausted(error):
                return self._failed(request, Overloaded(str(error)))
            _log.exception("request failed", extra={"request_id": request.id})
            return self._error(request, S3Error("InternalError"))
        answer.headers.append(("x-amz-request-id", request.id))
        answer.headers.append(("x-amz-id-2", self._host_id))
        return answer

    def on_error(self, request: Request | None, error: HttpError) -> Response:
        """How httpd answers what is not HTTP, or comes too slowly."""
        if request is None:
            shown = translate(error)
            return error_response(
                shown,
                resource="",
                request_id=f"{random.getrandbits(64):016X}",
                host_id=self._host_id,
                head=False,
            )
        return self._failed(request, error)

    async def _answer(self, request: Request, crossing: Crossing | None) -> Response:
        services = self._services
        host = request.headers.get("host", "")
        is_control = control.is_for_control(request)
        raw_query = request.raw_query
        if is_control:
            request.names, raw_query = (control.bucket_of(request), ""), control.once(raw_query)
        else:
            request.names = parse_target(request.raw_path, host, services.domains)
        bucket, key = request.names
        if request.method == "OPTIONS":
            return await self._cross_origin.preflight(request)
        verified = await self._verified(request, host_bucket(host, services.domains))
        query = parse_query(raw_query)
        if query:
            request.headers = hoisted_headers(query, request.headers)
        level = _level(bucket, key, is_control)
        route = select(request.method, level, query, request.headers)
        if bucket:
            check_bucket_name(bucket)
        identity = None if verified.credential is None else identity_of(verified.credential)
        request.operation = route.name
        request.account = "" if identity is None else identity.account
        facts = ConditionKeys(request, query, verified, identity, services.region)
        access = Access(request, facts, identity, bucket, key)
        for action in route.actions_of(query):
            access.require(action)
        digest = verified.payload_sha256
        ctx = Context(services, request, bucket, key, query, access, digest, crossing)
        if audited.is_audited(route.name, request.headers):
            return await self._audited(route, ctx)
        return await _operated(route, ctx)

    async def _audited(self, route: Route, ctx: Context) -> Response:
        """A line of the audit goes with it, whatever comes of it."""
        outcome = "InternalError"
        try:
            answer = await _operated(route, ctx)
            outcome = audit.DONE
        except PredastoreError as error:
            outcome = _shown(ctx.request, error).s3_code
            raise
        finally:
            audited.note(ctx, outcome)
        return answer

    async def _verified(self, request: Request, bucket: str) -> Verified:
        """Who sent the request. `bucket`: the one that Host names."""
        if self._find is None:
            return self._verifier.verify(request, bucket)
        return await self._verifier.authenticate(request, self._find, bucket)

    def _failed(self, request: Request, error: PredastoreError) -> Response:
        shown = _shown(request, error)
        if status_of(shown) >= 500 and shown.s3_code != "NotImplemented":
            _log.warning(
                "%s: %s: %s",
                shown.s3_code,
                type(error).__name__,
                error,
                extra={"request_id": request.id},
            )
        accounting.count_error(shown.s3_code)
        return self._error(request, shown)

    def _error(self, request: Request, error: S3Error) -> Response:
        target = unquote_to_bytes(request.raw_path + b"?" + request.raw_query)
        return error_response(
            error,
            resource=request.raw_path.decode("latin-1"),
            request_id=request.id,
            host_id=self._host_id,
            head=request.method == "HEAD",
            address=f"{request.names[0]}/{target.decode('utf-8', 'replace')}",
            of_control=control.is_for_control(request),
        )

    def _about_path(self, request: Request) -> bytes:
        """The path of ours that a request about the process means; empty for one about S3."""
        path = request.raw_path
        ours = _ABOUT.get(path, b"")
        if not ours or host_bucket(request.headers.get("host", ""), self._services.domains):
            return b""  # Host has a bucket's name, so that the whole path is a key
        signed = b"Signature=" in request.raw_query or "authorization" in request.headers
        return b"" if signed and ours != path else ours

    async def _about(self, request: Request, path: bytes) -> Response:
        """What is asked of the process, not of S3."""
        if path == METRICS_PATH:
            return await self._metrics(request)
        return await self._health(request, path)

    async def _metrics(self, request: Request) -> Response:
        """Metrics tell of all accounts: they are for the operator's alone."""
        request.operation = "Metrics"
        credential = (await self._verified(request, "")).credential
        if credential is None or credential.account_id != self._operator():
            raise S3Error("AccessDenied")
        if not identity_of(credential).has_all_rights:
            raise S3Error("AccessDenied")
        if request.method not in ("GET", "HEAD"):
            raise S3Error("MethodNotAllowed", Method=request.method)
        text = await metrics.text()
        return Response(200, [("Content-Type", metrics.CONTENT_TYPE)], text.encode())

    async def _health(self, request: Request, path: bytes) -> Response:
        if request.method not in ("GET", "HEAD"):
            return self._error(request, S3Error("MethodNotAllowed"))
        request.operation = "Health"
        said = "ok"
        if path == READY_PATH:
            if not self._ready():
                said = "not ready"
            elif request.raw_path in _WRITES_TOO or asks_for_writes(request.raw_query):
                said = await self._write_obstacle() or said
        ok, body = said == "ok", f"{said}\n".encode()
        return Response(200 if ok else 503, [("Content-Type", "text/plain")], body, len(body))
