"""The bytes on disk, pinned: what version 1 wrote is what version 1 writes, and still reads.

A changed golden file means a new format version, unless only `synced` fields changed: they tell
when the writer synced. To make one, run this file.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from node_support import CLUSTER, SEGMENT_BYTES, opened, read_back, ref_of, run

from predastore._fast.crc import crc32c
from predastore.node import appender as appender_module
from predastore.node.appender import Appender
from predastore.node.disk import RealDisk
from predastore.node.segment import HEADER_BYTES, Change, segment_path
from predastore.node.shard import Location, encode_entry
from reference import frame as twin

GOLDEN = Path(__file__).parent.parent / "formats" / "node_segment_v1.hex"
IDENTITY = (
    '{"format":1,"node_id":3,"cluster_id":"' + CLUSTER.hex() + '","store_id":"' + "ab" * 16 + '"}\n'
)
BLOCKS = [b"first block", b"second, of 24 bytes.....", b"sole"]


def write_golden(folder: Path) -> bytes:
    """A sealed segment with a record of each kind."""
    log = Appender(
        folder, RealDisk(), node_id=3, cluster_id=CLUSTER, segment_bytes_max=SEGMENT_BYTES
    )
    log.begin(1)
    two, sole = ref_of(1, index=2).key(), ref_of(2, index=255).key()
    places = []
    for stripe, block in enumerate(BLOCKS[:2]):
        offset = log.block(two, stripe, block, crc32c(block), sole=False)
        places.append(Location(offset, 1, len(block), crc32c(block)))
    log.flush()
    entry = encode_entry(0, places)
    log.commit(two, entry)
    log.list_change(Change(two, entry))
    log.flush()
    log.sync()
    log.footer()
    for key in (sole, ref_of(3).key()):
        offset = log.block(key, 0, BLOCKS[2], crc32c(BLOCKS[2]), sole=True)
        log.list_change(Change(key, encode_entry(0, [Location(offset, 1, 4, crc32c(BLOCKS[2]))])))
    log.tombstone(ref_of(3).key())
    log.list_change(Change(ref_of(3).key(), None))
    log.flush()
    log.roll()
    log.close()
    return segment_path(folder, 1).read_bytes()


def fix_chance(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(appender_module, "secrets", SimpleNamespace(randbits=lambda _: 0x5EA1AB1E))
    patch.setattr(
        appender_module,
        "time",
        SimpleNamespace(time_ns=lambda: 1_800_000_000_000_000_000, perf_counter=lambda: 0.0),
    )


def golden() -> bytes:
    return bytes.fromhex("".join(GOLDEN.read_text().split()))


def test_what_is_written_is_the_golden_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_chance(monkeypatch)
    assert write_golden(tmp_path) == golden()


def test_the_golden_segment_is_what_the_reference_reads() -> None:
    data = golden()
    records, end, _ = twin.scan(data[HEADER_BYTES:], HEADER_BYTES, 0x5EA1AB1E, True)
    assert end == len(data)
    assert [(one.kind, one.flags, one.sound) for one in records] == [
        (1, 0, True), (1, 0, True), (2, 0, True), (4, 0, True),
        (1, 1, True), (1, 1, True), (3, 0, True), (4, 0, True), (5, 0, True),
    ]  # fmt: skip
    assert (records[0].object_hash, records[0].write_id) == (
        ref_of(1).object_hash,
        ref_of(1).write_id,
    )
    assert [one.shard_index for one in records[:5]] == [2, 2, 2, 0, 255]
    assert [one.stripe for one in records[:2]] == [0, 1]
    assert records[0].synced_bytes == HEADER_BYTES
    assert records[4].synced_bytes == records[3].offset
    assert records[7].synced_bytes == records[7].offset, "a footer is true when it is written"
    first = records[0].offset + 80
    assert data[first : first + 16] == b"first block\0\0\0\0\0"


@pytest.mark.parametrize("sealed", [True, False])
def test_a_store_reads_the_golden_segment(tmp_path: Path, sealed: bool) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    (tmp_path / "node.id").write_text(IDENTITY)
    (folder / "00000001.seg").write_bytes(golden()[: None if sealed else -1])

    async def main() -> None:
        async with opened(tmp_path) as store:
            assert await read_back(store, ref_of(1, index=2), BLOCKS[:2])
            assert await read_back(store, ref_of(2, index=255), BLOCKS[2:])
            assert not await read_back(store, ref_of(3), BLOCKS[2:])
            assert (await store.status()).shard_count == 2

    run(main())


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as chance:
        fix_chance(chance)
        made = Path(tempfile.mkdtemp())
        text = write_golden(made).hex()
        shutil.rmtree(made)
    lines = [text[at : at + 96] for at in range(0, len(text), 96)]
    GOLDEN.write_text("\n".join(lines) + "\n")
    sys.stdout.write(f"{GOLDEN}: {len(text) // 2} bytes\n")
