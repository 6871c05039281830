"""Retention, legal holds and tags, which stand beside a version's bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from predastore.catalog.errors import (
    BucketLocked,
    IsDeleteMarker,
    NoLock,
    NoSuchKey,
    NoSuchVersion,
    ObjectLocked,
)
from predastore.catalog.keys import OBJECTS
from predastore.catalog.procedures.arguments import NO_DEFAULT, CompletedPart
from predastore.catalog.rows import (
    NO_RETENTION,
    DefaultRetention,
    LockMode,
    Retention,
    Versioning,
)
from predastore.catalog.values import Attributes
from predastore.storage.extents import now_ms
from support.backends import BACKENDS, OWNER, BytesSource, Harness, failing, run

DAY_MS = 86_400_000
GOVERNANCE, COMPLIANCE = LockMode.GOVERNANCE, LockMode.COMPLIANCE


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda: BACKENDS[request.param](tmp_path)


def later(days: int) -> int:
    return now_ms() + days * DAY_MS


async def lock(at: Harness) -> None:
    permit = await at.permit()
    await at.catalog.change_bucket(permit, versioning=Versioning.ENABLED, is_locked=True)


async def put(at: Harness, retention: Retention = NO_RETENTION, *, hold: bool = False) -> str:
    attributes = Attributes(OWNER.owner, retention=retention, legal_hold=hold)
    return (await at.put("k", b"data", attributes=attributes)).version_id


def test_what_is_retained_is_not_deleted(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await lock(at)
            delete = at.catalog.delete
            for mode in (GOVERNANCE, COMPLIANCE):
                name = await put(at, Retention(mode, later(1)))
                await failing(ObjectLocked, delete("bucket", "k", name))
                assert (await delete("bucket", "k")).is_marker  # that is not to delete it
                assert await at.get("k", version_id=name) == b"data"
                if mode is COMPLIANCE:
                    await failing(ObjectLocked, delete("bucket", "k", name, bypass=True))
                else:
                    assert (await delete("bucket", "k", name, bypass=True)).existed

    run(main())


def test_a_legal_hold_keeps_a_version_until_it_is_lifted(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await lock(at)
            name = await put(at, hold=True)
            await failing(ObjectLocked, at.catalog.delete("bucket", "k", name, bypass=True))
            await at.catalog.amend("bucket", "k", legal_hold=False)
            assert not (await at.found("k")).row.legal_hold
            assert (await at.catalog.delete("bucket", "k", name)).existed

    run(main())


def test_a_retention_grows_and_is_shortened_only_by_who_may(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await lock(at)

            async def amend(mode: LockMode, days: int, *, bypass: bool = False) -> None:
                await at.catalog.amend(
                    "bucket", "k", name, retention=Retention(mode, later(days)), bypass=bypass
                )

            name = await put(at)
            await amend(GOVERNANCE, 2)
            await failing(ObjectLocked, amend(GOVERNANCE, 1))
            await amend(GOVERNANCE, 1, bypass=True)
            await amend(GOVERNANCE, 3)
            await failing(ObjectLocked, amend(COMPLIANCE, 4))
            await amend(COMPLIANCE, 4, bypass=True)
            for mode, days in ((COMPLIANCE, 3), (GOVERNANCE, 5), (LockMode.NONE, 0)):
                await failing(ObjectLocked, amend(mode, days, bypass=True))
            await amend(COMPLIANCE, 5)
            retention = (await at.found("k")).row.retention
            assert retention.mode is COMPLIANCE
            assert retention.until_ms == pytest.approx(later(5), abs=60_000)

    run(main())


def test_a_bucket_gives_a_retention_to_what_asks_for_none(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await lock(at)
            default = DefaultRetention(GOVERNANCE, 3, 0)
            await at.catalog.change_bucket(await at.permit(), retention=default)
            await put(at)
            given = (await at.found("k")).row.retention
            assert given.mode is GOVERNANCE
            assert given.until_ms == pytest.approx(later(3), abs=60_000)
            asked = Retention(COMPLIANCE, later(1))
            await put(at, asked)
            assert (await at.found("k")).row.retention == asked
            upload = await at.begin("k")
            part = await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
            await at.catalog.complete(upload, [CompletedPart(1, part.etag)])
            given = (await at.found("k")).row.retention
            assert given.mode is GOVERNANCE
            await at.catalog.change_bucket(await at.permit(), retention=NO_DEFAULT)
            await put(at)
            assert (await at.found("k")).row.retention == NO_RETENTION

    run(main())


def test_an_upload_says_what_its_object_will_have(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await lock(at)
            asked = Retention(COMPLIANCE, later(1))
            tags = (("a", "b"),)
            attributes = Attributes(OWNER.owner, tags=tags, retention=asked, legal_hold=True)
            upload = await at.begin("k", attributes)
            part = await at.catalog.put_part(upload, 1, BytesSource(b"part"), 4)
            await at.catalog.complete(upload, [CompletedPart(1, part.etag)])
            row = (await at.found("k")).row
            assert (row.tags, row.retention, row.legal_hold) == (tags, asked, True)

    run(main())


def test_a_locked_bucket_stays_locked_and_versioned(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            change = at.catalog.change_bucket
            default = DefaultRetention(GOVERNANCE, 1, 0)
            await failing(BucketLocked, change(await at.permit(), is_locked=True))
            await failing(BucketLocked, change(await at.permit(), retention=default))
            await lock(at)
            for versioning in (Versioning.SUSPENDED, Versioning.NEVER):
                await failing(BucketLocked, at.version(versioning))
            await failing(BucketLocked, change(await at.permit(), is_locked=False))
            row = await at.catalog.bucket("bucket")
            assert row is not None
            assert (row.is_locked, row.versioning) == (True, Versioning.ENABLED)

    run(main())


def test_a_bucket_without_lock_takes_no_retention(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            await failing(NoLock, put(at, Retention(GOVERNANCE, later(1))))
            await failing(NoLock, put(at, hold=True))
            await at.holds_extents(0)
            await put(at)
            await failing(NoLock, at.catalog.amend("bucket", "k", legal_hold=True))

    run(main())


def test_tags_change_nothing_but_themselves(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            tags = (("colour", "red"), ("empty", ""))
            await at.put("k", b"data", attributes=Attributes(OWNER.owner, tags=tags))
            before = await at.found("k")
            layout = await at.table(OBJECTS, before.row.layout)
            assert len(layout) == 1
            assert before.row.tags == tags
            await at.version(Versioning.ENABLED)
            name = (await at.put("k", b"newer")).version_id
            await at.catalog.amend("bucket", "k", "null", tags=())
            await at.catalog.amend("bucket", "k", tags=(("a", "b"),))
            assert (await at.found("k", version_id=name)).row.tags == (("a", "b"),)
            old = await at.found("k", version_id="null")
            assert old.row.tags == ()
            assert (old.row.summary, old.detail) == (before.row.summary, before.detail)
            assert await at.table(OBJECTS, before.row.layout) == layout

    run(main())


def test_only_what_is_there_is_changed(backend: Any) -> None:
    async def main() -> None:
        async with backend() as at:
            amend = at.catalog.amend
            await failing(NoSuchKey, amend("bucket", "k", tags=()))
            await failing(NoSuchVersion, amend("bucket", "k", "null", tags=()))
            await failing(NoSuchVersion, amend("bucket", "k", "no id", tags=()))
            await at.version(Versioning.ENABLED)
            marker = (await at.catalog.delete("bucket", "k")).version_id
            await failing(IsDeleteMarker, amend("bucket", "k", marker, tags=()))
            await failing(IsDeleteMarker, amend("bucket", "k", tags=()))

    run(main())
