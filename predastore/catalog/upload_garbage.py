"""What uploads leave that have ended, and those of a bucket that was deleted: worked off some at a
time, whatever their number.

Nobody can reach them any more: an upload's parts once its record is gone, and a bucket's uploads
once the bucket's id is that of no bucket. So each step may be done again, by any process.
"""

from __future__ import annotations

from predastore.base.limits import BACKEND_PARTS_PAGE_MAX, BACKEND_UPLOADS_PAGE_MAX
from predastore.catalog.commit_ops import abort_ops
from predastore.s3db.commands import Op, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage import records
from predastore.storage.interface import ByteStore
from predastore.storage.records import PARTS, UPLOAD_ID_CHARS, UPLOADS, PartRecord


async def release_parts(state: GlobalState, store: ByteStore, upload_id: str) -> bool:
    """Lets go of the bytes of all parts that are stored under an upload: are all of them gone."""
    prefix, after, truncated = records.parts_prefix(upload_id), b"", True
    are_gone = True
    while truncated:
        page = await state.list(PARTS, prefix, b"", after, BACKEND_PARTS_PAGE_MAX)
        extents = [records.decode(PartRecord, stored).extent for _, stored in page.entries]
        are_gone = all(await store.release(extents)) and are_gone
        truncated, after = page.truncated, page.next
    return are_gone


async def end_uploads(state: GlobalState, prefix: bytes) -> list[tuple[bytes, bytes]]:
    """Ends some of the uploads whose keys begin with `prefix`: the (key, value) in PARTS that tell
    of their parts. Empty: there was none left."""
    page = await state.list(UPLOADS, prefix, b"", b"", BACKEND_UPLOADS_PAGE_MAX)
    ops: list[Op] = []
    garbage: list[tuple[bytes, bytes]] = []
    for key, _ in page.entries:
        ending, entry = abort_ops(key, key[-UPLOAD_ID_CHARS:].decode())
        ops += ending
        garbage.append(entry)
    if ops:
        await state.commit(batch(*ops))
    return garbage
