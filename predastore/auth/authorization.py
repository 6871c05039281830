"""What a request claims about its own signature: the Authorization header or the query, parsed.

Formats: "Authenticating Requests (AWS Signature Version 4)" in the Amazon S3 API Reference.

    Authorization: AWS4-HMAC-SHA256 Credential=<key id>/<date>/<region>/<service>/aws4_request,
                   SignedHeaders=<name;name...>, Signature=<64 hex digits>
                   and the time in x-amz-date, or else in Date (RFC 9110 section 5.6.7)
    query:         X-Amz-Algorithm X-Amz-Credential X-Amz-Date X-Amz-Expires
                   X-Amz-SignedHeaders X-Amz-Signature

Nothing here is believed yet; auth.sigv4 decides.
"""

from __future__ import annotations

import calendar
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn
from urllib.parse import parse_qsl

from predastore.base.errors import SignatureError
from predastore.base.limits import SIGV4_KEYS_CACHED_MAX, SIGV4_PRESIGNED_S_MAX
from predastore.httpd.message import Request, parse_date

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_QUERY_FIELDS: Final = frozenset(
    f"X-Amz-{name}"
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
)
_QUERY_FIELDS_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Scope:
    """A parsed credential; `text`: "date/region/service/aws4_request"."""

    access_key_id: str
    date: str
    region: str
    service: str
    text: bytes


class Claim(NamedTuple):
    """`stamp`: "YYYYMMDDTHHMMSSZ", `time_s` since the epoch. `expires_s` is None in a header."""

    scope: Scope
    signed: bytes
    signature: bytes
    stamp: bytes
    time_s: int
    expires_s: int | None
    payload: str | None  # X-Amz-Content-Sha256 of a presigned query
    token: str = ""  # X-Amz-Security-Token, wherever it stands

    @property
    def access_key_id(self) -> str:
        return self.scope.access_key_id

    @property
    def presigned(self) -> bool:
        return self.expires_s is not None


def parse_claim(request: Request) -> Claim | None:
    """The claim of a request; None where it is anonymous. SignatureError where it is malformed."""
    header = request.headers.get("authorization")
    token = request.headers.get("x-amz-security-token", "")
    raw_query = request.raw_query
    in_query = b"X-Amz-" in raw_query or b"AWSAccessKeyId" in raw_query
    fields = _query_fields(raw_query) if in_query else {}
    if header is None:
        return _query_claim(fields, token) if fields else None
    if fields:
        raise SignatureError("InvalidArgument", "Only one auth mechanism allowed.")
    stamp = request.headers.get("x-amz-date")
    if stamp is None:
        stamp = _stamp_of(request.headers.get("date", ""))
    return _header_claim(header, stamp, token)


def shown_time(at_s: float) -> str:
    """As elements of errors tell it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def expired(at_s: float, now_s: float, **elements: str) -> SignatureError:
    """A presigned URL that was good until `at_s`."""
    error = SignatureError("AccessDenied", "Request has expired")
    error.extra |= {**elements, "Expires": shown_time(at_s), "ServerTime": shown_time(now_s)}
    return error


# --- the header


def _header_malformed(why: str) -> NoReturn:
    raise SignatureError(
        "AuthorizationHeaderMalformed", f"The authorization header is malformed; {why}."
    )


def _header_claim(header: str, stamp: str | None, token: str) -> Claim:
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        _refuse_algorithm(algorithm)
    parts = {}
    for part in rest.split(","):
        name, _, value = part.strip(" ").partition("=")
        parts[name] = value
    if len(parts) != 3:
        _header_malformed("it needs Credential, SignedHeaders and Signature")
    try:
        credential = parts["Credential"]
        signed, signature = parts["SignedHeaders"], parts["Signature"]
    except KeyError as missing:
        _header_malformed(f"it has no {missing.args[0]}")
    scope = parse_scope(credential)
    if scope is None:
        _header_malformed("the Credential is not key/date/region/service/aws4_request")
    time_s = None if stamp is None else parse_stamp(stamp)
    if stamp is None or time_s is None:
        raise SignatureError(
            "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"
        )
    return Claim(
        *(scope, _ascii(signed), _ascii(signature), stamp.encode("ascii"), time_s, None, None),
        token,
    )


def _refuse_algorithm(algorithm: str) -> NoReturn:
    if algorithm.startswith("AWS4-ECDSA"):
        raise SignatureError("NotImplemented", "SigV4A (ECDSA) signatures are not supported.")
    if algorithm == "AWS":
        raise SignatureError(
            "InvalidRequest",
            "Signature Version 2 is not supported. Please use AWS4-HMAC-SHA256.",
        )
    raise SignatureError("InvalidArgument", "Unsupported Authorization Type.")


# --- the query


def _query_malformed(why: str) -> NoReturn:
    raise SignatureError("AuthorizationQueryParametersError", why)


def _query_fields(raw_query: bytes) -> dict[str, str]:
    """The fields of a query that sign it, by name; empty where there are none."""
    try:
        pairs = parse_qsl(
            raw_query.decode("latin-1"),
            keep_blank_values=True,
            encoding="latin-1",
            max_num_fields=_QUERY_FIELDS_MAX,
        )
    except ValueError:
        _query_malformed(f"The query has more than {_QUERY_FIELDS_MAX} parameters")
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name == "AWSAccessKeyId":
            _refuse_algorithm("AWS")
        if name in _QUERY_FIELDS or name in ("X-Amz-Content-Sha256", "X-Amz-Security-Token"):
            if name in fields:
                _query_malformed(f"{name} is given twice")
            fields[name] = value
    return fields if fields.keys() & _QUERY_FIELDS else {}


def _query_claim(fields: dict[str, str], token: str) -> Claim:
    missing = _QUERY_FIELDS - fields.keys()
    if missing:
        _query_malformed(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, "
            "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and "
            "X-Amz-Expires parameters."
        )
    if fields["X-Amz-Algorithm"] != ALGORITHM:
        if fields["X-Amz-Algorithm"].startswith("AWS4-ECDSA"):
            _refuse_algorithm("AWS4-ECDSA")
        _query_malformed('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
    scope = parse_scope(fields["X-Amz-Credential"])
    if scope is None:
        _query_malformed(
            "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; "
            'expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
        )
    stamp, expires = fields["X-Amz-Date"], fields["X-Amz-Expires"]
    time_s = parse_stamp(stamp)
    if time_s is None:
        _query_malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    if not (expires.isascii() and expires.isdigit()) or len(expires) > 9:
        _query_malformed("X-Amz-Expires should be a number")
    expires_s = int(expires)
    if expires_s > SIGV4_PRESIGNED_S_MAX:
        _query_malformed(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires "
            f"must be less than {SIGV4_PRESIGNED_S_MAX} seconds"
        )
    if expires_s < 1:
        _query_malformed("X-Amz-Expires must be at least 1")
    return Claim(
        scope,
        _ascii(fields["X-Amz-SignedHeaders"]),
        _ascii(fields["X-Amz-Signature"]),
        stamp.encode("ascii"),
        time_s,
        expires_s,
        fields.get("X-Amz-Content-Sha256"),
        _one_token(fields.get("X-Amz-Security-Token", ""), token),
    )


def _one_token(in_query: str, in_header: str) -> str:
    """The token of a presigned request, which may say it twice, but not two."""
    if in_query and in_header and in_query != in_header:
        raise SignatureError("InvalidToken", "The query and the header have two security tokens.")
    return in_query or in_header


# --- parts


def _ascii(text: str) -> bytes:
    return text.encode("latin-1", "replace")


@lru_cache(maxsize=SIGV4_KEYS_CACHED_MAX)
def parse_scope(credential: str) -> Scope | None:
    """The parts of "<key id>/<date>/<region>/<service>/aws4_request"; the key id may have "/"."""
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request" or not parts[0] or len(credential) > 512:
        return None
    key_id, date, region, service, _ = parts
    if len(date) != 8 or not (date.isascii() and date.isdigit()):
        return None
    return Scope(key_id, date, region, service, _ascii("/".join(parts[1:])))


def _stamp_of(date: str) -> str:
    """An HTTP date as it is signed; what is none stays as it is."""
    at = parse_date(date)
    return date if at is None else at.strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=SIGV4_KEYS_CACHED_MAX)
def parse_stamp(stamp: str) -> int | None:
    """Seconds since the epoch of "YYYYMMDDTHHMMSSZ"; None where it is not one."""
    digits = stamp[:8] + stamp[9:15]
    if len(stamp) != 16 or stamp[8] != "T" or stamp[15] != "Z":
        return None
    if not (digits.isascii() and digits.isdigit()):
        return None
    year, month, day = int(stamp[:4]), int(stamp[4:6]), int(stamp[6:8])
    hour, minute, second = int(stamp[9:11]), int(stamp[11:13]), int(stamp[13:15])
    if not year >= 1970 or not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 60:
        return None
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return calendar.timegm((year, month, day, hour, minute, second))
