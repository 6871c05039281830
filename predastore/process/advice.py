"""What is fine in a configuration, and worth a second look: a line each, with what to write.

A start logs these lines, and `s3d check-config` prints them. Notes are what the file asks for and
is done differently; warnings are what makes it likely that something is lost, or known to others.
Nothing secret is in one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from predastore.base.config import Config, losses, owner_of
from predastore.base.config.model import BUCKET_TYPES, LOOPBACK
from predastore.base.config.nearest import nearest
from predastore.base.config.policy import fits
from predastore.s3.access import BYPASS_GOVERNANCE, OF_A_VERSION
from predastore.s3.routes import ROUTES

ACTIONS: Final = frozenset(
    {*(route.action for route in ROUTES), *OF_A_VERSION.values(), BYPASS_GOVERNANCE}
)

_SECRET_BITS_MIN: Final = 64.0  # fewer are found by trying
_DOCUMENTED: Final = "EXAMPLEKEY"  # the end of the secrets in Amazon's documentation
_DRAW: Final = "openssl rand -hex 32"


def notes(settings: Config) -> list[str]:
    """What the file asks for and is done differently."""
    return [*settings.said, *_of_buckets(settings), *_of_no_use(settings)]


def warnings(settings: Config, is_local: Callable[[str], bool]) -> list[str]:
    """What is likely to be regretted."""
    found = [*_weak_secrets(settings), *_policies(settings), *_limited_alone(settings, is_local)]
    if settings.backend == "distributed":
        found += _of_members(settings, is_local)
        found += losses.warnings(losses.Layout.of(settings))
        found += _out_of_reach(settings, is_local)
    return found


# --- done differently -------------------------------------------------------------------------


def _of_buckets(settings: Config) -> Iterator[str]:
    for row in settings.buckets:
        place = f"{settings.source}: [[buckets]] {row.name}"
        if row.region not in ("", settings.region):
            yield f"{place}, region: {row.region}; it is in {settings.region}, as all buckets are"
        if row.type and BUCKET_TYPES[row.type] != settings.backend:
            yield f'{place}, type: "{row.type}"; the backend of all buckets is {settings.backend}'
        elif row.pathname is not None and settings.backend == "distributed":
            yield f"{place}, pathname: has no effect; its objects lie on the shard nodes"


def _of_members(settings: Config, is_local: Callable[[str], bool]) -> Iterator[str]:
    """A key of [[db]] that stands in for [[auth]]; as credentials.keys has it."""
    member = next((row for row in settings.db if row.access_key_id), None)
    if not settings.auth and member is not None and not all(map(is_local, settings.hosts)):
        yield (
            f"[[auth]]: none is given, and S3 takes the key of [[db]] id {member.id}, which may "
            "change all that is known of objects; write [[auth]] for clients"
        )


def _of_no_use(settings: Config) -> Iterator[str]:
    if settings.backend == "filesystem" and settings.source and settings.hosts:
        yield (
            f"{settings.source}: [[nodes]] and [[db]] have no effect: the backend is filesystem, "
            'plain files of this host; for shards on nodes write backend = "distributed"'
        )


# --- secrets ----------------------------------------------------------------------------------


def bits(secret: str) -> float:
    """How hard a secret is to find, at most: as if each character were drawn from those in it."""
    return len(secret) * math.log2(max(len(set(secret)), 1))


def _weak_secrets(settings: Config) -> Iterator[str]:
    named = [("[cluster] secret", settings.cluster.secret)]
    named += [(f"[[auth]] {one.access_key_id}", one.secret_access_key) for one in settings.auth]
    named += [(f"[[db]] id {one.id}", one.secret_access_key) for one in settings.db]
    for place, secret in named:
        if not secret:
            continue
        if secret.endswith(_DOCUMENTED):
            yield f"{place}: this secret stands in public documents; write the output of: {_DRAW}"
        elif bits(secret) < _SECRET_BITS_MIN:
            yield f"{place}: this secret can be found by trying; write the output of: {_DRAW}"


# --- policies ---------------------------------------------------------------------------------


def _policies(settings: Config) -> Iterator[str]:
    known = {action.lower(): action for action in ACTIONS}
    for row in settings.auth:
        place = f"[[auth]] {row.access_key_id}, policy"
        if row.policy is None:
            continue
        if not any(rule.actions for rule in row.policy.rules):
            yield f"{place}: allows nothing; write rules, or leave policy out to allow everything"
        wanted = {one for rule in row.policy.rules for one in rule.actions}
        for action in sorted(wanted):
            if not any(fits(action, each) for each in known):
                meant = known.get(nearest(action, known), "")
                more = f"; did you mean {meant}?" if meant else ""
                yield f"{place}: no operation asks for {action}{more}"
        for bucket in settings.buckets:
            owner = owner_of(bucket, settings.auth)
            named = any(rule.bucket == bucket.name for rule in row.policy.rules)
            if named and owner != row.account_id:
                yield (
                    f"{place}: {bucket.name} belongs to account {owner}, so that it allows nothing "
                    f'there; write account_id = "{row.account_id}" for [[buckets]] {bucket.name}'
                )


def _limited_alone(settings: Config, is_local: Callable[[str], bool]) -> Iterator[str]:
    """Keys with a policy that lead around it."""
    limited = {
        (row.access_key_id, row.secret_access_key) for row in settings.auth if row.is_limited
    }
    if not limited or settings.backend == "filesystem":
        return
    for member in settings.db:
        if (member.access_key_id, member.secret_access_key) in limited:
            yield (
                f"[[db]] id {member.id}: its key is one of [[auth]] with a policy, and may change "
                "all that is known of objects; write another"
            )
    pairs = {(row.access_key_id, row.secret_access_key) for row in settings.db if row.access_key_id}
    known_to_them = all(row.is_limited for row in settings.auth) and pairs <= limited
    spreads = settings.cluster.join or not all(map(is_local, settings.hosts))
    if known_to_them and spreads and not settings.cluster.secret:
        yield (
            "[[auth]]: each key has a policy, and whoever has all of them can compute the cluster "
            f"key, which allows everything; write [cluster] secret, the output of: {_DRAW}"
        )


# --- addresses --------------------------------------------------------------------------------


def _out_of_reach(settings: Config, is_local: Callable[[str], bool]) -> Iterator[str]:
    """Who listens everywhere, and is not known by an address that other hosts could use."""
    others = [host for host in settings.hosts if not is_local(host)]
    if not others:
        return
    tables = (("nodes", settings.nodes), ("db", settings.db))
    for table, row in ((name, row) for name, rows in tables for row in rows):
        if row.listen in LOOPBACK and row.host == LOOPBACK[row.listen]:
            yield (
                f"[[{table}]] id {row.id}: others ({others[0]}) have no address to reach it at; "
                f'write advertise_host, that of its host, beside host = "{row.listen}"'
            )
