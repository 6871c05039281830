"""A listing of versions as S3 means it: everything in order, and then what the request wants."""

from __future__ import annotations

from dataclasses import dataclass

Versions = dict[str, list[int]]  # of each key the orders of its versions, in any order


@dataclass(frozen=True)
class Item:
    """A version of a key, or a common prefix (`order` is None)."""

    key: str
    order: int | None = None
    is_newest: bool = False


def listing(
    versions: Versions,
    prefix: str = "",
    delimiter: str = "",
    key_marker: str = "",
    order_marker: int | None = None,
) -> list[Item]:
    """All that a request with such parameters lists, in pages of whatever size."""
    items: list[Item] = []
    for key in sorted(versions, key=str.encode):
        if not key.startswith(prefix):
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        if end >= 0:
            common = Item(key[: end + len(delimiter)])
            items += [] if common in items else [common]
            continue
        newest_first = sorted(versions[key], reverse=True)
        items += [Item(key, order, order == newest_first[0]) for order in newest_first]
    return [item for item in items if _is_behind(item, key_marker, order_marker)]


def _is_behind(item: Item, key_marker: str, order_marker: int | None) -> bool:
    if item.key.encode() != key_marker.encode():
        return item.key.encode() > key_marker.encode()
    return item.order is not None and order_marker is not None and item.order < order_marker
