"""The condition keys of a request of the Query API ("AWS global condition context keys")."""

from __future__ import annotations

import time
from collections.abc import Mapping

from predastore.httpd.message import Request
from predastore.iam.identity import Identity
from predastore.iam.query.document import stamp
from predastore.iam.rows import Tags
from predastore.policy import Lookup

Values = Mapping[str, tuple[str, ...]]


def of_principal(identity: Identity) -> dict[str, tuple[str, ...]]:
    """What a policy may ask of who asks, beside who it is."""
    found: dict[str, tuple[str, ...]] = {
        f"aws:PrincipalTag/{key}": (value,) for key, value in identity.tags
    }
    session = identity.session
    if session is not None:
        found["aws:TokenIssueTime"] = (stamp(session.began_ms),)
        found["aws:MultiFactorAuthPresent"] = ("false",)
        if session.provider:
            found["aws:FederatedProvider"] = (session.provider,)
    return found


def of_request(request: Request, region: str, now_ms: int) -> dict[str, tuple[str, ...]]:
    """What a policy may ask of any request."""
    found: dict[str, tuple[str, ...]] = {
        "aws:CurrentTime": (stamp(now_ms),),
        "aws:EpochTime": (str(now_ms // 1000),),
        "aws:SecureTransport": ("true" if request.secure else "false",),
        "aws:SourceIp": (request.remote,),
        "aws:RequestedRegion": (region,),
    }
    for key, field in (("aws:UserAgent", "user-agent"), ("aws:referer", "referer")):
        value = request.headers.get(field)
        if value is not None:
            found[key] = (value,)
    return found


def of_tags(tags: Tags, untagged: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Of tags that a request gives, or takes away."""
    if not tags and not untagged:
        return {}
    found: dict[str, tuple[str, ...]] = {f"aws:RequestTag/{key}": (value,) for key, value in tags}
    found["aws:TagKeys"] = (*(key for key, _ in tags), *untagged)
    return found


def of_target(tags: Tags) -> dict[str, tuple[str, ...]]:
    """Of the tags that something has."""
    return {
        f"{service}:ResourceTag/{key}": (value,)
        for key, value in tags
        for service in ("aws", "iam")
    }


def lookup(*values: Values) -> Lookup:
    """Of all of these, the first that has a key."""

    def find(key: str) -> tuple[str, ...] | None:
        return next((one[key] for one in values if key in one), None)

    return find


def now_ms() -> int:
    return time.time_ns() // 1_000_000
