"""Keys of the original Predastore's configuration that mean something else here, or nothing.

Its files are taken as they stand. A key that is here is read, so that its value is of the right
kind, and where it asks for something that is done differently, that is said in one line: the
reader of such a key returns the line, or "".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Said = Callable[[Any], str]


def _always(what: str, kinds: tuple[type, ...]) -> Said:
    def said(value: Any) -> str:
        _check(value, kinds)
        return what

    return said


def _where_set(what: str, *kinds: type) -> Said:
    """Said of a value that is neither false, nor 0, nor empty."""

    def said(value: Any) -> str:
        _check(value, kinds)
        return what if value else ""

    return said


def _check(value: Any, kinds: tuple[type, ...]) -> None:
    if type(value) not in kinds:
        names = {bool: "true or false", int: "a whole number", str: "a text in quotes"}
        raise ValueError(f"expected {' or '.join(names[one] for one in kinds)}, got {value!r:.80}")


def _table(keys: Mapping[str, Said]) -> Said:
    """A table with these keys, or a list of such."""

    def said(value: Any) -> str:
        lines: list[str] = []
        for row in value if isinstance(value, list) else [value]:
            if not isinstance(row, dict):
                raise ValueError(f"expected a table, got {row!r:.80}")
            for key, one in row.items():
                if key not in keys:
                    raise ValueError(f"{key}: unknown key; known are {', '.join(keys)}")
                lines.append(keys[key](one))
        return next(filter(None, lines), "")

    return said


_NODE_DB: Final = "has no effect; the members of the database are [[db]]"
_NO_RATE: Final = "requests are not limited by their rate; has no effect"
_NO_IAM: Final = "keys come from [[auth]] alone; those that are elsewhere are unknown here"
_NO_ACL: Final = (
    "has no effect; what a key may do in a bucket is in the policy of its [[auth]], such as "
    '[{ bucket = "my-bucket", actions = ["s3:GetObject"] }]'
)
_LEADER: Final = "a hint that is not needed: the members elect their leader"
_EPOCH: Final = "has no effect; the table of nodes has a version of its own"
_ANYBODY: Final = "has no effect; anybody may read and list the [[buckets]] with public = true"

SAID: Final[Mapping[str, Mapping[str, Said]]] = {
    "": {
        "version": _where_set("", str, int),
        "debug": _where_set("", bool),
        "disable_logging": _where_set('is logged all the same; write log_level = "error"', bool),
        "badger_dir": _where_set(
            "not used; what is known of objects is below base_path, or [[db]] path", str
        ),
        "allow_anonymous_listing": _where_set(_ANYBODY, bool),
        "allow_anonymous_access": _where_set(_ANYBODY, bool),
        "ratelimit": _table(
            {
                "enabled": _where_set(_NO_RATE, bool),
                "rate": _where_set("", int),
                "burst": _where_set("", int),
            }
        ),
        "compaction": _table(
            {"interval_seconds": _where_set("nodes compact as their pace allows", int)}
        ),
        "iam": _table(
            {
                "nats_url": _always(_NO_IAM, (str,)),
                "nats_token": _where_set("", str),
                "master_key_path": _where_set("", str),
                "access_keys_bucket": _where_set("", str),
            }
        ),
    },
    "db": {"leader": _where_set(_LEADER, bool), "epoch": _where_set(_EPOCH, int)},
    "nodes": {
        "leader": _where_set(_LEADER, bool),
        "epoch": _where_set(_EPOCH, int),
        "db": _where_set(_NODE_DB, bool),
        "dbport": _where_set(_NODE_DB, int),
        "dbpath": _where_set(_NODE_DB, str),
    },
    "buckets": {
        "encryption": _where_set("what is stored is not encrypted", str),
        "acl": _table(
            {
                "access_key_id": _always(_NO_ACL, (str,)),
                "secret_access_key": _where_set("", str),
                "owner": _where_set("", str),
                "permissions": _where_set("", int),
            }
        ),
    },
}
