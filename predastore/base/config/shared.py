"""What all hosts of a cluster are to have alike, as marks that can be compared and tell nothing.

A mark is a keyed digest: whoever has no cluster key learns nothing of secrets from it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from predastore.base.config.model import Config
from predastore.base.limits import GOSSIP_MEMBERS_MAX

_MARK_BYTES: Final = 8
_SECRET: Final = "[cluster] secret"

_log = logging.getLogger(__name__)


def marks(config: Config, key: bytes) -> dict[str, bytes]:
    """By table or key of the file. Of a process that joined, not those that it got by that."""
    rs = config.rs
    said: dict[str, Any] = {
        _SECRET: "",  # the key alone
        "region": config.region,
        "domains": sorted(config.domains),
        "[rs]": (rs.data, rs.parity, rs.block_bytes, rs.write_shards, rs.inline_max),
        "[s3]": (config.s3.object_ownership, config.s3.block_public_access),
        "[[auth]]": sorted(config.auth, key=lambda row: row.access_key_id),
        "[[buckets]]": sorted(
            (row.name, row.public, row.account_id, row.region) for row in config.buckets
        ),
        "[[oidc]]": sorted((row.issuer, row.audiences) for row in config.oidc),
    }
    if not config.cluster.join:
        said["[[db]]"] = sorted(
            (row.id, row.host, row.port, row.raft_port, row.access_key_id, row.secret_access_key)
            for row in config.db
        )
        said["[[nodes]]"] = sorted(
            (row.id, row.host, row.port, row.weight, row.state) for row in config.nodes
        )
    return {
        name: hmac.digest(key, repr((name, value)).encode(), hashlib.sha256)[:_MARK_BYTES]
        for name, value in said.items()
    }


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """What is told by both, and not alike."""
    if other.get(_SECRET, one.get(_SECRET)) != one.get(_SECRET):
        return [_SECRET]  # what was made with different keys can not be compared
    return [name for name, mark in one.items() if other.get(name, mark) != mark]


class Differences:
    """Logs what other processes have otherwise, once for each and what it is."""

    def __init__(self) -> None:
        self._said: dict[str, list[str]] = {}

    def heard(
        self, name: str, host: str, own: Mapping[str, bytes], theirs: Mapping[str, bytes]
    ) -> None:
        """The marks of the process `name` on `host`, beside those of this one."""
        found = differing(own, theirs)
        if found and found != self._said.get(name):
            _log.warning(
                "settings differ from those of another process; give all hosts the same file",
                extra={"other": name, "host": host, "differ": ", ".join(found)},
            )
        self._said.pop(name, None)
        if found and len(self._said) < GOSSIP_MEMBERS_MAX:
            self._said[name] = found


def outliers(told: Mapping[str, Mapping[str, bytes]]) -> list[dict[str, Any]]:
    """`told`: the marks of each process, by its name. Of each that is not alike everywhere: who has
    it otherwise than most; where there is no most, the groups."""
    found = []
    for what in dict.fromkeys(name for marks in told.values() for name in marks):
        groups: dict[bytes, list[str]] = {}
        for process, marks in told.items():
            if what in marks:
                groups.setdefault(marks[what], []).append(process)
        if len(groups) > 1:
            ranked = sorted(groups.values(), key=len, reverse=True)
            found.append({"what": what, "groups": ranked})
    secret = [one for one in found if one["what"] == _SECRET]
    return secret or found  # what was made with different keys can not be compared


def lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """For people."""
    said = []
    for one in found:
        most, *others = one["groups"]
        if len(most) > len(others[0]):
            names = ", ".join(name for group in others for name in group)
            what = f"{one['what']} of {names} is not as the other {len(most)} processes have it"
        else:
            groups = " | ".join(", ".join(group) for group in one["groups"])
            what = f"{one['what']} differs: {groups}"
        said.append(f"settings: {what}; give all hosts the same file")
    return said
