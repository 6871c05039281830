"""Bodies that lie in the metadata."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from predastore.base.errors import BodyMismatch, CorruptData
from predastore.base.limits import INLINE_SLACK_BYTES
from predastore.catalog.keys import INLINE
from predastore.catalog.rows import Kind, Versioning
from predastore.catalog.values import Attributes, Expectation
from support.backends import (
    OWNER,
    BytesSource,
    Harness,
    StalledSource,
    distributed,
    failing,
    run,
    some_bytes,
)

INLINE_MAX = 1000
DATA = some_bytes(INLINE_MAX)


def check(base: Path, test: Callable[[Harness], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        async with distributed(base, inline_max=INLINE_MAX, **more) as at:
            await test(at)

    run(main())


def calls(at: Harness) -> list[str]:
    """Of all nodes."""
    assert at.nodes is not None
    return [call for node in at.nodes.nodes.values() for call in node.calls]


async def kind_of(at: Harness, key: str) -> Kind:
    return (await at.found(key)).row.kind


@pytest.mark.parametrize(
    ("size", "kind"),
    [(0, Kind.NOWHERE), (1, Kind.INLINE), (INLINE_MAX, Kind.INLINE), (INLINE_MAX + 1, Kind.PLACED)],
)
def test_a_body_that_ends_before_its_bound_lies_where_its_size_wants_it(
    tmp_path: Path, size: int, kind: Kind
) -> None:
    async def test(at: Harness) -> None:
        data = some_bytes(size)
        source, most = BytesSource(data, 100), INLINE_MAX + INLINE_SLACK_BYTES
        await at.catalog.put("bucket", "k", source, most, OWNER, may_end=True)
        assert await at.get("k") == data
        assert await kind_of(at, "k") is kind

    check(tmp_path, test)


@pytest.mark.parametrize("size", [0, 1, INLINE_MAX])
def test_a_small_body_goes_to_no_node(tmp_path: Path, size: int) -> None:
    async def test(at: Harness) -> None:
        data = DATA[:size]
        stored = await at.put("k", data)
        assert (stored.size, stored.etag) == (size, hashlib.md5(data).hexdigest())
        assert await at.get("k") == data
        assert await at.get("k", size // 3, size - size // 3) == data[size // 3 : size - size // 3]
        assert calls(at) == []
        assert len(await at.table(INLINE)) == min(size, 1)

    check(tmp_path, test)


def test_a_larger_one_goes_to_nodes(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await at.put("k", DATA + b"x")
        assert await kind_of(at, "k") is Kind.PLACED
        assert await at.get("k") == DATA + b"x"
        assert await at.table(INLINE) == {}

    check(tmp_path, test)


def test_a_crowded_state_takes_no_more_bodies_and_has_those_that_it_took(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        state: Any = at.state
        await at.put("before", DATA)
        state.is_crowded = True
        await at.put("after", DATA)
        assert await kind_of(at, "before") is Kind.INLINE
        assert await kind_of(at, "after") is Kind.PLACED
        for key in ("before", "after"):
            assert await at.get(key) == DATA
        assert not at.catalog.can_share(await at.found("before"))
        assert at.catalog.can_share(await at.found("after"))
        await at.put("empty", b"")
        assert at.catalog.can_share(await at.found("empty"))
        assert await kind_of(at, "empty") is Kind.NOWHERE

    check(tmp_path, test)


def test_a_body_goes_with_its_version_at_once(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await at.put("k", DATA)
        await at.put("k", DATA[:10])
        assert [stored[4:] for stored in (await at.table(INLINE)).values()] == [DATA[:10]]
        await at.version(Versioning.ENABLED)
        newer = await at.put("k", DATA[:20])
        assert len(await at.table(INLINE)) == 2
        await at.catalog.delete("bucket", "k", newer.version_id)
        assert await at.get("k") == DATA[:10]
        await at.catalog.delete("bucket", "k", "null")
        assert await at.table(INLINE) == {}
        assert await at.due() == []

    check(tmp_path, test, grace_s=3600.0)


def test_who_found_it_has_it(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await at.put("k", DATA)
        version = await at.found("k")
        await at.catalog.delete("bucket", "k")
        assert await at.read(version, 0, INLINE_MAX) == DATA

    check(tmp_path, test)


def test_what_was_found_without_its_bytes_is_looked_up_again(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await at.put("k", DATA)
        version = (await at.catalog.find("bucket", "k", needs_bytes=False)).version
        assert version is not None
        assert version.body is None
        assert await at.read(version, 0, INLINE_MAX) == DATA

    check(tmp_path, test)


@pytest.mark.parametrize("fault", ["md5", "late", "short", "long"])
def test_a_small_body_that_is_not_as_declared_is_not_stored(tmp_path: Path, fault: str) -> None:
    async def test(at: Harness) -> None:
        expectation = Expectation()
        if fault == "md5":
            expectation = Expectation({"md5": bytes(16)})
        elif fault == "late":
            expectation = Expectation({}, frozenset({"crc32c"}), lambda: {"crc32c": bytes(4)})
        size = 500 + {"short": 1, "long": -1}.get(fault, 0)
        error = await failing(
            BodyMismatch,
            at.catalog.put("bucket", "k", BytesSource(DATA[:500], 7), size, OWNER, expectation),
        )
        assert error.what == {"md5": "md5", "late": "crc32c"}.get(fault, "length")
        assert await at.find("k") is None
        assert await at.table(INLINE) == {}

    check(tmp_path, test)


def test_a_damaged_body_is_never_told(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await at.put("k", DATA)
        ((layout, stored),) = (await at.table(INLINE)).items()
        await at.state.set(INLINE, layout, stored[:-1] + bytes([stored[-1] ^ 1]))
        await failing(CorruptData, at.find("k"))

    check(tmp_path, test)


def test_a_copy_has_a_body_of_its_own(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        source = await at.put("from", DATA)
        version = await at.found("from")
        assert at.catalog.can_share(version)
        copied = await at.catalog.copy(version, "bucket", "to", Attributes("me", "text/html"))
        assert copied.etag == source.etag
        assert len(await at.table(INLINE)) == 2
        await at.catalog.delete("bucket", "from")
        assert await at.get("to") == DATA
        assert (await at.found("to")).detail.content_type == "text/html"
        again = await at.found("to")
        await at.catalog.copy(again, "bucket", "to", OWNER)  # onto itself
        assert await at.get("to") == DATA
        assert len(await at.table(INLINE)) == 1
        assert calls(at) == []

    check(tmp_path, test)


def test_small_writers_of_one_key_leave_one_body(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        await asyncio.gather(*(at.put("k", DATA[: 100 + n]) for n in range(20)))
        ((_, stored),) = (await at.table(INLINE)).items()
        assert await at.get("k") == stored[4:]

    check(tmp_path, test)


def test_a_cancelled_small_put_stores_nothing(tmp_path: Path) -> None:
    async def test(at: Harness) -> None:
        source = StalledSource(DATA[:10])
        putting = asyncio.ensure_future(at.catalog.put("bucket", "k", source, 100, OWNER))
        await source.stalled.wait()
        putting.cancel()
        await asyncio.wait((putting,))
        assert await at.find("k") is None

    check(tmp_path, test)
