"""What is stored about buckets, objects, uploads and parts, and under which keys.

A record is a version byte (1), then msgpack: structs as arrays, led by a tag. Fields are only
ever appended, with a default, within a version; anything else is a new version. Golden files
in tests/formats/ pin each one. A key is bytes; S3 names are UTF-8.

    table    key                                              value
    buckets  <name>                                           BucketRecord
    objects  arn:aws:s3:::<bucket>/<key>                      32-byte object hash, Summary
    objects  <object hash>                                    ObjectRecord
    objects  deleted:<bucket>/<key> \\0 <16-byte commit id>     the ObjectRecord that was replaced
    uploads  <16-byte bucket id>/<key> \\0 <upload id>          UploadRecord
    parts    <upload id>                                      touch: 16 bytes, new with each part
    parts    <upload id>/<5 digits>                           PartRecord
    parts    deleted:<upload id>/<5 digits> \\0 <commit id>     the PartRecord that was replaced
    parts    deleted:<upload id> \\0 <commit id>                GarbageRecord: parts left over, or
                                                              a whole upload that was aborted
    parts    deleted:<bucket id in hex> \\0 <commit id>         GarbageRecord: the uploads of a
                                                              bucket that was deleted
    repair   <object hash> <16-byte write id of the extent>   RepairRecord
    healing  what jobs/healing/records.py says                its records

The object hash is SHA-256 of "<bucket>/<key>". A bucket's id is random, and no bucket has it but
one: not even one that is made anew under its name. Upload, write and commit ids begin with 6 bytes
of time in ms, so that those of one moment lie together and sort by age.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from typing import Final, TypeAlias, TypeVar

import msgspec

from predastore.base.errors import CorruptData, UnsupportedFormat

VERSION: Final = 1
HASH_BYTES: Final = 32
ID_BYTES: Final = 16
_RANDOM_BYTES: Final = ID_BYTES - 6
UPLOAD_ID_CHARS: Final = 2 * ID_BYTES
MISSING: Final = -1  # in ShardExtent.nodes: no node holds this shard

BUCKETS: Final = "buckets"
OBJECTS: Final = "objects"
UPLOADS: Final = "uploads"
PARTS: Final = "parts"
REPAIR: Final = "repair"
HEALING: Final = "healing"

DELETED_PREFIX: Final = b"deleted:"

ARN: Final = b"arn:aws:s3:::"


class ShardExtent(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """Bytes that lie as shards: `size` bytes in stripes of k blocks of `block_bytes`.

    `nodes`: the node of each of the k + m shards in shard order, or MISSING; empty where `size`
    is 0. `shard_hash` and `write_id` are the name of the shards on their nodes.
    """

    shard_hash: bytes
    write_id: bytes
    k: int
    m: int
    block_bytes: int
    size: int
    nodes: tuple[int, ...]


class FileExtent(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """Bytes that lie in one file. `path` is relative to the base path. `crcs`: the CRC32C of
    each `block_bytes` of it, 4 bytes little endian each. `inode`: the file's, when written."""

    path: str
    write_id: bytes
    size: int
    block_bytes: int
    crcs: bytes
    inode: int


Extent: TypeAlias = ShardExtent | FileExtent


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


class ObjectRecord(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """`write_id` names this version. `headers`: Cache-Control and the like, lower-case names.
    `user`: x-amz-meta-* without the prefix. `upload_id`: "" unless it was made of parts.
    `storage_class`: the one that the client named; "" for STANDARD."""

    bucket: str
    key: str
    write_id: bytes
    extents: tuple[Extent, ...]
    size: int
    etag: str
    modified_ms: int
    owner: str
    content_type: str
    headers: dict[str, str]
    user: dict[str, str]
    checksums: tuple[Checksum, ...] = ()
    parts: tuple[PartSize, ...] = ()
    upload_id: str = ""
    storage_class: str = ""


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """What a listing says about an object. `checksum_type`: "", FULL_OBJECT or COMPOSITE."""

    size: int
    etag: str
    modified_ms: int
    owner: str
    checksum_algorithms: tuple[str, ...] = ()
    checksum_type: str = ""
    storage_class: str = ""


class BucketRecord(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """`owner`: account id. `public`: anonymous reads are allowed. `id`: of no other bucket, ever;
    b"" where the bucket was made before buckets had one: then its name stands for it."""

    name: str
    owner: str
    region: str
    created_ms: int
    public: bool = False
    id: bytes = b""


class UploadRecord(msgspec.Struct, frozen=True, array_like=True, tag="u"):
    """A multipart upload in progress. `checksum_algorithm`: a name of coding.checksum or "";
    `checksum_type`: COMPOSITE, FULL_OBJECT or "". `bucket_id`: of the bucket in which it began."""

    bucket: str
    key: str
    upload_id: str
    owner: str
    created_ms: int
    content_type: str
    headers: dict[str, str]
    user: dict[str, str]
    checksum_algorithm: str = ""
    checksum_type: str = ""
    storage_class: str = ""
    bucket_id: bytes = b""


class PartRecord(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """A part of an upload in progress. `etag`: hex MD5, of which the whole one's ETag is made."""

    number: int
    extent: Extent
    size: int
    etag: str
    modified_ms: int
    checksums: tuple[Checksum, ...] = ()


class GarbageRecord(msgspec.Struct, frozen=True, array_like=True, tag="g"):
    """Extents to let go. `upload_id`: also all parts still stored under it, if not "".
    `uploads`: also all uploads whose keys begin with it, if not b""."""

    extents: tuple[Extent, ...]
    upload_id: str = ""
    uploads: bytes = b""


class RepairRecord(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """`shards`: the indexes of shards of `extent` that are missing or were found bad. `part`:
    "<upload id>/<5 digits>" of the part whose extent it is, or was until completed; else ""."""

    bucket: str
    key: str
    extent: ShardExtent
    shards: tuple[int, ...]
    noted_ms: int
    part: str = ""


Deleted: TypeAlias = ObjectRecord | PartRecord | GarbageRecord

S = TypeVar("S", bound=msgspec.Struct)

_VERSION_BYTE: Final = bytes([VERSION])
_ENCODER: Final = msgspec.msgpack.Encoder()
_SUMMARY: Final = msgspec.msgpack.Decoder(Summary)
_DELETED: Final = msgspec.msgpack.Decoder(Deleted)
_DECODERS: Final[dict[type[msgspec.Struct], msgspec.msgpack.Decoder[msgspec.Struct]]] = {}


def encode(record: msgspec.Struct) -> bytes:
    """The stored form of a record, of those above or of jobs/healing."""
    return _VERSION_BYTE + _ENCODER.encode(record)


def decode(kind: type[S], stored: bytes) -> S:
    """The record of type `kind` in `stored`; UnsupportedFormat or CorruptData."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.msgpack.Decoder(kind)
    record = _decode(decoder, stored, kind.__name__)
    assert isinstance(record, kind)
    return record


def decode_deleted(stored: bytes) -> Deleted:
    """The value of a deleted: entry."""
    record = _decode(_DELETED, stored, "deleted entry")
    assert isinstance(record, ObjectRecord | PartRecord | GarbageRecord)
    return record


def encode_listed(hash_: bytes, summary: Summary) -> bytes:
    """The value of an arn entry."""
    return hash_ + _VERSION_BYTE + _ENCODER.encode(summary)


def decode_listed(stored: bytes) -> tuple[bytes, Summary]:
    """(object hash, Summary) of an arn entry's value."""
    summary = _decode(_SUMMARY, stored[HASH_BYTES:], "Summary")
    assert isinstance(summary, Summary)
    return stored[:HASH_BYTES], summary


def _decode(decoder: msgspec.msgpack.Decoder[S], stored: bytes, what: str) -> S:
    if not stored or stored[0] != VERSION:
        raise UnsupportedFormat(
            f"{what} of version {stored[:1].hex() or 'none'}; this program reads {VERSION}"
        )
    try:
        return decoder.decode(memoryview(stored)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptData(f"{what}: {error}") from error


def summarize(record: ObjectRecord) -> Summary:
    """What a listing says about this object."""
    composite = any(checksum.part_count for checksum in record.checksums)
    return Summary(
        size=record.size,
        etag=record.etag,
        modified_ms=record.modified_ms,
        owner=record.owner,
        checksum_algorithms=tuple(checksum.algorithm for checksum in record.checksums),
        checksum_type="" if not record.checksums else "COMPOSITE" if composite else "FULL_OBJECT",
        storage_class=record.storage_class,
    )


def missing_of(note: RepairRecord) -> tuple[int, ...]:
    """The shards that a note says are missing or bad, and those that have no node, which an older
    note of the same extent said."""
    homeless = {shard for shard, node in enumerate(note.extent.nodes) if node == MISSING}
    return tuple(sorted(homeless.union(note.shards)))


def extents_of(deleted: Deleted) -> tuple[Extent, ...]:
    """The extents that a replaced record refers to."""
    if isinstance(deleted, PartRecord):
        return (deleted.extent,)
    return deleted.extents


# --- ids and keys -----------------------------------------------------------------------------


def _random_pieces() -> Iterator[bytes]:
    """Random bytes, of which the kernel is asked for many at a time: each call to it lets go of
    the GIL, and a busy process waits long to have it back."""
    while True:
        pool = os.urandom(_RANDOM_BYTES * 256)
        for start in range(0, len(pool), _RANDOM_BYTES):
            yield pool[start : start + _RANDOM_BYTES]


_RANDOM: Final = _random_pieces()


def new_id() -> bytes:
    """A fresh write, commit, request or upload id; for the event loop's thread."""
    return now_ms().to_bytes(6, "big") + next(_RANDOM)


def new_bucket_id() -> bytes:
    """Random, but for a first bit with which no bucket's name begins."""
    first, *rest = os.urandom(ID_BYTES)
    return bytes([first | 0x80, *rest])


def now_ms() -> int:
    """Unix time."""
    return time.time_ns() // 1_000_000


def bucket_key(bucket: str) -> bytes:
    return bucket.encode()


def object_hash(bucket: str, key: str) -> bytes:
    """The key of an ObjectRecord, and the place of an object on the ring."""
    return hashlib.sha256(f"{bucket}/{key}".encode()).digest()


def part_hash(upload_id: str, number: int) -> bytes:
    """The place of a part on the ring."""
    return hashlib.sha256(part_key(upload_id, number)).digest()


def arn_prefix(bucket: str) -> bytes:
    """What the arn keys of all objects of a bucket begin with."""
    return ARN + bucket.encode() + b"/"


def arn_key(bucket: str, key: str) -> bytes:
    return arn_prefix(bucket) + key.encode()


def deleted_key(name: bytes, commit_id: bytes) -> bytes:
    """`name`: "<bucket>/<key>", "<upload id>/<number>", "<upload id>" or "<bucket id>"."""
    return DELETED_PREFIX + name + b"\0" + commit_id


def hash_of_deleted(key: bytes) -> bytes:
    """The object hash of what a `deleted_key` of an object is of."""
    return hashlib.sha256(key[len(DELETED_PREFIX) : -1 - ID_BYTES]).digest()


def uploads_prefix(bucket: str, bucket_id: bytes) -> bytes:
    """What the keys of all uploads of a bucket begin with."""
    return (bucket_id or bucket.encode()) + b"/"


def upload_key(bucket: str, bucket_id: bytes, key: str, upload_id: str) -> bytes:
    return uploads_prefix(bucket, bucket_id) + f"{key}\0{upload_id}".encode()


def key_of_upload(upload: UploadRecord) -> bytes:
    return upload_key(upload.bucket, upload.bucket_id, upload.key, upload.upload_id)


def touch_key(upload_id: str) -> bytes:
    return upload_id.encode()


def parts_prefix(upload_id: str) -> bytes:
    return upload_id.encode() + b"/"


def part_key(upload_id: str, number: int) -> bytes:
    return f"{upload_id}/{number:05d}".encode()


def part_number(key: bytes) -> int:
    """Of a `part_key`."""
    return int(key[UPLOAD_ID_CHARS + 1 :])


def repair_key(hash_: bytes, write_id: bytes) -> bytes:
    return hash_ + write_id
