"""Reading a whole cluster back: every block of every shard of every object.

A node checks the CRC of each block that it reads; here the stripe is coded anew from its data, and
each block compared with what it must be, data and parity; the MD5 of an object that was put whole
must be what it was. A body in the metadata is compared with its CRC. What is missing or wrong is
counted and listed; repairing it is healing's work. Versions that share their bytes are one object
here, and what has no bytes is none.
An object that changes while it is read is read again as it is then. Where the metadata can not be
read any more it ends, with a report of what was read by then.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Final

from predastore._fast.crc import crc32c
from predastore.base.errors import PredastoreError, ShardCorrupt, ShardNotFound
from predastore.base.limits import BACKEND_READ_TIMEOUT_MS, BACKEND_SCAN_PAGE_MAX, COMMAND_JOBS
from predastore.catalog.keys import INLINE
from predastore.catalog.rows import PartRow, PlacementRow
from predastore.coding import erasure
from predastore.coding.erasure import Code
from predastore.jobs.healing import holders
from predastore.jobs.healing.holders import WALKED, Holder
from predastore.node.shard import ShardRef
from predastore.process.commands import remote
from predastore.process.commands.remote import Remote, say
from predastore.process.logs import quoted
from predastore.storage.extents import MISSING, ShardExtent
from predastore.storage.formats import decode

_LISTED_MAX: Final = 50
_CRC_BYTES: Final = 4  # before an inline body, as catalog/keys.py has it


@dataclass
class VerifyCounts:
    """`wrong`: objects whose bytes are not what they must be; `unreadable`: with fewer than k good
    shards; `degraded`: readable, with shards missing or bad."""

    objects: int = 0
    data_bytes: int = 0
    blocks: int = 0
    missing_shards: int = 0
    bad_blocks: int = 0
    silent_blocks: int = 0
    degraded: int = 0
    unreadable: int = 0
    wrong: int = 0
    listed: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if len(self.listed) < _LISTED_MAX:
            self.listed.append(text)


@dataclass
class _Faults:
    """Of one object."""

    missing: set[tuple[int, int]] = field(default_factory=set)  # extent, shard
    bad: int = 0
    silent: int = 0
    unreadable: bool = False
    wrong: str = ""

    @property
    def any(self) -> bool:
        return bool(self.missing or self.bad or self.silent or self.unreadable or self.wrong)


async def run(to: Remote, as_json: bool) -> int:
    """`s3d cluster verify`; the exit code. PredastoreError where not all could be looked at."""
    counts = VerifyCounts()
    failed = await _look_at_all(to, counts)
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    _report(counts, as_json, is_complete=failed is None)
    if failed is not None:
        raise failed
    faults = (counts.degraded, counts.unreadable, counts.wrong)
    return 1 if any(faults) else 0


async def _look_at_all(to: Remote, counts: VerifyCounts) -> PredastoreError | None:
    """What ended it before its time."""
    slots = asyncio.Semaphore(COMMAND_JOBS)

    async def one(holder: Holder) -> None:
        try:
            await _verify(to, holder, counts)
        finally:
            slots.release()
            _show(counts)

    failed: list[PredastoreError] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            async for holder in _all(to):
                await slots.acquire()
                tasks.create_task(one(holder))
            await _verify_inline(to, counts)
    except* PredastoreError as group:
        failed = [error for error in group.exceptions if isinstance(error, PredastoreError)]
    return failed[0] if failed else None


async def _all(to: Remote) -> AsyncIterator[Holder]:
    for table in WALKED:
        async for page, _ in holders.walk(to.state, table):
            for holder in page:
                yield holder


async def _verify_inline(to: Remote, counts: VerifyCounts) -> None:
    """The bodies that lie in the metadata."""
    after, truncated = b"", True
    while truncated:
        page = await to.state.list(INLINE, b"", b"", after, BACKEND_SCAN_PAGE_MAX)
        truncated, after = page.truncated, page.next
        for layout, stored in page.entries:
            counts.objects += 1
            counts.data_bytes += len(stored) - _CRC_BYTES
            if crc32c(stored[_CRC_BYTES:]) != int.from_bytes(stored[:_CRC_BYTES], "big"):
                counts.wrong += 1
                counts.note(f"WRONG layout {layout.hex()} in the metadata: its CRC differs")
        _show(counts)


async def _verify(to: Remote, holder: Holder, counts: VerifyCounts) -> None:
    faults, read = await _read(to, holder, counts)
    if faults.any:
        stored = await to.state.get(holder.table, holder.key)
        if stored is None:
            return  # deleted meanwhile
        if stored != holder.stored:
            row = decode(type(holder.row), stored)
            holder = Holder(holder.table, holder.key, stored, row)
            faults, read = await _read(to, holder, counts)
    counts.objects += holder.is_first
    counts.data_bytes += read
    counts.missing_shards += len(faults.missing)
    counts.bad_blocks += faults.bad
    counts.silent_blocks += faults.silent
    if faults.wrong:
        counts.wrong += 1
        counts.note(f"WRONG {_name(holder)}: {faults.wrong}")
    elif faults.unreadable:
        counts.unreadable += 1
        counts.note(f"UNREADABLE {_name(holder)}: fewer than k good shards of a stripe")
    elif faults.any:
        counts.degraded += 1
        counts.note(
            f"degraded {_name(holder)}: {len(faults.missing)} shards missing, {faults.bad} blocks "
            f"bad, {faults.silent} not answered for"
        )


def _name(holder: Holder) -> str:
    row = holder.row
    if isinstance(row, PlacementRow):
        return quoted(f"s3://{row.bucket}/{row.key}")
    return f"part {row.number} of upload {holder.key[-38:-6].decode()}"


def _md5(holder: Holder) -> str:
    """Of all bytes that the row is about, in hex; "" where that is not known."""
    row = holder.row
    return row.etag if isinstance(row, PartRow) else row.md5.hex()


async def _read(to: Remote, holder: Holder, counts: VerifyCounts) -> tuple[_Faults, int]:
    """What is wrong with an object, and the bytes that were read of it."""
    faults, digest, size = _Faults(), hashlib.md5(usedforsecurity=False), 0
    for number, extent in enumerate(holder.extents):
        if not isinstance(extent, ShardExtent):
            continue
        faults.missing |= {(number, n) for n, node in enumerate(extent.nodes) if node == MISSING}
        code = Code(extent.k, extent.m)
        for stripe in range(erasure.stripe_count(extent.size, code, extent.block_bytes)):
            data = await _stripe(to, number, extent, code, stripe, faults, counts)
            if data is not None:
                digest.update(data)
                size += len(data)
    md5 = _md5(holder)
    if not faults.unreadable and md5 and digest.hexdigest() != md5:
        faults.wrong = faults.wrong or f"its MD5 is {digest.hexdigest()}, and was {md5}"
    return faults, size


async def _stripe(
    to: Remote,
    number: int,
    extent: ShardExtent,
    code: Code,
    stripe: int,
    faults: _Faults,
    counts: VerifyCounts,
) -> memoryview | None:
    """The data of a stripe, from what its shards give, each of which is checked."""
    geometry = erasure.stripe_geometry(extent.size, code, extent.block_bytes, stripe)
    length = geometry.block_bytes

    async def block(shard: int, node: int) -> memoryview | None:
        ref = ShardRef(extent.shard_hash, extent.write_id, shard)
        try:
            return await to.nodes.read(
                node, ref, stripe, 0, length, timeout_ms=BACKEND_READ_TIMEOUT_MS
            )
        except ShardNotFound:
            faults.missing.add((number, shard))
        except ShardCorrupt:
            faults.bad += 1
        except PredastoreError:
            faults.silent += 1
        return None

    held = [(shard, node) for shard, node in enumerate(extent.nodes) if node != MISSING]
    found = await asyncio.gather(*(block(*each) for each in held))
    present = {
        shard: data for (shard, _), data in zip(held, found, strict=True) if data is not None
    }
    counts.blocks += len(present)
    if len(present) < code.k:
        faults.unreadable = True
        return None
    data, wrong = await asyncio.to_thread(_judge, code, present, geometry)
    if wrong:
        faults.wrong = f"stripe {stripe} of extent {number}: shards {wrong} do not fit the others"
    return data


def _judge(
    code: Code, present: dict[int, memoryview], geometry: erasure.Stripe
) -> tuple[memoryview, list[int]]:
    """The data of a stripe, and the shards among `present` that are not what it codes to."""
    length = geometry.block_bytes
    absent = [shard for shard in range(code.k) if shard not in present]
    rebuilt = erasure.reconstruct(code, present, absent, length) if absent else {}
    buffer = bytearray(code.shards * length)
    for shard in range(code.k):
        buffer[shard * length : (shard + 1) * length] = rebuilt.get(shard) or present[shard]
    _, sums = erasure.encode_stripe(code, buffer, geometry.data_bytes)
    wrong = [shard for shard, block in present.items() if crc32c(block) != sums[shard]]
    return memoryview(buffer)[: geometry.data_bytes], wrong


def _show(counts: VerifyCounts) -> None:
    if sys.stderr.isatty():
        bad = counts.degraded + counts.unreadable + counts.wrong
        sys.stderr.write(
            f"\r{counts.objects} objects, {remote.size(counts.data_bytes)}, {counts.blocks} blocks "
            f"read, {bad} objects with faults "
        )
        sys.stderr.flush()


def _report(counts: VerifyCounts, as_json: bool, *, is_complete: bool) -> None:
    if as_json:
        say(json.dumps({"complete": is_complete, **asdict(counts)}, indent=2))
        return
    for line in counts.listed:
        say(line)
    say(
        f"{counts.objects} objects, {remote.size(counts.data_bytes)} in {counts.blocks} blocks: "
        f"{counts.wrong} wrong, {counts.unreadable} unreadable, {counts.degraded} degraded "
        f"({counts.missing_shards} shards missing, {counts.bad_blocks} blocks bad, "
        f"{counts.silent_blocks} not answered for)"
    )
    if not is_complete:
        say("NOT COMPLETE: this is what was read before the metadata could not be; run it again")
