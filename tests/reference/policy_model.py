"""The policy language over JSON as it is read, with no thought for speed: the twin of
predastore/policy.

Nothing is compiled, and no code is shared. A pattern is matched by the set of places that it may
have come to; ARNs are always taken segment by segment; a decision lists all statements that apply,
and looks at the lists in the end.
"""

from __future__ import annotations

import base64
import datetime
import functools
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from predastore.policy import AccessRequest, Principal

Json = dict[str, Any]
Named = tuple[str, Json]  # a document's name, and the document
ANY, ONE = "any", "one"
UNKNOWN = None  # an expanded pattern, a variable of which has no value


@dataclass
class Papers:
    """What the decision is made by; `acl` is 0, 1 (account) or 2 (group)."""

    identity: list[Named] = field(default_factory=list)
    boundary: Named | None = None
    session: list[Named] | None = None
    resource: Named | None = None
    acl: int = 0
    restrict: bool = False


def listed(value: Any) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in found]


# --- patterns ---


def expand(pattern: str, wild: bool, variables: bool, keys: Json) -> list[tuple[str, str]] | None:
    """(kind, character) of each place; kinds are "any", "one", "text", "value"."""
    found: list[tuple[str, str]] = []
    if not variables or "${" not in pattern:
        return [({"*": ANY, "?": ONE}.get(one, "text") if wild else "text", one) for one in pattern]
    rest = pattern
    while rest:
        if rest.startswith("${"):
            inner, rest = rest[2:].split("}", 1)
            if inner in ("*", "?", "$"):
                found.append(("text", inner))
                continue
            name, _, default = inner.partition(",")
            values = lookup(keys, name.strip())
            if values is not None and len(values) == 1 and len(values[0]) <= 512:
                found += [("value", one) for one in values[0]]
            elif not values and default:
                found += [("value", one) for one in default.strip()[1:-1]]
            else:
                return UNKNOWN
            continue
        one, rest = rest[0], rest[1:]
        kind = {"*": ANY, "?": ONE}.get(one, "text") if wild else "text"
        found.append((kind, one))
    return found


def like(pattern: list[tuple[str, str]], text: str) -> bool:
    places = {0}
    for one in [*text, None]:
        work = list(places)
        while work:  # a run of any length may be of none
            at = work.pop()
            if at < len(pattern) and pattern[at][0] == ANY and at + 1 not in places:
                places.add(at + 1)
                work.append(at + 1)
        if one is None:
            break
        onward = set()
        for at in places:
            if at < len(pattern):
                kind, wanted = pattern[at]
                if kind == ANY:
                    onward.add(at)
                elif kind == ONE or wanted == one:
                    onward.add(at + 1)
        places = onward
        if not places:
            return False
    return len(pattern) in places


def like_arn(pattern: list[tuple[str, str]], text: str) -> bool:
    if pattern == [(ANY, "*")]:
        return True
    segments: list[list[tuple[str, str]]] = [[]]
    for place in pattern:
        if place == ("text", ":") and len(segments) < 6:
            segments.append([])
        else:
            segments[-1].append(place)
    while len(segments) < 6:
        segments.append([(ANY, "*")])
    parts = text.split(":", 5)
    return len(parts) == 6 and all(map(like, segments, parts))


# --- conditions ---


def lookup(keys: Json, name: str) -> tuple[str, ...] | None:
    low = name.lower()
    return next((value for key, value in keys.items() if key.lower() == low), None)


def moment(text: str) -> Fraction | None:
    if text.isdigit() and len(text) > 4:
        return Fraction(text)
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return Fraction(found.replace(tzinfo=found.tzinfo or datetime.UTC).timestamp())


def amount(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except ValueError:
        return None


def in_network(text: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(text) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": lambda a, b: a == b,
    "LessThan": lambda a, b: a < b,
    "LessThanEquals": lambda a, b: a <= b,
    "GreaterThan": lambda a, b: a > b,
    "GreaterThanEquals": lambda a, b: a >= b,
}


@dataclass
class Around:
    """What stands around a condition or a resource."""

    variables: bool
    allows: bool
    keys: Json


def is_one(base: str, value: str, wanted: str, around: Around, negated: bool) -> bool:
    """Whether the request's value is the one that the policy names, by the operator without Not."""
    if base.startswith(("String", "Arn")):
        wild = base in ("StringLike", "ArnLike", "ArnEquals")
        pattern = expand(wanted, wild, around.variables, around.keys)
        if pattern is UNKNOWN:
            return negated and around.allows
        if base.startswith("Arn"):
            return value.startswith("arn:") and like_arn(pattern, value)
        if base == "StringEqualsIgnoreCase":
            return like([(kind, one.lower()) for kind, one in pattern], value.lower())
        return like(pattern, value)
    if base.startswith(("Numeric", "Date")):
        read = amount if base.startswith("Numeric") else moment
        had, named = read(value), read(wanted)
        compare = COMPARISONS[base.removeprefix("Numeric").removeprefix("Date")]
        return had is not None and named is not None and compare(had, named)
    if base == "IpAddress":
        return in_network(value, wanted)
    if base == "Bool":
        return value.lower() == wanted.lower()
    assert base == "BinaryEquals"
    return value.encode() == base64.b64decode(wanted)


def holds(name: str, key: str, wanted: list[str], around: Around) -> bool:
    values = lookup(around.keys, key)
    if name == "Null":
        return ("false" if values else "true") in [one.lower() for one in wanted]
    quantifier, _, core = name.rpartition(":")
    if_exists = core.endswith("IfExists")
    core = core.removesuffix("IfExists")
    negated = "Not" in core
    base = core.replace("Not", "")

    def matches(value: str) -> bool:
        return any(is_one(base, value, one, around, negated) for one in wanted)

    if quantifier == "ForAllValues":
        return all(matches(value) is not negated for value in values or ())
    if not values:
        return if_exists or (negated and not quantifier)
    if quantifier == "ForAnyValue":
        return any(matches(value) is not negated for value in values)
    return any(map(matches, values)) is not negated


# --- statements ---


def level(principals: Any, who: Principal) -> int:
    """0 none, 1 the account, 2 the principal or everybody, 3 by its own name."""
    if principals == "*":
        return 2
    best = 0
    for kind, raw in principals.items():
        for one in listed(raw):
            found = 0
            account = one.split(":")[4] if one.endswith(":root") else one
            is_account = who.account != "" and account == who.account
            if kind == "AWS" and one == "*":
                found = 2
            elif kind == "AWS" and is_account:
                found = 2 if who.kind.name == "ROOT" else 1
            elif kind == "AWS" and one == who.role_arn:
                found = 2
            elif kind == "AWS" and one == who.arn and who.kind.name != "ROOT":
                found = 3
            elif kind == "CanonicalUser" and one == who.canonical_id:
                found = 2 if who.kind.name == "ROOT" else 1
            elif kind == "Federated" and one == who.provider:
                found = 2
            best = max(best, found)
    return best


@functools.cache
def is_action(pattern: str, action: str) -> bool:
    return like(expand(pattern, True, False, {}) or [], action)


def applies(document: Json, statement: Json, asked: AccessRequest, keys: Json) -> int:
    """0 if it does not; else how far it means the principal, 2 in a document without principals."""
    variables = document.get("Version") == "2012-10-17"
    around = Around(variables, statement["Effect"] == "Allow", keys)
    actions = listed(statement.get("Action", statement.get("NotAction")))
    hit = any(is_action(one.lower(), asked.action.lower()) for one in actions)
    if hit is ("NotAction" in statement):
        return 0
    far = 2
    if "Principal" in statement:
        far = level(statement["Principal"], asked.principal)
    elif "NotPrincipal" in statement:
        far = 0 if level(statement["NotPrincipal"], asked.principal) else 2
    negated = "NotResource" in statement
    if negated or "Resource" in statement:
        hit = False
        for one in listed(statement.get("Resource", statement.get("NotResource"))):
            pattern = expand(one, True, variables, keys)
            if pattern is UNKNOWN:
                hit = hit or (negated and around.allows)
            else:
                hit = hit or like_arn(pattern, asked.resource)
        if hit is negated:
            return 0
    for name, block in statement.get("Condition", {}).items():
        for key, wanted in block.items():
            if not holds(name, key, listed(wanted), around):
                return 0
    return far


# --- decisions ---


def keys_of(asked: AccessRequest, keys: Json) -> Json:
    who = asked.principal
    own = {
        "aws:PrincipalAccount": who.account,
        "aws:PrincipalArn": who.role_arn or who.arn,
        "aws:PrincipalType": who.kind.value,
        "aws:ResourceAccount": asked.resource_account,
        "aws:userid": who.user_id,
        "aws:username": who.name,
        "s3:ResourceAccount": asked.resource_account,
    }
    return {**keys, **{key: (value,) if value else None for key, value in own.items()}}


Hits = dict[tuple[str, str], int]  # (document, statement) -> how far


def hits(papers: list[Named], effect: str, asked: AccessRequest, keys: Json) -> Hits:
    found = {}
    for name, document in papers:
        for index, statement in enumerate(document["Statement"]):
            if statement["Effect"] == effect:
                far = applies(document, statement, asked, keys)
                if far:
                    found[name, statement.get("Sid") or f"[{index}]"] = far
    return found


def decide(asked: AccessRequest, keys: Json, papers: Papers) -> tuple[str, set[tuple[str, str]]]:
    """Why ("allowed", "explicit deny", "implicit deny"), and the statements any of which may be
    named for it (none where it is not a statement that decides)."""
    who, owner = asked.principal, asked.object_account or asked.resource_account
    is_root, stranger = who.kind.name == "ROOT", who.account == ""
    of_policy = ("s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy")
    if is_root and who.account == asked.resource_account and asked.action in of_policy:
        return "allowed", set()
    keys = keys_of(asked, keys)
    boundary = [papers.boundary] if papers.boundary else []
    resource = [papers.resource] if papers.resource else []
    everything = papers.identity + boundary + (papers.session or []) + resource
    denies = hits(everything, "Deny", asked, keys)
    if denies:
        return "explicit deny", set(denies)

    within_boundary = papers.boundary is None or bool(hits(boundary, "Allow", asked, keys))
    within_session = papers.session is None or bool(hits(papers.session, "Allow", asked, keys))
    limited = not (within_boundary and within_session)
    identity = {} if stranger or is_root else hits(papers.identity, "Allow", asked, keys)
    by_identity = bool(identity) or is_root

    granted = hits(resource, "Allow", asked, keys)
    foreign = asked.object_account not in ("", asked.resource_account)
    outside = who.account != asked.resource_account or stranger
    if foreign or (papers.restrict and outside and resource and is_public(resource[0][1])):
        granted = {}
    best = max([papers.acl, *granted.values()])
    by = {one for one, far in granted.items() if far == best}

    if stranger:
        return ("allowed", by) if best >= 2 else ("implicit deny", set())
    if who.account != owner:
        fine = by_identity and best >= 1 and not limited
        return ("allowed", by) if fine else ("implicit deny", set())
    if by_identity and not limited:
        return "allowed", set(identity)
    if best == 3 and (who.kind.name != "USER" or within_session):
        return "allowed", by
    if best >= 2 and not limited:
        return "allowed", by
    return "implicit deny", set()


# --- the meaning of public ---

FIXED_BY = """
    aws:PrincipalAccount aws:PrincipalArn aws:PrincipalOrgID aws:PrincipalOrgPaths
    aws:SourceAccount aws:SourceArn aws:SourceOrgID aws:SourceOrgPaths aws:SourceOwner
    aws:SourceVpc aws:SourceVpce aws:VpceAccount aws:VpceOrgID aws:VpceOrgPaths aws:userid
    s3:DataAccessPointAccount s3:x-amz-server-side-encryption-aws-kms-key-id
""".lower().split()


def is_public(document: Json) -> bool:
    return any(
        statement["Effect"] == "Allow"
        and reaches_everybody(statement)
        and not any(
            fixes(name, key.lower(), listed(wanted))
            for name, block in statement.get("Condition", {}).items()
            for key, wanted in block.items()
        )
        for statement in document["Statement"]
    )


def reaches_everybody(statement: Json) -> bool:
    named = statement.get("Principal", "*")
    return named == "*" or "*" in listed(named.get("AWS", []))


def fixes(name: str, key: str, wanted: list[str]) -> bool:
    bare = name.removeprefix("ForAnyValue:")
    if key == "aws:sourceip":
        if bare != "IpAddress":
            return False
        nets = [ipaddress.ip_network(one, strict=False) for one in wanted]
        least = {4: 8, 6: 32}
        return all(net.prefixlen >= least[net.version] or net.is_private for net in nets)
    texts = ("StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike")
    if bare not in texts:
        return False
    if key == "s3:dataaccesspointarn":
        return all(not set("*?$") & set(":".join(one.split(":")[:5])) for one in wanted)
    plain = not any(mark in one for one in wanted for mark in ("*", "?", "${"))
    return key in FIXED_BY and plain
