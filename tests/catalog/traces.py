"""Golden traces: of each procedure some calls, what they did to the rows, what they answered.

    step <what it shows>
    time <cluster time, ms>
    call <procedure> <its arguments, hex>
    answer <hex>
    put <table> <key, hex> <value, hex>
    delete <table> <key, hex>

A trace begins with no rows; `put` and `delete` are in the order of tables and keys. Files are in
tests/catalog/traces/. Once a program was released with a procedure, its trace stays: members that
do something else at the same call come to different states, and another meaning takes another name.

`python tests/catalog/traces.py` writes all files anew from `SCENARIOS`, for a procedure that is
new, or was never released; look at what `git diff` says then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    TESTS = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import msgspec

from predastore.base.limits import S3_PART_BYTES_MIN
from predastore.catalog import keys
from predastore.catalog.procedures import PROCEDURES
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
)
from predastore.s3db.procedures import Procedure
from predastore.storage.extents import ShardExtent
from predastore.storage.formats import pack
from reference.database import Database

FOLDER = Path(__file__).parent / "traces"
NOON_MS = 1_790_000_000_000
DAY_MS = 86_400_000
BUCKET_ID = b"\x80" + bytes(15)
OTHER_ID = b"\x81" + bytes(15)
UPLOAD_ID = "0f" * 16

Change = tuple[str, bytes, bytes | None]  # table, key, value; None: it was deleted


@dataclass(frozen=True)
class Call:
    says: str
    procedure: str
    arguments: bytes
    time_ms: int


@dataclass(frozen=True)
class Traced:
    call: Call
    answer: bytes
    changes: tuple[Change, ...]


def run(calls: list[Call], procedures: Mapping[str, Procedure] = PROCEDURES) -> list[Traced]:
    database, traced = Database(), []
    for call in calls:
        before = {name: dict(rows) for name, rows in database.tables.items()}
        procedure = procedures[call.procedure]
        answer = database.call(procedure.run, call.arguments, call.time_ms)
        changes = tuple(_changes(before, database.tables))
        traced.append(Traced(call, answer, changes))
    return traced


def _changes(
    before: dict[str, dict[bytes, bytes]], after: dict[str, dict[bytes, bytes]]
) -> Iterator[Change]:
    for table in sorted({*before, *after}):
        old, new = before.get(table, {}), after.get(table, {})
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield table, key, new.get(key)


def text_of(trace: list[Traced]) -> str:
    lines = []
    for one in trace:
        call = one.call
        lines += [f"step {call.says}", f"time {call.time_ms}"]
        lines += [f"call {call.procedure} {call.arguments.hex()}", f"answer {one.answer.hex()}"]
        for table, key, value in one.changes:
            deleted = f"delete {table} {key.hex()}"
            lines.append(deleted if value is None else f"put {table} {key.hex()} {value.hex()}")
    return "\n".join(lines) + "\n"


def calls_in(text: str) -> list[Call]:
    calls, says, time_ms = [], "", 0
    for line in text.splitlines():
        what, _, rest = line.partition(" ")
        if what == "step":
            says = rest
        elif what == "time":
            time_ms = int(rest)
        elif what == "call":
            name, _, arguments = rest.partition(" ")
            calls.append(Call(says, name, bytes.fromhex(arguments), time_ms))
    return calls


# --- what is called -------------------------------------------------------------------------------


class Script:
    """Calls one after the other, on the bucket "b" mostly, whose generation it knows."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.held = a.HeldBucket("b", BUCKET_ID, 1)
        self.time_ms = NOON_MS
        self._count = 0

    def call(self, says: str, procedure: str, args: a.Arguments) -> None:
        self.calls.append(Call(says, procedure, args.encode(), self.time_ms))

    def random(self) -> bytes:
        self._count += 1
        return self._count.to_bytes(8, "big")

    def create(self, versioning: Versioning = Versioning.NEVER, *, is_locked: bool = False) -> None:
        row = BucketRow("b", BUCKET_ID, "1", "eu", NOON_MS)
        row = msgspec.structs.replace(row, versioning=versioning, is_locked=is_locked)
        self.call("a bucket", "bucket.create", a.CreateBucket(row))

    def change(self, says: str, **changes: object) -> None:
        args = msgspec.structs.replace(a.ChangeBucket(self.held), **changes)
        self.call(says, "bucket.change", args)
        generation = self.held.generation + 1
        self.held = msgspec.structs.replace(self.held, generation=generation)

    def access(self, says: str, **changes: object) -> None:
        args = msgspec.structs.replace(a.ChangeAccess(self.held), **changes)
        self.call(says, "bucket.change_access", args)
        generation = self.held.generation + 1
        self.held = msgspec.structs.replace(self.held, generation=generation)

    def put(self, says: str, content: a.Content | None = None, **more: object) -> bytes:
        """The layout."""
        random = self.random()
        layout = keys.layout("b", "k", random)
        if content is None:
            extent = ShardExtent(layout, random * 2, 3, 2, 1 << 20, 9, (1, 2, -1, 4, 5))
            content = a.Content(Kind.PLACED, layout, (extent,), missing=(2,))
        summary = Summary(9, "0a", NOON_MS, "1", ("sha256",), "FULL_OBJECT", "STANDARD_IA")
        detail = Detail("a/b", {"x": "y"}, {"who": "me"}, (Checksum("sha256", bytes(32)),))
        args = a.PutObject(
            *(self.held, "k", random, content, summary, msgspec.Raw(pack(detail))),
            *(NOON_MS, 60_000),
        )
        self.call(says, "object.put", msgspec.structs.replace(args, **more))
        return layout

    def delete(self, says: str, *versions: bytes | None, **more: object) -> None:
        doomed = tuple(a.Doomed("k", self.random(), version) for version in versions)
        args = a.DeleteObjects(self.held, doomed, NOON_MS, 60_000)
        self.call(says, "object.delete", msgspec.structs.replace(args, **more))

    def amend(self, says: str, version: bytes | None, **more: object) -> None:
        args = msgspec.structs.replace(a.AmendObject(self.held, "k", version), **more)
        self.call(says, "object.amend", args)

    def upload(self, algorithm: str = "sha256", type_: str = "COMPOSITE") -> None:
        row = UploadRow(
            *("b", "k", UPLOAD_ID, "1", NOON_MS, "a/b", {"x": "y"}, {"who": "me"}),
            *(algorithm, type_, "STANDARD_IA", (("colour", "red"),)),
        )
        self.call("an upload", "upload.create", a.CreateUpload(self.held, row))

    def part(self, says: str, number: int, size: int = S3_PART_BYTES_MIN) -> PartRow:
        random, name = self.random(), keys.part_hash(UPLOAD_ID, number)
        extent = ShardExtent(name, random * 2, 3, 2, 1 << 20, size, (1, 2, -1, 4, 5))
        checksums = (Checksum("sha256", random * 4), Checksum("crc32", random[4:]))
        row = PartRow(number, extent, size, random.hex() * 2, NOON_MS, checksums)
        args = a.PutPart(self.held, "k", UPLOAD_ID, row, NOON_MS, 60_000, (2,))
        self.call(says, "upload.part", args)
        return row

    def complete(self, says: str, *rows: PartRow, **more: object) -> None:
        named = tuple(a.CompletedPart(row.number, row.etag, row.checksums[:1]) for row in rows)
        args = a.CompleteUpload(self.held, "k", UPLOAD_ID, self.random(), named, NOON_MS, 60_000)
        self.call(says, "upload.complete", msgspec.structs.replace(args, **more))


def version_id(order: int, count: int) -> bytes:
    """Of the version whose random bytes were the script's `count`th."""
    return order.to_bytes(8, "big") + count.to_bytes(8, "big")


def bucket_create(script: Script) -> None:
    script.create(Versioning.ENABLED, is_locked=True)
    tagged = BucketRow("t", OTHER_ID, "2", "eu", NOON_MS)
    script.call("with a document", "bucket.create", a.CreateBucket(tagged, ("tags", b"red")))
    again = BucketRow("b", OTHER_ID, "2", "eu", NOON_MS)
    script.call("its name is taken", "bucket.create", a.CreateBucket(again))
    locked = BucketRow("c", OTHER_ID, "2", "eu", NOON_MS, is_locked=True)
    script.call("no lock without versions", "bucket.create", a.CreateBucket(locked))


def bucket_change(script: Script) -> None:
    script.create()
    script.change("versions", versioning=Versioning.ENABLED)
    script.change("a lock", is_locked=True)
    days = DefaultRetention(LockMode.GOVERNANCE, 30, 0)
    script.change("a default", retention=days, document=("policy", b"{}"))
    script.change("no default, no document", retention=a.NO_DEFAULT, document=("policy", None))
    script.change("suspended: it has lock", versioning=Versioning.SUSPENDED)


def bucket_create_with(script: Script) -> None:
    row = BucketRow("b", BUCKET_ID, "1", "eu", NOON_MS)
    owned = msgspec.structs.replace(row, ownership=ObjectOwnership.BUCKET_OWNER_ENFORCED)
    documents = (("tags", b"red"), ("acl", b"public"))
    name = "bucket.create_with"
    script.call("with two documents", name, a.CreateBucketWith(owned, documents))
    script.call("its name is taken", name, a.CreateBucketWith(row))
    other = msgspec.structs.replace(row, name="c", id=OTHER_ID, block=PublicBlock(ignore_acls=True))
    script.call("with a block", name, a.CreateBucketWith(other))
    locked = msgspec.structs.replace(other, name="d", is_locked=True)
    script.call("no lock without versions", name, a.CreateBucketWith(locked))


def bucket_change_access(script: Script) -> None:
    script.create()
    script.access("an owner", ownership=ObjectOwnership.BUCKET_OWNER_PREFERRED)
    script.access("a block", block=(PublicBlock(block_acls=True, restrict_buckets=True),))
    script.change("versions, and all stays", versioning=Versioning.ENABLED)
    script.access("neither", ownership=ObjectOwnership.NONE, block=())
    stale = msgspec.structs.replace(script.held, generation=1)
    script.call("stale", "bucket.change_access", a.ChangeAccess(stale, block=()))


def bucket_delete(script: Script) -> None:
    script.create(Versioning.ENABLED)
    script.change("a document", document=("cors", b"<cors/>"))
    script.upload()
    script.put("an object")
    script.call("not empty", "bucket.delete", a.DeleteBucket(script.held, NOON_MS))
    script.delete("the object", version_id(1, 1))
    stale = msgspec.structs.replace(script.held, generation=1)
    script.call("stale", "bucket.delete", a.DeleteBucket(stale, NOON_MS))
    script.call("empty", "bucket.delete", a.DeleteBucket(script.held, NOON_MS))


def object_put(script: Script) -> None:
    script.create()
    script.put("placed")
    inline = a.Content(Kind.INLINE, bytes(32), body=b"body", crc=0x01020304)
    script.put("inline, in its place", inline)
    script.put("there is one", condition=a.Condition(if_none_match="*"))
    script.change("versions", versioning=Versioning.ENABLED)
    layout = script.put("a version", tags=(("colour", "red"),))
    copy = a.Content(Kind.PLACED, layout, shared_with=(BUCKET_ID, 1, bytes(7) + b"\4"))
    script.put("a copy", copy)
    script.change("suspended", versioning=Versioning.SUSPENDED)
    script.put("a null version, in the place of the first", a.Content(Kind.NOWHERE, b""))
    gone = a.Content(Kind.PLACED, bytes(32), shared_with=(BUCKET_ID, 1, bytes(8)))
    script.put("of what is gone", gone)
    script.put("kept, without a lock", legal_hold=True)
    script.change("versions again", versioning=Versioning.ENABLED)
    script.change("a lock", is_locked=True, retention=DefaultRetention(LockMode.COMPLIANCE, 0, 1))
    script.put("kept for a year", a.Content(Kind.NOWHERE, b""), legal_hold=True)


def object_delete(script: Script) -> None:
    script.create()
    script.put("an object")
    script.delete("it, and nothing", None, None)
    script.change("versions", versioning=Versioning.ENABLED)
    script.put("a version")
    script.delete("a marker", None)
    script.delete("no such version", version_id(7, 7))
    script.change("suspended", versioning=Versioning.SUSPENDED)
    script.put("a null version")
    script.delete("it is a marker now", None)
    script.delete("both markers, and the version", b"", version_id(2, 5), version_id(1, 4))
    script.change("versions again", versioning=Versioning.ENABLED)
    script.change("a lock", is_locked=True)
    kept = Retention(LockMode.GOVERNANCE, NOON_MS + DAY_MS)
    script.put("a kept version", retention=kept)
    script.delete("it is kept", version_id(1, 12))
    script.delete("bypassed", version_id(1, 12), bypass=True)


def object_amend(script: Script) -> None:
    script.create(Versioning.ENABLED, is_locked=True)
    script.amend("nothing there", None, tags=())
    script.put("if there is one", condition=a.Condition(if_match="*"))
    script.put("a version")
    script.amend("tags", None, tags=(("colour", "red"),))
    until = NOON_MS + DAY_MS
    script.amend("kept", None, retention=Retention(LockMode.COMPLIANCE, until), legal_hold=True)
    script.amend("shorter", None, retention=Retention(LockMode.COMPLIANCE, until - 1))
    script.amend("no hold", version_id(1, 2), legal_hold=False)
    script.amend("another version", version_id(1, 1), tags=())
    script.delete("a marker", None)
    script.amend("of a marker", None, tags=())
    script.time_ms += 2 * DAY_MS
    script.amend("over", version_id(1, 2), retention=Retention())
    script.amend("a hold once more", version_id(1, 2), legal_hold=True)


def object_set_acl(script: Script) -> None:
    def set_acl(
        says: str, version: bytes | None, acl: bytes, seen: bytes = b"", owner: str = "1"
    ) -> None:
        args = a.SetObjectAcl(script.held, "k", version, acl, (owner, seen))
        script.call(says, "object.set_acl", args)

    script.create(Versioning.ENABLED)
    set_acl("nothing there", None, b"public")
    script.put("a version")
    script.put("another")
    set_acl("of the current one", None, b"public")
    set_acl("of the older one", version_id(1, 1), b"public")
    set_acl("another one", version_id(1, 1), b"log delivery", b"public")
    set_acl("not the one that was seen", version_id(1, 1), b"", b"public")
    set_acl("nor its owner", version_id(1, 1), b"", b"log delivery", "2")
    set_acl("private again", version_id(1, 1), b"", b"log delivery")
    set_acl("no such version", version_id(7, 7), b"public")
    script.amend("tags, and it stays", None, tags=(("colour", "red"),))
    script.delete("a marker", None)
    set_acl("of a marker", None, b"public")
    stale = msgspec.structs.replace(script.held, generation=7)
    script.call("stale", "object.set_acl", a.SetObjectAcl(stale, "k", None, b"", ("1", b"")))


def upload_create(script: Script) -> None:
    script.create()
    script.upload()
    row = UploadRow("b", "k", "1e" * 16, "1", NOON_MS, "a/b", legal_hold=True)
    script.call("no lock", "upload.create", a.CreateUpload(script.held, row))


def upload_create_with_acl(script: Script) -> None:
    script.create()
    row = UploadRow("b", "k", UPLOAD_ID, "1", NOON_MS, "a/b", acl=b"public")
    name = "upload.create_with_acl"
    script.call("with an ACL", name, a.CreateUpload(script.held, row))
    part = script.part("a part", 1)
    script.complete("the version has it", part)
    bare = msgspec.structs.replace(row, upload_id="1e" * 16, acl=b"")
    script.call("with none", name, a.CreateUpload(script.held, bare))


def upload_part(script: Script) -> None:
    script.create()
    script.upload()
    script.part("a part", 1)
    script.part("in its place", 1)
    args = a.AbortUpload(script.held, "k", UPLOAD_ID, NOON_MS, 60_000)
    script.call("the end", "upload.abort", args)
    script.part("too late", 2)


def upload_abort(script: Script) -> None:
    script.create()
    script.upload()
    script.part("a part", 1)
    args = a.AbortUpload(script.held, "k", UPLOAD_ID, NOON_MS, 60_000)
    script.call("ended", "upload.abort", args)
    script.call("ended before", "upload.abort", args)


def upload_complete(script: Script) -> None:
    script.create()
    script.put("what will be replaced")
    script.upload()
    first, small = script.part("a part", 1), script.part("a small one", 2, 7)
    third, last = script.part("another", 3, 5), script.part("the last", 9)
    script.complete("too small", first, small, third)
    script.complete("too large", first, small, size=1)
    script.complete("not that part", msgspec.structs.replace(first, etag="00"))
    script.complete("others are left over", first, small, size=S3_PART_BYTES_MIN + 7)
    script.complete("the same again", first, last)


def upload_complete_full(script: Script) -> None:
    script.create(Versioning.ENABLED)
    script.upload("crc32", "FULL_OBJECT")
    rows = [script.part("a part", number) for number in (1, 4)]
    script.complete("a version, and nothing is left over", *rows)


SCENARIOS: dict[str, Callable[[Script], None]] = {
    "bucket.create": bucket_create,
    "bucket.create_with": bucket_create_with,
    "bucket.change": bucket_change,
    "bucket.change_access": bucket_change_access,
    "bucket.delete": bucket_delete,
    "object.put": object_put,
    "object.delete": object_delete,
    "object.amend": object_amend,
    "object.set_acl": object_set_acl,
    "upload.create": upload_create,
    "upload.create_with_acl": upload_create_with_acl,
    "upload.part": upload_part,
    "upload.abort": upload_abort,
    "upload.complete": upload_complete,
    "upload.complete-full-object": upload_complete_full,
}


def scripted(name: str) -> list[Call]:
    script = Script()
    SCENARIOS[name](script)
    return script.calls


def file_of(name: str) -> Path:
    return FOLDER / f"{name}.trace"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in SCENARIOS:
        file_of(name).write_text(text_of(run(scripted(name))))


if __name__ == "__main__":
    main()
