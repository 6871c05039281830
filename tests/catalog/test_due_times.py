"""When what is let go of may go, if clocks differ."""

from __future__ import annotations

import msgspec
import pytest

from catalog.histories import DAY_MS, NOON_MS
from predastore.catalog import keys
from predastore.catalog.procedures import PROCEDURES
from predastore.catalog.procedures import arguments as a
from predastore.catalog.rows import BucketRow, Detail, Kind, Summary
from predastore.storage.extents import ShardExtent
from predastore.storage.formats import pack
from reference.database import ModelView

BUCKET = BucketRow("b", b"\x80" * 16, "1", "eu", 0)
HELD = a.HeldBucket("b", BUCKET.id, 1)
GRACE_MS = 300_000


def put(view: ModelView, random: bytes) -> None:
    layout = keys.layout("b", "k", random)
    placed = ShardExtent(layout, random * 2, 1, 0, 4096, 1, (1,))
    summary = Summary(1, "0" * 32, NOON_MS, "1")
    args = a.PutObject(
        *(HELD, "k", random, a.Content(Kind.PLACED, layout, (placed,)), summary),
        *(msgspec.Raw(pack(Detail("a/b"))), NOON_MS, GRACE_MS),
    )
    PROCEDURES["object.put"].run(view, args.encode())


@pytest.mark.parametrize("cluster_ms", [0, NOON_MS - DAY_MS, NOON_MS + DAY_MS])
def test_a_gateway_whose_clock_is_behind_takes_nothing_from_readers(cluster_ms: int) -> None:
    view = ModelView({}, cluster_ms)
    PROCEDURES["bucket.create"].run(view, a.CreateBucket(BUCKET).encode())
    put(view, b"1" * 8)
    put(view, b"2" * 8)
    doomed = a.DeleteObjects(HELD, (a.Doomed("k", bytes(8)),), NOON_MS, GRACE_MS)
    PROCEDURES["object.delete"].run(view, doomed.encode())
    due = [keys.due_ms_of(key) for key in view.tables[keys.DUE]]
    assert due == [max(cluster_ms, NOON_MS) + GRACE_MS] * 2
