"""What a write's header fields ask for, and what a read's answer carries: metadata.

Values are Latin-1 text, that is, the bytes that were sent; they go back as they came, but for
user metadata, which is text (encoded_words.py). The header fields that ask for something that is
not implemented are refused here (`check_unimplemented`), before anything else is done. Other
x-amz-* fields, of which SDKs have ever new ones, are ignored, as S3 does; so is any without a
value, which asks for nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.httpd.chunked import content_encoding
from predastore.httpd.message import Headers
from predastore.s3 import encoded_words
from predastore.s3.errors import not_implemented

DEFAULT_CONTENT_TYPE: Final = "binary/octet-stream"

_USER_PREFIX: Final = b"x-amz-meta-"
_AMZ_PREFIX: Final = b"x-amz-"

# Stored with the object and sent back: field as received -> as it is spelt in answers.
STORED: Final[dict[str, str]] = {
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "expires": "Expires",
    "x-amz-website-redirect-location": "x-amz-website-redirect-location",
}
_STORED_RAW: Final = {name.encode(): name for name in STORED}

# Fields of every request, not to be looked at twice.
_COMMON: Final = frozenset(
    {
        *(b"x-amz-content-sha256", b"x-amz-date", b"x-amz-decoded-content-length"),
        *(b"x-amz-sdk-checksum-algorithm", b"x-amz-trailer", b"x-amz-user-agent"),
    }
)

# How fields begin that no operation obeys -> what they ask for.
_REFUSED: Final = {
    b"x-amz-server-side-encryption": "server-side encryption",
    b"x-amz-copy-source-server-side-encryption": "server-side encryption",
    b"x-amz-object-lock-": "object lock",
    b"x-amz-grant-": "grants of access",
    b"x-amz-write-offset-bytes": "appending to an object",
    b"x-amz-rename-source": "renaming an object",
    b"x-amz-if-match-": "a condition on an object's size or time",
    b"x-amz-copy-source": "copying by this operation",
}
_REFUSED_ON_READS: Final = tuple(
    prefix
    for prefix in _REFUSED
    if prefix.startswith((b"x-amz-server-side", b"x-amz-object-lock", b"x-amz-copy"))
)
_REFUSED_PREFIXES: Final = tuple(_REFUSED)

STORAGE_CLASSES: Final = frozenset(
    {
        *("STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING"),
        *("GLACIER", "DEEP_ARCHIVE", "OUTPOSTS", "GLACIER_IR", "SNOW", "EXPRESS_ONEZONE"),
        *("FSX_OPENZFS", "FSX_ONTAP", "AWS_BACKUP_WARM", "AWS_BACKUP_LOW_COST_WARM"),
    }
)


_BOOLEAN: Final = frozenset({b"true", b"false"})

# Fields that some operations obey, in lower case -> what they may say. Those about ACLs are read by
# acl_request.
_VALUES: Final[dict[bytes, frozenset[bytes]]] = {
    b"x-amz-bucket-object-lock-enabled": _BOOLEAN,
    b"x-amz-bypass-governance-retention": _BOOLEAN,
    b"x-amz-object-ownership": frozenset(
        {b"bucketownerenforced", b"bucketownerpreferred", b"objectwriter"}
    ),
    b"x-amz-tagging-directive": frozenset({b"copy", b"replace"}),
}


def _check_value(name: bytes, value: bytes) -> None:
    shown, said = name.decode("latin-1"), value.decode("latin-1")
    if name == b"x-amz-storage-class" and said not in STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", StorageClassRequested=said)
    known = _VALUES.get(name)
    if known is not None and value.lower() not in known:
        if name == b"x-amz-object-ownership":
            why = f"Invalid {shown} header: {said}"
            raise S3Error("InvalidArgument", why, ArgumentName=shown)
        raise S3Error("InvalidArgument", ArgumentName=shown, ArgumentValue=said)


def check_unimplemented(headers: Headers, accepted: frozenset[bytes], *, mutating: bool) -> None:
    """NotImplemented for an x-amz-* field that asks for what the operation does not do.

    `accepted`: fields that it obeys; of those, values that it can not are refused, too. A read is
    refused only for what would change its meaning.
    """
    for name, value in headers.raw:
        if not name.startswith(_AMZ_PREFIX) or name in _COMMON or not value:
            continue
        if name in accepted:
            _check_value(name, value)
        elif name.startswith(_REFUSED_PREFIXES if mutating else _REFUSED_ON_READS):
            what = next(what for prefix, what in _REFUSED.items() if name.startswith(prefix))
            shown = name.decode("latin-1")
            raise not_implemented(f"{shown} asks for {what}", header=shown)


class Metadata(NamedTuple):
    """What is stored beside an object's bytes. Names in lower case; user metadata unprefixed."""

    content_type: str
    headers: dict[str, str]
    user: dict[str, str]
    storage_class: str = ""  # "" for STANDARD


def parse_metadata(headers: Headers) -> Metadata:
    """Content-Type, the stored fields and x-amz-meta-*; MetadataTooLarge beyond S3's 2 KiB, of
    names and values in UTF-8."""
    stored: dict[str, str] = {}
    user: dict[str, str] = {}
    user_bytes = stored_bytes = 0
    for name, value in headers.raw:
        if name.startswith(_USER_PREFIX):
            key, text = name[len(_USER_PREFIX) :].decode("latin-1"), encoded_words.decode(value)
            user[key] = f"{user[key]},{text}" if key in user else text
            user_bytes += len(key) + len(text.encode())
        elif name in _STORED_RAW:
            text = value.decode("latin-1")
            if name == b"content-encoding":
                text = content_encoding(headers) or ""
            if text:
                stored[_STORED_RAW[name]] = text
                stored_bytes += len(value)
    if user_bytes > limits.S3_USER_METADATA_BYTES_MAX:
        raise S3Error(
            "MetadataTooLarge",
            Size=str(user_bytes),
            MaxSizeAllowed=str(limits.S3_USER_METADATA_BYTES_MAX),
        )
    content_type = headers.get("content-type") or DEFAULT_CONTENT_TYPE
    if stored_bytes + len(content_type) > limits.S3_STORED_HEADERS_BYTES_MAX:
        raise S3Error("RequestHeaderSectionTooLarge")
    redirect = stored.get("x-amz-website-redirect-location")
    if redirect is not None and not redirect.startswith(("/", "http://", "https://")):
        raise S3Error("InvalidArgument", "The website redirect location must be a path or a URL.")
    storage_class = headers.get("x-amz-storage-class", "")
    return Metadata(
        content_type, stored, user, "" if storage_class == "STANDARD" else storage_class
    )
