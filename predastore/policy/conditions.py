"""The Condition of a statement: read, checked, compiled.

Each pair of operator and key is one condition; all of a statement's have to hold. What an absent
key means is as Amazon documents it: a plain operator does not hold, one with Not or IfExists does,
ForAllValues does, ForAnyValue does not (with IfExists it does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from predastore.policy import keys
from predastore.policy.elements import Where, quoted, strings
from predastore.policy.errors import PolicyError
from predastore.policy.facts import Lookup
from predastore.policy.operators import (
    NULL,
    ConditionOperator,
    KeyOf,
    Quantifier,
    Test,
    operator,
    test_of,
)

Holds = Callable[[Lookup], bool]


class PolicyCondition(NamedTuple):
    """One condition: what was written, and its compiled form."""

    op: ConditionOperator
    key: str
    named: tuple[str, ...]
    holds: Holds


class Dialect(NamedTuple):
    """What the document around a condition has. `variables`: whether its Version has policy
    variables. `claims`: whether keys may be claims of identity providers. `allows`: the effect."""

    variables: bool
    claims: bool
    allows: bool


def read_conditions(
    value: Any, place: Where, dialect: Dialect
) -> tuple[tuple[PolicyCondition, ...], list[tuple[keys.KeyFacts, Where]]]:
    """The conditions of `value`, and of each what is known of its key, and its place."""
    if not isinstance(value, dict):
        raise PolicyError("Invalid policy syntax. Condition is to be an object", place.text)
    found, facts = [], []
    for name, block in value.items():
        op = operator(name)
        inner = place / name
        if op is None:
            raise PolicyError(f"Invalid Condition type : {quoted(name)}", place.text)
        if not isinstance(block, dict) or not block:
            raise PolicyError("Invalid policy syntax. Expected condition keys", inner.text)
        for key, raw in block.items():
            known = facts_of(key, dialect)
            if known is None:
                raise PolicyError(
                    f"Policy has an invalid condition key: {quoted(key)} is not known", inner.text
                )
            named = strings(raw, inner / key, numbers=True)
            found.append(_compiled(op, known, named, inner / key, dialect))
            facts.append((known, inner / key))
    return tuple(found), facts


def facts_of(key: str, dialect: Dialect) -> keys.KeyFacts | None:
    """What is known of a key in such a document."""
    return keys.known(key) or (keys.claim(key) if dialect.claims else None)


def variables_of(dialect: Dialect) -> KeyOf | None:
    """`key_of` of patterns in such a document."""

    def key_of(name: str) -> str:
        facts = facts_of(name, dialect)
        if facts is None:
            raise ValueError(f"the variable {quoted(name)} is not known")
        if facts.many:
            raise ValueError(f"the variable {quoted(name)} has several values")
        return facts.name

    return key_of if dialect.variables else None


def _compiled(
    op: ConditionOperator,
    known: keys.KeyFacts,
    named: tuple[str, ...],
    place: Where,
    dialect: Dialect,
) -> PolicyCondition:
    if not named:
        raise PolicyError("Invalid policy syntax. A condition has no values", place.text)
    if op.family.value and known.type not in op.family.value:
        raise PolicyError(
            f"Invalid Condition type : {op.base} does not fit {quoted(known.name)}, which is "
            f"of type {known.type.value}",
            place.text,
        )
    if op is NULL:
        return PolicyCondition(op, known.name, named, _null(known.name, named, place))
    # A variable without a value: a comparison with it does not hold, and the opposite is not taken
    # from that where it would allow something.
    if_absent = op.negated and dialect.allows
    try:
        test = test_of(op, named, key_of=variables_of(dialect), if_absent=if_absent)
    except ValueError as error:
        raise PolicyError(f"Invalid policy syntax. {_sentence(error)}", place.text) from None
    return PolicyCondition(op, known.name, named, _quantified(op, known.name, test))


def _sentence(error: ValueError) -> str:
    return quoted(str(error)[:1].upper() + str(error)[1:])


def _null(key: str, named: tuple[str, ...], place: Where) -> Holds:
    wanted = {one.lower() for one in named}
    if not wanted <= {"true", "false"}:
        raise PolicyError("Invalid policy syntax. Null is true or false", place.text)
    return lambda lookup: ("false" if lookup(key) else "true") in wanted


def _quantified(op: ConditionOperator, key: str, test: Test) -> Holds:
    negated, absent = op.negated, op.negated or op.if_exists
    if op.quantifier is Quantifier.ALL:

        def of_all(lookup: Lookup) -> bool:
            return all(test(value, lookup) != negated for value in lookup(key) or ())

        return of_all
    if op.quantifier is Quantifier.ANY:

        def of_any(lookup: Lookup) -> bool:
            found = lookup(key)
            if not found:
                return op.if_exists
            return any(test(value, lookup) != negated for value in found)

        return of_any

    def plain(lookup: Lookup) -> bool:
        found = lookup(key)
        if not found:
            return absent
        for value in found:
            if test(value, lookup):
                return not negated
        return negated

    return plain


def all_hold(conditions: Iterable[PolicyCondition], lookup: Lookup) -> bool:
    """Whether each condition holds."""
    return all(condition.holds(lookup) for condition in conditions)
