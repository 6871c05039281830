"""Pages of objects and of versions."""

from __future__ import annotations

from predastore.base.limits import BACKEND_CONDITION_TRIES_MAX
from predastore.catalog import keys, refusals
from predastore.catalog.core import CatalogCore
from predastore.catalog.errors import Contended, NoSuchVersion
from predastore.catalog.keys import BUCKETS, OBJECTS
from predastore.catalog.permits import Permit
from predastore.catalog.procedures.questions import ListedVersions, ListVersions
from predastore.catalog.rows import BucketRow, CurrentRow, Summary, bucket_row
from predastore.catalog.values import ObjectListing, VersionEntry, VersionListing
from predastore.storage.formats import decode


class Listings(CatalogCore):
    """Part of `Catalog`."""

    async def list(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        limit: int = 1000,
        *,
        permit: Permit | None = None,
    ) -> ObjectListing:
        """Keys and common prefixes strictly after `after`, in UTF-8 byte order.

        `limit` counts both. `after` may be a common prefix: then everything below it is passed
        over. The bucket still is the one that `permit` was given for, or what its judge raises;
        without one, it is not looked at.
        """
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            page = await self._list(bucket, prefix, delimiter, after, limit)
            if permit is None or await self._is_valid(permit):
                return page
            permit = await self._permits.renew(permit)
        raise Contended

    async def _is_valid(self, permit: Permit) -> bool:
        stored = await self._state.get(BUCKETS, keys.bucket(permit.row.name))
        return self._permits.is_valid(permit, bucket_row(stored) if stored else None)

    async def _list(
        self, bucket: str, prefix: str, delimiter: str, after: str, limit: int
    ) -> ObjectListing:
        base = keys.current_prefix(bucket)
        begin = base + prefix.encode()
        position = base + after.encode() if after else b""
        entries: dict[str, Summary] = {}
        prefixes: dict[str, None] = {}
        truncated = limit > 0
        while truncated and (left := limit - len(entries) - len(prefixes)) > 0:
            # a page may be short, as the state bounds its bytes
            page = await self._state.list(OBJECTS, begin, delimiter.encode(), position, left)
            for name, stored in page.entries:
                entries[name[len(base) :].decode()] = decode(CurrentRow, stored).summary
            prefixes.update((common[len(base) :].decode(), None) for common in page.prefixes)
            truncated = page.truncated
            position = page.next or position
        return ObjectListing(
            [*entries.items()], [*prefixes], truncated, position[len(base) :].decode()
        )

    async def list_versions(
        self,
        permit: Permit,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        version_id_marker: str = "",
        limit: int = 1000,
    ) -> VersionListing:
        """Versions and delete markers by key, the newest first, and common prefixes, after the
        markers. `version_id_marker` needs a `key_marker`; NoSuchVersion where it is no id."""
        held = permit
        for _ in range(BACKEND_CONDITION_TRIES_MAX):
            bucket = held.row
            order = await self._order(bucket, key_marker, version_id_marker)
            page = await self._list_versions(bucket, prefix, delimiter, key_marker, order, limit)
            if await self._is_valid(held):
                return page
            held = await self._permits.renew(held)
        raise Contended

    async def _order(self, bucket: BucketRow, key: str, version_id: str) -> int | None:
        """The order of a version that is a marker, which may be gone."""
        if not version_id:
            return None
        version = keys.parse_version_id(version_id)
        if version is None:
            raise NoSuchVersion(VersionId=version_id)
        if version:
            return int.from_bytes(version[: keys.ORDER_BYTES], "big")
        stored = await self._state.get(keys.NULLS, keys.null(bucket.id, key))
        return 0 if stored is None else int.from_bytes(stored, "big")

    async def _list_versions(
        self,
        bucket: BucketRow,
        prefix: str,
        delimiter: str,
        key_marker: str,
        order: int | None,
        limit: int,
    ) -> VersionListing:
        entries: list[VersionEntry] = []
        prefixes: list[str] = []
        key, truncated, next_id = key_marker, limit > 0, ""
        while truncated and (left := limit - len(entries) - len(prefixes)) > 0:
            asked = ListVersions(bucket.id, prefix, delimiter, key, order, left)
            answer = await self._state.ask("version.list", asked.encode())
            page = refusals.read(ListedVersions, answer)
            for each in page.versions:
                name = keys.version_id(each.order, each.random, is_null=each.is_null)
                entries.append(
                    VersionEntry(each.key, name, each.is_marker, each.is_newest, each.summary)
                )
            prefixes += page.prefixes
            truncated, key, order = page.is_truncated, page.next_key, page.next_order
            next_id = entries[-1].version_id if truncated and order is not None else ""
        return VersionListing(entries, prefixes, truncated, key if truncated else "", next_id)
