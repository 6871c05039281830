"""The catalog as lists and dicts: what its procedures mean, without rows, keys or bounds.

Each method takes the arguments of the procedure of its name, and returns its answer or raises
`Refused`. All that may be refused is looked at before anything changes.
"""

from __future__ import annotations

import hashlib
import zlib
from calendar import isleap
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from predastore.catalog import keys
from predastore.catalog.procedures import arguments as a
from predastore.catalog.procedures.arguments import Reason
from predastore.catalog.rows import (
    NO_RETENTION,
    BucketRow,
    Checksum,
    Detail,
    Kind,
    LockMode,
    PartRow,
    PartSize,
    Retention,
    Summary,
    UploadRow,
    Versioning,
    Waste,
)
from predastore.storage.extents import Extent, ShardExtent

PART_BYTES_MIN = 4  # tests set the bound of S3 to it
KEPT_MS = 24 * 60 * 60 * 1000
Owner = tuple[bytes, int, bytes]  # bucket id, order, random


class Refused(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


@dataclass
class Version:
    order: int
    random: bytes
    is_null: bool
    is_marker: bool
    kind: Kind
    layout: bytes
    summary: Summary
    detail: Detail
    tags: tuple[tuple[str, str], ...] = ()
    retention: Retention = NO_RETENTION
    legal_hold: bool | None = None


@dataclass
class Layout:
    bucket: str
    key: str
    extents: list[Extent]
    parts: list[PartSize] = field(default_factory=list)
    owners: list[Owner] = field(default_factory=list)
    was_shared: bool = False
    md5: bytes = b""


@dataclass
class Bucket:
    row: BucketRow
    documents: dict[str, bytes] = field(default_factory=dict)
    versions: dict[str, list[Version]] = field(default_factory=dict)  # oldest first


@dataclass(frozen=True)
class Owed:
    due_ms: int
    waste: Waste
    name: bytes


@dataclass
class Upload:
    row: UploadRow
    parts: dict[int, PartRow] = field(default_factory=dict)


class CatalogModel:
    def __init__(self) -> None:
        self.time_ms = 0
        self.buckets: dict[str, Bucket] = {}
        self.bodies: dict[bytes, bytes] = {}
        self.crcs: dict[bytes, int] = {}
        self.layouts: dict[bytes, Layout] = {}
        self.owed: list[Owed] = []
        self.let_go: dict[bytes, Layout] = {}
        self.replaced_parts: dict[bytes, Layout] = {}
        self.uploads: dict[tuple[bytes, str], Upload] = {}  # by the bucket's id and their own
        self.leftovers: dict[tuple[bytes, str], dict[int, PartRow]] = {}
        self.completed: dict[tuple[bytes, str], tuple[str, a.Completed]] = {}
        self.notes: list[tuple[bytes, str, str, ShardExtent, tuple[int, ...], int, bytes]] = []

    def call(self, name: str, args: msgspec.Struct, time_ms: int) -> msgspec.Struct:
        self.time_ms = time_ms
        answer: msgspec.Struct = getattr(self, name.replace(".", "_"))(args)
        return answer

    # --- buckets --------------------------------------------------------------------------------

    def bucket_create(self, args: a.CreateBucket) -> a.Nothing:
        if args.row.name in self.buckets:
            raise Refused(Reason.BUCKET_EXISTS)
        _check_bucket(args.row)
        documents = dict((args.document,)) if args.document is not None else {}
        self.buckets[args.row.name] = Bucket(args.row, documents)
        return a.Nothing()

    def bucket_delete(self, args: a.DeleteBucket) -> a.Nothing:
        bucket = self._held(args.held)
        if any(bucket.versions.values()):
            raise Refused(Reason.BUCKET_NOT_EMPTY)
        del self.buckets[args.held.name]
        if any(bucket_id == args.held.id for bucket_id, _ in self.uploads):
            self.owed.append(Owed(args.now_ms, Waste.BUCKET, args.held.id))
        return a.Nothing()

    def bucket_change(self, args: a.ChangeBucket) -> a.Nothing:
        bucket = self._held(args.held)
        old = bucket.row
        changes: dict[str, object] = {"generation": old.generation + 1}
        if args.versioning is not None:
            changes["versioning"] = args.versioning
        if args.is_locked is not None:
            changes["is_locked"] = args.is_locked
        if args.retention is not None:
            changes["retention"] = args.retention if args.retention.mode else None
        new = msgspec.structs.replace(old, **changes)
        if (old.versioning and not new.versioning) or (old.is_locked and not new.is_locked):
            raise Refused(Reason.BUCKET_LOCKED)
        _check_bucket(new)
        bucket.row = new
        if args.document is not None:
            kind, value = args.document
            bucket.documents.pop(kind, None)
            if value is not None:
                bucket.documents[kind] = value
        return a.Nothing()

    def _held(self, held: a.HeldBucket) -> Bucket:
        bucket = self.buckets.get(held.name)
        if bucket is None or (bucket.row.id, bucket.row.generation) != (held.id, held.generation):
            raise Refused(Reason.BUCKET_CHANGED)
        return bucket

    def bucket_create_with(self, args: a.CreateBucketWith) -> a.Nothing:
        self.bucket_create(a.CreateBucket(args.row))
        self.buckets[args.row.name].documents = dict(args.documents)
        return a.Nothing()

    def bucket_change_access(self, args: a.ChangeAccess) -> a.Nothing:
        bucket = self._held(args.held)
        changes: dict[str, object] = {"generation": bucket.row.generation + 1}
        if args.ownership is not None:
            changes["ownership"] = args.ownership
        if args.block is not None:
            changes["block"] = args.block[0] if args.block else None
        bucket.row = msgspec.structs.replace(bucket.row, **changes)
        return a.Nothing()

    # --- objects --------------------------------------------------------------------------------

    def object_put(self, args: a.PutObject) -> a.Added:
        bucket = self._held(args.held)
        _check_lock(bucket, args.retention, args.legal_hold)
        _check_condition(args.condition, _newest(bucket, args.key))
        content = args.content
        if content.shared_with is not None and content.layout not in self.layouts:
            raise Refused(Reason.LAYOUT_GONE)
        version = Version(
            *(_next_order(bucket, args.key), args.random, _makes_null(bucket), False),
            *(content.kind, content.layout, args.summary),
            msgspec.msgpack.decode(args.detail, type=Detail),
            args.tags,
            self._retention(bucket, args.retention, args.now_ms),
            args.legal_hold,
        )
        owner = (bucket.row.id, version.order, version.random)
        if content.kind is Kind.INLINE:
            self.bodies[content.layout], self.crcs[content.layout] = content.body, content.crc
        elif content.shared_with is not None:
            self.layouts[content.layout].was_shared = True
            self.layouts[content.layout].owners.append(owner)
        elif content.kind is Kind.PLACED:
            self.layouts[content.layout] = Layout(
                args.held.name,
                args.key,
                list(content.extents),
                owners=[owner],
                md5=bytes.fromhex(args.summary.etag),
            )
            modified = args.summary.modified_ms
            self._note(content.layout, args.held.name, args.key, content.extents[0],
                       content.missing, modified, b"")  # fmt: skip
        wasted = self._add(bucket, args.key, version, self._due_ms(args.now_ms, args.grace_ms))
        return a.Added(version.order, version.random, version.is_null, wasted)

    def object_delete(self, args: a.DeleteObjects) -> a.Deletions:
        bucket = self._held(args.held)
        deletions = tuple(self._delete(bucket, doomed, args) for doomed in args.doomed)
        return a.Deletions(deletions, bucket.row.versioning is not Versioning.NEVER)

    def _delete(self, bucket: Bucket, doomed: a.Doomed, args: a.DeleteObjects) -> a.Deletion:
        due_ms = self._due_ms(args.now_ms, args.grace_ms)
        versions = bucket.versions.get(doomed.key, [])
        found = find_version(bucket, doomed.key, doomed.version)
        reason = _failure(doomed.condition, found)[0]
        if reason:
            return a.Deletion(reason)
        if doomed.version is None and bucket.row.versioning:
            null = _replaced(bucket, doomed.key)
            assert null is None or not self._is_kept(null, bypass=False)
            marker = Version(
                *(_next_order(bucket, doomed.key), doomed.random, _makes_null(bucket), True),
                *(Kind.NOWHERE, b"", Summary(0, "", args.now_ms, bucket.row.owner), Detail("")),
            )
            wasted = self._add(bucket, doomed.key, marker, due_ms)
            return a.Deletion(
                *(Reason.DONE, null is not None, True, marker.order, marker.random),
                *(marker.is_null, wasted),
            )
        if found is None:
            return a.Deletion()
        if self._is_kept(found, bypass=args.bypass):
            return a.Deletion(Reason.LOCKED)
        versions.remove(found)
        wasted = self._let_go(bucket, found, due_ms)
        return a.Deletion(
            *(Reason.DONE, True, found.is_marker, found.order, found.random, found.is_null, wasted)
        )

    def object_amend(self, args: a.AmendObject) -> a.Amended:
        bucket = self._held(args.held)
        _check_lock(bucket, args.retention, args.legal_hold)
        version = _found(bucket, args.key, args.version)
        if args.retention is not None:
            old, new = version.retention, args.retention
            runs = old.mode and old.until_ms > self.time_ms
            grows = new.mode == old.mode and new.until_ms >= old.until_ms
            if runs and not grows and not (old.mode is LockMode.GOVERNANCE and args.bypass):
                raise Refused(Reason.LOCKED)
            version.retention = new
        if args.tags is not None:
            version.tags = args.tags
        if args.legal_hold is not None:
            version.legal_hold = args.legal_hold
        has_versions = bucket.row.versioning is not Versioning.NEVER
        return a.Amended(version.order, version.random, version.is_null, has_versions)

    def object_set_acl(self, args: a.SetObjectAcl) -> a.Amended:
        bucket = self._held(args.held)
        version = _found(bucket, args.key, args.version)
        if (version.summary.owner, version.detail.acl) != args.seen:
            raise Refused(Reason.ACL_CHANGED)
        version.detail = msgspec.structs.replace(version.detail, acl=args.acl)
        has_versions = bucket.row.versioning is not Versioning.NEVER
        return a.Amended(version.order, version.random, version.is_null, has_versions)

    def _due_ms(self, now_ms: int, grace_ms: int) -> int:
        return max(self.time_ms, now_ms) + grace_ms

    def _add(self, bucket: Bucket, key: str, version: Version, due_ms: int) -> tuple[bytes, ...]:
        versions = bucket.versions.setdefault(key, [])
        replaced = _replaced(bucket, key)
        versions.append(version)
        if replaced is None:
            return ()
        assert not self._is_kept(replaced, bypass=False)
        versions.remove(replaced)
        return self._let_go(bucket, replaced, due_ms)

    def _let_go(self, bucket: Bucket, version: Version, due_ms: int) -> tuple[bytes, ...]:
        if version.kind is Kind.INLINE:
            del self.bodies[version.layout]
        if version.kind is not Kind.PLACED:
            return ()
        layout = self.layouts[version.layout]
        layout.owners.remove((bucket.row.id, version.order, version.random))
        if layout.owners:
            return ()
        self.let_go[version.layout] = self.layouts.pop(version.layout)
        self.owed.append(Owed(due_ms, Waste.LAYOUT, version.layout))
        return (version.layout,)

    def _is_kept(self, version: Version, *, bypass: bool) -> bool:
        mode, runs = version.retention.mode, version.retention.until_ms > self.time_ms
        if mode is LockMode.GOVERNANCE and bypass:
            runs = False
        return version.legal_hold or (mode is not LockMode.NONE and runs)

    def _retention(self, bucket: Bucket, asked: Retention, now_ms: int) -> Retention:
        default = bucket.row.retention
        if asked.mode or default is None:
            return asked
        begins_ms = max(self.time_ms, now_ms)
        if default.days:
            return Retention(default.mode, begins_ms + default.days * 86_400_000)
        begins = datetime.fromtimestamp(begins_ms // 1000, UTC)
        year = begins.year + default.years
        if (begins.month, begins.day) == (2, 29) and not isleap(year):
            begins = begins.replace(day=28)
        until = begins.replace(year=year)
        return Retention(default.mode, int(until.timestamp()) * 1000 + begins_ms % 1000)

    # --- uploads --------------------------------------------------------------------------------

    def upload_create(self, args: a.CreateUpload) -> a.Nothing:
        bucket = self._held(args.held)
        _check_lock(bucket, args.row.retention, args.row.legal_hold)
        self.uploads[args.held.id, args.row.upload_id] = Upload(args.row)
        return a.Nothing()

    def upload_create_with_acl(self, args: a.CreateUpload) -> a.Nothing:
        return self.upload_create(args)

    def upload_part(self, args: a.PutPart) -> a.WastedParts:
        self._held(args.held)
        upload = self._upload(args.held, args.key, args.upload_id)
        old = upload.parts.get(args.row.number)
        upload.parts[args.row.number] = args.row
        layout = keys.layout(args.held.name, args.key, bytes.fromhex(args.upload_id))
        part = keys.part(args.held.id, args.upload_id, args.row.number)
        self._note(layout, args.held.name, args.key, args.row.extent, args.missing, args.now_ms,
                   part)  # fmt: skip
        if old is None:
            return a.WastedParts()
        name = old.extent.write_id
        self.replaced_parts[name] = Layout(args.held.name, args.key, [old.extent])
        self.owed.append(Owed(self._due_ms(args.now_ms, args.grace_ms), Waste.EXTENT, name))
        return a.WastedParts((name,))

    def upload_abort(self, args: a.AbortUpload) -> a.Nothing:
        self._held(args.held)
        upload = self._upload(args.held, args.key, args.upload_id)
        self._end(args.held.id, upload, upload.parts, self._due_ms(args.now_ms, args.grace_ms))
        return a.Nothing()

    def upload_complete(self, args: a.CompleteUpload) -> a.Completed:
        bucket = self._held(args.held)
        key, told = self.completed.get((args.held.id, args.upload_id), ("", None))
        if told is not None and key == args.key:
            return told
        upload = self._upload(args.held, args.key, args.upload_id)
        rows = [_named(upload, named) for named in args.parts]
        checksums = _checksums(upload.row, rows)
        size = sum(row.size for row in rows)
        if not rows:
            raise Refused(Reason.INVALID_PART)
        if any(row.size < PART_BYTES_MIN for row in rows[:-1]):
            raise Refused(Reason.PART_TOO_SMALL)
        if args.size not in (None, size):
            raise Refused(Reason.SIZE_DIFFERS)
        known = {each.algorithm: each.value for each in checksums}
        if any(known.get(each.algorithm) != each.value for each in args.checksums):
            raise Refused(Reason.CHECKSUM_DIFFERS)
        _check_condition(args.condition, _newest(bucket, args.key))
        row, digests = upload.row, b"".join(bytes.fromhex(each.etag) for each in rows)
        name = row.checksum_algorithm
        summary = Summary(
            *(size, f"{hashlib.md5(digests).hexdigest()}-{len(rows)}", args.now_ms, row.owner),
            *(((name,), row.checksum_type) if name else ((), "")),
            row.storage_class,
        )
        version = Version(
            *(_next_order(bucket, args.key), args.random, _makes_null(bucket), False),
            Kind.PLACED,
            keys.layout(args.held.name, args.key, bytes.fromhex(args.upload_id)),
            summary,
            Detail(
                *(row.content_type, row.headers, row.user, checksums, len(rows)),
                *(row.upload_id, row.acl),
            ),
            row.tags,
            self._retention(bucket, row.retention, args.now_ms),
            row.legal_hold,
        )
        kept = {each.algorithm for each in checksums} if row.checksum_type == "COMPOSITE" else ()
        self.layouts[version.layout] = Layout(
            args.held.name,
            args.key,
            [each.extent for each in rows],
            [
                PartSize(each.number, each.size, _digest(each, name) if name in kept else b"")
                for each in rows
            ],
            [(bucket.row.id, version.order, version.random)],
        )
        wasted = self._add(bucket, args.key, version, self._due_ms(args.now_ms, args.grace_ms))
        written = a.Added(version.order, version.random, version.is_null, wasted)
        answer = a.Completed(written, summary, checksums)
        self.completed[args.held.id, args.upload_id] = args.key, answer
        at = keys.upload_name(args.held.id, args.upload_id)
        self.owed.append(Owed(args.now_ms + KEPT_MS, Waste.COMPLETED, at))
        named = {each.number for each in args.parts}
        left = {number: part for number, part in upload.parts.items() if number not in named}
        self._end(
            args.held.id, upload, left, self._due_ms(args.now_ms, args.grace_ms) if left else None
        )
        return answer

    def _upload(self, held: a.HeldBucket, key: str, upload_id: str) -> Upload:
        upload = self.uploads.get((held.id, upload_id))
        if upload is None or upload.row.key != key:
            raise Refused(Reason.NO_SUCH_UPLOAD)
        return upload

    def _end(
        self, bucket_id: bytes, upload: Upload, left: dict[int, PartRow], due_ms: int | None
    ) -> None:
        del self.uploads[bucket_id, upload.row.upload_id]
        self.leftovers[bucket_id, upload.row.upload_id] = left
        if due_ms is not None:
            name = keys.upload_name(bucket_id, upload.row.upload_id)
            self.owed.append(Owed(due_ms, Waste.UPLOAD, name))

    def _note(
        self,
        layout: bytes,
        bucket: str,
        key: str,
        extent: Extent,
        missing: tuple[int, ...],
        now_ms: int,
        part: bytes,
    ) -> None:
        if missing and isinstance(extent, ShardExtent):
            self.notes.append((layout, bucket, key, extent, missing, now_ms, part))


def _check_bucket(row: BucketRow) -> None:
    if row.is_locked and row.versioning is not Versioning.ENABLED:
        raise Refused(Reason.BUCKET_LOCKED)
    if row.retention is not None and not row.is_locked:
        raise Refused(Reason.BUCKET_LOCKED)


def _check_lock(bucket: Bucket, retention: Retention | None, legal_hold: bool | None) -> None:
    if bucket.row.is_locked:
        return
    if legal_hold or (retention is not None and retention.mode):
        raise Refused(Reason.NO_LOCK)


def _newest(bucket: Bucket, key: str) -> Version | None:
    versions = bucket.versions.get(key)
    return versions[-1] if versions else None


def _makes_null(bucket: Bucket) -> bool:
    return bucket.row.versioning is not Versioning.ENABLED


def _replaced(bucket: Bucket, key: str) -> Version | None:
    return find_version(bucket, key, b"") if _makes_null(bucket) else None


def _next_order(bucket: Bucket, key: str) -> int:
    newest = _newest(bucket, key)
    if bucket.row.versioning is Versioning.NEVER:
        return 0
    return 1 if newest is None else newest.order + 1


def _found(bucket: Bucket, key: str, wanted: bytes | None) -> Version:
    version = find_version(bucket, key, wanted)
    if version is None:
        raise Refused(Reason.NO_SUCH_KEY if wanted is None else Reason.NO_SUCH_VERSION)
    if version.is_marker:
        raise Refused(Reason.IS_MARKER)
    return version


def find_version(bucket: Bucket, key: str, version: bytes | None) -> Version | None:
    if version is None:
        return _newest(bucket, key)
    for each in bucket.versions.get(key, []):
        own = b"" if each.is_null else each.order.to_bytes(8, "big") + each.random
        if own == version:
            return each
    return None


def _failure(condition: a.Condition, version: Version | None) -> tuple[Reason, str]:
    etag = None if version is None or version.is_marker else version.summary.etag
    wanted, unwanted = condition.if_match, condition.if_none_match
    if wanted is not None and etag is None:
        return Reason.NO_SUCH_KEY, "If-Match"
    if wanted is not None and wanted not in ("*", etag):
        return Reason.CONDITION_FAILED, "If-Match"
    if unwanted is not None and etag is not None and unwanted in ("*", etag):
        return Reason.CONDITION_FAILED, "If-None-Match"
    return Reason.DONE, ""


def _check_condition(condition: a.Condition, version: Version | None) -> None:
    reason, _ = _failure(condition, version)
    if reason:
        raise Refused(reason)


def _digest(row: PartRow, name: str) -> bytes:
    return next(each.value for each in row.checksums if each.algorithm == name)


def _named(upload: Upload, named: a.CompletedPart) -> PartRow:
    row = upload.parts.get(named.number)
    if row is None or row.etag != named.etag:
        raise Refused(Reason.INVALID_PART)
    has = {each.algorithm: each.value for each in row.checksums}
    name = upload.row.checksum_algorithm
    if any(has.get(each.algorithm) != each.value for each in named.checksums):
        raise Refused(Reason.INVALID_PART)
    if name and name not in has:
        raise Refused(Reason.INVALID_PART)
    return row


def _checksums(upload: UploadRow, rows: list[PartRow]) -> tuple[Checksum, ...]:
    """Of the bytes `body_of`, which tests put into parts: their length says which."""
    name = upload.checksum_algorithm
    if not name:
        return ()
    if upload.checksum_type == "FULL_OBJECT":
        whole = b"".join(body_of(row.size) for row in rows)
        return (Checksum(name, zlib.crc32(whole).to_bytes(4, "big")),)
    of_parts = b"".join(_digest(row, name) for row in rows)
    return (Checksum(name, hashlib.sha256(of_parts).digest(), len(rows)),)


def body_of(size: int) -> bytes:
    return bytes(range(size))
