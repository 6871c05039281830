"""What the documents of buckets mean, remembered for as long as it is so.

A document is an encoded value that its owner reads (`DocumentKind`): rules for browsers, a policy.
Each change of a bucket's row or of one of its documents makes a new generation of the bucket. So
what was read of a bucket's id and generation holds for every row of that id and generation, and for
no other one; nothing has a time to live. A document is never read by itself, as it could be newer
than the row that it is taken for: one question brings the row and the documents of one moment.

Two ways to ask:

- `now`: the bucket as it is, one round trip; its documents come along only if they are not known.
- `of`: a bucket whose row was just looked up. No round trip where the documents are known; else one
  with BucketChanged where the row is not the bucket's any more: the caller looks up again.

One generation of a bucket is remembered, the newest that was seen. The memory is bounded by the
number of buckets and by what meanings take at most; what was not used for longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from predastore.base.limits import (
    BUCKET_DOCUMENT_COST_BYTES,
    BUCKET_DOCUMENTS_BUCKETS_MAX,
    BUCKET_DOCUMENTS_BYTES_MAX,
)
from predastore.catalog import keys, refusals
from predastore.catalog.errors import BucketChanged
from predastore.catalog.keys import BUCKETS
from predastore.catalog.procedures.questions import FoundDocuments, ReadDocuments
from predastore.catalog.rows import BucketRow, bucket_row
from predastore.s3db.global_state import GlobalState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DocumentKind(Generic[T]):
    """`name`: under which the catalog keeps such documents. `read`: what one means, of its stored
    bytes; a value that nobody changes. UnsupportedFormat, CorruptData. `memory_ratio`: a meaning
    takes at most so many bytes for each that is stored, and BUCKET_DOCUMENT_COST_BYTES."""

    name: str
    read: Callable[[bytes], T]
    memory_ratio: int

    def cost_bytes(self, stored: bytes | None) -> int:
        """What the meaning of a document counts as, None: that there is none."""
        return BUCKET_DOCUMENT_COST_BYTES + self.memory_ratio * len(stored or b"")


class Meanings:
    """What documents of one generation of a bucket mean. `cost_bytes`: what they count as."""

    __slots__ = ("_all_of", "_found", "cost_bytes", "generation", "id")

    def __init__(self, bucket_id: bytes, generation: int) -> None:
        self.id = bucket_id
        self.generation = generation
        self.cost_bytes = 0
        self._all_of: tuple[DocumentKind[Any], ...] = ()
        self._found: dict[str, tuple[Any, int]] = {}  # kind -> meaning, what it counts as

    def of(self, kind: DocumentKind[T]) -> T | None:
        """What the document of that kind means, None where there is none; KeyError for a kind that
        was not asked for."""
        meaning: T | None = self._found[kind.name][0]
        return meaning

    def is_of(self, bucket: BucketRow) -> bool:
        return self.id == bucket.id and self.generation == bucket.generation

    def has(self, kinds: tuple[DocumentKind[Any], ...]) -> bool:
        if kinds == self._all_of:  # as each request asks for the same
            return True
        if all(kind.name in self._found for kind in kinds):
            self._all_of = kinds
            return True
        return False

    def add(self, kind: DocumentKind[Any], stored: bytes | None) -> None:
        """A document as it is stored, None for none; what its kind's `read` raises."""
        meaning = None if stored is None else kind.read(stored)
        self._put(kind.name, meaning, kind.cost_bytes(stored))

    def join(self, other: Meanings) -> None:
        """Takes in further kinds of the same generation."""
        for name, (meaning, cost_bytes) in other._found.items():
            if name not in self._found:
                self._put(name, meaning, cost_bytes)

    def _put(self, name: str, meaning: Any, cost_bytes: int) -> None:
        self._found[name] = (meaning, cost_bytes)
        self.cost_bytes += cost_bytes


class BucketDocuments:
    """One for all requests of a process; `Catalog.documents`."""

    def __init__(
        self,
        state: GlobalState,
        *,
        buckets_max: int = BUCKET_DOCUMENTS_BUCKETS_MAX,
        bytes_max: int = BUCKET_DOCUMENTS_BYTES_MAX,
    ) -> None:
        """The bounds are of what is remembered."""
        self._state = state
        self._buckets_max = buckets_max
        self._bytes_max = bytes_max
        self._seen: OrderedDict[str, Meanings] = OrderedDict()  # by the bucket's name
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """What counts against the bound."""
        return self._held_bytes

    def __len__(self) -> int:
        """Of how many buckets something is remembered."""
        return len(self._seen)

    def known(self, bucket: BucketRow, *kinds: DocumentKind[Any]) -> Meanings | None:
        """What the documents of just this row's generation mean, if that is remembered."""
        if not kinds:
            return Meanings(bucket.id, bucket.generation)
        seen = self._seen.get(bucket.name)
        if seen is None or not seen.is_of(bucket) or not seen.has(kinds):
            return None
        self._seen.move_to_end(bucket.name)
        return seen

    async def of(self, bucket: BucketRow, *kinds: DocumentKind[Any]) -> Meanings:
        """What the documents of the row's generation mean; BucketChanged where the bucket has
        another one by now, or is gone, and they are not known; what `read` raises."""
        known = self.known(bucket, *kinds)
        if known is not None:
            return known
        row, meanings = await self.now(bucket.name, *kinds)
        if row is None or not meanings.is_of(bucket):
            raise BucketChanged(BucketName=bucket.name)
        return meanings

    async def now(
        self, bucket: str, *kinds: DocumentKind[Any]
    ) -> tuple[BucketRow | None, Meanings]:
        """The bucket's row as it is, and what its documents mean, as of one moment; None, and no
        documents, where there is no such bucket. What `read` raises."""
        if not kinds:
            return await self._row(bucket)
        seen = self._seen.get(bucket)
        if seen is not None and not seen.has(kinds):
            seen = None
        names = tuple(kind.name for kind in kinds)
        asked = ReadDocuments(bucket, names)
        if seen is not None:
            asked = ReadDocuments(bucket, names, seen.id, seen.generation)
        answer = await self._state.ask("bucket.documents", asked.encode())
        found = refusals.read(FoundDocuments, answer)
        if not found.bucket:
            self._forget(bucket)
            return None, _meanings(b"", 0, kinds, (None,) * len(kinds))
        row = bucket_row(found.bucket)
        if found.is_known:
            assert seen is not None
            return row, seen
        meanings = _meanings(row.id, row.generation, kinds, found.documents)
        self._remember(row, meanings)
        return row, meanings

    async def _row(self, bucket: str) -> tuple[BucketRow | None, Meanings]:
        stored = await self._state.get(BUCKETS, keys.bucket(bucket))
        if stored is None:
            return None, Meanings(b"", 0)
        row = bucket_row(stored)
        return row, Meanings(row.id, row.generation)

    def _remember(self, bucket: BucketRow, meanings: Meanings) -> None:
        """Unless a newer generation is remembered: answers may come in another order than that in
        which they were given."""
        seen = self._seen.get(bucket.name)
        if seen is not None and seen.id == meanings.id:
            if seen.generation > meanings.generation:
                return
            if seen.generation == meanings.generation:
                meanings.join(seen)
        self._forget(bucket.name)
        if meanings.cost_bytes > self._bytes_max:
            return
        self._seen[bucket.name] = meanings
        self._held_bytes += meanings.cost_bytes
        while len(self._seen) > self._buckets_max or self._held_bytes > self._bytes_max:
            self._forget(next(iter(self._seen)))

    def _forget(self, bucket: str) -> None:
        gone = self._seen.pop(bucket, None)
        if gone is not None:
            self._held_bytes -= gone.cost_bytes


def _meanings(
    bucket_id: bytes,
    generation: int,
    kinds: tuple[DocumentKind[Any], ...],
    documents: tuple[bytes | None, ...],
) -> Meanings:
    meanings = Meanings(bucket_id, generation)
    for kind, stored in zip(kinds, documents, strict=True):
        meanings.add(kind, stored)
    return meanings
