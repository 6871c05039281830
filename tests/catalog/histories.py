"""Random calls of the catalog's procedures, each drawn from what tables hold, or once held.

So a call may come too late: for a bucket that has changed, a version that is gone, a layout that
was let go of. Few names and keys, that things meet.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Callable, Mapping

import msgspec

from predastore.catalog import keys
from predastore.catalog.procedures import arguments as a
from predastore.catalog.rows import (
    BucketRow,
    Checksum,
    DefaultRetention,
    Detail,
    Kind,
    LockMode,
    ObjectOwnership,
    PartRow,
    PublicBlock,
    Retention,
    Summary,
    UploadRow,
    Versioning,
    VersionRow,
)
from predastore.storage.extents import Extent, FileExtent, ShardExtent
from predastore.storage.formats import decode, pack, unpack

Tables = Mapping[str, Mapping[bytes, bytes]]
Step = tuple[str, a.Arguments]

NAMES = ("one", "two")
KEYS = ("a", "a/b", "caf\u00e9")
DAY_MS = 86_400_000
NOON_MS = 1_790_000_000_000

_WEIGHTS = {
    "bucket.create": 4,
    "bucket.create_with": 2,
    "bucket.delete": 3,
    "bucket.change": 8,
    "bucket.change_access": 3,
    "object.put": 30,
    "object.delete": 22,
    "object.amend": 10,
    "object.set_acl": 8,
    "upload.create": 6,
    "upload.create_with_acl": 3,
    "upload.part": 16,
    "upload.complete": 10,
    "upload.abort": 2,
}


class Source(msgspec.Struct, frozen=True):
    """A version that was seen: of which key, its id, and what a copy of it needs."""

    bucket_id: bytes
    key: str
    order: int
    row: VersionRow

    @property
    def id(self) -> bytes:
        return b"" if self.row.is_null else self.order.to_bytes(8, "big") + self.row.random


class Histories:
    """`who`: no two have the same, since random bytes are made of it. `locks`: buckets have object
    lock most of the time. `sizes`: of parts."""

    def __init__(
        self,
        rng: random.Random,
        who: str = "",
        *,
        locks: bool = False,
        sizes: tuple[int, ...] = (0, 3, 4, 5, 6),
    ) -> None:
        self.rng = rng
        self._who = who
        self._locks = locks
        self._sizes = sizes
        self._count = 0
        self._helds: list[a.HeldBucket] = []
        self._sources: list[Source] = []
        self._uploads: list[tuple[str, str]] = []
        self._completed: list[a.CompleteUpload] = []

    def next(self, tables: Tables, time_ms: int) -> Step:
        """A procedure's name, and what it is called with."""
        name = self._drawn_name()
        held = self._held(tables)
        if held is None:
            name = "bucket.create"
        now_ms = (time_ms or NOON_MS) + self.rng.randrange(-5, 5)
        held = held or a.HeldBucket("", b"", 0)
        drawn: a.Arguments | None = getattr(self, "_" + name.replace(".", "_"))(
            tables, held, now_ms
        )
        if drawn is None:  # there is no upload
            return "upload.create", self._upload_create(tables, held, now_ms)
        return name, drawn

    def _drawn_name(self) -> str:
        at = self.rng.randrange(sum(_WEIGHTS.values()))
        for name, weight in _WEIGHTS.items():
            at -= weight
            if at < 0:
                return name
        raise AssertionError

    def _by_chance(self, share: float) -> bool:
        return self.rng.randrange(1000) < share * 1000

    def _bytes(self, count: int) -> bytes:
        self._count += 1
        return hashlib.sha256(f"{self._who}/{self._count}".encode()).digest()[:count]

    # --- what there is, or was ------------------------------------------------------------------

    def _held(self, tables: Tables) -> a.HeldBucket | None:
        rows = [decode(BucketRow, row) for _, row in sorted(tables.get("buckets", {}).items())]
        helds = [a.HeldBucket(row.name, row.id, row.generation) for row in rows]
        self._helds += [held for held in helds if held not in self._helds]
        if self._helds and (not helds or self._by_chance(0.05)):
            return self.rng.choice(self._helds)
        return self.rng.choice(helds) if helds else None

    def _source(self, tables: Tables, wanted: Callable[[Source], bool]) -> Source | None:
        found = [source for source in sources_of(tables) if wanted(source)]
        self._sources += [source for source in found if source not in self._sources]
        if self._by_chance(0.1):
            found = [source for source in self._sources if wanted(source)]
        return self.rng.choice(found) if found else None

    def _upload(self, tables: Tables, held: a.HeldBucket) -> tuple[str, str] | None:
        found = [
            (row.key, row.upload_id)
            for key, stored in sorted(tables.get("uploads", {}).items())
            for row in [decode(UploadRow, stored)]
            if key.startswith(held.id)
        ]
        self._uploads += [upload for upload in found if upload not in self._uploads]
        if self._by_chance(0.1):
            found = self._uploads
        return self.rng.choice(found) if found else None

    # --- buckets --------------------------------------------------------------------------------

    def _bucket_create(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments:
        return a.CreateBucket(self._bucket(now_ms))

    def _bucket_create_with(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments:
        row = msgspec.structs.replace(
            self._bucket(now_ms), ownership=self.rng.choice([*ObjectOwnership]), block=self._block()
        )
        documents = (("acl", b"private"), ("policy", b"{}"))
        return a.CreateBucketWith(row, documents[: self.rng.randrange(3)])

    def _block(self) -> PublicBlock | None:
        return self.rng.choice([None, PublicBlock(), PublicBlock(ignore_acls=True)])

    def _bucket(self, now_ms: int) -> BucketRow:
        versioning = self.rng.choice(list(Versioning))
        is_locked = self._by_chance(0.9 if self._locks else 0.2)
        if is_locked and self._by_chance(0.9):
            versioning = Versioning.ENABLED
        given = self._default() if is_locked and self._by_chance(0.3) else None
        bucket_id = b"\x80" + self._bytes(15)
        name = self.rng.choice(NAMES)
        return BucketRow(name, bucket_id, "1", "eu", now_ms, False, 1, versioning, is_locked, given)

    def _bucket_delete(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments:
        return a.DeleteBucket(held, now_ms)

    def _bucket_change(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments:
        args = a.ChangeBucket(held)
        if self._by_chance(0.5):
            versioning = self.rng.choice([*Versioning, Versioning.ENABLED, Versioning.SUSPENDED])
            args = msgspec.structs.replace(args, versioning=versioning)
        if self._by_chance(0.3):
            args = msgspec.structs.replace(args, is_locked=self._by_chance(0.7))
        if self._by_chance(0.3):
            given = self.rng.choice([self._default(), a.NO_DEFAULT])
            args = msgspec.structs.replace(args, retention=given)
        if self._by_chance(0.3):
            document = (self.rng.choice(["policy", "cors"]), self.rng.choice([b"{}", None]))
            args = msgspec.structs.replace(args, document=document)
        return args

    def _bucket_change_access(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments:
        block = self._block()
        return a.ChangeAccess(
            held,
            self.rng.choice([None, *ObjectOwnership]),
            self.rng.choice([None, () if block is None else (block,)]),
        )

    def _default(self) -> DefaultRetention:
        mode = self.rng.choice([LockMode.GOVERNANCE, LockMode.COMPLIANCE])
        return self.rng.choice([DefaultRetention(mode, 1, 0), DefaultRetention(mode, 0, 3)])

    # --- objects --------------------------------------------------------------------------------

    def _object_put(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments:
        key = self.rng.choice(KEYS)
        content, size = self._content(tables, held, key)
        summary = Summary(size, self.rng.choice(["0a", "0b"]), now_ms, "1")
        detail = Detail("a/b", acl=self._acl())
        retention, legal_hold = self._lock(now_ms)
        return a.PutObject(
            *(held, key, self._bytes(8), content, summary, msgspec.Raw(pack(detail))),
            *(now_ms, self.rng.choice([0, 60_000]), self._condition(), self._tags()),
            *(retention, legal_hold),
        )

    def _content(self, tables: Tables, held: a.HeldBucket, key: str) -> tuple[a.Content, int]:
        kind = self.rng.choice(list(Kind))
        if kind is Kind.NOWHERE:
            return a.Content(kind, b""), 0
        if kind is Kind.PLACED and self._by_chance(0.5):
            source = self._source(tables, lambda one: one.row.kind is Kind.PLACED)
            if source is not None:
                shared = (source.bucket_id, source.order, source.row.random)
                content = a.Content(kind, source.row.layout, shared_with=shared)
                return content, source.row.summary.size
        write_id = self._bytes(16)
        layout = keys.layout(held.name, key, write_id)
        if kind is Kind.INLINE:
            return a.Content(kind, layout, body=b"body", crc=self.rng.randrange(1 << 32)), 4
        extent, missing = self._extent(layout, write_id, 10)
        return a.Content(kind, layout, (extent,), missing=missing), 10

    def _extent(self, name: bytes, write_id: bytes, size: int) -> tuple[Extent, tuple[int, ...]]:
        if self._by_chance(0.3):
            return FileExtent("one/a", write_id, size, 1 << 20, b"crcs", 7), ()
        missing = (2,) if self._by_chance(0.3) else ()
        nodes = (4, 2, -1, 9, 1) if missing else (4, 2, 3, 9, 1)
        return ShardExtent(name, write_id, 3, 2, 1 << 20, size, nodes), missing

    def _lock(self, now_ms: int) -> tuple[Retention, bool | None]:
        if not self._by_chance(0.6 if self._locks else 0.15):
            return Retention(), self.rng.choice([False, None])
        return self._retention(now_ms), self._by_chance(0.3)

    def _retention(self, now_ms: int) -> Retention:
        mode = self.rng.choice(list(LockMode))
        if mode is LockMode.NONE:
            return Retention()
        return Retention(mode, now_ms + self.rng.choice([-10, 30, 200, DAY_MS]))

    def _tags(self) -> tuple[tuple[str, str], ...]:
        return self.rng.choice([(), (("colour", "red"),)])

    def _condition(self) -> a.Condition:
        if not self._by_chance(0.2):
            return a.NO_CONDITION
        values = ["*", "0a", None]
        return a.Condition(self.rng.choice(values), self.rng.choice(values))

    def _version(self, tables: Tables, held: a.HeldBucket, key: str) -> bytes | None:
        """Of one of the key's versions, mostly; or None."""
        if self._by_chance(0.4):
            return None
        source = self._source(tables, lambda one: (one.bucket_id, one.key) == (held.id, key))
        if source is None or self._by_chance(0.05):
            return self.rng.choice([b"", bytes(16), bytes(7) + b"\1" + bytes(8)])
        return source.id

    def _object_delete(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments:
        doomed = []
        for _ in range(self.rng.randrange(1, 5)):
            key = self.rng.choice(KEYS)
            version = self._version(tables, held, key)
            doomed.append(a.Doomed(key, self._bytes(8), version, self._condition()))
        grace_ms, bypass = self.rng.choice([0, 60_000]), self._by_chance(0.3)
        return a.DeleteObjects(held, tuple(doomed), now_ms, grace_ms, bypass)

    def _object_amend(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments:
        key = self.rng.choice(KEYS)
        args = a.AmendObject(held, key, self._version(tables, held, key))
        if self._by_chance(0.5):
            args = msgspec.structs.replace(args, tags=self._tags())
        if self._by_chance(0.4):
            retention, bypass = self._retention(now_ms), self._by_chance(0.3)
            args = msgspec.structs.replace(args, retention=retention, bypass=bypass)
        if self._by_chance(0.3):
            args = msgspec.structs.replace(args, legal_hold=self._by_chance(0.4))
        return args

    def _acl(self) -> bytes:
        return self.rng.choice([b"", b"public", b"log delivery"])

    def _object_set_acl(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments:
        key = self.rng.choice(KEYS)
        version = self._version(tables, held, key)
        seen = (self.rng.choice("1112"), self._acl())
        source = self._source(tables, lambda one: (one.bucket_id, one.key) == (held.id, key))
        if source is not None and self._by_chance(0.8):
            version = source.id
            seen = (source.row.summary.owner, unpack(Detail, source.row.detail).acl)
        return a.SetObjectAcl(held, key, version, self._acl(), seen)

    # --- uploads --------------------------------------------------------------------------------

    def _upload_create(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments:
        name, type_ = self.rng.choice([("", ""), ("sha256", "COMPOSITE"), ("crc32", "FULL_OBJECT")])
        retention, legal_hold = self._lock(now_ms)
        row = UploadRow(
            *(held.name, self.rng.choice(KEYS), self._bytes(16).hex(), "1", now_ms, "a/b", {}, {}),
            *(name, type_, "", self._tags(), retention, legal_hold),
        )
        return a.CreateUpload(held, row)

    def _upload_create_with_acl(
        self, tables: Tables, held: a.HeldBucket, now_ms: int
    ) -> a.Arguments:
        plain = self._upload_create(tables, held, now_ms)
        assert isinstance(plain, a.CreateUpload)
        row = msgspec.structs.replace(plain.row, acl=self._acl())
        return a.CreateUpload(held, row)

    def _upload_part(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments | None:
        upload = self._upload(tables, held)
        if upload is None:
            return None
        size = self.rng.choice(self._sizes)
        number, write_id = self.rng.randrange(1, 5), self._bytes(16)
        extent, missing = self._extent(keys.part_hash(upload[1], number), write_id, size)
        body = bytes(range(size % 256))
        checksums = (
            Checksum("sha256", hashlib.sha256(body).digest()),
            Checksum("crc32", zlib.crc32(body).to_bytes(4, "big")),
        )[: 1 if self._by_chance(0.02) else 2]
        etag = hashlib.md5(body).hexdigest()
        row = PartRow(number, extent, size, etag, now_ms, checksums)
        return a.PutPart(held, *upload, row, now_ms, self.rng.choice([0, 60_000]), missing)

    def _upload_complete(
        self, tables: Tables, held: a.HeldBucket, now_ms: int
    ) -> a.Arguments | None:
        if self._completed and self._by_chance(0.2):
            again = msgspec.structs.replace(self.rng.choice(self._completed), held=held)
            key = self.rng.choice(KEYS) if self._by_chance(0.2) else again.key
            return msgspec.structs.replace(again, key=key)
        upload = self._upload(tables, held)
        if upload is None:
            return None
        key, upload_id = upload
        if self._by_chance(0.05):
            key = self.rng.choice(KEYS)
        prefix = keys.parts(held.id, upload_id)
        rows = [
            decode(PartRow, stored)
            for place, stored in sorted(tables.get("parts", {}).items())
            if place.startswith(prefix)
        ]
        named = tuple(
            a.CompletedPart(row.number, row.etag, row.checksums if self._by_chance(0.5) else ())
            for row in rows
            if self._by_chance(0.85)
        )
        if self._by_chance(0.05):
            named += (a.CompletedPart(9, "00"),)
        size = sum(row.size for row in rows) if self._by_chance(0.3) else None
        checksums = (Checksum("sha256", bytes(32)),) if self._by_chance(0.05) else ()
        args = a.CompleteUpload(
            *(held, key, upload_id, self._bytes(8), named, now_ms, self.rng.choice([0, 60_000])),
            *(self._condition(), size, checksums),
        )
        self._completed.append(args)
        return args

    def _upload_abort(self, tables: Tables, held: a.HeldBucket, now_ms: int) -> a.Arguments | None:
        upload = self._upload(tables, held)
        if upload is None:
            return None
        return a.AbortUpload(held, *upload, now_ms, self.rng.choice([0, 60_000]))


def sources_of(tables: Tables) -> list[Source]:
    """All versions that there are."""
    found = []
    for place, stored in sorted(tables.get("versions", {}).items()):
        key = place[keys.ID_BYTES + 1 : -1 - keys.ORDER_BYTES].decode()
        row = decode(VersionRow, stored)
        found.append(Source(place[: keys.ID_BYTES], key, keys.order_of(place), row))
    return found
