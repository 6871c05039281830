"""What is stored about healing: its bytes are pinned."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from predastore.backend import records
from predastore.backend.healing.records import (
    FAILED,
    SILENT,
    HorizonRecord,
    LeaseRecord,
    MovedRecord,
    NodeRecord,
    ProgressRecord,
    RingRecord,
    SeenNode,
    moved_key,
    node_key,
)

FORMATS = Path(__file__).parents[1] / "formats"
NOW = 1_790_000_000_000
HASH, ID = bytes(range(32)), bytes(range(16))

GOLDEN: dict[str, msgspec.Struct] = {
    "lease": LeaseRecord(ID, "host-1", NOW),
    "horizon": HorizonRecord(NOW, ID),
    "node": NodeRecord("00" * 16, NOW),
    "moved": MovedRecord(HASH, ID, 4, 70_000, NOW),
    "ring": RingRecord(HASH, "objects", HASH, True, 1, 2, 3, NOW),
    "progress": ProgressRecord(
        *("host-1", NOW, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, "nodes", 50, NOW, True),
        lost_nodes=(3,),
        down_nodes=(3, 4),
        noted_nodes=(3,),
        homeless_shards=16,
        homeless_bytes=17,
        seen=(SeenNode(3, 18, 19, SILENT, 0), SeenNode(4, 20, 21, FAILED, 22)),
        ring=HASH,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_version_1_is_read_and_written_as_ever(name: str) -> None:
    stored = bytes.fromhex((FORMATS / f"healing_{name}_v1.hex").read_text())
    record = GOLDEN[name]
    assert records.decode(type(record), stored) == record
    assert records.encode(record) == stored


def test_keys_are_as_ever() -> None:
    assert node_key(7) == b"node/00007"
    assert moved_key(HASH, ID, 4, 70_000) == b"moved/" + HASH + ID + b"\0\4" + b"\0\1\x11\x70"
