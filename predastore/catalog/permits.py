"""Leave to change what is in a bucket, which holds until the commit.

Who may write is decided on the bucket's record before a body is taken, and it must still be so when
the write takes effect: the bucket may be deleted meanwhile, and made again by another account. So a
`Permit` keeps the record, as it was stored, that it was given for, and the commit checks that the
bucket still has this very record. Where it has not, the record is read and judged anew. As it has
the bucket's id, a bucket that was made anew under the same name is told from the one before.

As the commit would find out, the record may be one that was read a moment ago, which spares a round
trip for each request. Such a record can only allow: before anything is refused, it is read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from predastore.base.errors import S3Error
from predastore.base.limits import BACKEND_BUCKET_SEEN_MS, BACKEND_BUCKETS_SEEN_MAX
from predastore.s3db.commands import Equals
from predastore.s3db.global_state import GlobalState
from predastore.storage import records
from predastore.storage.records import BUCKETS, BucketRecord, UploadRecord

# Raises S3Error unless the request may write to the bucket; None: there is no such bucket.
Judge: TypeAlias = Callable[[BucketRecord | None], object]


@dataclass(frozen=True, slots=True)
class Permit:
    """`record`: the bucket's, which `judge` was content with; `stored`: as it is stored."""

    record: BucketRecord
    stored: bytes
    judge: Judge

    @property
    def check(self) -> Equals:
        """What a commit under this permit has to check."""
        return Equals(BUCKETS, records.bucket_key(self.record.name), self.stored)

    def of_upload(self, upload: UploadRecord) -> Permit:
        """The same, for what belongs to `upload`: it is NoSuchUpload in a bucket of the same name
        that is not the one in which the upload began."""

        def judge(found: BucketRecord | None) -> None:
            self.judge(found)
            if found is not None and found.id != upload.bucket_id:
                raise S3Error("NoSuchUpload", UploadId=upload.upload_id)

        return Permit(self.record, self.stored, judge)


def anybody(_: BucketRecord | None) -> None:
    """The judge for whoever may write to any bucket that is there."""


class Permits:
    """Gives permits, and remembers the records of buckets for a moment."""

    def __init__(self, state: GlobalState) -> None:
        self._state = state
        # name -> (loop time until which it is used, the record, as it is stored)
        self._seen: dict[str, tuple[float, BucketRecord, bytes]] = {}

    async def ask(self, bucket: str, judge: Judge) -> Permit:
        """A permit, or what `judge` raises."""
        seen = self._seen.get(bucket)
        if seen is not None and _now_s() < seen[0]:
            with suppress(S3Error):
                judge(seen[1])
                return Permit(seen[1], seen[2], judge)
        return await self._ask_anew(bucket, judge)

    async def renew(self, permit: Permit) -> Permit:
        """After a commit found another record, or none."""
        return await self._ask_anew(permit.record.name, permit.judge)

    async def is_valid(self, permit: Permit) -> bool:
        """Whether the bucket has the record that the permit was given for; as no other bucket ever
        has it, it had it all the time."""
        check = permit.check
        return await self._state.get(check.table, check.key) == permit.stored

    def forget(self, bucket: str) -> None:
        """It was changed just now."""
        self._seen.pop(bucket, None)

    async def _ask_anew(self, bucket: str, judge: Judge) -> Permit:
        self._seen.pop(bucket, None)
        until_s = _now_s() + BACKEND_BUCKET_SEEN_MS / 1000
        stored = await self._state.get(BUCKETS, records.bucket_key(bucket))
        if stored is None:
            judge(None)
            raise S3Error("NoSuchBucket", BucketName=bucket)
        record = records.decode(BucketRecord, stored)
        judge(record)
        while len(self._seen) >= BACKEND_BUCKETS_SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[bucket] = (until_s, record, stored)
        return Permit(record, stored, judge)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
