"""The S3 error table, how lower layers' errors read in S3's terms, and the error document.

An operation raises `S3Error(code)`; status and default message come from TABLE (source: Amazon
S3 API Reference, "Error Responses"). `translate` is the one place where errors of the layers
below become S3's. `error_response` shapes the answer: XML with Code, Message, Resource and
RequestId; no body for HEAD, nor for 304.
"""

from __future__ import annotations

from typing import Final

from predastore import errors
from predastore.errors import HttpError, PredastoreError, S3Error
from predastore.httpd.message import Response
from predastore.s3.xml_write import DECLARATION, tag

RETRY_AFTER_S: Final = 1

TABLE: Final[dict[str, tuple[int, str]]] = {
    "AccessDenied": (403, "Access Denied"),
    "AccessForbidden": (403, "CORSResponse: CORS is not enabled for this bucket."),
    "AuthorizationHeaderMalformed": (400, "The authorization header is malformed."),
    "AuthorizationQueryParametersError": (400, "The query-string authentication is malformed."),
    "BadDigest": (400, "The digest or checksum that you specified did not match what we received."),
    "BucketAlreadyExists": (409, "The requested bucket name is not available."),
    "BucketAlreadyOwnedByYou": (409, "You already own a bucket of this name."),
    "BucketNotEmpty": (409, "The bucket you tried to delete is not empty."),
    "ConditionalRequestConflict": (409, "A conflicting operation happened; try again."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed object size."),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size."),
    "IllegalLocationConstraintException": (400, "The location constraint is not this region."),
    "IncompleteBody": (400, "The request body is not of the length that was declared."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (403, "The access key ID you provided does not exist in our records."),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidDigest": (400, "The Content-MD5 or checksum value that you specified is not valid."),
    "InvalidLocationConstraint": (400, "The specified location constraint is not valid."),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found, or does not have the ETag given.",
    ),
    "InvalidPartNumber": (416, "The requested partnumber is not satisfiable"),
    "InvalidPartOrder": (400, "The list of parts was not in ascending order."),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidStorageClass": (400, "The storage class you specified is not valid"),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KeyTooLongError": (400, "Your key is too long"),
    "MalformedXML": (
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    "MalformedTrailerError": (400, "The request's trailers are not those that it announced."),
    "MaxMessageLengthExceeded": (400, "Your request was too big."),
    "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size"),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "MissingRequestBodyError": (400, "Request Body is empty"),
    "MissingSecurityHeader": (400, "Your request was missing a required header"),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (
        404,
        "The specified multipart upload does not exist. The upload ID may be invalid, or the "
        "upload may have been aborted or completed.",
    ),
    "NoSuchVersion": (404, "The specified version does not exist."),
    "NotImplemented": (
        501,
        "A header or query parameter that you provided implies functionality that is not "
        "implemented",
    ),
    "NotModified": (304, "Not Modified"),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "RequestHeaderSectionTooLarge": (400, "Your request header section is too large."),
    "RequestTimeTooSkewed": (403, "The difference between the request time and ours is too large."),
    "RequestTimeout": (400, "Your socket connection was not read from or written to in time."),
    "ServiceUnavailable": (503, "The service can not do this now. Please try again."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    ),
    "SlowDown": (503, "Please reduce your request rate."),
    "TooManyBuckets": (400, "You have attempted to create more buckets than allowed"),
    "UnexpectedContent": (400, "This request does not support content"),
    "UnsupportedSignature": (400, "The provided signature version is not supported."),
    "XAmzContentSHA256Mismatch": (
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    ),
}

# What each error of the layers below is in S3's terms; the first class that fits, in this order.
_UNAVAILABLE: Final = "The service can not reach enough of its nodes. Please try again."
_LOWER: Final[tuple[tuple[type[PredastoreError], str, str], ...]] = (
    (errors.OutcomeUnknown, "InternalError", "The request may or may not have taken effect."),
    (errors.NoLeader, "ServiceUnavailable", "The metadata cluster has no leader now."),
    (errors.NotLeader, "ServiceUnavailable", "The metadata cluster has no leader now."),
    (errors.NotEnoughNodes, "ServiceUnavailable", _UNAVAILABLE),
    (errors.ObjectUnreadable, "ServiceUnavailable", _UNAVAILABLE),
    (errors.PeerUnreachable, "ServiceUnavailable", _UNAVAILABLE),
    (errors.DeadlineExceeded, "ServiceUnavailable", "The request took too long inside."),
    (errors.Overloaded, "SlowDown", ""),
    (errors.NodeFull, "SlowDown", "There is no room for more data."),
    (errors.PreconditionFailed, "ConditionalRequestConflict", ""),
)

_HTTP: Final[dict[int, str]] = {
    400: "InvalidRequest",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    411: "MissingContentLength",
    412: "PreconditionFailed",
    413: "MaxMessageLengthExceeded",
    414: "InvalidURI",
    416: "InvalidRange",
    417: "InvalidRequest",
    431: "RequestHeaderSectionTooLarge",
    501: "NotImplemented",
    503: "SlowDown",
    505: "NotImplemented",
}

_MISMATCH: Final[dict[str, str]] = {
    "length": "IncompleteBody",
    "signature": "SignatureDoesNotMatch",
}


def translate(error: PredastoreError) -> S3Error:
    """What `error` is in S3's terms; InternalError where S3 has no word for it."""
    if isinstance(error, S3Error):
        return error
    if isinstance(error, errors.BodyMismatch):
        code = _MISMATCH.get(error.what, "BadDigest")
        return S3Error(code, str(error) if code == "IncompleteBody" else "")
    if isinstance(error, HttpError):
        return S3Error(_HTTP.get(error.status, "InvalidRequest"), str(error))
    for cls, code, message in _LOWER:
        if isinstance(error, cls):
            return S3Error(code, message)
    return S3Error("InternalError")


def status_of(error: S3Error) -> int:
    return TABLE.get(error.s3_code, TABLE["InternalError"])[0]


def message_of(error: S3Error) -> str:
    return error.message or TABLE.get(error.s3_code, TABLE["InternalError"])[1]


def error_response(error: S3Error, *, resource: str, request_id: str, head: bool) -> Response:
    """The answer to a request that failed with `error`; `resource` is its path as it was sent."""
    status = status_of(error)
    headers = [("x-amz-request-id", request_id), *error.headers.items()]
    if "Region" in error.extra:  # where SDKs find it that have no body to read, as after HEAD
        headers.append(("x-amz-bucket-region", error.extra["Region"]))
    if status == 503:
        headers.append(("Retry-After", str(RETRY_AFTER_S)))
    if head or status == 304:
        return Response(status, headers, b"", 0)
    extra = "".join(tag(name, value) for name, value in error.extra.items())
    body = (
        f"{DECLARATION}<Error>{tag('Code', error.s3_code)}"
        f"{tag('Message', message_of(error))}{extra}{tag('Resource', resource)}"
        f"{tag('RequestId', request_id)}</Error>"
    ).encode("utf-8", "replace")
    headers.append(("Content-Type", "application/xml"))
    return Response(status, headers, body, len(body))
