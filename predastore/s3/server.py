"""The S3 service: from a request to its answer.

    target -> signature -> route -> operation -> answer, or an error in S3's words

The order matters: nothing about the request is obeyed before its signature is verified, and
nothing is done before everything that it asks for is known to be understood. Every answer
carries x-amz-request-id. Three addresses are no S3 at all ("-" can not be a bucket):

    GET /-/health/live    200: the process answers
    GET /-/health/ready   200 or 503: it can serve requests (the host's `ready` decides); with
                          `?writes`, also writes, or the answer says why not (`write_obstacle`)
    GET /-/metrics        what is counted here, for Prometheus; signed by the operator's account
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from predastore import metrics
from predastore.backend.objects import Objects
from predastore.errors import BodyMismatch, HttpError, PredastoreError, S3Error
from predastore.httpd.message import Request, Response
from predastore.httpd.sigv4 import Verifier
from predastore.s3 import accounting
from predastore.s3.checksums import is_of_payload
from predastore.s3.context import Context, Services
from predastore.s3.errors import error_response, status_of, translate
from predastore.s3.names import check_bucket_name
from predastore.s3.routes import BUCKET, OBJECT, SERVICE, hoisted_headers, select
from predastore.s3.target import host_bucket, parse_query, parse_target
from predastore.s3.tokens import Tokens

LIVE_PATH: Final = b"/-/health/live"
READY_PATH: Final = b"/-/health/ready"
METRICS_PATH: Final = b"/-/metrics"
_ABOUT: Final = frozenset({LIVE_PATH, READY_PATH, METRICS_PATH})

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


class S3Service:
    """A handler for httpd. `token_key`: the cluster's key for continuation tokens, any bytes.

    `domains`: base domains of virtual-host style addresses, lower case, without a port.
    `operator`: the account that may read metrics.
    """

    def __init__(
        self,
        objects: Objects,
        verifier: Verifier,
        *,
        region: str,
        token_key: bytes,
        domains: tuple[str, ...] = (),
        ready: Callable[[], bool] = _always,
        write_obstacle: Callable[[], Awaitable[str]] = _none,
        operator: Callable[[], str] = _nobody,
    ) -> None:
        self._services = Services(objects, region, Tokens(token_key), domains)
        self._verifier = verifier
        self._ready = ready
        self._write_obstacle = write_obstacle
        self._operator = operator

    async def handle(self, request: Request) -> Response:
        """The answer to `request`; raises nothing but cancellation."""
        try:
            if request.raw_path in _ABOUT and not self._names_bucket(request):
                return await self._about(request)
            answer = await self._answer(request)
        except PredastoreError as error:
            return self._failed(request, error)
        except Exception:
            _log.exception("request failed", extra={"request_id": request.id})
            return self._error(request, S3Error("InternalError"))
        answer.headers.append(("x-amz-request-id", request.id))
        return answer

    def on_error(self, request: Request | None, error: HttpError) -> Response:
        """How httpd answers what is not HTTP, or comes too slowly."""
        if request is None:
            shown = translate(error)
            return error_response(shown, resource="", request_id="", head=False)
        return self._failed(request, error)

    async def _answer(self, request: Request) -> Response:
        services = self._services
        host = request.headers.get("host", "")
        bucket, key = request.names = parse_target(request.raw_path, host, services.domains)
        verified = self._verifier.verify(request, host_bucket(host, services.domains))
        query = parse_query(request.raw_query)
        if query:
            request.headers = hoisted_headers(query, request.headers)
        level = OBJECT if key else BUCKET if bucket else SERVICE
        route = select(request.method, level, query, request.headers)
        if bucket:
            check_bucket_name(bucket)
        credential = verified.credential
        account = None if credential is None else credential.account_id
        request.operation, request.account = route.name, account or ""
        return await route.operation(
            Context(services, request, bucket, key, query, account, verified.payload_sha256)
        )

    def _failed(self, request: Request, error: PredastoreError) -> Response:
        if isinstance(error, BodyMismatch) and is_of_payload(error, request.headers):
            shown = S3Error("XAmzContentSHA256Mismatch")
        else:
            shown = translate(error)
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

    @staticmethod
    def _error(request: Request, error: S3Error) -> Response:
        return error_response(
            error,
            resource=request.raw_path.decode("latin-1"),
            request_id=request.id,
            head=request.method == "HEAD",
        )

    def _names_bucket(self, request: Request) -> bool:
        """Whether Host has a bucket's name, so that the whole path is a key."""
        return bool(host_bucket(request.headers.get("host", ""), self._services.domains))

    async def _about(self, request: Request) -> Response:
        """What is asked of the process, not of S3."""
        if request.raw_path == METRICS_PATH:
            return await self._metrics(request)
        return await self._health(request)

    async def _metrics(self, request: Request) -> Response:
        """Metrics tell of all accounts: they are for the operator's alone."""
        request.operation = "Metrics"
        credential = self._verifier.verify(request).credential
        if credential is None or credential.account_id != self._operator():
            raise S3Error("AccessDenied")
        if request.method not in ("GET", "HEAD"):
            raise S3Error("MethodNotAllowed", Method=request.method)
        text = await metrics.text()
        return Response(200, [("Content-Type", metrics.CONTENT_TYPE)], text.encode())

    async def _health(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return self._error(request, S3Error("MethodNotAllowed"))
        request.operation = "Health"
        said = "ok"
        if request.raw_path == READY_PATH:
            if not self._ready():
                said = "not ready"
            elif asks_for_writes(request.raw_query):
                said = await self._write_obstacle() or said
        ok, body = said == "ok", f"{said}\n".encode()
        return Response(200 if ok else 503, [("Content-Type", "text/plain")], body, len(body))
