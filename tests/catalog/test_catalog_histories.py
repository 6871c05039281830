"""Whatever is called in whatever order, the catalog is what its model says, in rows that agree."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.histories import DAY_MS, KEYS, NAMES, NOON_MS, Histories, Step, Tables, sources_of
from catalog.projection import PAGE_EXTENTS, check_extents, check_invariants, rows_of
from predastore.base.limits import COMPLETED_KEPT_MS, MIB
from predastore.catalog.procedures import PROCEDURES, completion
from predastore.catalog.procedures import arguments as a
from predastore.catalog.procedures.arguments import Reason
from predastore.catalog.procedures.questions import FindObject, FoundObject, find
from predastore.catalog.rows import BucketRow, PlacementRow, VersionRow
from predastore.s3db import clock, commands
from predastore.s3db.clock import Moment, Tick
from predastore.s3db.commands import Applied
from predastore.s3db.store import Store
from predastore.storage.formats import decode, unpack
from reference.catalog_model import KEPT_MS, PART_BYTES_MIN, CatalogModel, Refused, find_version
from reference.database import Database, ModelView

seeds = st.integers(0, 2**32)

ANSWERS: dict[str, Any] = {
    "object.put": a.Added,
    "object.amend": a.Amended,
    "object.set_acl": a.Amended,
    "object.delete": a.Deletions,
    "upload.part": a.WastedParts,
    "upload.complete": a.Completed,
}


@pytest.fixture(autouse=True, scope="module")
def _small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "S3_PART_BYTES_MIN", PART_BYTES_MIN)
        patch.setattr(completion, "PLACEMENT_PAGE_EXTENTS", PAGE_EXTENTS)
        yield


def later(rng: random.Random, time_ms: int) -> int:
    """Cluster time goes on, sometimes by much; there is none before the first tick."""
    if not time_ms:
        return NOON_MS if rng.randrange(4) == 0 else 0
    return time_ms + rng.choice([0, 1, 20, 100, 100, DAY_MS])


def modelled(model: CatalogModel, step: Step, time_ms: int) -> tuple[Reason, object]:
    try:
        return Reason.DONE, model.call(*step, time_ms)
    except Refused as refused:
        return refused.reason, None


def read(name: str, answer: bytes) -> tuple[Reason, object]:
    reason = Reason(answer[0])
    if reason:
        return reason, None
    return reason, unpack(ANSWERS.get(name, a.Nothing), answer[1:])


def filled(tables: Tables) -> dict[str, dict[bytes, bytes]]:
    return {name: dict(rows) for name, rows in tables.items() if rows}


@settings(max_examples=250, deadline=None)
@given(seed=seeds, count=st.integers(1, 120), locks=st.booleans())
def test_procedures_do_what_the_model_does(seed: int, count: int, locks: bool) -> None:
    rng = random.Random(seed)
    history, model, database = Histories(rng, locks=locks), CatalogModel(), Database()
    time_ms = 0
    for _ in range(count):
        time_ms = later(rng, time_ms)
        name, args = history.next(database.tables, time_ms)
        expected = modelled(model, (name, args), time_ms)
        answer = database.call(PROCEDURES[name].run, args.encode(), time_ms)
        assert read(name, answer) == expected
        check_invariants(database.tables)
        check_extents(database.tables)
        assert filled(database.tables) == rows_of(model)
        for bucket, key in product(NAMES, KEYS):
            check_found(model, database, bucket, key, None)
            versions = [one.id for one in sources_of(database.tables) if one.key == key]
            check_found(model, database, bucket, key, rng.choice([*versions, b"", bytes(16)]))


def check_found(
    model: CatalogModel, database: Database, name: str, key: str, version: bytes | None
) -> None:
    """`object.find` answers with the rows of what the model finds."""
    view = ModelView(database.tables)
    asked = FindObject(name, key, version)
    found = unpack(FoundObject, find(view, asked.encode())[1:])
    bare = msgspec.structs.replace(asked, needs_bytes=False)
    assert unpack(FoundObject, find(view, bare.encode())[1:]) == msgspec.structs.replace(
        found, placement=b"", body=b""
    )
    bucket, expected = model.buckets.get(name), None
    if bucket is None:
        assert found == FoundObject()
        return
    assert decode(BucketRow, found.bucket) == bucket.row
    expected = find_version(bucket, key, version)
    if expected is None:
        assert found == FoundObject(found.bucket)
        return
    row = decode(VersionRow, found.version)
    assert (found.order, row.random, row.is_marker, row.tags, row.legal_hold) == (
        *(expected.order, expected.random, expected.is_marker, expected.tags),
        expected.legal_hold,
    )
    assert found.is_newest is (expected is bucket.versions[key][-1])
    layout = model.layouts.get(expected.layout)
    assert bool(found.placement) is (layout is not None)
    if layout is not None:
        placement = decode(PlacementRow, found.placement)
        assert list(placement.extents) == layout.extents[:PAGE_EXTENTS]
    assert found.body[4:] == model.bodies.get(expected.layout, b"")


def test_the_model_keeps_what_was_completed_for_as_long() -> None:
    assert KEPT_MS == COMPLETED_KEPT_MS


def rows_in(store: Store) -> dict[str, dict[bytes, bytes]]:
    names = [*_TABLES]
    return {
        name: rows
        for name in names
        if (rows := dict(store.list(name, b"", b"", b"", 10_000).entries))
    }


_TABLES = (
    *("buckets", "bucket_documents", "objects", "versions", "nulls", "inline", "refs"),
    *("uploads", "parts", "completed", "due", "repair"),
)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, count=st.integers(20, 80))
def test_stores_do_what_the_model_does_and_a_retry_nothing(seed: int, count: int) -> None:
    rng = random.Random(seed)
    history, model, time_ms = Histories(rng), CatalogModel(), 0
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        stores = [
            Store(Path(path), durable=False, map_bytes_initial=16 * MIB, procedures=PROCEDURES)
            for path in (one, other)
        ]
        entries: list[tuple[int, bytes]] = []

        def apply(command: commands.Call) -> object:
            entries.append((len(entries) + 1, commands.encode(command)))
            return stores[0].apply(entries[-1:])[0]

        for _ in range(count):
            before_ms, time_ms = time_ms, later(rng, time_ms)
            if time_ms != before_ms:
                tick = Tick(stores[0].time.epoch, time_ms, Moment(b"A", time_ms))
                apply(commands.call(clock.TICK, clock.pack(tick)))
            name, args = history.next(rows_in(stores[0]), time_ms)
            expected = modelled(model, (name, args), time_ms)
            command = commands.call(name, args.encode())
            answer = apply(command)
            assert isinstance(answer, Applied)
            assert read(name, answer.answer) == expected
            if rng.randrange(4) == 0:
                assert apply(command) == answer
        assert rows_in(stores[0]) == rows_of(model)
        stores[1].apply(entries)
        assert stores[0].digest() == stores[1].digest()
        for store in stores:
            store.close()
