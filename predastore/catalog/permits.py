"""Leave to change what is in a bucket, which holds until the commit.

Who may write is decided on the bucket's row before a body is taken, and it must still be so when
the write takes effect: the bucket may be deleted meanwhile, and made again by another account, or
its rules may change. So a `Permit` names the bucket's id and generation, and each procedure checks
that they are still these. Where they are not, the row is read and judged anew.

As the commit would find out, the row may be one that was read a moment ago, which spares a round
trip for each request. Such a row can only allow: before anything is refused, it is read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from predastore.base.errors import PredastoreError
from predastore.base.limits import BACKEND_BUCKET_SEEN_MS, BACKEND_BUCKETS_SEEN_MAX
from predastore.catalog import keys
from predastore.catalog.errors import NoSuchBucket
from predastore.catalog.keys import BUCKETS
from predastore.catalog.procedures.arguments import HeldBucket
from predastore.catalog.rows import BucketRow, bucket_row
from predastore.s3db.global_state import GlobalState

# Raises unless the request may do it in the bucket; None: there is no such bucket.
Judge: TypeAlias = Callable[[BucketRow | None], object]


@dataclass(frozen=True, slots=True)
class Permit:
    """`row`: the bucket's, which `judge` was content with."""

    row: BucketRow
    judge: Judge

    @property
    def held(self) -> HeldBucket:
        """What a procedure has to check."""
        return HeldBucket(self.row.name, self.row.id, self.row.generation)


def anybody(_: BucketRow | None) -> None:
    """The judge for whoever may write to any bucket that is there."""


class Permits:
    """Gives permits, and remembers the rows of buckets for a moment."""

    def __init__(self, state: GlobalState) -> None:
        self._state = state
        self._seen: dict[str, tuple[float, BucketRow]] = {}  # name -> until when it is used, row

    async def ask(self, bucket: str, judge: Judge) -> Permit:
        """A permit, or what `judge` raises; NoSuchBucket."""
        seen = self._seen.get(bucket)
        if seen is not None and _now_s() < seen[0]:
            with suppress(PredastoreError):
                judge(seen[1])
                return Permit(seen[1], judge)
        return await self._ask_anew(bucket, judge)

    async def renew(self, permit: Permit) -> Permit:
        """After a procedure found another bucket, another generation, or none."""
        return await self._ask_anew(permit.row.name, permit.judge)

    def is_valid(self, permit: Permit, row: BucketRow | None) -> bool:
        """Whether the row is that of the permit's bucket, in its generation."""
        return (
            row is not None and row.id == permit.row.id and row.generation == permit.row.generation
        )

    def forget(self, bucket: str) -> None:
        """It was changed just now."""
        self._seen.pop(bucket, None)

    async def _ask_anew(self, bucket: str, judge: Judge) -> Permit:
        self._seen.pop(bucket, None)
        until_s = _now_s() + BACKEND_BUCKET_SEEN_MS / 1000
        stored = await self._state.get(BUCKETS, keys.bucket(bucket))
        if stored is None:
            judge(None)
            raise NoSuchBucket(BucketName=bucket)
        row = bucket_row(stored)
        judge(row)
        while len(self._seen) >= BACKEND_BUCKETS_SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[bucket] = (until_s, row)
        return Permit(row, judge)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
