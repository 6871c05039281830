"""What a retention or a legal hold keeps stays, whatever is called, until time has gone on."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.histories import DAY_MS, NOON_MS, Histories, Source, Tables, sources_of
from predastore.catalog import keys
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.procedures import arguments as a
from predastore.catalog.procedures.judging import may_become
from predastore.catalog.procedures.objects import retention_in
from predastore.catalog.rows import (
    BucketRow,
    DefaultRetention,
    Detail,
    Kind,
    LockMode,
    Retention,
    Summary,
    Versioning,
    VersionRow,
)
from predastore.storage.formats import decode, pack
from reference.database import Database, ModelView

GOVERNANCE, COMPLIANCE = LockMode.GOVERNANCE, LockMode.COMPLIANCE
Named = tuple[bytes, str, int, bytes]


def named(tables: Tables) -> dict[Named, Source]:
    return {(one.bucket_id, one.key, one.order, one.row.random): one for one in sources_of(tables)}


def check_step(before: Source, after: Source | None, args: msgspec.Struct, time_ms: int) -> None:
    """What one call, at a cluster time, may have done to a version."""
    row, may_bypass = before.row, getattr(args, "bypass", False)
    runs = row.retention.mode is not LockMode.NONE and row.retention.until_ms > time_ms
    binds = runs and not (row.retention.mode is GOVERNANCE and may_bypass)
    if after is None:
        assert not row.legal_hold
        assert not binds
        return
    if row.legal_hold and not after.row.legal_hold:
        assert isinstance(args, a.AmendObject)
        assert args.legal_hold is False
    if binds:
        assert after.row.retention.mode is row.retention.mode
        assert after.row.retention.until_ms >= row.retention.until_ms


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(20, 120))
def test_nothing_removes_what_is_kept_or_shortens_it(seed: int, count: int) -> None:
    rng = random.Random(seed)
    history, database, time_ms = Histories(rng, locks=True), Database(), 0
    for _ in range(count):
        time_ms = time_ms or rng.choice([0, 0, 0, NOON_MS])
        time_ms += rng.choice([0, 20, 100, DAY_MS]) if time_ms else 0
        before = named(database.tables)
        name, args = history.next(database.tables, time_ms)
        database.call(PROCEDURES[name].run, args.encode(), time_ms)
        after = named(database.tables)
        for which, version in before.items():
            check_step(version, after.get(which), args, time_ms)


CHANGES = {  # from, to: with bypass or without, while the first runs
    "the same": (Retention(COMPLIANCE, 50), Retention(COMPLIANCE, 50), True, True),
    "longer": (Retention(COMPLIANCE, 50), Retention(COMPLIANCE, 51), True, True),
    "shorter": (Retention(COMPLIANCE, 50), Retention(COMPLIANCE, 49), False, False),
    "removed": (Retention(COMPLIANCE, 50), Retention(), False, False),
    "weaker": (Retention(COMPLIANCE, 50), Retention(GOVERNANCE, 99), False, False),
    "governed longer": (Retention(GOVERNANCE, 50), Retention(GOVERNANCE, 51), True, True),
    "governed shorter": (Retention(GOVERNANCE, 50), Retention(GOVERNANCE, 49), False, True),
    "governed removed": (Retention(GOVERNANCE, 50), Retention(), False, True),
    "another mode": (Retention(GOVERNANCE, 50), Retention(COMPLIANCE, 99), False, True),
    "a first one": (Retention(), Retention(COMPLIANCE, 20), True, True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_retention_changes_as_s3_has_it(change: str) -> None:
    old, new, without, bypassing = CHANGES[change]
    assert may_become(old, new, 10, bypass=False) is without
    assert may_become(old, new, 10, bypass=True) is bypassing
    assert may_become(old, new, 50, bypass=False)
    assert may_become(old, new, 0, bypass=False) is without  # before there was a cluster time


@pytest.mark.parametrize(
    ("default", "time_ms", "until_ms"),
    [
        (DefaultRetention(GOVERNANCE, 2, 0), NOON_MS + 7, NOON_MS + 7 + 2 * DAY_MS),
        # 2024-02-29T12:00:00.005Z to 2027-02-28 and 2028-02-29
        (DefaultRetention(COMPLIANCE, 0, 3), 1_709_208_000_005, 1_803_816_000_005),
        (DefaultRetention(COMPLIANCE, 0, 4), 1_709_208_000_005, 1_835_438_400_005),
    ],
)
def test_what_a_bucket_gives_ends_days_or_years_later(
    default: DefaultRetention, time_ms: int, until_ms: int
) -> None:
    bucket = BucketRow("b", b"\x80" * 16, "1", "eu", 0, False, 1, Versioning.ENABLED, True, default)
    assert retention_in(bucket, Retention(), time_ms) == Retention(default.mode, until_ms)
    asked = Retention(GOVERNANCE, 1)
    assert retention_in(bucket, asked, time_ms) == asked


@pytest.mark.parametrize("cluster_ms", [0, NOON_MS - 30 * DAY_MS, NOON_MS + DAY_MS])
def test_what_a_bucket_gives_lasts_its_whole_time_by_both_clocks(cluster_ms: int) -> None:
    """Cluster time may stand behind, as after a restore: setting it then ends nothing sooner."""
    view = ModelView({}, cluster_ms)
    default = DefaultRetention(COMPLIANCE, 30, 0)
    bucket = BucketRow("b", b"\x80" * 16, "1", "eu", 0, False, 1, Versioning.ENABLED, True, default)
    PROCEDURES["bucket.create"].run(view, a.CreateBucket(bucket).encode())
    args = a.PutObject(
        *(a.HeldBucket("b", bucket.id, 1), "k", bytes(8), a.Content(Kind.NOWHERE, b"")),
        *(Summary(0, "", NOON_MS, "1"), msgspec.Raw(pack(Detail(""))), NOON_MS, 0),
    )
    PROCEDURES["object.put"].run(view, args.encode())
    (stored,) = view.tables[keys.VERSIONS].values()
    assert decode(VersionRow, stored).retention.until_ms == (max(cluster_ms, NOON_MS) + 30 * DAY_MS)
