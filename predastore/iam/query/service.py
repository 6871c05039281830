"""The service of the Query API: from a request to its answer.

It stands before S3 on the same port, and takes what is not S3: requests that are signed for the
service `iam` or `sts`, in any region; and forms without a signature that are posted to "/", of
which S3 has none (AssumeRoleWithWebIdentity). Everything else goes to `other`.

    body -> signature -> action -> who is it now? -> the action -> answer, or an error
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from predastore.auth.authorization import parse_claim
from predastore.auth.sigv4 import Credential, Verifier
from predastore.base import metrics
from predastore.base.errors import (
    HttpError,
    LevelTooLow,
    Overloaded,
    PredastoreError,
    SignatureError,
    is_exhausted,
)
from predastore.base.limits import IAM_FORM_BYTES_MAX, IAM_FORMS_BYTES_MAX
from predastore.httpd.message import Handler, Request, Response
from predastore.iam import audit
from predastore.iam.errors import IamError, InvalidInput, NotAllowed
from predastore.iam.identity import Identified
from predastore.iam.query import document
from predastore.iam.query.call import IamServices, QueryCall, gone
from predastore.iam.query.form import QueryForm, parsed
from predastore.iam.query.table import ACTIONS, QueryAction

VERSIONS: Final = {"iam": "2010-05-08", "sts": "2011-06-15"}
_FORM: Final = "application/x-www-form-urlencoded"
_PIECE_BYTES: Final = 4_096

# SigV4's refusals in the words of the Query API: code, status.
_SIGNATURE: Final = {
    "InvalidAccessKeyId": ("InvalidClientTokenId", 403),
    "InvalidToken": ("InvalidClientTokenId", 403),
    "ExpiredToken": ("ExpiredToken", 403),
    "SignatureDoesNotMatch": ("SignatureDoesNotMatch", 403),
    "XAmzContentSHA256Mismatch": ("SignatureDoesNotMatch", 403),
    "RequestTimeTooSkewed": ("SignatureDoesNotMatch", 403),
    "AccessDenied": ("AccessDenied", 403),
    "NotImplemented": ("NotImplemented", 501),
}
_TOKEN_INVALID: Final = "The security token included in the request is invalid."

_requests = metrics.counter(
    "predastore_iam_requests_total",
    "Requests of the IAM and STS Query API, by action and error code.",
    "action",
    "code",
)
_log = logging.getLogger(__name__)


class _Asked(NamedTuple):
    service: str
    region: str
    token: str


class QueryService:
    """A handler for httpd. `other`: takes what is not for it."""

    def __init__(
        self, services: IamServices, other: Handler, now: Callable[[], float] = time.time
    ) -> None:
        self._services = services
        self._other = other
        self._verifiers = {
            name: Verifier(_no_other, region=None, service=name, now=now) for name in VERSIONS
        }
        self._held_bytes = 0

    async def handle(self, request: Request) -> Response:
        """The answer to `request`; raises nothing but cancellation."""
        asked = _asked(request)
        if asked is None:
            return await self._other(request)
        action, body = "", bytearray()
        try:
            await self._read(request, body)
            form = parsed(bytes(body) or request.raw_query)
            action = form.get("Action", "")
            return await self._answer(request, asked, form, bytes(body))
        except PredastoreError as error:
            return _failed(request, asked.service, action, error)
        except Exception as error:
            if is_exhausted(error):
                return _failed(request, asked.service, action, Overloaded(str(error)))
            _log.exception("request failed", extra={"request_id": request.id})
            return _failed(request, asked.service, action, IamError("An internal error occurred."))
        finally:
            self._held_bytes -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        """Takes the body in, which counts as held as it comes: who sends slowly holds little."""
        if request.method not in ("POST", "GET"):
            raise InvalidInput("The method is POST or GET.", "InvalidAction")
        piece = memoryview(bytearray(_PIECE_BYTES))
        while count := await request.body.readinto(piece):
            if len(body) + count > IAM_FORM_BYTES_MAX:
                raise HttpError(413, f"the form has more than {IAM_FORM_BYTES_MAX} bytes")
            if self._held_bytes + count > IAM_FORMS_BYTES_MAX:
                raise Overloaded("too many forms are being read")
            body += piece[:count]
            self._held_bytes += count

    async def _answer(
        self, request: Request, asked: _Asked, fields: dict[str, str], body: bytes
    ) -> Response:
        action = _action(asked.service, fields)
        name = fields["Action"]
        request.operation = name
        who = None
        if not action.unsigned or asked.region:
            who = await self._signer(request, asked, body)
        form = QueryForm(fields)
        call = QueryCall(
            *(self._services, request, asked.service, name, form, who, asked.region, asked.token)
        )
        if who is not None:
            request.account = who.identity.account
            await self._look(call, action)
        result = await _audited(call, action)
        _requests.child(name, "").value += 1
        return document.answer(asked.service, name, result, request.id)

    async def _signer(self, request: Request, asked: _Asked, body: bytes) -> Identified:
        verifier = self._verifiers[asked.service]
        find = self._services.identities.find
        credential = await verifier.authenticate_whole(request, find, body)
        if credential is None:
            raise SignatureError("AccessDenied", "Request is missing Authentication Token")
        assert isinstance(credential, Identified)
        self._services.used.note(credential, asked.service, asked.region)
        return credential

    async def _look(self, call: QueryCall, action: QueryAction) -> None:
        """Whoever signed may not be any more, or have other rights: that is read here, and checked
        by the commit of what changes something."""
        identity = call.identity
        session = identity.session
        if session is not None and not session.name and not action.in_session:
            raise NotAllowed(
                f"{call.action} can not be called with the temporary credentials of a user."
            )
        current = await self._services.identities.current(call.caller, call.token)
        if current is None:
            raise gone()
        call.who = current


def _no_other(_: str) -> Credential | None:
    """Credentials are found by identities alone."""
    return None


def _asked(request: Request) -> _Asked | None:
    """For which of the two services a request is; None: for S3."""
    header = request.headers.get("authorization", "")
    is_signed = "/iam/" in header or "/sts/" in header or b"X-Amz-Credential" in request.raw_query
    if is_signed:
        try:
            claim = parse_claim(request)
        except SignatureError:
            return None  # S3 says what is wrong with it
        if claim is None or claim.scope.service not in VERSIONS:
            return None
        return _Asked(claim.scope.service, claim.scope.region, claim.token)
    if header or request.raw_path != b"/":
        return None
    if request.method == "POST":
        is_form = request.headers.get("content-type", "").lower().startswith(_FORM)
        return _Asked("sts", "", "") if is_form else None
    is_query = request.method == "GET" and b"Action=" in request.raw_query
    return _Asked("sts", "", "") if is_query else None


def _action(service: str, fields: dict[str, str]) -> QueryAction:
    name, version = fields.get("Action", ""), fields.get("Version", VERSIONS[service])
    action = ACTIONS[service].get(name)
    if action is None or version != VERSIONS[service]:
        raise InvalidInput(
            f"Could not find operation {name[:64]} for version {version[:16]}", "InvalidAction"
        )
    return action


async def _audited(call: QueryCall, action: QueryAction) -> document.Result | None:
    """The action's result; a line of the log for what changes something, whatever comes of it."""
    outcome = "InternalFailure"
    try:
        result = await action.run(call)
        outcome = audit.DONE
    except IamError as error:
        outcome = error.iam_code
        raise
    except PredastoreError as error:
        outcome = error.code
        raise
    finally:
        if action.changes:
            name = f"{call.service}:{call.action}"
            attempt = audit.Attempt(name, call.target, call.decision, outcome)
            audit.note(call.request, call.who, attempt)
    return result


def _failed(request: Request, service: str, action: str, error: PredastoreError) -> Response:
    code, status, message = _said(error)
    if status >= 500 and status != 501:
        _log.warning("%s: %s", code, error, extra={"request_id": request.id})
    _requests.child(action if action in ACTIONS[service] else "", code).value += 1
    return document.failure(service, status, code, message, request.id)


def _said(error: PredastoreError) -> tuple[str, int, str]:
    """Code, status and message of an error."""
    if isinstance(error, IamError):
        return error.iam_code, error.status, str(error)
    if isinstance(error, SignatureError):
        code, status = _SIGNATURE.get(error.s3_code, ("IncompleteSignature", 400))
        if code == "InvalidClientTokenId":
            return code, status, _TOKEN_INVALID
        return code, status, str(error)
    if isinstance(error, HttpError):
        return "MalformedInput", error.status, str(error)
    if isinstance(error, LevelTooLow):
        return "ServiceUnavailable", 503, "The cluster is being upgraded; try again later."
    return "ServiceUnavailable", 503, "It can not be done now; try again."
