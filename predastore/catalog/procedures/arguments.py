"""What the catalog's procedures are called with, and what they answer.

Arguments are a msgpack array of the struct's fields. They are in journals: a procedure with other
arguments gets another name. An answer is a byte, a `Reason`, and what belongs to it: of DONE a
struct, of any other a map of texts, which say more about it. All times are Unix milliseconds;
random bytes and layouts come from the caller, since a procedure can not make any.
"""

from __future__ import annotations

import enum
from typing import Final, TypeVar

import msgspec

from predastore.catalog.rows import (
    NO_RETENTION,
    BucketRow,
    Checksum,
    DefaultRetention,
    Kind,
    LockMode,
    ObjectOwnership,
    PartRow,
    PublicBlock,
    Retention,
    Summary,
    Tags,
    UploadRow,
    Versioning,
)
from predastore.s3db.procedures import Refusal
from predastore.storage.extents import Extent
from predastore.storage.formats import pack, shortened

S = TypeVar("S", bound=msgspec.Struct)


class Reason(enum.IntEnum):
    """Why a procedure did nothing."""

    DONE = 0
    BUCKET_CHANGED = 1  # it is not the one any more for which the caller has a permit
    BUCKET_EXISTS = 2
    BUCKET_NOT_EMPTY = 3
    NO_SUCH_KEY = 4  # If-Match speaks of an object, and there is none
    CONDITION_FAILED = 5
    NO_SUCH_VERSION = 6
    IS_MARKER = 7
    LOCKED = 8  # a retention or a legal hold forbids it
    LAYOUT_GONE = 9  # what was to be shared was let go of meanwhile
    NO_SUCH_UPLOAD = 10
    INVALID_PART = 11
    PART_TOO_SMALL = 12
    TOO_LARGE = 13
    SIZE_DIFFERS = 14
    CHECKSUM_DIFFERS = 15
    BUCKET_LOCKED = 16  # the change is none that object lock allows
    NO_LOCK = 17  # a retention or a legal hold is asked for where the bucket has no object lock
    ACL_CHANGED = 18  # or the owner, since the caller looked at them


class Arguments(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A field that this program does not know may change what is to be done: it is not read."""

    def encode(self) -> bytes:
        return pack(self)


class RowArguments(Arguments, frozen=True):
    """With a row within, which is written as it is stored."""

    def encode(self) -> bytes:
        return pack([shortened(each) for each in msgspec.structs.astuple(self)])


class HeldBucket(Arguments, frozen=True):
    """The bucket for which the caller has a permit."""

    name: str
    id: bytes
    generation: int


class Condition(Arguments, frozen=True):
    """Of what is current: an ETag without quotes, "*", or None."""

    if_match: str | None = None
    if_none_match: str | None = None


NO_CONDITION: Final = Condition()


class Content(Arguments, frozen=True):
    """Where the bytes of a new version are: at `layout`. INLINE: `body` is all of them, `crc` its
    CRC32C. PLACED with `extents`: a new layout. PLACED without: one that is there already, which
    the version `shared_with` (bucket id, order, random) named when it was read. `missing`: the
    indexes of shards of the one extent that have no node."""

    kind: Kind
    layout: bytes
    extents: tuple[Extent, ...] = ()
    body: bytes = b""
    crc: int = 0
    missing: tuple[int, ...] = ()
    shared_with: tuple[bytes, int, bytes] | None = None


class PutObject(Arguments, frozen=True):
    """`object.put`. `retention` of NONE: what the bucket gives. `grace_ms`: for how long readers
    may still need what is replaced."""

    held: HeldBucket
    key: str
    random: bytes
    content: Content
    summary: Summary
    detail: msgspec.Raw
    now_ms: int
    grace_ms: int
    condition: Condition = NO_CONDITION
    tags: Tags = ()
    retention: Retention = NO_RETENTION
    legal_hold: bool | None = None


class Added(msgspec.Struct, frozen=True, array_like=True):
    """The answer of `object.put` and `upload.complete`: the new version's id, and the names of the
    layouts that are to be let go of."""

    order: int
    random: bytes
    is_null: bool
    wasted: tuple[bytes, ...] = ()


class Doomed(Arguments, frozen=True):
    """`version`: as `keys.parse_version_id` has it; None: what is current. `random`: for a delete
    marker."""

    key: str
    random: bytes
    version: bytes | None = None
    condition: Condition = NO_CONDITION


class DeleteObjects(Arguments, frozen=True):
    """`object.delete`. `bypass`: the caller may remove what GOVERNANCE keeps, and asks for it."""

    held: HeldBucket
    doomed: tuple[Doomed, ...]
    now_ms: int
    grace_ms: int
    bypass: bool = False


class Deletion(msgspec.Struct, frozen=True, array_like=True):
    """What became of one. `existed`: something was removed. `is_marker`: a delete marker was made
    or removed, and `order`, `random`, `is_null` are its id; else of what was removed."""

    reason: Reason = Reason.DONE
    existed: bool = False
    is_marker: bool = False
    order: int = 0
    random: bytes = b""
    is_null: bool = False
    wasted: tuple[bytes, ...] = ()


class Deletions(msgspec.Struct, frozen=True, array_like=True):
    """The answer of `object.delete`: of the first ones, in their order, of at least one. What is
    left over would break the bounds of one call: the caller calls again with it. `has_versions`:
    the bucket has, or had, versions, so that ids are told."""

    deletions: tuple[Deletion, ...]
    has_versions: bool = False


class AmendObject(Arguments, frozen=True):
    """`object.amend`: what is not None takes the place of what the version has."""

    held: HeldBucket
    key: str
    version: bytes | None
    tags: Tags | None = None
    retention: Retention | None = None
    legal_hold: bool | None = None
    bypass: bool = False


class SetObjectAcl(Arguments, frozen=True):
    """`object.set_acl`: `acl` takes the place of what the version has; b"": private. `seen`: the
    owner and the ACL that the caller has decided by."""

    held: HeldBucket
    key: str
    version: bytes | None
    acl: bytes
    seen: tuple[str, bytes]


class Amended(msgspec.Struct, frozen=True, array_like=True):
    """The answer of `object.amend` and `object.set_acl`: the version's id; `has_versions`: as in
    `Deletions`."""

    order: int
    random: bytes
    is_null: bool
    has_versions: bool = False


class CreateBucket(RowArguments, frozen=True):
    """`bucket.create`. `document`: its kind and its bytes, of one that the bucket has at once."""

    row: BucketRow
    document: tuple[str, bytes] | None = None


class CreateBucketWith(RowArguments, frozen=True):
    """`bucket.create_with`. `documents`: of each its kind and its bytes; the bucket has them at
    once."""

    row: BucketRow
    documents: tuple[tuple[str, bytes], ...] = ()


class DeleteBucket(Arguments, frozen=True):
    """`bucket.delete`."""

    held: HeldBucket
    now_ms: int


class ChangeBucket(Arguments, frozen=True):
    """`bucket.change`: what is not None takes the place of what the bucket has. `retention` of mode
    NONE removes it. `document`: its kind, and its bytes or None for no document."""

    held: HeldBucket
    versioning: Versioning | None = None
    is_locked: bool | None = None
    retention: DefaultRetention | None = None
    document: tuple[str, bytes | None] | None = None


class ChangeAccess(Arguments, frozen=True):
    """`bucket.change_access`: what is not None takes the place of what the bucket has. `block`: in
    a tuple; an empty one removes it."""

    held: HeldBucket
    ownership: ObjectOwnership | None = None
    block: tuple[PublicBlock, ...] | None = None


NO_DEFAULT: Final = DefaultRetention(LockMode.NONE, 0, 0)


class CreateUpload(RowArguments, frozen=True):
    """`upload.create`, and `upload.create_with_acl`, for one whose row has an ACL."""

    held: HeldBucket
    row: UploadRow


class PutPart(Arguments, frozen=True):
    """`upload.part`. `missing`: as in `Content`."""

    held: HeldBucket
    key: str
    upload_id: str
    row: PartRow
    now_ms: int
    grace_ms: int
    missing: tuple[int, ...] = ()


class CompletedPart(Arguments, frozen=True):
    """A part as the client names it. `checksums`: those that it gave."""

    number: int
    etag: str
    checksums: tuple[Checksum, ...] = ()


class CompleteUpload(Arguments, frozen=True):
    """`upload.complete`. `parts`: in ascending order of their numbers. `size`: of the whole, if the
    client said so; `checksums`: likewise."""

    held: HeldBucket
    key: str
    upload_id: str
    random: bytes
    parts: tuple[CompletedPart, ...]
    now_ms: int
    grace_ms: int
    condition: Condition = NO_CONDITION
    size: int | None = None
    checksums: tuple[Checksum, ...] = ()


class Completed(msgspec.Struct, frozen=True, array_like=True):
    """The answer of `upload.complete`."""

    added: Added
    summary: Summary
    checksums: tuple[Checksum, ...] = ()


class AbortUpload(Arguments, frozen=True):
    """`upload.abort`."""

    held: HeldBucket
    key: str
    upload_id: str
    now_ms: int
    grace_ms: int


class Nothing(msgspec.Struct, frozen=True, array_like=True):
    """The answer of what has nothing to tell."""


class WastedParts(msgspec.Struct, frozen=True, array_like=True):
    """The answer of `upload.part`: the write ids of extents that are to be let go of."""

    wasted: tuple[bytes, ...] = ()


# --- answers --------------------------------------------------------------------------------------


def done(answer: msgspec.Struct) -> bytes:
    return bytes([Reason.DONE]) + pack(answer)


NOTHING: Final = done(Nothing())


def refuse(reason: Reason, **details: str) -> Refusal:
    """To be raised."""
    return Refusal(bytes([reason]) + pack(details))
