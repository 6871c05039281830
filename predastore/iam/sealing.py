"""Secrets of identities at rest: sealed under a sealing key, of which versions can be read.

    table         key    value
    iam_sealing   keys   SealingRow: the versions, each sealed under the cluster key

    sealed   4-byte number of the version, big-endian | what base/sealing.py makes with that version

The first process that has something to seal makes the first version. `rotate` makes another: from
then on it seals, and what the ones before have sealed can be read as long as they stay: until no
session can be that began under them (`drop_unneeded`, sealing_keys.py). Whoever
stores something sealed adds `check` to its commit, so that nothing is ever sealed under a version
that went meanwhile. Where the cluster key has changed, a process that knows the one before seals
the versions anew: once for each key that is in force in it, since others may still have another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from predastore.base import sealing
from predastore.base.errors import CorruptData, PreconditionFailed
from predastore.base.limits import IAM_SEALING_KEYS_MAX, IAM_TRIES_MAX
from predastore.iam.errors import ConcurrentChange, Unavailable
from predastore.iam.keys import SEALING, SEALING_KEYS
from predastore.iam.rows import SealingKey, SealingRow
from predastore.s3db.commands import Absent, Check, Equals, Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import now_ms
from predastore.storage.formats import decode, encode

_NUMBER_BYTES: Final = 4
_KEY_BYTES: Final = 32
_PURPOSE: Final = "iam sealing key"


class SealingKeys:
    """`cluster_keys`: the one that is in force, then those before it that are known."""

    def __init__(self, state: GlobalState, cluster_keys: Callable[[], Sequence[bytes]]) -> None:
        self._state = state
        self._cluster_keys = cluster_keys
        self._stored: bytes | None = None
        self._keys: dict[int, bytes] = {}
        self._newest = 0
        self._sealed_under = b""  # the key in force of which it was made sure
        self.opened_by: bytes | None = None  # the cluster key; None: not known

    @property
    def check(self) -> Check:
        """For the commit of what was sealed: the versions are those that are known here."""
        if self._stored is None:
            return Absent(SEALING, SEALING_KEYS)
        return Equals(SEALING, SEALING_KEYS, self._stored)

    async def refresh(self) -> None:
        """Reads the versions; makes the first; seals them under the cluster key that is in force.
        Unavailable: they were sealed under one that is not known."""
        for _ in range(IAM_TRIES_MAX):
            stored = await self._state.get(SEALING, SEALING_KEYS)
            if stored is not None:
                if self._open(stored) or await self._store(stored, self._sealed_anew(stored)):
                    return
            elif await self._store(None, SealingRow((self._made(1),))):
                return
        raise ConcurrentChange("The sealing key was changed again and again; try again.")

    async def seal_anew(self) -> bool:
        """`refresh`, where there are versions. Whether they are sealed under the cluster key that
        is in force."""
        if await self._state.get(SEALING, SEALING_KEYS) is not None:
            await self.refresh()
        return self.opened_by in (None, self._cluster_keys()[0])

    def seal(self, purpose: str, secret: bytes, *, bound_to: bytes) -> bytes:
        """`secret`, under the newest version that is known; `refresh` it first."""
        key = self._keys[self._newest]
        number = self._newest.to_bytes(_NUMBER_BYTES, "big")
        return number + sealing.seal(key, purpose, secret, bound_to=bound_to)

    async def unseal(self, purpose: str, sealed: bytes, *, bound_to: bytes) -> bytes:
        """What `seal` was given. CorruptData: for another purpose, of something else, under a
        version that is gone, or forged. UnsupportedFormat."""
        number = int.from_bytes(sealed[:_NUMBER_BYTES], "big")
        if not self._keys or self._newest < number <= self._newest + IAM_SEALING_KEYS_MAX:
            await self.refresh()
        key = self._keys.get(number)
        if key is None:
            raise CorruptData(f"{purpose}: sealed under a version that is none")
        return sealing.unseal(key, purpose, sealed[_NUMBER_BYTES:], bound_to=bound_to)

    def is_newest(self, sealed: bytes) -> bool:
        """Whether the newest version that is known has sealed it."""
        return int.from_bytes(sealed[:_NUMBER_BYTES], "big") == self._newest

    async def rotate(self) -> int:
        """Makes another version, which seals from now on; its number. The oldest goes where there
        would be more than IAM_SEALING_KEYS_MAX."""
        for _ in range(IAM_TRIES_MAX):
            await self.refresh()
            row = self._row()
            made = self._made(self._newest + 1)
            kept = row.keys[-(IAM_SEALING_KEYS_MAX - 1) :]
            if await self._store(self._stored, SealingRow((*kept, made))):
                return self._newest
        raise ConcurrentChange("The sealing key was changed again and again; try again.")

    async def has_unneeded(self, before_ms: int) -> bool:
        """Whether there is a version that no session needs, as they last: the one that followed it
        was made before that time."""
        stored = await self._state.get(SEALING, SEALING_KEYS)
        if stored is None:
            return False
        row = decode(SealingRow, stored)
        return _needed(row, before_ms) != row.keys

    async def drop_unneeded(self, before_ms: int) -> int:
        """Lets go of those versions; how many. No secret of an access key may be under one."""
        await self.refresh()
        row = self._row()
        kept = _needed(row, before_ms)
        if len(kept) == len(row.keys) or not await self._store(self._stored, SealingRow(kept)):
            return 0  # or it was changed meanwhile: the next time
        return len(row.keys) - len(kept)

    async def forget_others(self) -> None:
        """Lets go of all versions but the newest: what they have sealed is lost."""
        await self.refresh()
        if not await self._store(self._stored, SealingRow(self._row().keys[-1:])):
            raise ConcurrentChange("The sealing key was changed meanwhile; try again.")

    # --- the row

    def _row(self) -> SealingRow:
        assert self._stored is not None
        return decode(SealingRow, self._stored)

    def _open(self, stored: bytes) -> bool:
        """Whether it may stay as it is: it is sealed under the cluster key that is in force, or was
        since this is. Unavailable."""
        in_force, *before = self._cluster_keys()
        row = decode(SealingRow, stored)
        for cluster_key in (in_force, *before):
            try:
                keys = {one.number: _unsealed(cluster_key, one) for one in row.keys}
            except CorruptData:
                continue
            self._stored, self._keys, self._newest = stored, keys, row.keys[-1].number
            self.opened_by = cluster_key
            may_stay = in_force in (cluster_key, self._sealed_under)
            if cluster_key == in_force:
                self._sealed_under = in_force
            return may_stay
        raise Unavailable(
            "Secrets of identities can not be read: their sealing key was sealed under another "
            "cluster key. Give [cluster] secret or secrets_accepted, or [[auth]], as they were."
        )

    def _sealed_anew(self, stored: bytes) -> SealingRow:
        """The same versions, under the cluster key that is in force."""
        in_force = self._cluster_keys()[0]
        return SealingRow(
            tuple(
                msgspec.structs.replace(one, sealed=_sealed(in_force, one.number, self._keys))
                for one in decode(SealingRow, stored).keys
            )
        )

    def _made(self, number: int) -> SealingKey:
        secret = {number: os.urandom(_KEY_BYTES)}
        return SealingKey(number, _sealed(self._cluster_keys()[0], number, secret), now_ms())

    async def _store(self, before: bytes | None, row: SealingRow) -> bool:
        """False: it is not any more what it was before."""
        stored = encode(row)
        try:
            await self._commit(before, stored)
        except PreconditionFailed:
            return False
        self._open(stored)
        return True

    async def _commit(self, before: bytes | None, stored: bytes) -> None:
        check: Check = Absent(SEALING, SEALING_KEYS)
        if before is not None:
            check = Equals(SEALING, SEALING_KEYS, before)
        await self._state.commit(batch(Put(SEALING, SEALING_KEYS, stored), checks=(check,)))


def _needed(row: SealingRow, before_ms: int) -> tuple[SealingKey, ...]:
    """The versions that had not been followed by another before that time."""
    followers = zip(row.keys, row.keys[1:], strict=False)
    gone = {one.number for one, next_one in followers if next_one.created_ms < before_ms}
    return tuple(one for one in row.keys if one.number not in gone)


def _unsealed(cluster_key: bytes, key: SealingKey) -> bytes:
    """CorruptData: it was sealed under another cluster key."""
    bound_to = key.number.to_bytes(_NUMBER_BYTES, "big")
    return sealing.unseal(cluster_key, _PURPOSE, key.sealed, bound_to=bound_to)


def _sealed(cluster_key: bytes, number: int, keys: dict[int, bytes]) -> bytes:
    bound_to = number.to_bytes(_NUMBER_BYTES, "big")
    return sealing.seal(cluster_key, _PURPOSE, keys[number], bound_to=bound_to)
