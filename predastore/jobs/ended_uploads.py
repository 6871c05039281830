"""What is left of uploads that have ended: the parts that no object took, and, of a bucket that was
deleted, the uploads themselves.

A part's row goes when every node has let go of its bytes, and only if it still says where these
were: healing may have moved a shard meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence

from predastore.base.errors import PreconditionFailed
from predastore.base.failpoints import failpoint
from predastore.base.limits import BACKEND_PARTS_PAGE_MAX, BACKEND_UPLOADS_PAGE_MAX
from predastore.catalog import keys
from predastore.catalog.keys import DUE, PARTS, UPLOADS
from predastore.catalog.rows import GarbageRow, PartRow, Waste
from predastore.s3db.commands import Delete, Equals, Op, Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import now_ms
from predastore.storage.formats import decode, encode
from predastore.storage.interface import ByteStore


async def let_go(state: GlobalState, store: ByteStore, name: bytes) -> bool:
    """Of all parts that are stored under an upload (`keys.upload_name`); whether all are gone."""
    after, truncated, all_gone = b"", True, True
    while truncated:
        page = await state.list(PARTS, name + b"/", b"", after, BACKEND_PARTS_PAGE_MAX)
        truncated, after = page.truncated, page.next
        extents = [decode(PartRow, stored).extent for _, stored in page.entries]
        gone = await store.release(extents) if extents else []
        failpoint("uploads.released")
        done = [row for row, is_gone in zip(page.entries, gone, strict=True) if is_gone]
        all_gone = all_gone and len(done) == len(extents)
        if done and not await _forget(state, done):
            all_gone = False
        failpoint("uploads.forgotten")
    return all_gone


async def _forget(state: GlobalState, rows: Sequence[tuple[bytes, bytes]]) -> bool:
    """False: one has changed, and nothing is done."""
    checks = tuple(Equals(PARTS, key, stored) for key, stored in rows)
    try:
        await state.commit(batch(*(Delete(PARTS, key) for key, _ in rows), checks=checks))
    except PreconditionFailed:
        return False
    return True


async def end(state: GlobalState, bucket_id: bytes) -> bool:
    """Ends some of the uploads of a bucket that was deleted; whether that was the last of them."""
    prefix = keys.documents(bucket_id)
    page = await state.list(UPLOADS, prefix, b"", b"", BACKEND_UPLOADS_PAGE_MAX)
    ops: list[Op] = []
    for key, _ in page.entries:
        name = keys.upload_name(bucket_id, key[-keys.UPLOAD_ID_CHARS :].decode())
        row = GarbageRow(Waste.UPLOAD, name)
        ops.append(Delete(UPLOADS, key))
        ops.append(Put(DUE, keys.due(now_ms(), row.waste, name), encode(row)))
    if ops:
        await state.commit(batch(*ops))
        failpoint("uploads.ended")
    return not page.truncated
