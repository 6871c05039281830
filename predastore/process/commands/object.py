"""`s3d object locate s3://BUCKET/KEY`: where each shard of an object is, and how it is; of its
current version, or of the one with the given id.

A line for each shard: its index, node, the segment and offset of its first block, and its health
(good, BAD: blocks fail their CRC, MISSING, or why its node does not say). Exit codes: 0 all shards
are good, 1 not, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from predastore.base.errors import ConfigError, PredastoreError, ShardNotFound
from predastore.base.limits import COMMAND_CALL_TIMEOUT_MS
from predastore.catalog import keys, refusals
from predastore.catalog.keys import OBJECTS
from predastore.catalog.procedures.questions import FindObject, FoundObject
from predastore.catalog.rows import Kind, PlacementRow, VersionRow
from predastore.node.shard import ShardRef
from predastore.process import flags
from predastore.process.commands import OPERATIONS, operations, remote
from predastore.process.commands.remote import Remote, say
from predastore.process.logs import quoted
from predastore.storage.extents import MISSING, ShardExtent
from predastore.storage.formats import decode

_USAGE: Final = "s3d object locate s3://BUCKET/KEY [flags]"
_DESCRIPTION: Final = "\n".join(("Where an object is.", "", "commands:", *operations("object"), ""))
_EPILOG: Final = """\
examples:
  s3d object locate s3://photos/2026/cat.jpg -config cluster.toml
  s3d object locate s3://photos/2026/cat.jpg --json -config cluster.toml
  s3d object locate s3://photos/2026/cat.jpg --version-id null -config cluster.toml
"""
_HEADS: Final = (
    "extent",
    "shard",
    "kind",
    "node",
    "segment",
    "offset",
    "blocks",
    "bytes",
    "health",
)


@dataclass(frozen=True)
class ShardPlace:
    """Of one shard. `segment`, `offset`: of its first block."""

    extent: int
    shard: int
    kind: str
    node: int
    host: str
    segment: int | None
    offset: int | None
    blocks: int
    bytes: int
    bad_blocks: int
    health: str


def parser() -> flags.Parser:
    made = remote.parser("object", _USAGE, _DESCRIPTION, _EPILOG, ("config", "base-path"))
    names = [one.name for one in OPERATIONS["object"]]
    made.add_argument("command", choices=names, metavar="COMMAND", help=argparse.SUPPRESS)
    made.add_argument("url", metavar="URL", help=argparse.SUPPRESS)
    made.add_argument("-json", "--json", action="store_true", help="as JSON")
    made.add_argument(
        "-version-id", "--version-id", metavar="ID", help="of this version instead of the current"
    )
    return made


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`s3d object ...`; the exit code."""
    given = parser().take(arguments)
    given.pop("command")
    bucket, key = _named(given.pop("url"))
    version_id = given.pop("version_id") or ""
    settings, _ = remote.resolved(given, environment)
    return remote.run(settings, lambda to: _locate(to, bucket, key, version_id, given["json"]))


def _named(url: str) -> tuple[str, str]:
    bucket, slash, key = url.removeprefix("s3://").partition("/")
    if not (url.startswith("s3://") and bucket and slash and key):
        raise ConfigError([f"locate: expected s3://BUCKET/KEY, got {quoted(url)}"])
    return bucket, key


async def _locate(to: Remote, bucket: str, key: str, version_id: str, as_json: bool) -> int:
    url = quoted(f"s3://{bucket}/{key}")
    what = f"version {quoted(version_id)}" if version_id else "object"
    wanted = keys.parse_version_id(version_id) if version_id else None
    if version_id and wanted is None:
        raise ConfigError([f"{url}: no version ever has the id {quoted(version_id)}"])
    asked = FindObject(bucket, key, wanted)
    found = refusals.read(FoundObject, await to.state.ask("object.find", asked.encode()))
    version = decode(VersionRow, found.version) if found.version else None
    if version is None:
        raise ConfigError([f"{url}: there is no such {what}"])
    if version.is_marker:
        raise ConfigError([f"{url}: the {what} is a delete marker, which has no bytes"])
    own_id = keys.version_id(found.order, version.random, is_null=version.is_null)
    extents = await _extents(to, version, found)
    places = [
        place
        for number, extent in enumerate(extents)
        for place in await _places(to, number, extent)
    ]
    size, etag = version.summary.size, version.summary.etag
    if as_json:
        content = {
            "bucket": bucket,
            "key": key,
            "size": size,
            "etag": etag,
            "version_id": own_id,
            "layout": version.layout.hex(),
            "inline": version.kind is Kind.INLINE,
            "shards": [asdict(place) for place in places],
        }
        say(json.dumps(content, indent=2))
    else:
        say(f"{url}: {size} bytes, ETag {etag}, version {own_id}")
        if version.kind is Kind.INLINE:
            say("its bytes lie in the metadata")
        elif version.kind is Kind.PLACED:
            say(f"layout {version.layout.hex()}")
        for number, extent in enumerate(extents):
            say(
                f"extent {number}: RS({extent.k},{extent.m}), {extent.size} bytes, blocks of "
                f"{extent.block_bytes}, shards under {extent.shard_hash.hex()[:16]} "
                f"{extent.write_id.hex()}"
            )
        for line in remote.table([_HEADS, *map(_row, places)]):
            say(line)
    return 0 if all(place.health == "good" for place in places) else 1


async def _extents(to: Remote, version: VersionRow, found: FoundObject) -> list[ShardExtent]:
    """Of a version, all pages of its layout."""
    if not found.placement:
        return []
    pages = [decode(PlacementRow, found.placement)]
    for number in range(1, len(pages[0].pages)):
        stored = await to.state.get(OBJECTS, keys.page(version.layout, number))
        if stored is not None:
            pages.append(decode(PlacementRow, stored))
    return [each for page in pages for each in page.extents if isinstance(each, ShardExtent)]


def _row(place: ShardPlace) -> tuple[str, ...]:
    where = "-" if place.segment is None else f"{place.segment:08}.seg"
    node = "-" if place.node == MISSING else f"{place.node} ({place.host})"
    return (
        str(place.extent),
        str(place.shard),
        place.kind,
        node,
        where,
        "-" if place.offset is None else str(place.offset),
        str(place.blocks),
        str(place.bytes),
        place.health,
    )


async def _places(to: Remote, number: int, extent: ShardExtent) -> list[ShardPlace]:
    return await asyncio.gather(
        *(_place(to, number, extent, shard, node) for shard, node in enumerate(extent.nodes))
    )


async def _place(to: Remote, number: int, extent: ShardExtent, shard: int, node: int) -> ShardPlace:
    row = to.row(node)
    kind = "data" if shard < extent.k else "parity"
    segment = offset = None
    blocks = size = bad = 0
    health = "MISSING" if node == MISSING else "good"
    if node != MISSING:
        ref = ShardRef(extent.shard_hash, extent.write_id, shard)
        try:
            more = True
            while more:
                found = await to.nodes.locate(node, ref, blocks, timeout_ms=COMMAND_CALL_TIMEOUT_MS)
                if found.blocks and segment is None:
                    segment, offset = found.blocks[0].segment, found.blocks[0].offset
                blocks += len(found.blocks)
                size += sum(block.length for block in found.blocks)
                bad += sum(block.bad for block in found.blocks)
                more = found.more and bool(found.blocks)
        except ShardNotFound:
            health = "MISSING"
        except PredastoreError as error:
            health = f"unknown: {error}"
        if bad:
            health = f"BAD: {bad} blocks"
    host = row.host if row is not None else "no node of the cluster"
    return ShardPlace(number, shard, kind, node, host, segment, offset, blocks, size, bad, health)
