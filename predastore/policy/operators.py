"""The condition operators: which there are, and how each compares one value of a request.

A name is `[ForAllValues:|ForAnyValue:]Base[IfExists]`. An operator with Not is its base with the
answer turned round, over all values that the policy names. (IAM User Guide, "IAM JSON policy
elements: Condition operators".)
"""

from __future__ import annotations

import base64
import binascii
import enum
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple, TypeVar

from predastore.policy import values
from predastore.policy.arns import arn_patterns, is_arn
from predastore.policy.facts import Lookup
from predastore.policy.keys import KeyType
from predastore.policy.patterns import Mark, Patterns, Token, Variable, tokens

# Whether a value of the request is one that the policy names.
Test = Callable[[str, Lookup], bool]
KeyOf = Callable[[str], str]
_T = TypeVar("_T")


class Quantifier(enum.Enum):
    """How many of a request's values have to hold."""

    NONE = ""
    ALL = "ForAllValues:"
    ANY = "ForAnyValue:"


class Comparison(enum.Enum):
    """What an operator compares. The value is the types of keys that it is for, () for all."""

    TEXT = ()
    NUMERIC = (KeyType.NUMERIC, KeyType.EPOCH, KeyType.TAG)
    DATE = (KeyType.DATE, KeyType.EPOCH, KeyType.TAG)
    BOOL = (KeyType.BOOL, KeyType.TAG)
    IP = (KeyType.IP, KeyType.TAG)
    ARN = (KeyType.ARN, KeyType.TAG)


class ConditionOperator(NamedTuple):
    """One operator. `base`: without quantifier, Not and IfExists, "Null" for Null."""

    base: str
    family: Comparison
    negated: bool = False
    if_exists: bool = False
    quantifier: Quantifier = Quantifier.NONE


_BASES: Final = {
    "StringEquals": Comparison.TEXT,
    "StringEqualsIgnoreCase": Comparison.TEXT,
    "StringLike": Comparison.TEXT,
    "BinaryEquals": Comparison.TEXT,
    "NumericEquals": Comparison.NUMERIC,
    "NumericLessThan": Comparison.NUMERIC,
    "NumericLessThanEquals": Comparison.NUMERIC,
    "NumericGreaterThan": Comparison.NUMERIC,
    "NumericGreaterThanEquals": Comparison.NUMERIC,
    "DateEquals": Comparison.DATE,
    "DateLessThan": Comparison.DATE,
    "DateLessThanEquals": Comparison.DATE,
    "DateGreaterThan": Comparison.DATE,
    "DateGreaterThanEquals": Comparison.DATE,
    "Bool": Comparison.BOOL,
    "IpAddress": Comparison.IP,
    "ArnEquals": Comparison.ARN,
    "ArnLike": Comparison.ARN,
}
_NEGATED: Final = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
NULL: Final = ConditionOperator("Null", Comparison.TEXT)


def operator(name: str) -> ConditionOperator | None:
    """The operator of a name; None for what is none."""
    if name == "Null":
        return NULL
    quantifier = Quantifier.NONE
    for one in (Quantifier.ALL, Quantifier.ANY):
        if name.startswith(one.value):
            quantifier = one
    core = name.removeprefix(quantifier.value)
    bare = core.removesuffix("IfExists")
    base = _NEGATED.get(bare, bare)
    if base not in _BASES:
        return None
    return ConditionOperator(base, _BASES[base], base != bare, core != bare, quantifier)


def test_of(
    op: ConditionOperator, named: Sequence[str], *, key_of: KeyOf | None, if_absent: bool
) -> Test:
    """The test of an operator against the values that a policy names. `key_of`, `if_absent`: as of
    `patterns`. ValueError for a value that is none of the operator's."""
    if op.base == "BinaryEquals":
        return _binary(named)
    if op.family is Comparison.TEXT:
        return _text(op.base, named, key_of, if_absent)
    if op.family is Comparison.ARN:
        return _arn(named, key_of, if_absent)
    if op.family is Comparison.IP:
        return _ip(named)
    if op.family is Comparison.BOOL:
        return _bool(named)
    read = values.date if op.family is Comparison.DATE else values.number
    return _ordered(op.base, [_read(read, one) for one in named], read)


def _text(base: str, named: Sequence[str], key_of: KeyOf | None, if_absent: bool) -> Test:
    likes, folds = base == "StringLike", base == "StringEqualsIgnoreCase"
    found = [tokens(one, wildcards=likes, key_of=key_of) for one in named]
    if not folds:
        return Patterns(found, if_absent=if_absent).fit
    patterns = Patterns([_folded(one) for one in found], if_absent=if_absent)
    return lambda value, lookup: patterns.fit(value.lower(), _folding(lookup))


def _folded(pattern: tuple[Token, ...]) -> tuple[Token, ...]:
    return tuple(
        Variable(one.key, one.default and one.default.lower())
        if isinstance(one, Variable)
        else one.lower()
        if isinstance(one, str)
        else one
        for one in pattern
    )


def _folding(lookup: Lookup) -> Lookup:
    def folded(key: str) -> tuple[str, ...] | None:
        found = lookup(key)
        return found and tuple(one.lower() for one in found)

    return folded


def _arn(named: Sequence[str], key_of: KeyOf | None, if_absent: bool) -> Test:
    found = [tokens(one, wildcards=True, key_of=key_of) for one in named]
    for one, pattern in zip(named, found, strict=True):
        if pattern != (Mark.ANY,) and not is_arn(pattern):
            raise ValueError(f"{one!r} is no ARN")
    patterns = arn_patterns(found, if_absent=if_absent)

    def test(value: str, lookup: Lookup) -> bool:
        return value.startswith("arn:") and patterns.fit(value, lookup)

    return test


def _ip(named: Sequence[str]) -> Test:
    networks = tuple(_read(values.network, one) for one in named)

    def test(value: str, lookup: Lookup) -> bool:
        found = values.address(value)
        if found is None:
            return False
        version, bits = found
        return any(one.version == version and bits & one.mask == one.bits for one in networks)

    return test


def _bool(named: Sequence[str]) -> Test:
    wanted = frozenset(_read(values.boolean, one) for one in named)
    return lambda value, lookup: values.boolean(value) in wanted


def _binary(named: Sequence[str]) -> Test:
    try:
        wanted = frozenset(base64.b64decode(one, validate=True) for one in named)
    except binascii.Error:
        raise ValueError("a binary value is written in base64") from None
    return lambda value, lookup: value.encode("utf-8", "surrogateescape") in wanted


def _ordered(base: str, wanted: Sequence[Decimal], read: Callable[[str], Decimal | None]) -> Test:
    # One of several values is enough, so the largest or smallest stands for all of them.
    if base.endswith("LessThan"):
        most = max(wanted)
        return lambda value, lookup: (found := read(value)) is not None and found < most
    if base.endswith("LessThanEquals"):
        most = max(wanted)
        return lambda value, lookup: (found := read(value)) is not None and found <= most
    if base.endswith("GreaterThan"):
        least = min(wanted)
        return lambda value, lookup: (found := read(value)) is not None and found > least
    if base.endswith("GreaterThanEquals"):
        least = min(wanted)
        return lambda value, lookup: (found := read(value)) is not None and found >= least
    equal = frozenset(wanted)
    return lambda value, lookup: read(value) in equal


def _read(read: Callable[[str], _T | None], text: str) -> _T:
    found = read(text)
    if found is None:
        raise ValueError(f"{text!r} is no value of this operator")
    return found
