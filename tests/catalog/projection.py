"""The rows that a catalog has by its model, and what holds of its rows whatever they are."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import msgspec

from predastore.catalog import keys
from predastore.catalog.procedures.arguments import done
from predastore.catalog.rows import (
    BucketRow,
    CompletedRow,
    CurrentRow,
    GarbageRow,
    Kind,
    PartRow,
    PlacementRow,
    RepairRow,
    UploadRow,
    Versioning,
    VersionRow,
    Waste,
)
from predastore.storage import extents
from predastore.storage.formats import decode, encode, pack
from reference.catalog_model import Bucket, CatalogModel, Layout, Owed

from .histories import Source, Tables, sources_of

PAGE_EXTENTS = 2  # tests set PLACEMENT_PAGE_EXTENTS to it

Rows = dict[str, dict[bytes, bytes]]


def rows_of(model: CatalogModel) -> Rows:
    """Without tables that are empty."""
    rows: Rows = defaultdict(dict)
    for name, bucket in model.buckets.items():
        rows["buckets"][name.encode()] = encode(bucket.row)
        for kind, value in bucket.documents.items():
            rows["bucket_documents"][keys.document(bucket.row.id, kind)] = value
        _add_versions(rows, name, bucket)
    for hash_, body in model.bodies.items():
        rows["inline"][hash_] = model.crcs[hash_].to_bytes(4, "big") + body
    for hash_, layout in model.layouts.items():
        for number, page in enumerate(_pages(layout)):
            rows["objects"][keys.page(hash_, number)] = encode(page)
        for owner in layout.owners if layout.was_shared else ():
            rows["refs"][keys.ref(hash_, *owner)] = b""
    for hash_, layout in {**model.let_go, **model.replaced_parts}.items():
        for number, page in enumerate(_pages(layout)):
            rows["objects"][keys.deleted(hash_, number)] = encode(page)
    for owed in model.owed:
        row = GarbageRow(owed.waste, owed.name, _page_count(model, owed))
        rows["due"][keys.due(owed.due_ms, owed.waste, owed.name)] = encode(row)
    for (bucket_id, upload_id), upload in model.uploads.items():
        rows["uploads"][keys.upload(bucket_id, upload.row.key, upload_id)] = encode(upload.row)
    parts = {**model.leftovers, **{place: one.parts for place, one in model.uploads.items()}}
    for (bucket_id, upload_id), numbers in parts.items():
        for number, part in numbers.items():
            rows["parts"][keys.part(bucket_id, upload_id, number)] = encode(part)
    for (bucket_id, upload_id), (key, answer) in model.completed.items():
        completed = CompletedRow(key, done(answer))
        rows["completed"][keys.upload_name(bucket_id, upload_id)] = encode(completed)
    for layout_hash, bucket_name, key, extent, missing, now_ms, part_key in model.notes:
        note = RepairRow(bucket_name, key, extent, missing, now_ms, part_key)
        rows["repair"][keys.repair(layout_hash, extent.write_id)] = encode(note)
    return dict(rows)


def _add_versions(rows: Rows, name: str, bucket: Bucket) -> None:
    for key, versions in bucket.versions.items():
        for one in versions:
            row = VersionRow(
                *(one.random, one.is_null, one.is_marker, one.kind, one.layout, one.summary),
                *(msgspec.Raw(pack(one.detail)), one.tags, one.retention, one.legal_hold),
            )
            rows["versions"][keys.version(bucket.row.id, key, one.order)] = encode(row)
            if one.is_null and one.order:
                rows["nulls"][keys.null(bucket.row.id, key)] = one.order.to_bytes(8, "big")
        if versions and not versions[-1].is_marker:
            newest = versions[-1]
            current = CurrentRow(newest.order, newest.random, newest.summary)
            rows["objects"][keys.current(name, key)] = encode(current)


def _pages(layout: Layout) -> list[PlacementRow]:
    extents, parts = tuple(layout.extents), tuple(layout.parts)
    if len(extents) <= PAGE_EXTENTS:
        return [PlacementRow(layout.bucket, layout.key, extents, parts, md5=layout.md5)]
    starts = range(0, len(extents), PAGE_EXTENTS)
    pages = [
        PlacementRow(
            *(layout.bucket, layout.key),
            *(extents[start : start + PAGE_EXTENTS], parts[start : start + PAGE_EXTENTS]),
        )
        for start in starts
    ]
    table = tuple((sum(part.size for part in parts[:at]), parts[at].number) for at in starts)
    return [msgspec.structs.replace(pages[0], pages=table), *pages[1:]]


def _page_count(model: CatalogModel, owed: Owed) -> int:
    if owed.waste is Waste.LAYOUT:
        return len(_pages(model.let_go[owed.name]))
    return 1 if owed.waste is Waste.EXTENT else 0


# --- what holds of any rows -----------------------------------------------------------------------


def check_invariants(tables: Tables) -> None:
    """What keys.py, rows.py and the procedures promise; AssertionError."""
    versions = sources_of(tables)
    buckets = [decode(BucketRow, row) for row in tables.get("buckets", {}).values()]
    names = {row.id: row.name for row in buckets}
    locked = {row.id for row in buckets if row.is_locked}
    assert all(row.versioning is Versioning.ENABLED for row in buckets if row.is_locked)
    assert {one.bucket_id for one in versions if one.row.legal_hold} <= locked
    assert {one.bucket_id for one in versions if one.row.retention.mode} <= locked
    assert {one.bucket_id for one in versions} <= set(names)
    assert {place[: keys.ID_BYTES] for place in tables.get("bucket_documents", {})} <= set(names)
    _check_current(tables, versions, names)
    _check_nulls(tables, versions)
    _check_layouts(tables, versions)
    _check_waste(tables)
    _check_parts(tables)


def _check_current(tables: Tables, versions: list[Source], names: dict[bytes, str]) -> None:
    expected: dict[bytes, bytes] = {}
    seen: set[tuple[bytes, str]] = set()
    for one in versions:  # the newest of each key first
        if (one.bucket_id, one.key) not in seen and not one.row.is_marker:
            row = CurrentRow(one.order, one.row.random, one.row.summary)
            expected[keys.current(names[one.bucket_id], one.key)] = encode(row)
        seen.add((one.bucket_id, one.key))
    rows = tables.get("objects", {})
    assert {key: row for key, row in rows.items() if key.startswith(keys.ARN)} == expected


def _check_nulls(tables: Tables, versions: list[Source]) -> None:
    nulls = [one for one in versions if one.row.is_null]
    assert len({(one.bucket_id, one.key) for one in nulls}) == len(nulls)
    assert all(one.row.is_null for one in versions if not one.order)
    assert dict(tables.get("nulls", {})) == {
        keys.null(one.bucket_id, one.key): one.order.to_bytes(8, "big")
        for one in nulls
        if one.order
    }


def _check_layouts(tables: Tables, versions: list[Source]) -> None:
    placed: dict[bytes, list[Source]] = defaultdict(list)
    for one in versions:
        if one.row.kind is Kind.PLACED:
            placed[one.row.layout].append(one)
    objects = tables.get("objects", {})
    live = {
        key: row for key, row in objects.items() if not key.startswith((keys.ARN, keys.DELETED))
    }
    assert {key[: extents.HASH_BYTES] for key in live} == set(placed)
    for layout in placed:
        first = decode(PlacementRow, live[layout])
        count = max(1, len(first.pages))
        pages = {key for key in live if key.startswith(layout)}
        assert pages == {keys.page(layout, number) for number in range(count)}
    refs = set(tables.get("refs", {}))
    shared = {ref[: extents.HASH_BYTES] for ref in refs}
    assert shared >= {layout for layout, owners in placed.items() if len(owners) > 1}
    assert refs == {
        keys.ref(layout, one.bucket_id, one.order, one.row.random)
        for layout in shared
        for one in placed[layout]
    }
    inline = [one.row.layout for one in versions if one.row.kind is Kind.INLINE]
    assert sorted(inline) == sorted(tables.get("inline", {}))


def _check_waste(tables: Tables) -> None:
    expected: list[bytes] = []
    for place, stored in tables.get("due", {}).items():
        row = decode(GarbageRow, stored)
        assert place == keys.due(keys.due_ms_of(place), row.waste, row.name)
        if row.waste in (Waste.LAYOUT, Waste.EXTENT):
            expected += [keys.deleted(row.name, number) for number in range(row.pages)]
    deleted = [key for key in tables.get("objects", {}) if key.startswith(keys.DELETED)]
    assert sorted(expected) == sorted(deleted)


def _check_parts(tables: Tables) -> None:
    """Their upload lives, or is in `due`; no upload is both in progress and ended."""
    due = [decode(GarbageRow, row) for row in tables.get("due", {}).values()]
    ended = {row.name for row in due if row.waste is Waste.UPLOAD}
    gone = {row.name for row in due if row.waste is Waste.BUCKET}
    living = set()
    buckets = {decode(BucketRow, row).id for row in tables.get("buckets", {}).values()}
    for place, stored in tables.get("uploads", {}).items():
        upload, bucket_id = decode(UploadRow, stored), place[: keys.ID_BYTES]
        assert place == keys.upload(bucket_id, upload.key, upload.upload_id)
        assert bucket_id in buckets or bucket_id in gone
        living.add(keys.upload_name(bucket_id, upload.upload_id))
    assert not living & ended
    for place, stored in tables.get("parts", {}).items():
        assert place[:-6] in living | ended
        assert int(place[-5:]) == decode(PartRow, stored).number
    remembered = {row.name for row in due if row.waste is Waste.COMPLETED}
    assert set(tables.get("completed", {})) == remembered


def check_extents(tables: Tables) -> None:
    """An extent is named by one row."""
    named = [
        extent.write_id
        for key, row in tables.get("objects", {}).items()
        if not key.startswith(keys.ARN)
        for extent in decode(PlacementRow, row).extents
    ]
    named += [decode(PartRow, row).extent.write_id for row in tables.get("parts", {}).values()]
    assert all(one != other for one, other in pairwise(sorted(named)))
