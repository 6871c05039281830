"""What callers of `Objects` hand in and get back, and the seam to where bytes lie.

Everything here is neutral of HTTP and S3's XML. Digests are raw bytes under the names of
coding.checksum ("md5", "sha256", "crc32c"...). Ranges are half open: [start, end).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from predastore.storage.records import Extent, PartRecord, ShardExtent, Summary, UploadRecord

Buffer = bytes | bytearray | memoryview


class Source(Protocol):
    """A body. An httpd Body is one."""

    async def readinto(self, buffer: memoryview) -> int:
        """Fills some of `buffer`: how many bytes, at least 1; 0 at the verified end."""
        ...


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a client says about an object. `headers`: Cache-Control, Content-Disposition,
    Content-Encoding, Content-Language, Expires and the like, lower-case names. `user`: the
    x-amz-meta-* without that prefix, lower-case names. `owner`: account id. `storage_class`: ""
    for STANDARD."""

    owner: str
    content_type: str = "binary/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    user: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = ""


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


@dataclass(frozen=True, slots=True)
class Condition:
    """Conditions of a write or delete, decided atomically at its commit. Each is an ETag
    without quotes, "*", or None."""

    if_match: str | None = None
    if_none_match: str | None = None

    def __bool__(self) -> bool:
        return self.if_match is not None or self.if_none_match is not None


NO_EXPECTATION = Expectation()
ALWAYS = Condition()


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of objects. `next` is what to give as `after` for the next one."""

    entries: list[tuple[str, Summary]]
    prefixes: list[str]
    truncated: bool
    next: str


@dataclass(frozen=True, slots=True)
class PartListing:
    """A page of an upload's parts. `next` is the number to give as `after`."""

    parts: list[PartRecord]
    truncated: bool
    next: int


@dataclass(frozen=True, slots=True)
class UploadListing:
    """A page of a bucket's uploads in progress, by key, then by age. `next_key` and
    `next_upload_id` are the markers of the next page."""

    uploads: list[UploadRecord]
    prefixes: list[str]
    truncated: bool
    next_key: str
    next_upload_id: str


@dataclass(frozen=True, slots=True)
class CompletedPart:
    """A part as the client names it on completing. `checksums`: those that it gave."""

    number: int
    etag: str
    checksums: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """What bytes are written for: an object, or (`upload_id` not "") a part of an upload."""

    bucket: str
    key: str
    upload_id: str = ""
    number: int = 0


class DigestSink(Protocol):
    """coding.checksum.Digests: fed every byte in order, from a thread that holds no GIL."""

    def update(self, data: Buffer) -> None: ...


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes that are durable and that nothing refers to yet. `missing`: the indexes of shards
    that could not be placed; the commit must put them on the repair table. `began_ms`: before
    that none of it was on a disk for good; 0 where what nobody refers to is not looked for."""

    extent: Extent
    missing: tuple[int, ...] = ()
    began_ms: int = 0


# Told of each shard (extent, index) that a read found missing or bad on its node.
Damaged = Callable[[ShardExtent, int], None]


# Told that an extent's bytes are in hand.
Opened = Callable[[], None]


class ByteStore(Protocol):
    """Where bytes lie: `distributed` or `filesystem`."""

    @property
    def grace_s(self) -> float:
        """How long replaced bytes are kept for readers that have begun."""
        ...

    def held_bytes(self) -> dict[str, int]:
        """What is in use of each budget for bodies; what the pool of buffers has, and what of that
        is in use."""
        ...

    async def write(
        self, place: Place, write_id: bytes, source: Source, size: int, digests: DigestSink
    ) -> Written:
        """Takes exactly `size` bytes from `source` to its verified end, and feeds `digests`.

        On return they are durable, and not yet visible. BodyMismatch("length") for a body of
        another size; NotEnoughNodes; NodeFull. Whatever it raises, nothing is left behind.
        """
        ...

    def read(
        self,
        extent: Extent,
        start: int,
        end: int,
        damaged: Damaged,
        opened: Opened,
        *,
        certain: bool = False,
    ) -> AsyncGenerator[Buffer, None]:
        """The bytes [start, end). ObjectUnreadable; never a wrong byte. `opened`: called before the
        first of them, and before anything that waits for a client: what it is read from now stays,
        whatever becomes of the record. `certain`: the record was just looked up for the second
        time, so bytes that look like another version's are checked instead of being given up on."""
        ...

    async def publish(self, extent: Extent) -> None:
        """After the commit that refers to `extent`: puts it where it belongs."""
        ...

    async def discard(self, extents: Sequence[Extent]) -> None:
        """Drops what was written and will never be referred to. Best effort, does not raise."""
        ...

    async def release(self, extents: Sequence[Extent]) -> list[bool]:
        """Lets go of bytes that nothing refers to any more; for each extent: is all of it gone
        from everywhere. Called again later for those that are not. Does not raise."""
        ...

    async def check_room(self) -> None:
        """NodeFull where not even a record is to be added: where bytes and records share a disk,
        and it is full but for what deletes need."""
        ...

    async def write_obstacle(self) -> str:
        """Why no bytes could be written now; "" where they could. Does not raise."""
        ...

    async def close(self) -> None: ...
