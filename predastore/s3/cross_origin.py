"""Requests by scripts of other origins: what a browser asks before one, and what answers say of it.

    OPTIONS                        a preflight; answered by the bucket's rules as they are, always
                                   read: nobody signs it, and nothing else is told by it
    any request with Origin        its answer, an error too, has the fields of the rule that fits

Where the operation has looked the bucket up, that look-up's row says which rules hold, so that a
read costs no second round trip as long as they are known (catalog/documents.py). A row that a
permit was given for may be a moment old, and counts where a commit has confirmed it. Without a row
the bucket is asked for. An answer that something does not work now (5xx, but for 501) is not held
up by a question: it gets the fields that are known without one.
"""

from __future__ import annotations

import logging
from typing import Final

from predastore.base.errors import PredastoreError, S3Error
from predastore.catalog.documents import BucketDocuments
from predastore.catalog.rows import BucketRow
from predastore.httpd.message import Headers, Request, Response
from predastore.s3.cors import KIND, METHODS, CorsRules, rules_in
from predastore.s3.names import is_bucket_name

METHOD: Final = "access-control-request-method"
HEADERS: Final = "access-control-request-headers"

_NOT_ALLOWED: Final = (
    "CORSResponse: This CORS request is not allowed. This is usually because the evalution of "
    "Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are "
    "not whitelisted by the resource's CORS spec."
)

_log = logging.getLogger("predastore.s3")


class Crossing:
    """A request that names its origin. `row`: its bucket's, as it was read for it; `permitted`: the
    one that it has a permit for."""

    __slots__ = ("headers", "origin", "permitted", "row")

    def __init__(self, origin: str, headers: Headers) -> None:
        self.origin = origin
        self.headers = headers
        self.row: BucketRow | None = None
        self.permitted: BucketRow | None = None

    def row_of(self, status: int) -> BucketRow | None:
        """The row whose rules hold for an answer of that status, where there is one."""
        is_confirmed = status < 300 or _is_failure(status)
        return self.row or (self.permitted if is_confirmed else None)


def crossing_of(request: Request) -> Crossing | None:
    """None for a request that names no origin, and for a preflight."""
    origin = request.headers.get("origin")
    if not origin or request.method == "OPTIONS":
        return None
    return Crossing(origin, request.headers)


class CrossOrigin:
    """One for all requests."""

    def __init__(self, documents: BucketDocuments) -> None:
        self._documents = documents

    async def preflight(self, request: Request) -> Response:
        """The answer to OPTIONS; AccessForbidden, BadRequest."""
        request.operation = "Preflight"
        bucket, key = request.names
        origin = request.headers.get("origin")
        if not origin:
            raise S3Error("BadRequest", "Insufficient information. Origin request header needed.")
        method = request.headers.get(METHOD)
        row, rules = await self._rules_now(bucket)
        if row is None:
            raise _forbidden("CORSResponse: Bucket not found", method, "BUCKET")
        if rules is None:
            raise _forbidden("", method, "BUCKET")
        if method not in METHODS:
            raise S3Error(
                "BadRequest", f"Invalid Access-Control-Request-Method: {method or 'null'}"
            )
        fields = rules.fields(origin, method, _asked(request.headers))
        if fields is None:
            raise _forbidden(_NOT_ALLOWED, method, "OBJECT" if key else "BUCKET")
        return Response(200, fields, b"", 0)

    async def decorate(self, request: Request, crossing: Crossing, answer: Response) -> None:
        """Adds what the bucket's rules say to the answer, which is any."""
        try:
            rules = await self._rules(request, crossing, answer.status)
        except PredastoreError as error:
            _log.warning("CORS: %s", error, extra={"request_id": request.id})
            return
        except BaseException:  # cancelled: nobody gets the answer
            close = getattr(answer.body, "aclose", None)
            if close is not None:
                await close()
            raise
        if rules is not None:
            method = crossing.headers.get(METHOD) or request.method
            answer.headers += rules.fields(crossing.origin, method, _asked(crossing.headers)) or ()

    async def _rules(self, request: Request, crossing: Crossing, status: int) -> CorsRules | None:
        row = crossing.row_of(status)
        known = None if row is None else self._documents.known(row, KIND)
        if known is not None:
            return rules_in(known)
        if _is_failure(status):
            return None
        _, rules = await self._rules_now(request.names[0])
        return rules

    async def _rules_now(self, bucket: str) -> tuple[BucketRow | None, CorsRules | None]:
        """The bucket and its rules as they are now."""
        if not is_bucket_name(bucket):
            return None, None
        row, meanings = await self._documents.now(bucket, KIND)
        return row, rules_in(meanings)


def _is_failure(status: int) -> bool:
    """Whether an answer says that the service can not do it now."""
    return status >= 500 and status != 501


def _asked(headers: Headers) -> str:
    return ",".join(headers.get_all(HEADERS)) if HEADERS in headers else ""


def _forbidden(why: str, method: str | None, resource_type: str) -> S3Error:
    return S3Error("AccessForbidden", why, Method=method or "OPTIONS", ResourceType=resource_type)
