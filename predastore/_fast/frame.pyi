"""The records of a segment file (frame.pyx draws the layout).

Offsets are bytes from the start of the segment, `at` bytes from the start of a buffer. `tag` may
be ANY_TAG where a record is read.
"""

from typing import Final, NamedTuple

from typing_extensions import Buffer

HEADER_BYTES: Final[int]
ALIGN_BYTES: Final[int]
FORMAT_VERSION: Final[int]
BLOCK: Final[int]
COMMIT: Final[int]
TOMBSTONE: Final[int]
FOOTER: Final[int]
SEAL: Final[int]
SOLE: Final[int]
ANY_TAG: Final[int]

STOP_MORE: Final[int]
"""The buffer ends before the header or the payload of the next record does."""
STOP_ZERO: Final[int]
"""Zeros where the next header would be: nothing was written here yet."""
STOP_BAD: Final[int]
"""No header: wrong magic, tag or CRC."""
STOP_NEWER: Final[int]
"""A good header of an unknown version, kind or flag."""

READ_OK: Final[int]
READ_WOULD_BLOCK: Final[int]
READ_MISMATCH: Final[int]
READ_SHORT: Final[int]

class Record(NamedTuple):
    offset: int
    kind: int
    flags: int
    shard_index: int
    stripe: int
    object_hash: bytes
    write_id: bytes
    length: int
    payload_crc: int
    tag: int
    synced_bytes: int
    sound: bool

def record_bytes(length: int) -> int:
    """What a record with a payload of `length` bytes takes: header, payload, padding."""

def pack_into(
    out: Buffer,
    at: int,
    offset: int,
    tag: int,
    synced_bytes: int,
    kind: int,
    flags: int,
    object_hash: Buffer,
    write_id: Buffer,
    index: int,
    stripe: int,
    length: int,
    payload_crc: int,
) -> None:
    """Writes the header of a record that will stand at `offset` into `out[at:]`. ValueError or
    OverflowError for a field out of range."""

def unpack(buffer: Buffer, at: int, offset: int, tag: int) -> Record | int:
    """The verified header at `buffer[at:]`, or a STOP_ value; the payload is not looked at."""

def scan(
    buffer: Buffer, base: int, tag: int, payloads: bool = True
) -> tuple[list[Record], int, int]:
    """The records of a region that begins at offset `base`, the offset after the last of them, and
    a STOP_ value: why there is no further one. With `payloads`, each payload is verified, and
    `sound` says the result; without, all are taken to be sound."""

def resync(buffer: Buffer, at: int, base: int, tag: int) -> int | None:
    """The offset of the first good header at or after `buffer[at:]`; None if there is none."""

def read_block(fd: int, offset: int, out: Buffer, crc: int, nowait: bool = False) -> int:
    """Fills `out` from `offset` and checks its CRC32C: a READ_ value. OSError if reading fails.
    With `nowait`, READ_WOULD_BLOCK if it is not all in the page cache. READ_SHORT: the file ends
    before."""
