"""Rotation of the sealing key: another version, and the secrets of all access keys under it.

A version that was followed by another is kept for the sessions that began under it, and goes once
the longest of them is over.
"""

from __future__ import annotations

from predastore.base.errors import PreconditionFailed
from predastore.base.limits import IAM_SEALING_KEPT_S, IAM_TRIES_MAX
from predastore.iam import refusals
from predastore.iam.identities import KEY_PURPOSE
from predastore.iam.keys import ACCESS_KEYS
from predastore.iam.procedures.arguments import Cause, SealKey
from predastore.iam.rows import AccessKeyRow
from predastore.iam.sealing import SealingKeys
from predastore.s3db.global_state import GlobalState
from predastore.storage.formats import decode

_PAGE_ROWS = 500


async def rotate(state: GlobalState, sealing: SealingKeys) -> tuple[int, int]:
    """The number of the new version; of how many access keys the secrets were sealed anew.
    What was begun and broken off before is done first, so that the version which goes has sealed
    none of them."""
    await sealing.refresh()
    await _seal_all(state, sealing)
    return await sealing.rotate(), await _seal_all(state, sealing)


async def drop_unneeded(state: GlobalState, sealing: SealingKeys, now_ms: int) -> int:
    """Lets go of the versions that nothing needs any more; how many."""
    before_ms = now_ms - IAM_SEALING_KEPT_S * 1000
    if not await sealing.has_unneeded(before_ms):
        return 0
    await sealing.refresh()
    await _seal_all(state, sealing)
    return await sealing.drop_unneeded(before_ms)


async def _seal_all(state: GlobalState, sealing: SealingKeys) -> int:
    count, after = 0, b""
    while rows := await state.scan(ACCESS_KEYS, b"", after, _PAGE_ROWS):
        for key, stored in rows:
            count += await _seal(state, sealing, key, decode(AccessKeyRow, stored))
        after = rows[-1][0]
    return count


async def _seal(state: GlobalState, sealing: SealingKeys, key: bytes, row: AccessKeyRow) -> bool:
    """Whether it had to be done. A key that goes meanwhile, or is sealed by another, need not."""
    for _ in range(IAM_TRIES_MAX):
        if sealing.is_newest(row.sealed):
            return False
        secret = await sealing.unseal(KEY_PURPOSE, row.sealed, bound_to=key)
        sealed = sealing.seal(KEY_PURPOSE, secret, bound_to=key)
        arguments = SealKey(key.decode(), row.sealed, sealed)
        try:
            applied = await state.call("iam.key.seal", arguments.encode(), (sealing.check,))
        except PreconditionFailed:
            await sealing.refresh()
            continue
        return refusals.cause_of(applied.answer) is Cause.DONE
    return False
