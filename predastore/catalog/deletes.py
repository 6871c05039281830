"""Deleting versions, and changing what stands beside their bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from predastore.base.errors import PredastoreError
from predastore.base.failpoints import failpoint
from predastore.base.randomness import random_bytes
from predastore.catalog import keys, refusals
from predastore.catalog.core import CatalogCore
from predastore.catalog.errors import NoSuchVersion
from predastore.catalog.permits import Permit
from predastore.catalog.procedures.arguments import (
    NO_CONDITION,
    Amended,
    AmendObject,
    Condition,
    DeleteObjects,
    Deletion,
    Deletions,
    Doomed,
    Reason,
)
from predastore.catalog.procedures.judging import which
from predastore.catalog.reads import parsed
from predastore.catalog.rows import Retention, Tags
from predastore.catalog.values import Deleted, Wanted
from predastore.storage import extents


class Deletes(CatalogCore):
    """Part of `Catalog`."""

    async def amend(
        self,
        bucket: str,
        key: str,
        version_id: str = "",
        *,
        tags: Tags | None = None,
        retention: Retention | None = None,
        legal_hold: bool | None = None,
        bypass: bool = False,
        permit: Permit | None = None,
    ) -> str:
        """Changes what stands beside a version's bytes; what is None stays. The version's id, or ""
        in a bucket that never had versions. NoSuchKey, NoSuchVersion, IsDeleteMarker, ObjectLocked;
        NodeFull where there is no room for tags."""
        held = await self._permit(bucket, permit)
        if tags:
            await self._store.check_room()
        version = parsed(version_id)

        def arguments(now: Permit) -> AmendObject:
            return AmendObject(now.held, key, version, tags, retention, legal_hold, bypass)

        amended = await self._to_the_end(self._call("object.amend", held, arguments, Amended))
        if not amended.has_versions:
            return ""
        return keys.version_id(amended.order, amended.random, is_null=amended.is_null)

    async def delete(
        self,
        bucket: str,
        key: str,
        version_id: str = "",
        condition: Condition = NO_CONDITION,
        *,
        bypass: bool = False,
        permit: Permit | None = None,
    ) -> Deleted:
        """Removes a version, or (no id) what is current, by a delete marker where the bucket has
        versions. NoSuchBucket, ConditionFailed, NoSuchKey, ObjectLocked; NodeFull where there is no
        room for a marker."""
        wanted = Wanted(key, version_id, condition.if_match)
        outcome = (await self.delete_many(bucket, (wanted,), bypass=bypass, permit=permit))[0]
        if isinstance(outcome, PredastoreError):
            raise outcome
        return outcome

    async def delete_many(
        self,
        bucket: str,
        wanted: Sequence[Wanted],
        *,
        bypass: bool = False,
        permit: Permit | None = None,
    ) -> list[Deleted | PredastoreError]:
        """In one commit, or in several where that would be too much for one; of each what was done,
        or why it was not. NoSuchBucket; NodeFull where there is no room for delete markers."""
        held = await self._permit(bucket, permit)
        if held.row.versioning and not all(each.version_id for each in wanted):
            await self._store.check_room()
        return await self._to_the_end(self._delete_many(held, wanted, bypass=bypass))

    async def _delete_many(
        self, held: Permit, wanted: Sequence[Wanted], *, bypass: bool
    ) -> list[Deleted | PredastoreError]:
        outcomes: list[Deleted | PredastoreError] = []
        doomed: dict[int, Doomed] = {}  # by their place among what is wanted
        for number, each in enumerate(wanted):
            outcomes.append(NoSuchVersion(VersionId=each.version_id))
            with suppress(NoSuchVersion):
                version = parsed(each.version_id)
                random = random_bytes(keys.RANDOM_BYTES)
                doomed[number] = Doomed(each.key, random, version, Condition(each.if_match))
        if doomed:
            done = await self._delete_doomed(held, tuple(doomed.values()), bypass=bypass)
            for number, outcome in zip(doomed, done, strict=True):
                outcomes[number] = outcome
        return outcomes

    async def _delete_doomed(
        self, held: Permit, doomed: tuple[Doomed, ...], *, bypass: bool
    ) -> list[Deleted | PredastoreError]:
        outcomes: list[Deleted | PredastoreError] = []
        while len(outcomes) < len(doomed):
            left = doomed[len(outcomes) :]
            arguments = self._deletion(left, bypass=bypass)
            answer = await self._call("object.delete", held, arguments, Deletions)
            failpoint("delete.committed")
            wasted = [name for each in answer.deletions for name in each.wasted]
            await self._collector.retire(wasted)
            done = zip(left, answer.deletions, strict=False)
            outcomes += [_outcome(*each, has_versions=answer.has_versions) for each in done]
        return outcomes

    def _deletion(
        self, doomed: tuple[Doomed, ...], *, bypass: bool
    ) -> Callable[[Permit], DeleteObjects]:
        def arguments(now: Permit) -> DeleteObjects:
            return DeleteObjects(now.held, doomed, extents.now_ms(), self._grace_ms, bypass)

        return arguments


def _outcome(
    doomed: Doomed, deletion: Deletion, *, has_versions: bool
) -> Deleted | PredastoreError:
    if deletion.reason:
        return refusals.error_of(deletion.reason, _details(doomed, deletion.reason))
    if not deletion.existed and not deletion.is_marker:
        return Deleted()
    name = ""
    if has_versions:
        name = keys.version_id(deletion.order, deletion.random, is_null=deletion.is_null)
    return Deleted(deletion.existed, deletion.is_marker, name)


def _details(doomed: Doomed, reason: Reason) -> dict[str, str]:
    if reason is Reason.NO_SUCH_KEY:
        return {"Key": doomed.key}
    return {"Condition": which(doomed.condition)} if reason is Reason.CONDITION_FAILED else {}
