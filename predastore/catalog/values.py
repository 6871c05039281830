"""What callers of the catalog hand in and get back.

Neutral of HTTP and of S3's XML. Digests are raw bytes under the names of coding.checksum ("md5",
"sha256", "crc32c"...). ETags have no quotes. Ids of versions are texts as clients have them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias

from predastore.catalog import keys
from predastore.catalog.rows import (
    NO_RETENTION,
    BucketRow,
    Checksum,
    Detail,
    PartRow,
    PartSize,
    PlacementRow,
    Retention,
    Summary,
    Tags,
    UploadRow,
    VersionRow,
)
from predastore.storage.formats import unpack

# Of a version that is to be made in a bucket: who owns it, and its ACL, as `Detail` has it.
Belonging: TypeAlias = Callable[[BucketRow], tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a client says about an object. `headers`: Cache-Control, Content-Disposition,
    Content-Encoding, Content-Language, Expires and the like, lower-case names. `user`: the
    x-amz-meta-* without that prefix, lower-case names. `owner`: account id. `storage_class`: ""
    for STANDARD. `retention` of NONE: what the bucket gives. `legal_hold`: None where nothing is
    said of one. `belonging`: tells the owner and the ACL by the bucket's row; without it the owner
    is `owner`, and the ACL private."""

    owner: str
    content_type: str = "binary/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    user: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = ""
    tags: Tags = ()
    retention: Retention = NO_RETENTION
    legal_hold: bool | None = None
    belonging: Belonging | None = None

    def belongs(self, bucket: BucketRow) -> tuple[str, bytes]:
        """Its owner, and its ACL, in the bucket."""
        return (self.owner, b"") if self.belonging is None else self.belonging(bucket)


@dataclass(frozen=True, slots=True)
class Expectation:
    """Digests of a body.

    `digests`: verified, known beforehand (Content-MD5, x-amz-content-sha256, x-amz-checksum-*).
    `compute`: stored with the object; an algorithm whose value the client gave is in both.
    `late`: asked after the end of the body, for values that came in trailers; verified, and
    their algorithms must be in `compute`. A digest that differs is BodyMismatch(what=name).
    MD5 is always computed, for the ETag; it is not stored as a checksum unless in `compute`.
    """

    digests: Mapping[str, bytes] = field(default_factory=dict)
    compute: frozenset[str] = frozenset()
    late: Callable[[], Mapping[str, bytes]] | None = None


NO_EXPECTATION: Final = Expectation()


class ObjectVersion:
    """A version that was read: an object's, never a delete marker. `placement` is the first page of
    its layout, if it was asked for and there is one; `body`, if it was asked for, all bytes of an
    inline one."""

    def __init__(
        self,
        bucket: BucketRow,
        key: str,
        order: int,
        row: VersionRow,
        *,
        is_newest: bool,
        placement: PlacementRow | None = None,
        body: bytes | None = None,
    ) -> None:
        self.bucket = bucket
        self.key = key
        self.order = order
        self.is_newest = is_newest
        self.placement = placement
        self.body = body
        self.row = row

    @cached_property
    def detail(self) -> Detail:
        return unpack(Detail, self.row.detail)

    @property
    def version_id(self) -> str:
        return keys.version_id(self.order, self.row.random, is_null=self.row.is_null)

    @property
    def size(self) -> int:
        return self.row.summary.size

    @property
    def etag(self) -> str:
        return self.row.summary.etag

    @property
    def modified_ms(self) -> int:
        return self.row.summary.modified_ms

    @property
    def owner(self) -> str:
        return self.row.summary.owner

    @property
    def acl(self) -> bytes:
        """As `Detail` has it."""
        return self.detail.acl

    @property
    def storage_class(self) -> str:
        return self.row.summary.storage_class

    @property
    def checksums(self) -> tuple[Checksum, ...]:
        return self.detail.checksums

    @property
    def part_count(self) -> int:
        """0 for an object that was put whole."""
        return self.detail.part_count


@dataclass(frozen=True, slots=True)
class DeleteMarker:
    """A delete marker that was read."""

    version_id: str
    modified_ms: int
    is_newest: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look-up found as of one moment. Without a `marker` or a `version`: none has this id,
    or (no id was given) there never was an object, or it was deleted without a trace."""

    bucket: BucketRow | None = None
    version: ObjectVersion | None = None
    marker: DeleteMarker | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What a write has made. `version_id`: "" in a bucket that never had versions."""

    etag: str
    modified_ms: int
    size: int
    checksums: tuple[Checksum, ...]
    version_id: str


@dataclass(frozen=True, slots=True)
class PlacedPart:
    """A part of a completed object, and the byte at which it begins."""

    start: int
    part: PartSize


@dataclass(frozen=True, slots=True)
class ObjectListing:
    """A page of objects. `next` is what to give as `after` for the next one."""

    entries: list[tuple[str, Summary]]
    prefixes: list[str]
    truncated: bool
    next: str


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """A version or delete marker of a listing."""

    key: str
    version_id: str
    is_marker: bool
    is_newest: bool
    summary: Summary


@dataclass(frozen=True, slots=True)
class VersionListing:
    """A page of versions. `next_version_id` is "" behind a common prefix."""

    versions: list[VersionEntry]
    prefixes: list[str]
    truncated: bool
    next_key: str
    next_version_id: str


@dataclass(frozen=True, slots=True)
class PartListing:
    """A page of an upload's parts. `next` is the number to give as `after`."""

    parts: list[PartRow]
    truncated: bool
    next: int


@dataclass(frozen=True, slots=True)
class UploadListing:
    """A page of a bucket's uploads in progress, by key, then by age. `next_key` and
    `next_upload_id` are the markers of the next page."""

    uploads: list[UploadRow]
    prefixes: list[str]
    truncated: bool
    next_key: str
    next_upload_id: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a delete did. `version_id`: of what was removed, or of the marker that was made
    (`is_marker`: it is one that was made, or removed); "" in a bucket that never had versions.
    `existed`: something was removed."""

    existed: bool = False
    is_marker: bool = False
    version_id: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry of `delete_many`. `version_id`: "" for none; `if_match`: as in a Condition."""

    key: str
    version_id: str = ""
    if_match: str | None = None
