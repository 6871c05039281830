"""catalog.documents: what a document means is told of just the generation that it is of."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from predastore.base.errors import CorruptData
from predastore.base.limits import BUCKET_DOCUMENT_COST_BYTES
from predastore.catalog.documents import BucketDocuments, DocumentKind
from predastore.catalog.errors import BucketChanged
from predastore.catalog.rows import BucketRow
from support.backends import BACKENDS, OWNER, Harness, failing, run
from support.interleaving import calls_of


def told(stored: bytes) -> str:
    if stored == b"damaged":
        raise CorruptData("damaged")
    return stored.decode()


RED, BLUE = DocumentKind("red", told, 2), DocumentKind("blue", told, 1)
COST = BUCKET_DOCUMENT_COST_BYTES


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda: BACKENDS[request.param](tmp_path)


async def store(
    at: Harness, value: bytes | None, kind: DocumentKind[str] = RED, bucket: str = "bucket"
) -> BucketRow:
    """The bucket's row after that."""
    await at.catalog.change_bucket(await at.permit(bucket), document=(kind.name, value))
    return await row_of(at, bucket)


async def row_of(at: Harness, bucket: str = "bucket") -> BucketRow:
    row = await at.catalog.bucket(bucket)
    assert row is not None
    return row


def test_a_document_is_read_once_for_each_generation(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            documents = at.catalog.documents
            first = await store(at, b"1")
            meanings, calls = await calls_of(at.state, documents.of(first, RED, BLUE))
            assert (meanings.of(RED), meanings.of(BLUE), calls) == ("1", None, ["ask"])
            for kinds in ((RED,), (BLUE,), (BLUE, RED)):
                again, calls = await calls_of(at.state, documents.of(first, *kinds))
                assert calls == []
                assert [again.of(kind) for kind in kinds] == [meanings.of(kind) for kind in kinds]
            second = await store(at, b"2")
            meanings, calls = await calls_of(at.state, documents.of(second, RED))
            assert (meanings.of(RED), calls) == ("2", ["ask"])

    run(test())


def test_kinds_of_one_generation_are_remembered_together(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            await store(at, b"1")
            row = await store(at, b"2", BLUE)
            documents = at.catalog.documents
            assert (await documents.of(row, RED)).of(RED) == "1"
            assert (await documents.of(row, BLUE)).of(BLUE) == "2"
            both = documents.known(row, RED, BLUE)
            assert both is not None
            assert (both.of(RED), both.of(BLUE)) == ("1", "2")

    run(test())


def test_a_row_that_is_not_current_is_told_so_unless_its_own_documents_are_known(
    backend: Any,
) -> None:
    async def test() -> None:
        async with backend() as at:
            old = await store(at, b"old")
            documents = BucketDocuments(at.state)
            assert (await documents.of(old, RED)).of(RED) == "old"
            new = await store(at, b"new")
            assert (await documents.of(old, RED)).of(RED) == "old"
            await failing(BucketChanged, documents.of(old, RED, BLUE))
            assert (await documents.of(new, RED)).of(RED) == "new"
            await failing(BucketChanged, documents.of(old, RED))
            await failing(BucketChanged, BucketDocuments(at.state).of(old, RED))

    run(test())


def test_a_bucket_that_was_made_anew_has_nothing_of_the_one_before(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            documents = at.catalog.documents
            old = await store(at, b"old")
            assert (await documents.of(old, RED)).of(RED) == "old"
            await at.catalog.delete_bucket("bucket")
            row, meanings = await documents.now("bucket", RED)
            assert (row, meanings.of(RED)) == (None, None)
            await failing(BucketChanged, documents.of(old, RED))
            await at.catalog.create_bucket("bucket", OWNER.owner, "us-east-1")
            await store(at, None)
            new = await row_of(at)
            assert new.generation == old.generation
            await failing(BucketChanged, documents.of(old, RED))
            assert (await documents.of(new, RED)).of(RED) is None

    run(test())


def test_now_is_as_it_is_whatever_is_remembered(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            elsewhere = BucketDocuments(at.state)  # another process: it hears of no change
            for value in (b"1", b"2", None, b"3"):
                row = await store(at, value)
                for _ in range(2):
                    work = elsewhere.now("bucket", RED)
                    (found, meanings), calls = await calls_of(at.state, work)
                    assert (found, calls) == (row, ["ask"])
                    assert meanings.of(RED) == (None if value is None else value.decode())

    run(test())


def test_a_known_document_is_not_sent_nor_read_again(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            count = 0

            def counted(stored: bytes) -> int:
                nonlocal count
                count += 1
                return len(stored)

            kind = DocumentKind("red", counted, 1)
            await store(at, b"x" * 1000)
            for _ in range(3):
                _, meanings = await at.catalog.documents.now("bucket", kind)
                assert meanings.of(kind) == 1000
            assert count == 1

    run(test())


def test_what_can_not_be_read_is_an_error_and_is_not_remembered(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            row = await store(at, b"damaged")
            for _ in range(2):
                await failing(CorruptData, at.catalog.documents.of(row, RED))
            assert len(at.catalog.documents) == 0

    run(test())


def test_what_is_remembered_is_bounded(backend: Any) -> None:
    async def test() -> None:
        async with backend() as at:
            rows = []
            for number in range(6):
                name = f"bucket{number}"
                await at.catalog.create_bucket(name, OWNER.owner, "us-east-1")
                rows.append(await store(at, b"x" * 100, RED, name))
            few = BucketDocuments(at.state, buckets_max=3)
            small = BucketDocuments(at.state, bytes_max=2 * (COST + 200))
            none = BucketDocuments(at.state, bytes_max=COST + 199)
            for documents, most in ((few, 3), (small, 2), (none, 0)):
                for row in rows:
                    assert (await documents.of(row, RED)).of(RED) == "x" * 100
                    assert len(documents) <= most
                assert len(documents) == most
                assert documents.held_bytes == most * (COST + 200)
                kept = [row for row in rows if documents.known(row, RED) is not None]
                assert kept == rows[len(rows) - most :]
            assert few.known(rows[3], RED) is not None  # used, and so stays
            await few.of(rows[0], RED)
            assert few.known(rows[3], RED) is not None
            assert few.known(rows[4], RED) is None

    run(test())


@pytest.mark.parametrize("seed", range(8))
def test_no_generation_is_ever_told_of_with_another_ones_document(backend: Any, seed: int) -> None:
    async def test() -> None:
        async with backend() as at:
            rng = random.Random(seed)
            documents = at.catalog.documents
            truth: dict[int, str | None] = {(await row_of(at)).generation: None}

            async def change() -> None:
                for number in range(12):
                    row = await store(at, b"%d" % number if rng.random() < 0.8 else None)
                    stored = await at.catalog.document(row, RED.name)
                    truth[row.generation] = None if stored is None else stored.decode()

            told_of: list[tuple[int, str | None]] = []

            async def ask() -> None:
                for _ in range(12):
                    row = await row_of(at)
                    for _ in range(rng.randrange(3)):
                        await asyncio.sleep(0)
                    try:
                        told_of.append((row.generation, (await documents.of(row, RED)).of(RED)))
                    except BucketChanged:
                        continue
                    found, meanings = await documents.now("bucket", RED)
                    assert found is not None
                    told_of.append((found.generation, meanings.of(RED)))

            await asyncio.gather(change(), *(ask() for _ in range(4)))
            assert told_of
            assert [(one, truth[one[0]]) for one in told_of if truth[one[0]] != one[1]] == []

    run(test())
