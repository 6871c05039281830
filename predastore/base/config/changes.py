"""What differs between two configurations, in the words of the file. Secrets are not shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Final

from predastore.base.config.fields import REPEATED, SINGLE
from predastore.base.config.model import Config

_NAMED_BY: Final = {
    "db": "id",
    "nodes": "id",
    "auth": "access_key_id",
    "buckets": "name",
    "oidc": "issuer",
}
_UNSHOWN: Final = frozenset({"secret", "secrets_accepted", "secret_access_key", "policy"})
# How a configuration came about, which is no setting.
_NO_SETTINGS: Final = frozenset({"source", "embedded_db", "said"})
KEYS: Final = tuple(one.name for one in fields(Config) if one.name not in _NO_SETTINGS)


def changes(old: Config, new: Config, keys: Iterable[str] = KEYS) -> list[str]:
    """A phrase for each setting of `keys` (fields of Config) that is not the same."""
    return [phrase for key in keys for phrase in _of_key(old, new, key)]


def row_changes(old: Config, new: Config, table: str, attributes: Sequence[str]) -> list[str]:
    """The same for rows of a repeated table that both have, or for a table that is there once, and
    these attributes of them."""
    if table in SINGLE:
        return list(_attributes(f"[{table}]", getattr(old, table), getattr(new, table), attributes))
    before, after = (_by_name(config, table) for config in (old, new))
    return [
        phrase
        for name in sorted(before.keys() & after.keys(), key=str)
        for phrase in _attributes(f"[[{table}]] {name}", before[name], after[name], attributes)
    ]


def _of_key(old: Config, new: Config, key: str) -> Iterator[str]:
    before, after = getattr(old, key), getattr(new, key)
    if before == after:
        return
    if key in SINGLE:
        yield from _attributes(f"[{key}]", before, after)
    elif key in REPEATED:
        yield from _rows(old, new, key)
    else:
        yield f"{key} {_shown(before)} -> {_shown(after)}"


def _by_name(config: Config, table: str) -> dict[Any, Any]:
    return {getattr(row, _NAMED_BY[table]): row for row in getattr(config, table)}


def _rows(old: Config, new: Config, table: str) -> Iterator[str]:
    before, after = (_by_name(config, table) for config in (old, new))
    for name in sorted(before.keys() - after.keys(), key=str):
        yield f"[[{table}]] {name} removed"
    for name in sorted(after.keys() - before.keys(), key=str):
        yield f"[[{table}]] {name} added"
    found = False
    for name in sorted(before.keys() & after.keys(), key=str):
        for phrase in _attributes(f"[[{table}]] {name}", before[name], after[name]):
            found = True
            yield phrase
    if not found and before.keys() == after.keys():
        yield f"[[{table}]] in another order"


def _attributes(place: str, old: Any, new: Any, names: Sequence[str] = ()) -> Iterator[str]:
    for name in names or [one.name for one in fields(old)]:
        before, after = getattr(old, name), getattr(new, name)
        if before != after and name in _UNSHOWN:
            yield f"{place} {name}"
        elif before != after:
            yield f"{place} {name} {_shown(before)} -> {_shown(after)}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in ("", None, ()) else str(value)
