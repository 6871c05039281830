"""Leave to change what is in a bucket, which holds until the commit.

Who may write is decided on the bucket's row and documents before a body is taken, and it must
still be so when the write takes effect: the bucket may be deleted meanwhile, and made again by
another account, or its rules may change, which makes another generation of it. So a `Permit` names
the bucket's id and generation, and each procedure checks that they are still these. Where they are
not, the row is read and judged anew.

As the commit would find out, the row may be one that was read a moment ago, which spares a round
trip for each request. Such a row can only allow: before anything is refused, it is read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from predastore.base.errors import PredastoreError
from predastore.base.limits import BACKEND_BUCKET_SEEN_MS, BACKEND_BUCKETS_SEEN_MAX
from predastore.catalog.documents import BucketDocuments, DocumentKind, Meanings
from predastore.catalog.errors import NoSuchBucket
from predastore.catalog.procedures.arguments import HeldBucket
from predastore.catalog.rows import BucketRow
from predastore.s3db.commands import Check

# Raises unless the request may do it in the bucket, whose documents mean that; None: there is no
# such bucket. Where more has to be read to say so, what is returned does it, and raises.
Judge: TypeAlias = Callable[[BucketRow | None, Meanings], Coroutine[Any, Any, None] | None]


@dataclass(frozen=True, slots=True)
class Permit:
    """`row`: the bucket's, with which `judge` was content. `kinds`: of the documents that it is
    shown. `checks`: what has to hold of the requester at the commit (iam/identity.py)."""

    row: BucketRow
    judge: Judge
    kinds: tuple[DocumentKind[Any], ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def held(self) -> HeldBucket:
        """What a procedure has to check."""
        return HeldBucket(self.row.name, self.row.id, self.row.generation)


def anybody(_: BucketRow | None, __: Meanings) -> None:
    """The judge for whoever may write to any bucket that is there."""


class Permits:
    """Gives permits, and remembers the rows of buckets for a moment."""

    def __init__(self, documents: BucketDocuments) -> None:
        self._documents = documents
        self._seen: dict[str, tuple[float, BucketRow]] = {}  # name -> until when it is used, row

    async def ask(
        self,
        bucket: str,
        judge: Judge,
        *kinds: DocumentKind[Any],
        checks: tuple[Check, ...] = (),
    ) -> Permit:
        """A permit, or what `judge` raises; NoSuchBucket."""
        seen = self._seen.get(bucket)
        if seen is not None and _now_s() < seen[0]:
            meanings = self._documents.known(seen[1], *kinds)
            if meanings is not None:
                with suppress(PredastoreError):
                    later = judge(seen[1], meanings)
                    if later is not None:
                        await later
                    return Permit(seen[1], judge, kinds, checks)
        return await self._ask_anew(bucket, judge, kinds, checks)

    async def renew(self, permit: Permit) -> Permit:
        """After a procedure found another bucket, another generation, or none."""
        return await self._ask_anew(permit.row.name, permit.judge, permit.kinds, permit.checks)

    def is_valid(self, permit: Permit, row: BucketRow | None) -> bool:
        """Whether the row is that of the permit's bucket, in its generation."""
        return (
            row is not None and row.id == permit.row.id and row.generation == permit.row.generation
        )

    def forget(self, bucket: str) -> None:
        """It was changed just now."""
        self._seen.pop(bucket, None)

    async def _ask_anew(
        self,
        bucket: str,
        judge: Judge,
        kinds: tuple[DocumentKind[Any], ...],
        checks: tuple[Check, ...],
    ) -> Permit:
        self._seen.pop(bucket, None)
        until_s = _now_s() + BACKEND_BUCKET_SEEN_MS / 1000
        row, meanings = await self._documents.now(bucket, *kinds)
        later = judge(row, meanings)
        if later is not None:
            await later
        if row is None:
            raise NoSuchBucket(BucketName=bucket)
        while len(self._seen) >= BACKEND_BUCKETS_SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[bucket] = (until_s, row)
        return Permit(row, judge, kinds, checks)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
