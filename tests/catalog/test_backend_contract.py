"""What `Objects` promises, over both byte stores."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from predastore._fast.crc import crc32, crc64nvme
from predastore.base.errors import BodyMismatch, HttpError, ObjectReplaced, S3Error
from predastore.base.limits import S3_PART_BYTES_MIN
from predastore.storage import records
from predastore.storage.interface import Attributes, CompletedPart, Condition, Expectation
from support.backends import (
    BACKENDS,
    OWNER,
    BytesSource,
    Harness,
    StalledSource,
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


async def failing(code: str, work: Any) -> S3Error:
    with pytest.raises(S3Error) as caught:
        await work
    assert caught.value.s3_code == code
    return caught.value


async def no_garbage(at: Harness) -> None:
    """All `deleted:` entries have been collected."""
    deadline = asyncio.get_running_loop().time() + 10
    while any([await at.table(name, records.DELETED_PREFIX) for name in ("objects", "parts")]):
        assert asyncio.get_running_loop().time() < deadline, "deleted: entries are left"
        await eventually_async(lambda: not at.objects._collector.waiting_count)


@pytest.mark.parametrize("size", [0, 1, 100, 16 * 1024, 16 * 1024 + 1, MIB, 3 * MIB + 7])
def test_what_is_put_is_read_back(backend: Any, size: int) -> None:
    async def main() -> None:
        async with backend() as at:
            data = some_bytes(size)
            record = await at.put("a/key", data)
            assert (record.size, record.etag) == (size, hashlib.md5(data).hexdigest())
            assert await at.get("a/key") == data

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
            put = await at.put("k", data, attributes=attributes, expectation=expectation)
            bucket, record = await at.objects.lookup("bucket", "k")
            assert bucket.name == "bucket"
            assert record == put
            assert (record.owner, record.content_type) == ("000000000009", "text/plain")
            assert (record.headers, record.user) == ({"cache-control": "no-store"}, {"who": "me"})
            assert [(each.algorithm, each.value) for each in record.checksums] == [
                ("crc64nvme", crc64nvme(data).to_bytes(8, "big")),
                ("sha256", sha),
            ]

    run(main())


def test_an_object_that_is_not_there_is_not_found(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            assert (await at.objects.lookup("bucket", "k"))[1] is None
            assert await at.objects.lookup("other", "k") == (None, None)

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
                await at.objects.put("bucket", key, source, size, OWNER, expectation)
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
                task = asyncio.ensure_future(at.objects.put("bucket", "k", source, size + 1, OWNER))
                await source.stalled.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert (await at.objects.lookup("bucket", "k"))[1] is None
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
            await no_garbage(at)
            if at.nodes:
                assert at.nodes.shard_count == 5
            assert await at.get("k") == some_bytes(30_000, 2)

    run(main())


def test_writers_of_one_key_leave_one_whole_version(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            bodies = [some_bytes(40_000 + n, n) for n in range(8)]
            written = await asyncio.gather(*(at.put("k", body) for body in bodies))
            _, record = await at.objects.lookup("bucket", "k")
            winner = [each.write_id for each in written].index(record.write_id)
            assert await at.get("k") == bodies[winner]
            await no_garbage(at)
            assert await at.get("k") == bodies[winner]

    run(main())


def test_a_reader_finishes_the_version_that_it_began(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            data = some_bytes(3 * MIB)
            record = await at.put("k", data)
            stream = await at.objects.open_read(record, 0, len(data))
            got = bytes(await anext(stream))
            await at.put("k", b"new")
            await at.objects.delete("bucket", "k")
            async for buffer in stream:
                got += buffer
            assert got == data
            await no_garbage(at)

    run(main())


def test_a_version_that_is_gone_is_told_from_one_that_is_unreadable(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            record = await at.put("k", b"old, and long enough")
            await at.put("k", b"new, and long enough")
            await no_garbage(at)
            with pytest.raises(ObjectReplaced):
                await at.objects.open_read(record, 0, record.size)
            await at.objects.delete("bucket", "k")
            await no_garbage(at)
            await failing("NoSuchKey", at.objects.open_read(record, 0, record.size))

    run(main())


def test_a_deleted_object_is_gone_with_its_bytes(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await at.put("dir/k", b"data")
            assert await at.objects.delete("bucket", "dir/k") is True
            assert await at.objects.delete("bucket", "dir/k") is False
            assert (await at.objects.lookup("bucket", "dir/k"))[1] is None
            assert await at.keys() == []
            await no_garbage(at)
            if at.nodes:
                assert at.nodes.shard_count == 0
            else:
                assert not (at.base / "bucket").exists()

    run(main())


def test_many_are_deleted_in_one_commit(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            for key in "abc":
                await at.put(key, key.encode())
            outcome = await at.objects.delete_many("bucket", ["a", "c", "nothing", "a"])
            assert outcome == {"a": None, "c": None, "nothing": None}
            assert await at.keys() == ["b"]
            await failing("NoSuchBucket", at.objects.delete_many("other", ["a"]))

    run(main())


def test_records_that_fill_more_than_one_commit_are_deleted_all_the_same(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"k{number}" for number in range(7)]

    async def main() -> None:
        async with backend() as at:
            for key in keys:
                await at.put(key, b"x")
            one = len((await at.table("objects"))[records.object_hash("bucket", keys[0])])
            monkeypatch.setattr("predastore.s3db.apply.KEPT_BYTES_MAX", 3 * one)
            outcome = await at.objects.delete_many("bucket", keys)
            assert outcome == dict.fromkeys(keys)
            assert await at.keys() == []

    run(main())


def test_conditions_of_writes_and_deletes_are_exact(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            put, delete = at.put, at.objects.delete
            absent, present = Condition(if_none_match="*"), Condition(if_match="*")
            await failing("NoSuchKey", put("k", b"x", condition=present))
            await failing("NoSuchKey", put("k", b"x", condition=Condition(if_match="abc")))
            first = await put("k", b"1", condition=absent)
            await failing("PreconditionFailed", put("k", b"2", condition=absent))
            same, other = Condition(if_match=first.etag), Condition(if_match="0" * 32)
            await failing("PreconditionFailed", put("k", b"2", condition=other))
            differs = Condition(if_none_match=first.etag)
            await failing("PreconditionFailed", put("k", b"2", condition=differs))
            second = await put("k", b"2", condition=same)
            await failing("PreconditionFailed", put("k", b"3", condition=same))
            await put("k", b"2", condition=differs)
            await failing("PreconditionFailed", delete("bucket", "k", same))
            assert await delete("bucket", "k", Condition(if_match=second.etag))
            await failing("NoSuchKey", delete("bucket", "k", present))

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
            won = [n for n, result in enumerate(results) if not isinstance(result, S3Error)]
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
            won = [n for n, result in enumerate(results) if not isinstance(result, S3Error)]
            assert len(won) == 1
            assert await at.get("k") == bytes(won)

    run(main())


def test_buckets_are_made_listed_and_removed(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            objects = at.objects
            assert await objects.create_bucket("alpha", "me", "eu", public=True)
            assert not await objects.create_bucket("alpha", "other", "eu")
            assert (await objects.bucket("alpha")).owner == "me"
            assert [each.name for each in await objects.buckets()] == ["alpha", "bucket"]
            assert [each.name for each in await objects.buckets("me")] == ["alpha"]
            await at.put("k", b"x", bucket="alpha")
            await failing("BucketNotEmpty", objects.delete_bucket("alpha"))
            await objects.delete("alpha", "k")
            await objects.delete_bucket("alpha")
            await failing("NoSuchBucket", objects.delete_bucket("alpha"))
            await failing("NoSuchBucket", at.put("k", b"x", bucket="alpha"))
            assert await objects.bucket("alpha") is None

    run(main())


ODD_KEYS = [
    "a", "a/b", "a/b/c", "a//b", "/a", "a/", "./a", "../a", "a/../../b", ".predastore/tmp/x", ".",
    "..", "x" * 256, "y/" * 100, "\u00e4\u4e16\U0001f600", "nul\0key", "new\nline", "\x7f",
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
                assert await at.objects.delete("bucket", key)
            assert await at.keys() == []
            await no_garbage(at)

    run(main())


def test_listing_pages_by_prefix_and_delimiter(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            names = ["a", "b/1", "b/2", "c", "d/x/1", "d/y", "e"]
            for name in names:
                await at.put(name, name.encode())
            page = await at.objects.list("bucket", "", "/")
            assert [key for key, _ in page.entries] == ["a", "c", "e"]
            assert page.prefixes == ["b/", "d/"]
            seen: list[str] = []
            after, truncated = "", True
            while truncated:
                page = await at.objects.list("bucket", "", "/", after, 1)
                seen += [key for key, _ in page.entries] + page.prefixes
                after, truncated = page.next, page.truncated
            assert seen == ["a", "b/", "c", "d/", "e"]
            assert await at.keys(prefix="d/") == ["d/x/1", "d/y"]
            assert await at.keys(after="c") == ["d/x/1", "d/y", "e"]
            (_, summary), *_ = (await at.objects.list("bucket", "c")).entries
            assert (summary.size, summary.etag) == (1, hashlib.md5(b"c").hexdigest())
            assert (await at.objects.list("bucket", limit=0)).entries == []

    run(main())


def test_a_copy_is_an_object_of_its_own(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            data = some_bytes(200_000)
            source = await at.put("from", data)
            copied = await at.copy(source, "to")
            assert copied.etag == source.etag
            await at.objects.delete("bucket", "from")
            await no_garbage(at)
            assert await at.get("to") == data
            itself = await at.copy(copied, "to", Attributes("o", "text/html"))
            assert itself.content_type == "text/html"
            assert await at.get("to") == data

    run(main())


async def put_part(at: Harness, upload: Any, number: int, data: bytes) -> CompletedPart:
    part = await at.objects.put_part(upload, number, BytesSource(data), len(data))
    assert part.etag == hashlib.md5(data).hexdigest()
    return CompletedPart(number, part.etag)


def test_parts_become_one_object_without_copying(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            objects = at.objects
            attributes = Attributes("me", "video/x", {}, {"a": "b"})
            upload = await objects.create_upload("bucket", "big", attributes)
            bodies = {1: some_bytes(PART, 1), 3: some_bytes(PART + 1, 3), 7: some_bytes(77, 7)}
            parts = [await put_part(at, upload, n, body) for n, body in bodies.items()]
            listed = await objects.list_parts(upload, 0, 2)
            assert ([each.number for each in listed.parts], listed.truncated) == ([1, 3], True)
            rest = await objects.list_parts(upload, listed.next, 2)
            assert ([each.number for each in rest.parts], rest.truncated) == ([7], False)
            assert await at.keys() == []
            record = await objects.complete(upload, parts)
            whole = b"".join(bodies.values())
            md5s = b"".join(hashlib.md5(body).digest() for body in bodies.values())
            assert record.etag == f"{hashlib.md5(md5s).hexdigest()}-3"
            assert (record.size, record.user) == (len(whole), {"a": "b"})
            assert [(part.number, part.size) for part in record.parts] == [
                (number, len(body)) for number, body in bodies.items()
            ]
            assert await at.get("big") == whole
            assert await at.get("big", PART - 5, 2 * PART + 10) == whole[PART - 5 : 2 * PART + 10]
            await failing("NoSuchUpload", objects.upload("bucket", "big", upload.upload_id))
            await failing("NoSuchUpload", objects.complete(upload, parts))
            assert await at.table("parts") == {}
            await objects.delete("bucket", "big")
            await no_garbage(at)
            if at.nodes:
                assert at.nodes.shard_count == 0
            else:
                assert [*(at.base / ".predastore" / "parts").iterdir()] == []

    run(main())


def test_a_part_that_is_replaced_or_left_out_is_let_go(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            upload = await at.objects.create_upload("bucket", "k", OWNER)
            await put_part(at, upload, 1, b"first try")
            await put_part(at, upload, 2, b"never named")
            part = await put_part(at, upload, 1, b"second try")
            await at.objects.complete(upload, [part])
            assert await at.get("k") == b"second try"
            await no_garbage(at)
            if at.nodes:
                assert at.nodes.shard_count == 5
            else:
                assert len([*(at.base / ".predastore" / "parts").iterdir()]) == 1

    run(main())


def test_an_aborted_upload_is_gone_with_its_parts(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            upload = await at.objects.create_upload("bucket", "k", OWNER)
            for number in (1, 2, 3):
                await put_part(at, upload, number, b"part %d" % number)
            await at.objects.abort(upload)
            await failing("NoSuchUpload", at.objects.abort(upload))
            await failing("NoSuchUpload", put_part(at, upload, 4, b"late"))
            await no_garbage(at)
            assert await at.table("parts") == {}
            if at.nodes:
                await eventually_async(lambda: at.nodes.shard_count == 0)
            else:
                assert [*(at.base / ".predastore" / "parts").iterdir()] == []

    run(main())


def test_a_wrong_list_of_parts_is_refused(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            upload = await at.objects.create_upload("bucket", "k", OWNER)
            one = await put_part(at, upload, 1, b"small")
            two = await put_part(at, upload, 2, b"small too")
            complete = at.objects.complete
            await failing("EntityTooSmall", complete(upload, [one, two]))
            await failing("InvalidPartOrder", complete(upload, [two, one]))
            await failing("InvalidPart", complete(upload, [CompletedPart(3, one.etag)]))
            await failing("InvalidPart", complete(upload, [CompletedPart(1, two.etag)]))
            await failing("InvalidRequest", complete(upload, [one], expected_size=4))
            await failing("MalformedXML", complete(upload, []))
            await at.put("k", b"there already")
            condition = Condition(if_none_match="*")
            await failing("PreconditionFailed", complete(upload, [one], condition))
            await complete(upload, [one], expected_size=5)
            assert await at.get("k") == b"small"

    run(main())


def test_a_part_that_comes_while_completing_is_not_lost_sight_of(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            upload = await at.objects.create_upload("bucket", "k", OWNER)
            part = await put_part(at, upload, 1, b"first")
            commit = at.state.commit

            async def late(batch: Any) -> Any:
                at.state.commit = commit
                await put_part(at, upload, 1, b"second")
                return await commit(batch)

            at.state.commit = late
            await failing("InvalidPart", at.objects.complete(upload, [part]))
            (left,) = (await at.objects.list_parts(upload)).parts
            await at.objects.complete(upload, [CompletedPart(1, left.etag)])
            assert await at.get("k") == b"second"

    run(main())


def test_checksums_of_a_whole_follow_from_those_of_its_parts(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            bodies = [some_bytes(PART, 1), some_bytes(1000, 2)]
            for algorithm, kind in [("crc32", "FULL_OBJECT"), ("sha256", "COMPOSITE")]:
                upload = await at.objects.create_upload("bucket", "k", OWNER, algorithm, kind)
                parts = [await put_part(at, upload, n + 1, body) for n, body in enumerate(bodies)]
                wrong = {algorithm: b"\0" * 4}
                with pytest.raises(BodyMismatch):
                    await at.objects.complete(upload, parts, expected_checksums=wrong)
                record = await at.objects.complete(upload, parts)
                (checksum,) = record.checksums
                if kind == "FULL_OBJECT":
                    expected = crc32(b"".join(bodies)).to_bytes(4, "big")
                    assert (checksum.value, checksum.part_count) == (expected, 0)
                else:
                    digests = b"".join(hashlib.sha256(body).digest() for body in bodies)
                    expected = hashlib.sha256(digests).digest()
                    assert (checksum.value, checksum.part_count) == (expected, 2)
                (_, summary), *_ = (await at.objects.list("bucket")).entries
                assert (summary.checksum_algorithms, summary.checksum_type) == ((algorithm,), kind)

    run(main())


def test_uploads_are_listed_by_key_and_age(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            objects = at.objects
            names = ["a", "a", "b/1", "b/2", "b/3", "c"]
            made = [await objects.create_upload("bucket", name, OWNER) for name in names]
            bucket = await objects.bucket("bucket")
            page = await objects.list_uploads(bucket)
            assert [each.key for each in page.uploads] == names
            assert {each.upload_id for each in page.uploads} == {each.upload_id for each in made}
            assert [each.key for each in (await objects.list_uploads(bucket, "b/")).uploads] == [
                "b/1", "b/2", "b/3",
            ]  # fmt: skip
            seen: list[str] = []
            key, upload_id, truncated = "", "", True
            while truncated:
                page = await objects.list_uploads(bucket, "", "/", key, upload_id, 1)
                assert len(page.uploads) + len(page.prefixes) == 1
                seen += [each.key for each in page.uploads] + page.prefixes
                key, upload_id, truncated = page.next_key, page.next_upload_id, page.truncated
            assert seen == ["a", "a", "b/", "c"]
            after = await objects.list_uploads(bucket, key_marker="a")
            assert [each.key for each in after.uploads] == names[2:]
            # an upload id is hexadecimal: a delimiter must not match within it
            page = await objects.list_uploads(bucket, "", "0")
            assert len(page.uploads) == len(names)

    run(main())


def test_a_commit_goes_on_when_its_request_is_cancelled(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            source = StalledSource(b"data")
            task = asyncio.ensure_future(at.objects.put("bucket", "k", source, 4, OWNER))
            await source.stalled.wait()
            commit = at.state.commit
            reached = asyncio.Event()

            async def watched(batch: Any) -> Any:
                reached.set()
                return await commit(batch)

            at.state.commit = watched
            source.proceed.set()
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually_async(lambda: not at.objects._tasks)
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
            record = await at.put("k", data)
            stalled: list[asyncio.Task[None]] = []

            async def stall() -> None:
                async with aclosing(await at.objects.open_read(record, 0, record.size)) as stream:
                    await anext(stream)
                    await asyncio.Event().wait()

            for _ in range(12):  # far more than the budget has room for
                stalled.append(asyncio.ensure_future(stall()))
            for _ in range(3):
                assert await at.read(record, 0, record.size) == data
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
                asyncio.ensure_future(at.objects.put("bucket", f"s{n}", source, len(data), OWNER))
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
