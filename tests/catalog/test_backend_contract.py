"""What `Catalog` promises, over both byte stores."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from predastore._fast.crc import crc32, crc64nvme
from predastore.base.errors import BodyMismatch, HttpError, ObjectReplaced
from predastore.base.limits import (
    COMPLETED_KEPT_MS,
    PROCEDURE_WRITTEN_BYTES_MAX,
    S3_PART_BYTES_MIN,
)
from predastore.catalog import keys
from predastore.catalog.errors import (
    BucketNotEmpty,
    CatalogError,
    ConditionFailed,
    InvalidPart,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    PartTooSmall,
    SizeDiffers,
)
from predastore.catalog.keys import COMPLETED, PARTS
from predastore.catalog.procedures.arguments import CompletedPart, Condition
from predastore.catalog.values import Attributes, Deleted, Expectation, Finding, Wanted
from support.backends import (
    BACKENDS,
    OWNER,
    BytesSource,
    Harness,
    StalledSource,
    failing,
    run,
    some_bytes,
)
from support.waiting import eventually_async

MIB = 1 << 20
PART = S3_PART_BYTES_MIN


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Opens a harness in `tmp_path`."""
    return lambda **more: BACKENDS[request.param](tmp_path, **more)


@pytest.mark.parametrize("size", [0, 1, 100, 16 * 1024, 16 * 1024 + 1, MIB, 3 * MIB + 7])
def test_what_is_put_is_read_back(backend: Any, size: int) -> None:
    async def main() -> None:
        async with backend() as at:
            data = some_bytes(size)
            stored = await at.put("a/key", data)
            assert (stored.size, stored.etag) == (size, hashlib.md5(data).hexdigest())
            assert stored.version_id == ""
            assert await at.get("a/key") == data

    run(main())


@pytest.mark.parametrize("most", [MIB, 3 * MIB + 7])
@pytest.mark.parametrize("size", [0, 1, 16 * 1024 + 1, 48 * 1024, MIB - 1, MIB])
def test_a_body_may_end_before_its_bound_and_no_byte_is_added(
    backend: Any, size: int, most: int
) -> None:
    async def main() -> None:
        async with backend() as at:
            data = some_bytes(size)
            source = BytesSource(data, 10_000)
            stored = await at.catalog.put("bucket", "k", source, most, OWNER, may_end=True)
            assert (stored.size, stored.etag) == (size, hashlib.md5(data).hexdigest())
            assert await at.get("k") == data
            assert (await at.found("k")).size == size
            await at.holds_extents(1 if size or at.nodes is None else 0)

    run(main())


def test_a_body_that_goes_on_behind_its_bound_is_not_stored(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            put = at.catalog.put("bucket", "k", BytesSource(b"x" * 101), 100, OWNER, may_end=True)
            assert (await failing(BodyMismatch, put)).what == "length"
            await at.holds_extents(0)

    run(main())


def test_any_range_is_read(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            data = some_bytes(2 * MIB + 99)
            await at.put("k", data)
            for start, end in [
                (0, 1),
                (MIB - 1, MIB + 1),
                (12_287, 12_289),
                (MIB, MIB),
                (7, 2 * MIB),
            ]:
                assert await at.get("k", start, end) == data[start:end]
            assert await at.get("k", len(data) - 1) == data[-1:]

    run(main())


def test_what_was_said_about_an_object_is_kept(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            attributes = Attributes(
                "000000000009", "text/plain", {"cache-control": "no-store"}, {"who": "me"}
            )
            data = b"hello"
            sha = hashlib.sha256(data).digest()
            expectation = Expectation({"sha256": sha}, frozenset({"sha256", "crc64nvme"}))
            stored = await at.put("k", data, attributes=attributes, expectation=expectation)
            version = await at.found("k")
            assert version.bucket.name == "bucket"
            assert (version.owner, version.modified_ms) == ("000000000009", stored.modified_ms)
            detail = version.detail
            assert detail.content_type == "text/plain"
            assert (detail.headers, detail.user) == ({"cache-control": "no-store"}, {"who": "me"})
            assert version.checksums == stored.checksums
            assert [(each.algorithm, each.value) for each in version.checksums] == [
                ("crc64nvme", crc64nvme(data).to_bytes(8, "big")),
                ("sha256", sha),
            ]

    run(main())


def test_an_object_that_is_not_there_is_not_found(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            assert await at.find("k") is None
            assert await at.catalog.find("other", "k") == Finding()
            await failing(NoSuchVersion, at.finding("k", "no id"))
            assert (await at.finding("k", "0" * 32)).version is None

    run(main())


@pytest.mark.parametrize("key", ["k", "large"])
@pytest.mark.parametrize("fault", ["md5", "late", "short", "long", "raises"])
def test_a_body_that_is_not_as_declared_is_not_stored(backend: Any, fault: str, key: str) -> None:
    async def main() -> None:
        async with backend() as at:
            old, data = b"old", some_bytes(100_000 if key == "large" else 50)
            await at.put(key, old)
            before = at.nodes.shard_count if at.nodes else None
            expectation, error = Expectation(), None
            if fault == "md5":
                expectation = Expectation({"md5": bytes(16)})
            elif fault == "late":
                expectation = Expectation({}, frozenset({"crc32c"}), lambda: {"crc32c": bytes(4)})
            elif fault == "raises":
                error = HttpError(400, "the client went away")
            size = len(data) + {"short": 1, "long": -1}.get(fault, 0)
            source = BytesSource(data, fail=error)
            with pytest.raises(HttpError if fault == "raises" else BodyMismatch) as caught:
                await at.catalog.put("bucket", key, source, size, OWNER, expectation)
            if isinstance(caught.value, BodyMismatch):
                names = {"late": "crc32c", "short": "length", "long": "length"}
                assert caught.value.what == names.get(fault, "md5")
            assert await at.get(key) == old
            if at.nodes:
                await eventually_async(lambda: at.nodes.shard_count == before)
            else:
                assert [*(at.base / ".predastore" / "tmp").iterdir()] == []

    run(main())


def test_a_cancelled_put_leaves_nothing(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            for size in (10, 100_000):
                source = StalledSource(some_bytes(size))
                task = asyncio.ensure_future(at.catalog.put("bucket", "k", source, size + 1, OWNER))
                await source.stalled.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert await at.find("k") is None
            if at.nodes:
                await eventually_async(lambda: at.nodes.shard_count == 0)
            else:
                assert [*(at.base / ".predastore" / "tmp").iterdir()] == []

    run(main())


def test_an_overwrite_replaces_and_its_bytes_are_let_go(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.put("k", some_bytes(20_000, 1))
            await at.put("k", some_bytes(30_000, 2))
            assert await at.get("k") == some_bytes(30_000, 2)
            await at.no_garbage()
            await at.holds_extents(1)
            assert await at.get("k") == some_bytes(30_000, 2)

    run(main())


def test_writers_of_one_key_leave_one_whole_version(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            bodies = [some_bytes(40_000 + n, n) for n in range(8)]
            written = await asyncio.gather(*(at.put("k", body) for body in bodies))
            etag = (await at.found("k")).etag
            winner = [each.etag for each in written].index(etag)
            assert await at.get("k") == bodies[winner]
            await at.no_garbage()
            assert await at.get("k") == bodies[winner]

    run(main())


def test_a_reader_finishes_the_version_that_it_began(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            data = some_bytes(3 * MIB)
            await at.put("k", data)
            stream = await at.catalog.open_read(await at.found("k"), 0, len(data))
            got = bytes(await anext(stream))
            await at.put("k", b"new")
            await at.catalog.delete("bucket", "k")
            async for buffer in stream:
                got += buffer
            assert got == data
            await at.no_garbage()

    run(main())


def test_a_version_that_is_gone_is_told_from_one_that_is_unreadable(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.put("k", b"old, and long enough")
            old = await at.found("k")
            await at.put("k", b"new, and long enough")
            await at.no_garbage()
            with pytest.raises(ObjectReplaced):
                await at.catalog.open_read(old, 0, old.size)
            await at.catalog.delete("bucket", "k")
            await at.no_garbage()
            await failing(NoSuchKey, at.catalog.open_read(old, 0, old.size))

    run(main())


def test_a_deleted_object_is_gone_with_its_bytes(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.put("dir/k", b"data")
            assert await at.catalog.delete("bucket", "dir/k") == Deleted(existed=True)
            assert await at.catalog.delete("bucket", "dir/k") == Deleted()
            assert await at.find("dir/k") is None
            assert await at.keys() == []
            await at.no_garbage()
            await at.holds_extents(0)
            if not at.nodes:
                assert not (at.base / "bucket").exists()

    run(main())


def test_many_are_deleted_in_one_commit(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            for key in "abc":
                await at.put(key, key.encode())
            wanted = [Wanted(key) for key in ("a", "c", "nothing", "a")]
            outcome = await at.catalog.delete_many("bucket", wanted)
            was_there, was_not = Deleted(existed=True), Deleted()
            assert outcome == [was_there, was_there, was_not, was_not]
            assert await at.keys() == ["b"]
            await failing(NoSuchBucket, at.catalog.delete_many("other", wanted))

    run(main())


def test_what_is_too_much_for_one_commit_is_deleted_all_the_same(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"k{number}" for number in range(7)]

    async def main() -> None:
        async with backend() as at:
            for name in names:
                await at.put(name, b"x")
            with monkeypatch.context() as patch:
                bound = "predastore.catalog.procedures.objects.DELETE_BYTES_LEFT_MIN"
                patch.setattr(bound, PROCEDURE_WRITTEN_BYTES_MAX - 1500)
                outcome = await at.catalog.delete_many("bucket", [Wanted(name) for name in names])
            assert outcome == [Deleted(existed=True)] * 7
            assert await at.keys() == []
            await at.no_garbage()
            await at.holds_extents(0)

    run(main())


def test_conditions_of_writes_and_deletes_are_exact(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            put, delete = at.put, at.catalog.delete
            absent, present = Condition(if_none_match="*"), Condition(if_match="*")
            await failing(NoSuchKey, put("k", b"x", condition=present))
            await failing(NoSuchKey, put("k", b"x", condition=Condition(if_match="abc")))
            first = await put("k", b"1", condition=absent)
            await failing(ConditionFailed, put("k", b"2", condition=absent))
            same, other = Condition(if_match=first.etag), Condition(if_match="0" * 32)
            await failing(ConditionFailed, put("k", b"2", condition=other))
            differs = Condition(if_none_match=first.etag)
            await failing(ConditionFailed, put("k", b"2", condition=differs))
            second = await put("k", b"2", condition=same)
            await failing(ConditionFailed, put("k", b"3", condition=same))
            await put("k", b"2", condition=differs)
            await failing(ConditionFailed, delete("bucket", "k", condition=same))
            last = await delete("bucket", "k", condition=Condition(if_match=second.etag))
            assert last.existed
            await failing(NoSuchKey, delete("bucket", "k", condition=present))

    run(main())


def test_of_many_conditional_writers_one_wins(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            results = await asyncio.gather(
                *(
                    at.put("k", bytes([n]), condition=Condition(if_none_match="*"))
                    for n in range(8)
                ),
                return_exceptions=True,
            )
            won = [n for n, result in enumerate(results) if not isinstance(result, CatalogError)]
            assert len(won) == 1
            assert await at.get("k") == bytes(won)

    run(main())


def test_of_many_writers_that_replace_one_version_one_wins(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            first = await at.put("k", b"first")
            condition = Condition(if_match=first.etag)
            results = await asyncio.gather(
                *(at.put("k", bytes([n]), condition=condition) for n in range(8)),
                return_exceptions=True,
            )
            won = [n for n, result in enumerate(results) if not isinstance(result, CatalogError)]
            assert len(won) == 1
            assert await at.get("k") == bytes(won)

    run(main())


def test_buckets_are_made_listed_and_removed(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            catalog = at.catalog
            assert await catalog.create_bucket("alpha", "me", "eu", public=True)
            assert not await catalog.create_bucket("alpha", "other", "eu")
            assert (await catalog.bucket("alpha")).owner == "me"
            assert [each.name for each in await catalog.buckets()] == ["alpha", "bucket"]
            assert [each.name for each in await catalog.buckets("me")] == ["alpha"]
            await at.put("k", b"x", bucket="alpha")
            await failing(BucketNotEmpty, catalog.delete_bucket("alpha"))
            await catalog.delete("alpha", "k")
            await catalog.delete_bucket("alpha")
            await failing(NoSuchBucket, catalog.delete_bucket("alpha"))
            await failing(NoSuchBucket, at.put("k", b"x", bucket="alpha"))
            assert await catalog.bucket("alpha") is None

    run(main())


ODD_KEYS = [
    "a", "a/b", "a/b/c", "a//b", "/a", "a/", "./a", "../a", "a/../../b", ".predastore/tmp/x", ".",
    "..", "x" * 256, "y/" * 100, "\u00e4\u4e16\U0001f600", "new\nline", "\x7f",
    "A", "%2e", "-", "~", "\ufffd", "z" * 1024,
]  # fmt: skip


def test_every_legal_key_holds_its_object(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            for key in ODD_KEYS:
                await at.put(key, key.encode())
            for key in ODD_KEYS:
                assert await at.get(key) == key.encode()
            assert await at.keys() == sorted(ODD_KEYS, key=str.encode)
            for key in ODD_KEYS:
                assert (await at.catalog.delete("bucket", key)).existed
            assert await at.keys() == []
            await at.no_garbage()

    run(main())


def test_listing_pages_by_prefix_and_delimiter(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            names = ["a", "b/1", "b/2", "c", "d/x/1", "d/y", "e"]
            for name in names:
                await at.put(name, name.encode())
            page = await at.catalog.list("bucket", "", "/")
            assert [key for key, _ in page.entries] == ["a", "c", "e"]
            assert page.prefixes == ["b/", "d/"]
            seen: list[str] = []
            after, truncated = "", True
            while truncated:
                page = await at.catalog.list("bucket", "", "/", after, 1)
                seen += [key for key, _ in page.entries] + page.prefixes
                after, truncated = page.next, page.truncated
            assert seen == ["a", "b/", "c", "d/", "e"]
            assert await at.keys(prefix="d/") == ["d/x/1", "d/y"]
            assert await at.keys(after="c") == ["d/x/1", "d/y", "e"]
            (_, summary), *_ = (await at.catalog.list("bucket", "c")).entries
            assert (summary.size, summary.etag) == (1, hashlib.md5(b"c").hexdigest())
            assert (await at.catalog.list("bucket", limit=0)).entries == []

    run(main())


def test_a_copy_is_an_object_of_its_own(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            data = some_bytes(200_000)
            source = await at.put("from", data)
            copied = await at.copy(await at.found("from"), "to")
            assert copied.etag == source.etag
            await at.catalog.delete("bucket", "from")
            await at.no_garbage()
            assert await at.get("to") == data
            await at.copy(await at.found("to"), "to", Attributes("o", "text/html"))
            assert (await at.found("to")).detail.content_type == "text/html"
            assert await at.get("to") == data

    run(main())


async def put_part(at: Harness, upload: Any, number: int, data: bytes) -> CompletedPart:
    part = await at.catalog.put_part(upload, number, BytesSource(data), len(data))
    assert part.etag == hashlib.md5(data).hexdigest()
    return CompletedPart(number, part.etag)


def test_parts_become_one_object_without_copying(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            catalog = at.catalog
            attributes = Attributes("me", "video/x", {}, {"a": "b"})
            upload = await at.begin("big", attributes)
            bodies = {1: some_bytes(PART, 1), 3: some_bytes(PART + 1, 3), 7: some_bytes(77, 7)}
            parts = [await put_part(at, upload, n, body) for n, body in bodies.items()]
            listed = await catalog.list_parts(upload, 0, 2)
            assert ([each.number for each in listed.parts], listed.truncated) == ([1, 3], True)
            rest = await catalog.list_parts(upload, listed.next, 2)
            assert ([each.number for each in rest.parts], rest.truncated) == ([7], False)
            assert await at.keys() == []
            stored = await catalog.complete(upload, parts)
            whole = b"".join(bodies.values())
            md5s = b"".join(hashlib.md5(body).digest() for body in bodies.values())
            assert stored.etag == f"{hashlib.md5(md5s).hexdigest()}-3"
            version = await at.found("big")
            assert (stored.size, version.etag) == (len(whole), stored.etag)
            assert (version.detail.content_type, version.detail.user) == ("video/x", {"a": "b"})
            assert (version.part_count, version.detail.upload_id) == (3, upload.row.upload_id)
            placed, has_more = await catalog.parts(version, 0, 3)
            assert not has_more
            assert [(each.start, each.part.number, each.part.size) for each in placed] == [
                (0, 1, PART), (PART, 3, PART + 1), (2 * PART + 1, 7, 77),
            ]  # fmt: skip
            assert await at.get("big") == whole
            assert await at.get("big", PART - 5, 2 * PART + 10) == whole[PART - 5 : 2 * PART + 10]
            assert await at.table(PARTS) == {}
            await at.holds_extents(3)
            await catalog.delete("bucket", "big")
            await at.no_garbage()
            await at.holds_extents(0)

    run(main())


def test_completing_again_is_told_what_the_first_was_told(backend: Any) -> None:
    """For a day, whatever became of the object."""

    async def main() -> None:
        async with backend() as at:
            upload = await at.begin("k")
            parts = [await put_part(at, upload, 1, b"part")]
            named = ("bucket", "k", upload.row.upload_id)
            await failing(NoSuchUpload, at.catalog.completed(*named))
            stored = await at.catalog.complete(upload, parts)
            await failing(NoSuchUpload, at.catalog.upload(*named))
            await at.put("k", b"newer")
            assert await at.catalog.complete(upload, parts) == stored
            assert await at.catalog.completed(*named) == stored
            await failing(NoSuchUpload, at.catalog.completed("bucket", "other", named[2]))
            assert await at.get("k") == b"newer"
            await at.no_garbage()
            (row,) = (await at.table(keys.DUE)).items()
            assert keys.due_ms_of(row[0]) == pytest.approx(
                stored.modified_ms + COMPLETED_KEPT_MS, abs=60_000
            )
            assert list(await at.table(COMPLETED)) == [
                keys.upload_name(upload.permit.row.id, upload.row.upload_id)
            ]

    run(main())


def test_a_part_that_is_replaced_or_left_out_is_let_go(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            upload = await at.begin("k")
            await put_part(at, upload, 1, b"first try")
            await put_part(at, upload, 2, b"never named")
            part = await put_part(at, upload, 1, b"second try")
            await at.catalog.complete(upload, [part])
            assert await at.get("k") == b"second try"
            await at.no_garbage()
            assert await at.table(PARTS) == {}
            await at.holds_extents(1)

    run(main())


def test_an_aborted_upload_is_gone_with_its_parts(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            upload = await at.begin("k")
            for number in (1, 2, 3):
                await put_part(at, upload, number, b"part %d" % number)
            await at.catalog.abort(upload)
            await failing(NoSuchUpload, at.catalog.abort(upload))
            await failing(NoSuchUpload, put_part(at, upload, 4, b"late"))
            await at.no_garbage()
            assert await at.table(PARTS) == {}
            await at.holds_extents(0)

    run(main())


def test_a_wrong_list_of_parts_is_refused(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            upload = await at.begin("k")
            one = await put_part(at, upload, 1, b"small")
            two = await put_part(at, upload, 2, b"small too")
            complete = at.catalog.complete
            await failing(PartTooSmall, complete(upload, [one, two]))
            await failing(InvalidPart, complete(upload, [CompletedPart(3, one.etag)]))
            await failing(InvalidPart, complete(upload, [CompletedPart(1, two.etag)]))
            await failing(SizeDiffers, complete(upload, [one], expected_size=4))
            await at.put("k", b"there already")
            condition = Condition(if_none_match="*")
            await failing(ConditionFailed, complete(upload, [one], condition))
            await complete(upload, [one], expected_size=5)
            assert await at.get("k") == b"small"

    run(main())


def test_a_part_that_comes_while_completing_is_not_lost_sight_of(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            upload = await at.begin("k")
            part = await put_part(at, upload, 1, b"first")
            call = at.state.call

            async def late(*arguments: Any) -> Any:
                at.state.call = call
                await put_part(at, upload, 1, b"second")
                return await call(*arguments)

            at.state.call = late
            await failing(InvalidPart, at.catalog.complete(upload, [part]))
            (left,) = (await at.catalog.list_parts(upload)).parts
            await at.catalog.complete(upload, [CompletedPart(1, left.etag)])
            assert await at.get("k") == b"second"

    run(main())


def test_checksums_of_a_whole_follow_from_those_of_its_parts(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            bodies = [some_bytes(PART, 1), some_bytes(1000, 2)]
            for algorithm, kind in [("crc32", "FULL_OBJECT"), ("sha256", "COMPOSITE")]:
                upload = await at.begin("k", OWNER, algorithm, kind)
                parts = [await put_part(at, upload, n + 1, body) for n, body in enumerate(bodies)]
                wrong = {algorithm: b"\0" * 4}
                with pytest.raises(BodyMismatch):
                    await at.catalog.complete(upload, parts, expected_checksums=wrong)
                stored = await at.catalog.complete(upload, parts)
                (checksum,) = stored.checksums
                assert (await at.found("k")).checksums == stored.checksums
                if kind == "FULL_OBJECT":
                    expected = crc32(b"".join(bodies)).to_bytes(4, "big")
                    assert (checksum.value, checksum.part_count) == (expected, 0)
                else:
                    digests = b"".join(hashlib.sha256(body).digest() for body in bodies)
                    expected = hashlib.sha256(digests).digest()
                    assert (checksum.value, checksum.part_count) == (expected, 2)
                (_, summary), *_ = (await at.catalog.list("bucket")).entries
                assert (summary.checksum_algorithms, summary.checksum_type) == ((algorithm,), kind)

    run(main())


def test_uploads_are_listed_by_key_and_age(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            catalog = at.catalog
            names = ["a", "a", "b/1", "b/2", "b/3", "c"]
            made = [await catalog.create_upload("bucket", name, OWNER) for name in names]
            bucket = await catalog.bucket("bucket")
            page = await catalog.list_uploads(bucket)
            assert [each.key for each in page.uploads] == names
            assert {each.upload_id for each in page.uploads} == {each.upload_id for each in made}
            assert [each.key for each in (await catalog.list_uploads(bucket, "b/")).uploads] == [
                "b/1", "b/2", "b/3",
            ]  # fmt: skip
            seen: list[str] = []
            key, upload_id, truncated = "", "", True
            while truncated:
                page = await catalog.list_uploads(bucket, "", "/", key, upload_id, 1)
                assert len(page.uploads) + len(page.prefixes) == 1
                seen += [each.key for each in page.uploads] + page.prefixes
                key, upload_id, truncated = page.next_key, page.next_upload_id, page.truncated
            assert seen == ["a", "a", "b/", "c"]
            after = await catalog.list_uploads(bucket, key_marker="a")
            assert [each.key for each in after.uploads] == names[2:]
            # an upload id is hexadecimal: a delimiter must not match within it
            page = await catalog.list_uploads(bucket, "", "0")
            assert len(page.uploads) == len(names)

    run(main())


def test_a_commit_goes_on_when_its_request_is_cancelled(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            source = StalledSource(b"data")
            task = asyncio.ensure_future(at.catalog.put("bucket", "k", source, 4, OWNER))
            await source.stalled.wait()
            call = at.state.call
            reached = asyncio.Event()

            async def watched(*arguments: Any) -> Any:
                reached.set()
                return await call(*arguments)

            at.state.call = watched
            source.proceed.set()
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await at.catalog.close()  # after all that was begun
            assert await at.get("k") == b"data"
            if not at.nodes:
                assert (at.base / "bucket" / "k").read_bytes() == b"data"

    run(main())


def make_memory_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.storage.buffers.BACKEND_IDLE_MS_MAX", 50)
    monkeypatch.setattr("predastore.storage.buffers.BACKEND_IDLE_CHECK_MS", 10)
    for store in ("cluster", "filesystem"):
        for way in ("READ", "WRITE"):
            monkeypatch.setattr(f"predastore.storage.{store}.BACKEND_{way}_BYTES_MAX", 64 * 1024)
    monkeypatch.setattr("predastore.storage.stripe_writer.BACKEND_INLINE_BYTES_MAX", 0)


def test_readers_that_stall_lose_their_memory_to_those_that_read(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_memory_scarce(monkeypatch)
    data = bytes(range(256)) * 40_000

    async def main() -> None:
        async with backend() as at:
            await at.put("k", data)
            version = await at.found("k")
            stalled: list[asyncio.Task[None]] = []

            async def stall() -> None:
                async with aclosing(await at.catalog.open_read(version, 0, version.size)) as stream:
                    await anext(stream)
                    await asyncio.Event().wait()

            for _ in range(12):  # far more than the budget has room for
                stalled.append(asyncio.ensure_future(stall()))
            for _ in range(3):
                assert await at.read(version, 0, version.size) == data
            cut = [task for task in stalled if task.cancelled()]
            assert cut
            for task in stalled:
                task.cancel()
            await asyncio.wait(stalled)

    run(main())


def test_writers_that_stall_lose_their_memory_to_those_that_write(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_memory_scarce(monkeypatch)
    data = bytes(range(256)) * 40_000

    async def main() -> None:
        async with backend() as at:
            sources = [StalledSource(data[:100_000]) for _ in range(12)]
            stalled = [
                asyncio.ensure_future(at.catalog.put("bucket", f"s{n}", source, len(data), OWNER))
                for n, source in enumerate(sources)
            ]
            waits = [asyncio.ensure_future(source.stalled.wait()) for source in sources]
            _, waiting = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            await at.put("k", data)
            for task in waiting:
                task.cancel()
            assert any(task.cancelled() for task in stalled)
            for task in stalled:
                task.cancel()
            await asyncio.wait(stalled)
            assert await at.keys() == ["k"]

    run(main())
