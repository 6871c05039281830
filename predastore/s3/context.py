"""One request on its way through an operation: what it asks for, who asks, and what serves it.

An operation is `async def run(ctx: Context) -> Response`. It reads its parameters, asks the context
for the bucket, for leave to change it, or for an object (reach.py, where access is decided), calls
`Catalog`, and shapes the answer; what goes wrong is raised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from predastore.auth.payload import verify_payload
from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.values import Attributes, Expectation
from predastore.httpd.message import Response
from predastore.s3 import checksums, lock, tags
from predastore.s3.acl_request import AclRequest, belonging
from predastore.s3.headers import parse_metadata
from predastore.s3.reach import Reach
from predastore.s3.xml_read import Element

T = TypeVar("T")

_INT_DIGITS_MAX: Final = 10  # of a count in a query; more can not be one
# Who owns what an anonymous request writes (Amazon S3's, in its answers).
ANONYMOUS_WRITER: Final = "65a011a29cdf8ec533ec3d1ccaae921c"


@dataclass(slots=True)
class Context(Reach):
    """What an operation is given."""

    # --- parameters ---------------------------------------------------------------------------

    def count(self, name: str, default: int, most: int) -> int:
        """A non-negative number of the query, at most `most`."""
        return _count(name, self.query.get(name), default, most)

    def field_count(self, name: str, default: int, most: int) -> int:
        """The same of a header field."""
        return _count(name, self.headers.get(name), default, most)

    def part_number(self) -> int:
        text = self.query["partNumber"]
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
        if not 1 <= number <= limits.S3_PARTS_MAX:
            raise S3Error(
                "InvalidArgument",
                f"Part number must be an integer between 1 and {limits.S3_PARTS_MAX}, inclusive",
                ArgumentName="partNumber",
                ArgumentValue=text,
            )
        return number

    def attributes(self, acl: AclRequest) -> Attributes:
        """What the request says of the object that it makes, with the ACL that it asks for.
        Tags, a lock and an ACL have to be allowed, too."""
        self.access.makes_object = True
        said = parse_metadata(self.headers)
        asked = lock.of_headers(self.headers)
        tagged = self.headers.get(tags.HEADER, "")
        for action, is_asked in (
            ("s3:PutObjectTagging", tagged),
            ("s3:PutObjectRetention", asked.retention.mode),
            ("s3:PutObjectLegalHold", asked.legal_hold is not None),
            ("s3:PutObjectAcl", acl.is_asked),
        ):
            if is_asked:
                self.access.require(action)
        writer = self.account or ANONYMOUS_WRITER
        return Attributes(
            owner=writer,
            content_type=said.content_type,
            headers=said.headers,
            user=said.user,
            storage_class=said.storage_class,
            tags=tags.of_field(tagged),
            retention=asked.retention,
            legal_hold=asked.legal_hold,
            belonging=belonging(acl, writer),
        )

    def body_size(self) -> int:
        """The declared length of an object's or part's bytes; it must be known beforehand."""
        size = self.request.body.length
        if size is None or not self.request.has_length:
            raise S3Error("MissingContentLength")
        if size > limits.S3_PUT_BYTES_MAX:
            raise S3Error(
                "EntityTooLarge",
                ProposedSize=str(size),
                MaxSizeAllowed=str(limits.S3_PUT_BYTES_MAX),
            )
        return size

    def expectation(self) -> Expectation:
        return checksums.expectation(self.headers, self.request.body, self.payload_sha256)

    @asynccontextmanager
    async def document(
        self, limit_bytes: int, *, checksum_is_bodys: bool = True
    ) -> AsyncIterator[bytes]:
        """The body, its declared digests verified. What is made of it is counted by its bytes until
        the block ends. `checksum_is_bodys`: x-amz-checksum-* speaks of this document, and not of an
        object.
        """
        if checksum_is_bodys:
            expected = checksums.expectation(self.headers, self.request.body)
        else:
            expected = Expectation(digests=checksums.content_md5(self.headers))
        async with self.services.documents.room(self.request.body, limit_bytes) as body:
            data = await body.read(limit_bytes)
            verify_payload(data, self.payload_sha256)
            checksums.verify(data, expected)
            yield data

    async def said(self, root: str, read: Callable[[Element], T]) -> T:
        """What `read` makes of the body, a small document called `root`;
        MissingRequestBodyError, MalformedXML."""
        async with self.document(limits.S3_CONFIG_XML_BYTES_MAX) as data:
            if not data:
                raise S3Error("MissingRequestBodyError")
            async with self.services.documents.tree(data, root) as document:
                return read(document)


def _count(name: str, text: str | None, default: int, most: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _INT_DIGITS_MAX):
        raise S3Error(
            "InvalidArgument",
            f"Provided {name} not an integer or within integer range",
            ArgumentName=name,
            ArgumentValue=text,
        )
    return min(int(text), most)


Operation: TypeAlias = Callable[[Context], Awaitable[Response]]
