"""A statement as JSON, into its compiled form: its elements, and what they may say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from predastore.base import limits
from predastore.policy import actions, arns
from predastore.policy.actions import ActionNames
from predastore.policy.arns import arn_patterns
from predastore.policy.conditions import Dialect, read_conditions, variables_of
from predastore.policy.elements import Bare, Where, quoted, strings
from predastore.policy.errors import PolicyError
from predastore.policy.keys import KeyFacts
from predastore.policy.patterns import Mark, Patterns, Token, tokens
from predastore.policy.principals import Principals, read_principals
from predastore.policy.statement import Statement


class Grammar(NamedTuple):
    """What the statements of a kind of document have. `services`: whose actions they may name,
    where not all of them. `bucket`: of which their resources are, "" where of any."""

    variables: bool
    principals: bool
    resources: bool
    names: ActionNames
    services: frozenset[str] = actions.SERVICES
    bucket: str = ""


_FIELDS: Final = frozenset(
    {
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    }
)
_ACTION_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789*?")
_NO_RESOURCE: Final = "Action does not apply to any resource(s) in statement"
_NO_CONDITION: Final = (
    "Conditions do not apply to combination of actions and resources in statement"
)


def read_statement(value: Any, name: str, place: Where, grammar: Grammar) -> Statement:
    """The statement. `name`: of one without a Sid."""
    if not isinstance(value, dict):
        raise PolicyError("Invalid policy syntax. A statement is an object", place.text)
    for field in value:
        if field not in _FIELDS:
            raise PolicyError(f"Unknown field {quoted(field)}", place.text)
    sid = value.get("Sid", "")
    if not isinstance(sid, str) or isinstance(sid, Bare):
        raise PolicyError("Invalid policy syntax. Sid is a string", (place / "Sid").text)
    allows = _effect(value, place)
    dialect = Dialect(grammar.variables, claims=not grammar.resources, allows=allows)
    principals = _principals(value, place, grammar)
    action_field, named = _actions(value, place, grammar)
    resource_field, resources = _resources(value, place, grammar, dialect)
    conditions, facts = read_conditions(value.get("Condition", {}), place / "Condition", dialect)
    if grammar.bucket and action_field == "Action":
        if resource_field == "Resource":
            _check_levels(named, resources, place / "Action", grammar)
        _check_keys(named, facts, grammar.names)
    excludes_resources = resource_field == "NotResource"
    return Statement(
        sid or name,
        allows=allows,
        actions=Patterns(tokens(one.lower(), wildcards=True, key_of=None) for one in named),
        resources=arn_patterns(resources, if_absent=excludes_resources and allows)
        if grammar.resources
        else None,
        excludes_actions=action_field == "NotAction",
        excludes_resources=excludes_resources,
        principals=principals,
        conditions=conditions,
    )


def _effect(value: dict[str, Any], place: Where) -> bool:
    if "Effect" not in value:
        raise PolicyError("Missing required field Effect", place.text)
    effect = value["Effect"]
    if effect not in ("Allow", "Deny"):
        shown = quoted(effect) if isinstance(effect, str) else "no string"
        raise PolicyError(f"Invalid effect: {shown}", (place / "Effect").text)
    return bool(effect == "Allow")


def _one_of(value: dict[str, Any], name: str, place: Where) -> str:
    """`name` or `Not` + name, whichever is there; exactly one has to be."""
    found = [field for field in (name, f"Not{name}") if field in value]
    if not found:
        raise PolicyError(f"Missing required field {name}", place.text)
    if len(found) > 1:
        raise PolicyError(
            f"Invalid policy syntax. {name} and Not{name} exclude each other", place.text
        )
    return found[0]


def _forbid(value: dict[str, Any], name: str, place: Where) -> None:
    for field in (name, f"Not{name}"):
        if field in value:
            raise PolicyError(f"Has prohibited field {field}", place.text)


def _principals(value: dict[str, Any], place: Where, grammar: Grammar) -> Principals | None:
    if not grammar.principals:
        _forbid(value, "Principal", place)
        return None
    field = _one_of(value, "Principal", place)
    return read_principals(value[field], place / field, excluded=field == "NotPrincipal")


def _actions(value: dict[str, Any], place: Where, grammar: Grammar) -> tuple[str, tuple[str, ...]]:
    field = _one_of(value, "Action", place)
    inner = place / field
    named = strings(value[field], inner)
    if not named:
        raise PolicyError("Policy statement must contain actions.", inner.text)
    for one in named:
        _check_action(one, inner, grammar)
    return field, named


def _check_action(name: str, place: Where, grammar: Grammar) -> None:
    if name == "*" and grammar.resources:
        return
    service, colon, action = name.lower().partition(":")
    if not colon or service not in grammar.services:
        services = ", ".join(sorted(grammar.services))
        raise PolicyError(
            f"Policy has invalid action: {quoted(name)} (actions here are those of {services})",
            place.text,
        )
    is_name = (
        action != ""
        and _ACTION_CHARACTERS.issuperset(action)
        and len(name) <= limits.POLICY_ACTION_CHARS_MAX
    )
    if not is_name or not grammar.names.expanded(name):
        raise PolicyError(f"Policy has invalid action: {quoted(name)}", place.text)
    if grammar.names.too_many:
        raise PolicyError("Invalid policy syntax. Too many actions with wildcards", place.text)


def _resources(
    value: dict[str, Any], place: Where, grammar: Grammar, dialect: Dialect
) -> tuple[str, list[tuple[Token, ...]]]:
    if not grammar.resources:
        _forbid(value, "Resource", place)
        return "", []
    field = _one_of(value, "Resource", place)
    inner = place / field
    named = strings(value[field], inner)
    if not named:
        raise PolicyError("Policy statement must contain resources.", inner.text)
    return field, [_resource(one, inner, grammar, dialect) for one in named]


def _resource(text: str, place: Where, grammar: Grammar, dialect: Dialect) -> tuple[Token, ...]:
    whole = text if grammar.bucket else arns.completed(text)
    try:
        pattern = tokens(whole, wildcards=True, key_of=variables_of(dialect))
    except ValueError as error:
        raise PolicyError(f"Policy has invalid resource: {error}", place.text) from None
    if grammar.bucket and not _is_of_bucket(pattern, grammar.bucket):
        raise PolicyError(f"Policy has invalid resource: {quoted(text)}", place.text)
    if pattern != (Mark.ANY,) and not arns.is_arn(pattern):
        raise PolicyError(f'Resource {quoted(text)} must be in ARN format or "*".', place.text)
    return pattern


def _is_of_bucket(pattern: tuple[Token, ...], bucket: str) -> bool:
    head = pattern[0] if pattern else ""
    whole = f"{arns.S3}{bucket}"
    if not isinstance(head, str) or not head.startswith(whole):
        return False
    behind = head[len(whole) :]
    return behind.startswith("/") or (not behind and pattern[1:2] in ((), (Mark.ANY,)))


def _check_levels(
    named: Sequence[str], resources: Sequence[tuple[Token, ...]], place: Where, grammar: Grammar
) -> None:
    """Whether each action can be done to one of the resources: those of objects have a slash."""
    length = len(arns.S3) + len(grammar.bucket)
    heads = [str(pattern[0]) for pattern in resources]
    levels = set()
    if any(len(head) == length for head in heads):
        levels.add(actions.Level.BUCKET)
    if any(
        len(head) > length or len(pattern) > 1
        for head, pattern in zip(heads, resources, strict=True)
    ):
        levels.add(actions.Level.OBJECT)
    for one in named:
        if one != "*" and not any(
            actions.ACTIONS[action] in levels for action in grammar.names.expanded(one)
        ):
            raise PolicyError(_NO_RESOURCE, place.text)


def _check_keys(
    named: Sequence[str], facts: Sequence[tuple[KeyFacts, Where]], names: ActionNames
) -> None:
    for known, place in facts:
        if known.actions is None:
            continue
        for one in named:
            if one != "*" and known.actions.isdisjoint(names.expanded(one)):
                raise PolicyError(_NO_CONDITION, place.text)
