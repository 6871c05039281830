"""One request on its way through an operation: what it asks for, who asks, and what serves it.

An operation is `async def run(ctx: Context) -> Response`. It asks the context for its bucket
(which is where access is decided), reads its parameters, calls `Catalog`, and shapes the answer;
what goes wrong is raised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

from predastore.auth.sigv4 import verify_payload
from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.catalog import Catalog
from predastore.catalog.permits import Permit
from predastore.catalog.procedures.arguments import Condition
from predastore.catalog.rows import BucketRow
from predastore.catalog.values import Attributes, Expectation, Finding, ObjectVersion
from predastore.httpd.message import Headers, Request, Response
from predastore.s3 import checksums, lock, tags
from predastore.s3.access import (
    BYPASS_GOVERNANCE,
    GET_OBJECT,
    LIST_BUCKET,
    OF_A_VERSION,
    Need,
    check_account,
    check_bucket,
    check_policy,
    is_allowed,
)
from predastore.s3.conditions import write_condition
from predastore.s3.documents import Documents
from predastore.s3.headers import parse_metadata
from predastore.s3.identified import Rights
from predastore.s3.target import CopySource
from predastore.s3.tokens import Tokens
from predastore.s3.versions import check_version_id, is_marker, marker_fields
from predastore.s3.xml_read import Element

T = TypeVar("T")

_INT_DIGITS_MAX: Final = 10  # of a count in a query; more can not be one


@dataclass(frozen=True, slots=True)
class Services:
    """What operations share; the same for all requests."""

    catalog: Catalog
    region: str
    tokens: Tokens
    domains: tuple[str, ...] = ()
    documents: Documents = field(default_factory=Documents)


@dataclass(slots=True)
class Context:
    """`account` is None for an anonymous request; `policy`: that of its credential, if it has one.
    `query`: decoded parameters.

    `payload_sha256`: what the body's digest must be, where x-amz-content-sha256 says so.
    """

    services: Services
    request: Request
    bucket_name: str
    key: str
    query: dict[str, str]
    account: str | None
    policy: Rights | None = None
    payload_sha256: bytes | None = None

    @property
    def catalog(self) -> Catalog:
        return self.services.catalog

    @property
    def headers(self) -> Headers:
        return self.request.headers

    # --- who and where ------------------------------------------------------------------------

    def may(self, action: str, bucket: str) -> bool:
        """Whether the credential's policy, if there is one, allows that in the bucket."""
        return is_allowed(self.policy, action, bucket)

    def write_condition(self) -> Condition:
        """If-Match and If-None-Match of a write; the first tells what is there, and so needs the
        permission to read it."""
        condition = write_condition(self.headers)
        if condition.if_match not in (None, "*"):
            check_policy(self.policy, GET_OBJECT, self.bucket_name)
        return condition

    def bypasses_governance(self) -> bool:
        """Whether the request asks to remove what GOVERNANCE keeps, and may."""
        asks = self.headers.get(lock.BYPASS, "").lower() == "true"
        return asks and self.may(BYPASS_GOVERNANCE, self.bucket_name)

    def absent(self, bucket: str, key: str, found: Finding, version_id: str = "") -> S3Error:
        """What to raise where there is no such object: only who may list is told so."""
        if not self.may(LIST_BUCKET, bucket):
            return S3Error("AccessDenied")
        if version_id:
            return S3Error("NoSuchVersion", Key=key, VersionId=version_id)
        fields = marker_fields(found.marker) if found.marker is not None else ()
        return S3Error("NoSuchKey", headers=dict(fields), Key=key)

    def signer(self) -> str:
        """The account that signed; AccessDenied for an anonymous request."""
        return check_account(self.account)

    async def bucket(self, need: Need) -> BucketRow:
        """The bucket, if this request may do that in it."""
        found = await self.catalog.bucket(self.bucket_name)
        return check_bucket(found, self.bucket_name, self.account, need, self.headers)

    async def permit(
        self, need: Need = Need.WRITE, check: Callable[[BucketRow], object] | None = None
    ) -> Permit:
        """Leave to do that to the bucket: to be given to what does it, which checks it again.
        `check`: raises unless the bucket is fit for it."""

        def judge(found: BucketRow | None) -> None:
            row = check_bucket(found, self.bucket_name, self.account, need, self.headers)
            if check is not None:
                check(row)

        return await self.catalog.permit(self.bucket_name, judge)

    async def object(self, need: Need = Need.READ, *, needs_bytes: bool = False) -> ObjectVersion:
        """The version that is named, or the current one, if this request may do that; one round
        trip, with its bucket. NoSuchKey, NoSuchVersion, MethodNotAllowed for a delete marker.
        `needs_bytes`: they, or its parts, will be read."""
        wanted = self.version_id
        found = await self.catalog.find(self.bucket_name, self.key, wanted, needs_bytes=needs_bytes)
        if wanted and need is Need.READ:
            need = Need.VERSIONS
        check_bucket(found.bucket, self.bucket_name, self.account, need, self.headers)
        if found.version is not None:
            return found.version
        if wanted and found.marker is not None:
            raise is_marker(found.marker, self.request.method)
        raise self.absent(self.bucket_name, self.key, found, wanted)

    async def copy_source(self, source: CopySource) -> ObjectVersion:
        """The object that a copy reads, with its bucket's own access check."""
        action = OF_A_VERSION[GET_OBJECT] if source.version else GET_OBJECT
        check_policy(self.policy, action, source.bucket)
        found = await self.catalog.find(source.bucket, source.key, source.version)
        check_bucket(
            found.bucket,
            source.bucket,
            self.account,
            Need.VERSIONS if source.version else Need.READ,
            self.headers,
            owner_header="x-amz-source-expected-bucket-owner",
        )
        if found.version is not None:
            return found.version
        if source.version and found.marker is not None:
            raise S3Error(
                "InvalidRequest",
                "The source of a copy request may not specifically refer to a delete marker by "
                "version id.",
            )
        raise self.absent(source.bucket, source.key, found, source.version)

    # --- parameters ---------------------------------------------------------------------------

    @property
    def version_id(self) -> str:
        """The version that the request names, or ""; InvalidArgument for what can be none."""
        named = self.query.get("versionId")
        return "" if named is None else check_version_id(named)

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

    def attributes(self) -> Attributes:
        """What the request says of the object that it makes. AccessDenied, where it asks for tags
        or a lock, and the policy of its key does not allow that."""
        said = parse_metadata(self.headers)
        asked = lock.of_headers(self.headers)
        tagged = self.headers.get(tags.HEADER, "")
        for action, is_asked in (
            ("s3:PutObjectTagging", tagged),
            ("s3:PutObjectRetention", asked.retention.mode),
            ("s3:PutObjectLegalHold", asked.legal_hold is not None),
        ):
            if is_asked:
                check_policy(self.policy, action, self.bucket_name)
        return Attributes(
            owner=self.signer(),
            content_type=said.content_type,
            headers=said.headers,
            user=said.user,
            storage_class=said.storage_class,
            tags=tags.of_field(tagged),
            retention=asked.retention,
            legal_hold=asked.legal_hold,
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
