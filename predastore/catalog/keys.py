"""The tables of the catalog, and the keys of their rows.

    table             key                                        row
    buckets           <name>                                     BucketRow
    bucket_documents  <bucket id>/<kind>                         a document, as its owner encodes it
    objects           arn:aws:s3:::<bucket>/<key>                CurrentRow
    objects           <layout>                                   PlacementRow: the first page
    objects           <layout> <4-byte page>                     PlacementRow: the next ones
    objects           deleted:<layout or write id> [page]        PlacementRow that was let go of
    versions          <bucket id>/<key> \\0 <8-byte inverted order>  VersionRow: newest first
    nulls             <bucket id>/<key>                          8-byte order of the null version,
                                                                 where that is not 0
    inline            <layout>                                   4-byte CRC32C, the body
    refs              <layout> <bucket id> <order> <random>      nothing: this version names it;
                                                                 only if it was ever shared
    uploads           <bucket id>/<key> \\0 <upload id>            UploadRow
    parts             <bucket id>/<upload id>/<5 digits>         PartRow
    completed         <bucket id>/<upload id>                    CompletedRow
    due               <8-byte due time, ms> <waste> <name>       GarbageRow
    repair            <layout> <write id of the extent>          RepairRow
    healing           what jobs/healing/records.py says          its rows
    account_documents <kind>/<account>                           a document of an account

Numbers are big-endian, ids 16 bytes, layouts 32. A key of S3 has no NUL. The order of a version is
made where its commit is applied: 0 for one that was put before the bucket had versions, and for
each later one more than that of the newest there is. Ids of buckets have their first bit set, so
that none begins like a bucket's name.

A layout is named by the SHA-256 of "<bucket>/<key>" and of a write id: the one under which its
bytes were written, or the upload id of what was made of parts. So notes about parts lie where those
of the object will.
"""

from __future__ import annotations

import hashlib
from typing import Final

from predastore.storage.extents import ID_BYTES

ORDER_BYTES: Final = 8
RANDOM_BYTES: Final = 8
PAGE_BYTES: Final = 4
UPLOAD_ID_CHARS: Final = 2 * ID_BYTES

BUCKETS: Final = "buckets"
DOCUMENTS: Final = "bucket_documents"
OBJECTS: Final = "objects"
VERSIONS: Final = "versions"
NULLS: Final = "nulls"
INLINE: Final = "inline"
REFS: Final = "refs"
UPLOADS: Final = "uploads"
PARTS: Final = "parts"
COMPLETED: Final = "completed"
DUE: Final = "due"
REPAIR: Final = "repair"
HEALING: Final = "healing"
ACCOUNT_DOCUMENTS: Final = "account_documents"

ARN: Final = b"arn:aws:s3:::"
DELETED: Final = b"deleted:"

_ORDER_MAX: Final = 2**64 - 1
_NULL: Final = "null"
_HEX: Final = frozenset("0123456789abcdef")


def bucket(name: str) -> bytes:
    return name.encode()


def document(bucket_id: bytes, kind: str) -> bytes:
    return documents(bucket_id) + kind.encode()


def documents(bucket_id: bytes) -> bytes:
    """What the keys of all documents of a bucket begin with; so do those of its versions, uploads
    and parts."""
    return bucket_id + b"/"


def account_document(account: str, kind: str) -> bytes:
    return f"{kind}/{account}".encode()


def current_prefix(bucket_name: str) -> bytes:
    """What the arn keys of all objects of a bucket begin with."""
    return ARN + bucket_name.encode() + b"/"


def current(bucket_name: str, key: str) -> bytes:
    return current_prefix(bucket_name) + key.encode()


def layout(bucket_name: str, key: str, write_id: bytes) -> bytes:
    """The name of the layout of what is written for a key under a write id."""
    return hashlib.sha256(f"{bucket_name}/{key}".encode() + write_id).digest()


def part_hash(upload_id: str, number: int) -> bytes:
    """The place of a part on the ring, and the name of its shards."""
    return hashlib.sha256(f"{upload_id}/{number:05d}".encode()).digest()


def page(layout_hash: bytes, number: int) -> bytes:
    """The key of a page of a placement."""
    return layout_hash + number.to_bytes(PAGE_BYTES, "big") if number else layout_hash


def deleted(name: bytes, number: int = 0) -> bytes:
    """Where a page is moved to when its layout, or a part's extent, is let go of."""
    return DELETED + page(name, number)


def versions(bucket_id: bytes, key: str) -> bytes:
    """What the keys of all versions of a key begin with."""
    return bucket_id + b"/" + key.encode() + b"\0"


def version(bucket_id: bytes, key: str, order: int) -> bytes:
    return versions(bucket_id, key) + (_ORDER_MAX - order).to_bytes(ORDER_BYTES, "big")


def order_of(version_key: bytes) -> int:
    """Of a `version`."""
    return _ORDER_MAX - int.from_bytes(version_key[-ORDER_BYTES:], "big")


def null(bucket_id: bytes, key: str) -> bytes:
    return bucket_id + b"/" + key.encode()


def ref(layout_hash: bytes, bucket_id: bytes, order: int, random: bytes) -> bytes:
    return layout_hash + bucket_id + order.to_bytes(ORDER_BYTES, "big") + random


def upload(bucket_id: bytes, key: str, upload_id: str) -> bytes:
    return bucket_id + f"/{key}\0{upload_id}".encode()


def upload_name(bucket_id: bytes, upload_id: str) -> bytes:
    """Under which a `completed` upload is, and its garbage."""
    return bucket_id + b"/" + upload_id.encode()


def parts(bucket_id: bytes, upload_id: str) -> bytes:
    """What the keys of all parts of an upload begin with."""
    return upload_name(bucket_id, upload_id) + b"/"


def part(bucket_id: bytes, upload_id: str, number: int) -> bytes:
    return parts(bucket_id, upload_id) + b"%05d" % number


def due(due_ms: int, waste: int, name: bytes) -> bytes:
    return due_ms.to_bytes(8, "big") + bytes([waste]) + name


def due_again(key: bytes, due_ms: int) -> bytes:
    """The key of a `due` row that is put back under another time."""
    return due_ms.to_bytes(8, "big") + key[8:]


def due_until(now_ms: int) -> bytes:
    """Before which everything is due."""
    return (now_ms + 1).to_bytes(8, "big")


def due_ms_of(key: bytes) -> int:
    """Of a `due`."""
    return int.from_bytes(key[:8], "big")


def repair(layout_hash: bytes, write_id: bytes) -> bytes:
    return layout_hash + write_id


# --- ids of versions, as clients have them ------------------------------------------------------


def version_id(order: int, random: bytes, *, is_null: bool) -> str:
    """What a client calls a version."""
    return _NULL if is_null else (order.to_bytes(ORDER_BYTES, "big") + random).hex()


def is_upload_id(text: str) -> bool:
    """Whether an upload may have this id."""
    return len(text) == UPLOAD_ID_CHARS and _HEX.issuperset(text)


def parse_version_id(text: str) -> bytes | None:
    """16 bytes, order and random; b"" for "null". None: no version ever has this id."""
    if text == _NULL:
        return b""
    if len(text) != 2 * (ORDER_BYTES + RANDOM_BYTES) or not _HEX.issuperset(text):
        return None
    return bytes.fromhex(text)
