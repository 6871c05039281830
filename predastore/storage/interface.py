"""The seam to where bytes lie: what a ByteStore is handed and gives back.

Neutral of objects and versions: bytes are written for a layout, and named by extents from then on.
Ranges are half open: [start, end).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from predastore.storage.extents import Extent, ShardExtent

Buffer = bytes | bytearray | memoryview


class Source(Protocol):
    """A body. An httpd Body is one."""

    async def readinto(self, buffer: memoryview) -> int:
        """Fills some of `buffer`: how many bytes, at least 1; 0 at the verified end."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """What bytes are written for. `layout`: the one that they will be in. `name`: 32 bytes, of the
    shards on their nodes, and their place on the ring. `bucket`, `key`: of the object. `part`: the
    key of its row, if they are a part's. `is_plain`: a plain file may have them, at the path of its
    key; not in a bucket that has versions."""

    layout: bytes
    name: bytes
    bucket: str
    key: str
    part: bytes = b""
    is_plain: bool = False


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


class Placements(Protocol):
    """What the rows above say of bytes, as of now: for a store that has to know whose a file is."""

    async def placed(self, layout: bytes) -> Sequence[Extent]:
        """The extents of a layout that a version names; none of any other."""
        ...

    async def part(self, key: bytes) -> Extent | None:
        """The extent of a part that has a row under this key (`Place.part`)."""
        ...

    async def plain(self, bucket: str, key: str) -> Sequence[Extent]:
        """The extents of the one version of a key that may have the plain path: the one that was
        put before the bucket of this name had versions."""
        ...

    async def has_anything(self, bucket: str) -> bool:
        """Whether a bucket of this name has versions, or uploads in progress."""
        ...


# Told of each shard (extent, index) that a read found missing or bad on its node.
Damaged = Callable[[ShardExtent, int], None]


# Told that an extent's bytes are in hand.
Opened = Callable[[], None]


class ByteStore(Protocol):
    """Where bytes lie: `distributed` or `filesystem`."""

    @property
    def shares(self) -> bool:
        """Whether one extent may be named by several versions."""
        ...

    @property
    def grace_s(self) -> float:
        """How long replaced bytes are kept for readers that have begun."""
        ...

    def held_bytes(self) -> dict[str, int]:
        """What is in use of each budget for bodies; what the pool of buffers has, and what of that
        is in use."""
        ...

    async def write(
        self,
        place: Place,
        write_id: bytes,
        source: Source,
        size: int,
        digests: DigestSink,
        *,
        may_end: bool = False,
    ) -> Written:
        """Takes exactly `size` bytes from `source` to its verified end, and feeds `digests`.
        `may_end`: `size` is the most that there may be, and `source` says where they end; how many
        there were is the extent's size.

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

    async def replaced(self, written: Written, place: Place) -> Written:
        """The same bytes, which nothing refers to yet, for another place of their layout."""
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
