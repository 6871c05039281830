"""The S3 error table, how lower layers' errors read in S3's terms, and the error document.

An operation raises `S3Error(code)`; status and default message come from TABLE (source: Amazon
S3 API Reference, "Error Responses", and what the service is known to send). `translate` is the
one place where errors of the layers below become S3's. `error_response` shapes the answer: XML
with Code, Message, what S3 tells beside them, Resource, RequestId and HostId; no body for HEAD,
nor for 304. SDKs show their users the message alone, so it ends with the details in brackets.
"""

from __future__ import annotations

import re
from typing import Final

from predastore.base import errors
from predastore.base.errors import FormError, FormFault, HttpError, PredastoreError, S3Error
from predastore.base.limits import S3_DETAIL_CHARS_MAX
from predastore.catalog import errors as refused
from predastore.catalog.errors import CatalogError
from predastore.httpd.message import Response
from predastore.iam.errors import IamError
from predastore.s3.xml_write import DECLARATION, tag

RETRY_AFTER_S: Final = 1

TABLE: Final[dict[str, tuple[int, str]]] = {
    "AccessControlListNotSupported": (400, "The bucket does not allow ACLs"),
    "AccessDenied": (403, "Access Denied"),
    "AccessForbidden": (403, "CORSResponse: CORS is not enabled for this bucket."),
    "AuthorizationHeaderMalformed": (400, "The authorization header is malformed."),
    "AuthorizationQueryParametersError": (400, "The query-string authentication is malformed."),
    "BadDigest": (400, "The digest or checksum that you specified did not match what we received."),
    "BucketAlreadyExists": (
        409,
        "The requested bucket name is not available. The bucket namespace is shared by all users "
        "of the system. Please select a different name and try again.",
    ),
    "BucketAlreadyOwnedByYou": (
        409,
        "Your previous request to create the named bucket succeeded and you already own it.",
    ),
    "BucketNotEmpty": (409, "The bucket you tried to delete is not empty"),
    "ConditionalRequestConflict": (
        409,
        "The conditional request cannot succeed due to a conflicting operation against this "
        "resource.",
    ),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "BadRequest": (400, "Bad Request"),
    "ExpiredToken": (400, "The provided token has expired."),
    "IllegalLocationConstraintException": (400, "The location constraint is not this region."),
    "IllegalVersioningConfigurationException": (
        400,
        "The Versioning element must be specified",
    ),
    "IncompleteBody": (
        400,
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
    ),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (
        403,
        "The AWS Access Key Id you provided does not exist in our records.",
    ),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketAclWithBlockPublicAccessError": (
        400,
        "Bucket cannot have public ACLs set with BlockPublicAccess enabled",
    ),
    "InvalidBucketAclWithObjectOwnership": (
        400,
        "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
    ),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidBucketState": (
        409,
        "The request is not valid with the current state of the bucket.",
    ),
    "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
    "InvalidLocationConstraint": (400, "The specified location-constraint is not valid"),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found.  The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag.",
    ),
    "InvalidPartNumber": (416, "The requested partnumber is not satisfiable"),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. Parts must be ordered by part number.",
    ),
    "InvalidPolicyDocument": (
        400,
        "The content of the form does not meet the conditions specified in the policy document.",
    ),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidRetentionPeriod": (400, "The retention period specified is invalid."),
    "InvalidStorageClass": (400, "The storage class you specified is not valid"),
    "InvalidTag": (400, "The tag provided was not a valid tag."),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KeyTooLongError": (400, "Your key is too long"),
    "MalformedACLError": (
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    "MalformedPolicy": (400, "Policies must be valid JSON and the first byte must be '{'"),
    "MalformedPOSTRequest": (
        400,
        "The body of your POST request is not well-formed multipart/form-data.",
    ),
    "MalformedXML": (
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    ),
    "MalformedTrailerError": (400, "The request's trailers are not those that it announced."),
    "MetadataConfigurationNotFound": (404, "The metadata configuration does not exist"),
    "MaxMessageLengthExceeded": (400, "Your request was too big."),
    "MaxPostPreDataLengthExceeded": (
        400,
        "Your POST request fields preceding the upload file were too large.",
    ),
    "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size"),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "MissingRequestBodyError": (400, "Request Body is empty"),
    "MissingSecurityHeader": (400, "Your request was missing a required header"),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchBucketPolicy": (404, "The bucket policy does not exist"),
    "NoSuchConfiguration": (404, "The specified configuration does not exist."),
    "NoSuchCORSConfiguration": (404, "The CORS configuration does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchLifecycleConfiguration": (404, "The lifecycle configuration does not exist"),
    "NoSuchObjectLockConfiguration": (
        404,
        "The specified object does not have a ObjectLock configuration",
    ),
    "NoSuchPublicAccessBlockConfiguration": (
        404,
        "The public access block configuration was not found",
    ),
    "NoSuchTagSet": (404, "The TagSet does not exist"),
    "NoSuchUpload": (
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have "
        "been aborted or completed.",
    ),
    "NoSuchVersion": (404, "The specified version does not exist."),
    "NoSuchWebsiteConfiguration": (
        404,
        "The specified bucket does not have a website configuration",
    ),
    "NotImplemented": (
        501,
        "A header you provided implies functionality that is not implemented",
    ),
    "NotModified": (304, "Not Modified"),
    "ObjectLockConfigurationNotFoundError": (
        404,
        "Object Lock configuration does not exist for this bucket",
    ),
    "OwnershipControlsNotFoundError": (404, "The bucket ownership controls were not found"),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "ReplicationConfigurationNotFoundError": (
        404,
        "The replication configuration was not found",
    ),
    "RequestHeaderSectionTooLarge": (400, "Your request header section is too large."),
    "RequestTimeTooSkewed": (
        403,
        "The difference between the request time and the current time is too large.",
    ),
    "RequestTimeout": (
        400,
        "Your socket connection to the server was not read from or written to within the timeout "
        "period. Idle connections will be closed.",
    ),
    "ServerSideEncryptionConfigurationNotFoundError": (
        404,
        "The server side encryption configuration was not found",
    ),
    "ServiceUnavailable": (503, "The service can not do this now. Please try again."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    ),
    "SlowDown": (503, "Please reduce your request rate."),
    "TooManyBuckets": (400, "You have attempted to create more buckets than allowed"),
    "UnresolvableGrantByEmailAddress": (
        400,
        "The email address you provided does not match any account on record.",
    ),
    "UnexpectedContent": (400, "This request does not support content"),
    "UnsupportedSignature": (400, "The provided signature version is not supported."),
    "XAmzContentSHA256Mismatch": (
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    ),
}

# What each kind of CatalogError is; its details are told beside it.
_OF_CATALOG: Final[dict[type[CatalogError], tuple[str, str]]] = {
    refused.NoSuchBucket: ("NoSuchBucket", ""),
    refused.BucketChanged: ("ConditionalRequestConflict", ""),
    refused.BucketNotEmpty: ("BucketNotEmpty", ""),
    refused.NoSuchKey: ("NoSuchKey", ""),
    refused.NoSuchVersion: ("NoSuchVersion", ""),
    refused.IsDeleteMarker: ("MethodNotAllowed", ""),
    refused.ConditionFailed: ("PreconditionFailed", ""),
    refused.Contended: ("ConditionalRequestConflict", ""),
    refused.RequesterChanged: (
        "SlowDown",
        "The permissions of the requester were changed while the request ran; send it again.",
    ),
    refused.ObjectLocked: (
        "AccessDenied",
        "Access Denied because object protected by object lock.",
    ),
    refused.BucketLocked: ("InvalidBucketState", ""),
    refused.NoLock: ("InvalidRequest", "Bucket is missing Object Lock Configuration"),
    refused.AclChanged: ("ConditionalRequestConflict", ""),
    refused.LayoutGone: ("SlowDown", "The source is being replaced faster than it can be read."),
    refused.WriteTooOld: ("ServiceUnavailable", "The write stood still for too long."),
    refused.NoSuchUpload: ("NoSuchUpload", ""),
    refused.InvalidPart: ("InvalidPart", ""),
    refused.PartTooSmall: ("EntityTooSmall", ""),
    refused.ObjectTooLarge: ("EntityTooLarge", ""),
    refused.SizeDiffers: ("InvalidRequest", "The parts do not have the declared size."),
}
_OF_MARKER: Final = {"x-amz-delete-marker": "true", "Allow": "DELETE"}

# What each other error of the layers below is; the first class that fits, in this order.
_UNAVAILABLE: Final = "The service can not reach enough of its nodes. Please try again."
_LOWER: Final[tuple[tuple[type[PredastoreError], str, str], ...]] = (
    (errors.OutcomeUnknown, "InternalError", "The request may or may not have taken effect."),
    (IamError, "ServiceUnavailable", "The identity of the access key can not be read now."),
    (errors.NoLeader, "ServiceUnavailable", "The metadata cluster has no leader now."),
    (errors.NotLeader, "ServiceUnavailable", "The metadata cluster has no leader now."),
    (errors.LevelTooLow, "ServiceUnavailable", "The metadata cluster is being upgraded."),
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


# The table's own text is enough where the request's address says the rest.
_OF_ADDRESS: Final = frozenset({"Key", "BucketName", "UploadId", "VersionId"})


def not_implemented(what: str, *, header: str = "", parameter: str = "") -> S3Error:
    """501; `what` says which function it is that the request asks for, by a header or a query
    parameter where one is named."""
    said = ("Header", header), ("QueryParameter", parameter), ("additionalMessage", what)
    kind = "header" if header else "parameter"
    text = f"A {kind} you provided implies functionality that is not implemented"
    error = S3Error("NotImplemented", text)
    error.extra |= {name: value for name, value in said if value}
    return error


def translate(error: PredastoreError) -> S3Error:
    """What `error` is in S3's terms; InternalError where S3 has no word for it."""
    if isinstance(error, S3Error):
        return error
    if isinstance(error, errors.BodyMismatch):
        return _mismatch(error)
    if isinstance(error, FormError):
        return _of_form(error)
    if isinstance(error, HttpError):
        return S3Error(_HTTP.get(error.status, "InvalidRequest"), str(error))
    if isinstance(error, CatalogError) and type(error) in _OF_CATALOG:
        code, message = _OF_CATALOG[type(error)]
        headers = _OF_MARKER if isinstance(error, refused.IsDeleteMarker) else None
        return S3Error(code, message, headers=headers, **error.details)
    for cls, code, message in _LOWER:
        if isinstance(error, cls):
            return S3Error(code, message)
    return S3Error("InternalError")


def _mismatch(error: errors.BodyMismatch) -> S3Error:
    if error.what == "length":
        return S3Error("IncompleteBody", f"{TABLE['IncompleteBody'][1]} ({error})")
    if error.what == "signature":
        return S3Error("SignatureDoesNotMatch")
    if error.what == "md5":
        return S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.")
    return S3Error(
        "BadDigest",
        f"The {error.what.upper()} you specified did not match the calculated checksum.",
    )


def _of_form(error: FormError) -> S3Error:
    if error.fault is FormFault.FIELDS:
        return S3Error("MaxPostPreDataLengthExceeded")
    if error.fault is FormFault.FILES:
        why = "POST requires exactly one file upload per request."
        return S3Error("InvalidArgument", why, ArgumentName="file")
    return S3Error("MalformedPOSTRequest", f"{TABLE['MalformedPOSTRequest'][1]} ({error})")


def status_of(error: S3Error) -> int:
    return TABLE.get(error.s3_code, TABLE["InternalError"])[0]


def message_of(error: S3Error, address: str = "") -> str:
    """The text, and in brackets each detail that neither it nor the request's `address` says."""
    text = error.message or TABLE.get(error.s3_code, TABLE["InternalError"])[1]
    details = [
        f"{name}: {value[:S3_DETAIL_CHARS_MAX]}"
        for name, value in error.extra.items()
        if value and not _says(text, value) and not (name in _OF_ADDRESS and value in address)
    ]
    return f"{text} ({', '.join(details)})" if details else text


def _says(text: str, value: str) -> bool:
    """Whether `value` stands in `text`, and not as a part of another word or number."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def error_response(
    error: S3Error,
    *,
    resource: str,
    request_id: str,
    host_id: str,
    head: bool,
    address: str = "",
    of_control: bool = False,
) -> Response:
    """The answer to a request that failed with `error`; `resource` is its path as it was sent,
    `address` all that it names, decoded. `of_control`: as S3 Control says it."""
    status = status_of(error)
    headers = [
        ("x-amz-request-id", request_id),
        ("x-amz-id-2", host_id),
        *error.headers.items(),
    ]
    if "Region" in error.extra:  # where SDKs find it that have no body to read, as after HEAD
        headers.append(("x-amz-bucket-region", error.extra["Region"]))
    if status == 503:
        headers.append(("Retry-After", str(RETRY_AFTER_S)))
    if head or status == 304:
        return Response(status, headers, b"", 0)
    extra = "".join(tag(name, value) for name, value in error.extra.items())
    said = f"{tag('Code', error.s3_code)}{tag('Message', message_of(error, address))}{extra}"
    ids = f"{tag('RequestId', request_id)}{tag('HostId', host_id)}"
    whole = f"<Error>{said}{tag('Resource', resource)}{ids}</Error>"
    if of_control:
        whole = f"<ErrorResponse><Error>{said}</Error>{ids}</ErrorResponse>"
    body = f"{DECLARATION}{whole}".encode("utf-8", "replace")
    headers.append(("Content-Type", "application/xml"))
    return Response(status, headers, body, len(body))
