"""What is stored about healing: its bytes are pinned."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from predastore.catalog.fence import HorizonRecord
from predastore.jobs.healing.records import (
    FAILED,
    SILENT,
    LeaseRecord,
    MovedRecord,
    NodeRecord,
    ProgressRecord,
    RingRecord,
    SeenNode,
    UnnamedBad,
    moved_key,
    node_key,
)
from predastore.storage.formats import decode, encode

FORMATS = Path(__file__).parents[1] / "formats"
NOW = 1_790_000_000_000
HASH, ID = bytes(range(32)), bytes(range(16))

GOLDEN: dict[str, msgspec.Struct] = {
    "lease": LeaseRecord(ID, "host-1", NOW),
    "horizon": HorizonRecord(NOW, ID),
    "node": NodeRecord("00" * 16, NOW, ID),
    "moved": MovedRecord(HASH, ID, 4, 70_000, NOW),
    "ring": RingRecord(HASH, "objects", HASH, True, 1, 2, 3, NOW),
    "progress": ProgressRecord(
        *("host-1", NOW, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, "nodes", 50, NOW, True),
        lost_nodes=(3,),
        down_nodes=(3, 4),
        noted_nodes=(3,),
        homeless_shards=16,
        homeless_bytes=17,
        seen=(SeenNode(3, 18, 19, SILENT, 0), SeenNode(4, 20, 21, FAILED, 22, 23, 24)),
        ring=HASH,
        endangered_extents=25,
        unnamed_bad=(UnnamedBad(5, ID),),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_version_2_is_read_and_written_as_ever(name: str) -> None:
    stored = bytes.fromhex((FORMATS / f"healing_{name}_v2.hex").read_text())
    record = GOLDEN[name]
    assert decode(type(record), stored) == record
    assert encode(record) == stored


def test_what_a_program_without_its_last_fields_wrote_is_read() -> None:
    """With 26 elements, and nodes that were seen with 5."""
    fields = msgspec.msgpack.decode(encode(GOLDEN["progress"])[1:])[:26]
    fields[-2] = [seen[:5] for seen in fields[-2]]
    read = decode(ProgressRecord, b"\x02" + msgspec.msgpack.encode(fields))
    assert read.ring == HASH
    assert read.seen[1] == SeenNode(4, 20, 21, FAILED, 22, -1, -1)
    assert (read.endangered_extents, read.unnamed_bad) == (0, ())


def test_keys_are_as_ever() -> None:
    assert node_key(7) == b"node/00007"
    assert moved_key(HASH, ID, 4, 70_000) == b"moved/" + HASH + ID + b"\0\4" + b"\0\1\x11\x70"
