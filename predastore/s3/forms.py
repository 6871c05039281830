"""A form that a browser posts, as a request that makes an object: its fields, and its file.

Source: "POST Object" in the Amazon S3 API Reference. Names of fields count whatever their case, and
each is there once. Values are text in UTF-8, in which ${filename} stands for the name of the file.
What a header field of a PUT says is a field here, under the same name, but for `acl` and `tagging`.
Header fields of the request say nothing of the object, since no policy covers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from predastore.auth.post_policy import missing
from predastore.base.errors import FormError, FormFault, S3Error
from predastore.base.limits import FORM_FIELDS_BYTES_MAX, FORM_TAIL_BYTES_MAX
from predastore.httpd.formbody import FormBody
from predastore.httpd.message import Body, Headers, Request, is_field_name
from predastore.httpd.multipart import boundary_of
from predastore.s3 import checksums, lock, tags
from predastore.s3.errors import not_implemented
from predastore.s3.post_policy import BUCKET, SizeRange
from predastore.s3.services import Services
from predastore.s3.target import check_key

FILE: Final = "file"
KEY: Final = "key"
ACL: Final = "acl"
TAGGING: Final = "tagging"

# x-amz-* that a form may ask for, as header fields; what S3 has besides is 501.
OBEYED: Final = frozenset(
    {
        *(name.encode() for name in (lock.MODE, lock.UNTIL, lock.LEGAL_HOLD, tags.HEADER)),
        *(b"x-amz-acl", b"x-amz-storage-class", b"x-amz-website-redirect-location"),
    }
)
_FILENAME: Final = "${filename}"
_PATH_END: Final = re.compile(r".*[/\\]", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_AMZ: Final = "x-amz-"
_CONDITIONS: Final = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_AS_HEADERS: Final = frozenset(
    {
        *("cache-control", "content-disposition", "content-encoding", "content-language"),
        *("content-md5", "content-type", "expires", *_CONDITIONS),
    }
)
# Fields that would say something about a body on the wire, or sign.
_NOT_OF_OBJECTS: Final = frozenset(
    {
        *("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"),
        *("x-amz-security-token", "x-amz-content-sha256", "x-amz-decoded-content-length"),
        "x-amz-trailer",
    }
)
# Header fields of the request that narrow what it may do.
_OF_REQUESTS: Final = frozenset(
    name.encode() for name in (*_CONDITIONS, "x-amz-expected-bucket-owner")
)
_RENAMED: Final = {
    ACL: "x-amz-acl",
    "x-amz-checksum-algorithm": "x-amz-sdk-checksum-algorithm",
}


@dataclass(frozen=True, slots=True)
class Form:
    """`fields`: lower-case name -> value, of those before the file."""

    fields: dict[str, str]
    file: FormBody

    @property
    def key(self) -> str:
        """The key that the form names; InvalidArgument, KeyTooLongError."""
        key = self.fields.get(KEY)
        if key is None:
            raise missing(KEY)
        why = ""
        if not key:
            why = "User key must have a length greater than 0."
        elif "\0" in key:
            why = "A key has no NUL character."
        if why:
            raise S3Error("InvalidArgument", why, ArgumentName=KEY, ArgumentValue=key)
        return check_key(key)

    async def as_put(
        self, services: Services, request: Request, size: SizeRange
    ) -> tuple[Request, SizedFile]:
        """The PUT that the form in `request` stands for, and its body: the file, if that has a size
        within `size`. InvalidArgument, MalformedXML, InvalidTag."""
        fields = [(_RENAMED.get(name, name), value) for name, value in self.fields.items()]
        if TAGGING in self.fields:
            fields.append((tags.HEADER, await _tags(services, self.fields[TAGGING])))
        raw = [
            *_as_headers(fields),
            *(one for one in request.headers.raw if one[0] in _OF_REQUESTS),
        ]
        body = SizedFile(self.file, size)
        return replace(request, headers=Headers(raw), body=body), body


class SizedFile(Body):
    """The file of a form, as long as its size is within what is allowed; EntityTooLarge or
    EntityTooSmall before its end is told."""

    length = None

    def __init__(self, file: FormBody, size: SizeRange) -> None:
        self._file = file
        self._size = size
        self._taken_bytes = 0

    def check_bound(self) -> int:
        """The most bytes that it may have, before any was taken; refused where it can not have a
        size that is allowed."""
        most = self._file.most_bytes
        self._size.check(max(0, most - FORM_TAIL_BYTES_MAX), most)
        return min(most, self._size.most)

    async def readinto(self, buffer: memoryview) -> int:
        count = await self._file.readinto(buffer)
        self._taken_bytes += count
        self._size.check(self._taken_bytes, self._size.least if count else self._taken_bytes)
        return count


async def read_form(request: Request) -> Form:
    """The fields of a form that a request posts, up to its file. PreconditionFailed for what is
    none, MissingContentLength, FormError, InvalidArgument."""
    boundary = boundary_of(request.headers.get("content-type", ""))
    if boundary is None:
        raise S3Error(
            "PreconditionFailed",
            Condition="Bucket POST must be of the enclosure-type multipart/form-data",
        )
    _refuse_digests(request.headers)
    if request.body.length is None or not request.has_length:
        raise S3Error("MissingContentLength")
    body = FormBody(request.body, boundary, FILE)
    raw, about = await body.read_fields()
    return Form(_read_fields(raw, _PATH_END.sub("", about.name)), body)


def _read_fields(raw: list[tuple[str, bytes]], filename: str) -> dict[str, str]:
    """Text by lower-case name, with the file's name where it is asked for."""
    fields: dict[str, str] = {}
    left_chars = FORM_FIELDS_BYTES_MAX
    for name, value in raw:
        lowered, text = name.lower(), _text(name, value)
        if lowered in fields:
            raise _invalid("The form has this field twice.", name)
        left_chars -= text.count(_FILENAME) * len(filename)
        if left_chars < 0:
            raise FormError("the file's name makes the fields too large", FormFault.FIELDS)
        fields[lowered] = text.replace(_FILENAME, filename)
    return fields


def check_bucket_field(fields: dict[str, str], bucket: str) -> None:
    """A form may say for which bucket it is."""
    if fields.get(BUCKET, bucket) != bucket:
        raise _invalid("The form is for another bucket than its address names.", BUCKET)


def _refuse_digests(headers: Headers) -> None:
    """What speaks of the whole body of a request would be of the form, not of its file."""
    digested = headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    is_digest = not digested.startswith(("UNSIGNED-", "STREAMING-"))
    if is_digest or "content-md5" in headers or checksums.has_digest(headers):
        raise not_implemented(
            "a header field with a digest asks for that of a whole form; give that of its file as "
            "a field of the form"
        )


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _invalid("The value of this field is not in UTF-8.", name) from None


def _as_headers(fields: list[tuple[str, str]]) -> Iterator[tuple[bytes, bytes]]:
    """What the fields would be in the head of a PUT."""
    for name, value in fields:
        is_amz = name.startswith(_AMZ) and name not in _NOT_OF_OBJECTS
        if not is_amz and name not in _AS_HEADERS:
            continue
        text = value.strip(" \t")
        if not is_field_name(name.encode()) or _CONTROL.search(text):
            raise _invalid("This can not be a header field of the object.", name)
        yield name.encode(), text.encode()


async def _tags(services: Services, document: str) -> str:
    """A Tagging document as the header field that says the same; MalformedXML, InvalidTag."""
    async with services.documents.tree(document.encode(), "Tagging") as tree:
        pairs = tags.of_object(tree)
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in pairs)


def _invalid(why: str, name: str) -> S3Error:
    return S3Error("InvalidArgument", why, ArgumentName=name)
