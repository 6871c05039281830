"""A policy document: read from its text, compiled, and asked for the statements of an action.

What is not understood in full is refused, so that nobody trusts a policy that says something else
to us. (IAM User Guide, "Grammar of the IAM JSON policy language"; Amazon S3 User Guide, "Policies
and permissions in Amazon S3".)
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import Any, Final

from predastore.base import limits
from predastore.policy import actions
from predastore.policy.elements import Bare, Where, quoted, read_object
from predastore.policy.errors import PolicyError
from predastore.policy.index import StatementIndex
from predastore.policy.public import is_public_statement
from predastore.policy.reading import Grammar, read_statement
from predastore.policy.statement import Statement


class PolicyKind(enum.Enum):
    """Where a document stands, which decides what it may have."""

    IDENTITY = "identity"  # of a user, group, role; a boundary: no Principal
    BUCKET = "bucket"  # Principal; resources of the bucket; actions of S3
    TRUST = "trust"  # of a role: Principal; actions of STS; no Resource
    SESSION = "session"  # given when a role is taken on: as IDENTITY


_VERSIONS: Final = ("2012-10-17", "2008-10-17")
_FIELDS: Final = frozenset({"Version", "Id", "Statement"})
_RESOURCE_KINDS: Final = (PolicyKind.BUCKET, PolicyKind.TRUST)
_SERVICES: Final = {
    PolicyKind.BUCKET: frozenset({"s3"}),
    PolicyKind.TRUST: frozenset({"sts"}),
}
_STATEMENT_SPACE: Final = b" \t\r\n"

# Those that deny, and those that allow.
Chosen = tuple[StatementIndex, StatementIndex]


class PolicyDocument:
    """A compiled policy; nothing of it changes. `name`: what decisions call it. `public`: see
    `is_public`. `principals`: the ARNs of users, roles and sessions that it names, for who wants to
    know whether they are there."""

    __slots__ = ("_chosen", "kind", "name", "principals", "public", "statements")

    def __init__(self, kind: PolicyKind, name: str, statements: Iterable[Statement]) -> None:
        self.kind = kind
        self.name = name
        self.statements = tuple(statements)
        self.public = kind in _RESOURCE_KINDS and any(map(is_public_statement, self.statements))
        self.principals = tuple(
            sorted(
                {arn for one in self.statements if one.principals for arn in one.principals.arns}
            )
        )
        self._chosen: dict[str, Chosen] = {}

    def about(self, action: str) -> Chosen:
        """The statements about an action, which may be in any case."""
        found = self._chosen.get(action)
        if found is not None:
            return found
        low = action.lower()
        about = [one for one in self.statements if one.is_about(low)]
        chosen = (
            StatementIndex([one for one in about if not one.allows]),
            StatementIndex([one for one in about if one.allows]),
        )
        if low in actions.ACTIONS and len(self._chosen) < len(actions.ACTIONS):
            self._chosen[action] = chosen
        return chosen


def parse(text: bytes, kind: PolicyKind, *, name: str = "", bucket: str = "") -> PolicyDocument:
    """The document that the text is. `bucket`: of which a BUCKET document is. PolicyError with what
    is wrong, and where, for everything that is not understood in full."""
    if (kind is PolicyKind.BUCKET) != bool(bucket):
        raise ValueError("a bucket's name goes with a bucket's policy")
    if kind is not PolicyKind.BUCKET:
        text = text.lstrip(_STATEMENT_SPACE)
    value = read_object(text)
    for field in value:
        if field not in _FIELDS:
            raise PolicyError(f"Unknown field {quoted(field)}")
    version = value.get("Version", _VERSIONS[1])
    if version not in _VERSIONS:
        raise PolicyError("The policy must contain a valid version string", "Version")
    if not isinstance(value.get("Id", ""), str) or isinstance(value.get("Id"), Bare):
        raise PolicyError("Invalid policy syntax. Id is a string", "Id")
    _check_wildcards(value)
    grammar = Grammar(
        variables=version == _VERSIONS[0],
        principals=kind in _RESOURCE_KINDS,
        resources=kind is not PolicyKind.TRUST,
        names=actions.ActionNames(),
        services=_SERVICES.get(kind, actions.SERVICES),
        bucket=bucket,
    )
    return PolicyDocument(kind, name or kind.value, _statements(value, grammar))


def _check_wildcards(value: dict[str, Any]) -> None:
    """What makes patterns slow to try has a bound, so that no policy holds up the requests of
    others."""
    texts = list(_texts(value))
    singles = sum("?" in piece for text in texts for piece in text.split("*")[1:-1])
    if singles > limits.POLICY_SINGLES_MAX:
        raise PolicyError('Invalid policy syntax. Too many wildcards "?" between two "*"')
    if sum(text.count("${") for text in texts) > limits.POLICY_VARIABLES_MAX:
        raise PolicyError("Invalid policy syntax. Too many policy variables")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _statements(value: dict[str, Any], grammar: Grammar) -> list[Statement]:
    if "Statement" not in value:
        raise PolicyError("Missing required field Statement")
    place, raw = Where("Statement"), value["Statement"]
    if isinstance(raw, dict):
        return [read_statement(raw, "[0]", place, grammar)]
    if not isinstance(raw, list):
        raise PolicyError("Invalid policy syntax. Statement is a list", place.text)
    if not raw:
        raise PolicyError("Could not parse the policy: Statement is empty!", place.text)
    found = [
        read_statement(one, f"[{index}]", place.at(index), grammar) for index, one in enumerate(raw)
    ]
    _check_sids(raw, place)
    return found


def _check_sids(raw: list[dict[str, Any]], place: Where) -> None:
    seen = set()
    for index, one in enumerate(raw):
        sid = one.get("Sid")
        if sid and sid in seen:
            raise PolicyError(
                "Statement IDs (SID) in a single policy must be unique.",
                (place.at(index) / "Sid").text,
            )
        seen.add(sid)


def is_public(document: PolicyDocument) -> bool:
    """Whether it is public, as GetBucketPolicyStatus and BlockPublicPolicy mean it."""
    return document.public
