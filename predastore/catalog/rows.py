"""What is stored about buckets, objects, versions and uploads. `keys` says under which keys,
`formats` in which form.

A *version* is one row of `versions`, and all that a client has said of it is there. Its bytes are
a *layout*, which no client names: extents on nodes or in files (`PlacementRow`), or the body itself
in `inline`. A layout has as many owners as there are versions that name it, and goes with the last.
"""

from __future__ import annotations

import enum
import functools
from typing import Final

import msgspec

from predastore.base.limits import BUCKET_ROWS_CACHED_MAX
from predastore.storage.extents import Extent, ShardExtent
from predastore.storage.formats import decode

NO_LAYOUT: Final = b""


class Versioning(enum.IntEnum):
    """Of a bucket. One that was enabled once is never again what it was before."""

    NEVER = 0
    ENABLED = 1
    SUSPENDED = 2


class LockMode(enum.IntEnum):
    """Of a retention."""

    NONE = 0
    GOVERNANCE = 1
    COMPLIANCE = 2


class Kind(enum.IntEnum):
    """Where the bytes of a version are."""

    NOWHERE = 0  # there are none: a delete marker, or an object of no bytes
    PLACED = 1  # in the extents of its layout
    INLINE = 2  # in the table `inline`


class Checksum(msgspec.Struct, frozen=True, array_like=True):
    """`algorithm`: a name of coding.checksum. `value`: the raw digest. `part_count` is 0 for a
    checksum of the whole object (FULL_OBJECT), else the parts of a composite one."""

    algorithm: str
    value: bytes
    part_count: int = 0


class PartSize(msgspec.Struct, frozen=True, array_like=True):
    """A part of a completed object: the number that the client gave it, and its bytes.
    `checksum`: its digest, raw, of the object's (composite) checksum's algorithm; else b""."""

    number: int
    size: int
    checksum: bytes = b""


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """What a listing says about an object. `checksum_type`: "", FULL_OBJECT or COMPOSITE.
    `storage_class`: the one that the client named; "" for STANDARD."""

    size: int
    etag: str
    modified_ms: int
    owner: str
    checksum_algorithms: tuple[str, ...] = ()
    checksum_type: str = ""
    storage_class: str = ""


class DefaultRetention(msgspec.Struct, frozen=True, array_like=True):
    """What a new version is given where its request says nothing: `days` or `years`, the other
    is 0."""

    mode: LockMode
    days: int
    years: int


class BucketRow(msgspec.Struct, frozen=True, array_like=True):
    """`id`: of no other bucket, ever. `generation`: one more with each change of this row or of one
    of the bucket's documents. `public`: anonymous reads are allowed. `is_locked`: it has object
    lock, and so is versioned for ever."""

    name: str
    id: bytes
    owner: str
    region: str
    created_ms: int
    public: bool = False
    generation: int = 1
    versioning: Versioning = Versioning.NEVER
    is_locked: bool = False
    retention: DefaultRetention | None = None


@functools.lru_cache(maxsize=BUCKET_ROWS_CACHED_MAX)
def bucket_row(stored: bytes) -> BucketRow:
    """The row in what is stored: each request reads one, and most read the same."""
    return decode(BucketRow, stored)


class CurrentRow(msgspec.Struct, frozen=True, array_like=True):
    """The newest version of a key, where that is an object: all that a listing says about it."""

    order: int
    random: bytes
    summary: Summary


class Detail(msgspec.Struct, frozen=True, array_like=True):
    """What GET and HEAD say of a version beside its summary. `headers`: Cache-Control and the like,
    lower-case names. `user`: x-amz-meta-* without the prefix. `part_count`, `upload_id`: 0 and ""
    unless it was made of parts."""

    content_type: str
    headers: dict[str, str] = {}
    user: dict[str, str] = {}
    checksums: tuple[Checksum, ...] = ()
    part_count: int = 0
    upload_id: str = ""


class Retention(msgspec.Struct, frozen=True, array_like=True):
    """Until when a version stays, Unix milliseconds. NONE and 0: it need not."""

    mode: LockMode = LockMode.NONE
    until_ms: int = 0


NO_RETENTION: Final = Retention()

Tags = tuple[tuple[str, str], ...]


class VersionRow(msgspec.Struct, frozen=True, array_like=True):
    """A version of a key; its order is in the row's key. `random`: 8 bytes, with the order its id.
    `is_null`: its id is "null". `layout`: its bytes, NO_LAYOUT where there are none. `legal_hold`:
    None where none was ever asked for, nor lifted."""

    random: bytes
    is_null: bool
    is_marker: bool
    kind: Kind
    layout: bytes
    summary: Summary
    detail: msgspec.Raw  # a Detail
    tags: Tags = ()
    retention: Retention = NO_RETENTION
    legal_hold: bool | None = None


class PlacementRow(msgspec.Struct, frozen=True, array_like=True):
    """A page of a layout: its extents in their order, and of each which part of an upload it is;
    `parts` is empty for what was put whole, and `md5` is its digest then. `bucket` and `key`: of
    what the layout was written for. `pages`, on the first page where there are several: of each its
    first byte and first part number."""

    bucket: str
    key: str
    extents: tuple[Extent, ...]
    parts: tuple[PartSize, ...] = ()
    pages: tuple[tuple[int, int], ...] = ()
    md5: bytes = b""


class UploadRow(msgspec.Struct, frozen=True, array_like=True):
    """A multipart upload in progress, and what the version will have that it makes.
    `checksum_algorithm`: a name of coding.checksum or ""; `checksum_type`: COMPOSITE, FULL_OBJECT
    or "". `retention`, `legal_hold`: as the client asked for them."""

    bucket: str
    key: str
    upload_id: str
    owner: str
    created_ms: int
    content_type: str
    headers: dict[str, str] = {}
    user: dict[str, str] = {}
    checksum_algorithm: str = ""
    checksum_type: str = ""
    storage_class: str = ""
    tags: Tags = ()
    retention: Retention = NO_RETENTION
    legal_hold: bool | None = None


class PartRow(msgspec.Struct, frozen=True, array_like=True):
    """A part of an upload in progress. `etag`: hex MD5, of which the whole one's ETag is made."""

    number: int
    extent: Extent
    size: int
    etag: str
    modified_ms: int
    checksums: tuple[Checksum, ...] = ()


class CompletedRow(msgspec.Struct, frozen=True, array_like=True):
    """The version that an upload has made, for those who complete it again. `answer`: what the
    first was told."""

    key: str
    answer: bytes


class Waste(enum.IntEnum):
    """What a row of `due` is about, and so what has to be done once it is due."""

    LAYOUT = 1  # let go of a layout's extents: its pages lie under `keys.deleted`
    EXTENT = 2  # the same for a part that was replaced
    UPLOAD = 3  # let go of all parts that are stored under an upload that has ended
    BUCKET = 4  # end all uploads of a bucket that was deleted
    COMPLETED = 5  # forget a completed upload


class GarbageRow(msgspec.Struct, frozen=True, array_like=True):
    """Of the table `due`. `name`: of a LAYOUT its hash, of an EXTENT its write id, of an UPLOAD and
    of a COMPLETED its bucket's id and its own, as `keys.upload_name` has them, of a BUCKET its id.
    `pages`: how many a LAYOUT has. `tries`: how often it could not be done."""

    waste: Waste
    name: bytes
    pages: int = 0
    tries: int = 0


class RepairRow(msgspec.Struct, frozen=True, array_like=True):
    """`shards`: the indexes of shards of `extent` that are missing or were found bad. `part`: the
    key in `parts` of the part whose extent it is, or was until completed; else b""."""

    bucket: str
    key: str
    extent: ShardExtent
    shards: tuple[int, ...]
    noted_ms: int
    part: bytes = b""
