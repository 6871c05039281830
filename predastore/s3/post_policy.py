"""The policy of a form: what a signer allows whoever has the form to upload.

Source: "POST Policy" in the Amazon S3 API Reference. JSON in base64:

    {"expiration": "2030-01-01T00:00:00Z",
     "conditions": [{"acl": "private"}, ["eq", "$key", "a"], ["starts-with", "$key", "user/"],
                    ["content-length-range", 0, 1048576]]}

Names of fields and of operations are compared whatever their case. All conditions must hold, of the
fields with their variables replaced, and each field must have one, but for those that sign, `file`,
`policy` and x-ignore-*. `bucket` counts as a field: a form is for the bucket that its policy names.
A field that is not there fulfils no condition.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, NoReturn

from predastore.base import limits
from predastore.base.errors import S3Error

BUCKET: Final = "bucket"
_FREE: Final = frozenset({"x-amz-signature", "signature", "awsaccesskeyid", "file", "policy"})
_FREE_PREFIX: Final = "x-ignore-"
_EQ, _STARTS, _RANGE = "eq", "starts-with", "content-length-range"
# JSON has no \$ and no \v, but S3's policies have ("POST Policy", "Escaping").
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_DIGITS_MAX: Final = 18  # of a number of bytes
_OF_S3: Final = {"$": "$", "v": "\\u000b"}


class FieldCondition(NamedTuple):
    """`name` as the policy has it; `operation` in lower case."""

    operation: str
    name: str
    value: str

    def holds(self, fields: Mapping[str, str]) -> bool:
        found = fields.get(self.name.lower())
        if found is None:
            return False
        if self.operation == _EQ:
            return found == self.value
        if self.name.lower() == "content-type":  # a list of them: each one
            return all(one.strip().startswith(self.value) for one in found.split(","))
        return found.startswith(self.value)

    def __str__(self) -> str:
        return json.dumps([self.operation, f"${self.name}", self.value], ensure_ascii=False)


class SizeRange(NamedTuple):
    """How many bytes the file may have, both included."""

    least: int = 0
    most: int = limits.S3_PUT_BYTES_MAX

    def check(self, least_bytes: int, most_bytes: int) -> None:
        """EntityTooLarge or EntityTooSmall for a file that has so many bytes: at least, at most."""
        if least_bytes > self.most:
            proposed = str(max(least_bytes, most_bytes))
            raise S3Error("EntityTooLarge", ProposedSize=proposed, MaxSizeAllowed=str(self.most))
        if most_bytes < self.least:
            raise S3Error(
                "EntityTooSmall", ProposedSize=str(most_bytes), MinSizeAllowed=str(self.least)
            )


class PostPolicy(NamedTuple):
    expires_s: float
    conditions: tuple[FieldCondition, ...]
    size: SizeRange

    def check(self, fields: Mapping[str, str], bucket: str, now_s: float) -> None:
        """AccessDenied unless it allows this form (lower-case names), for that bucket, now."""
        if now_s > self.expires_s:
            raise _denied("Policy expired.")
        judged = {**fields, BUCKET: bucket}
        for condition in self.conditions:
            if not condition.holds(judged):
                raise _denied(f"Policy Condition failed: {condition}")
        known = {condition.name.lower() for condition in self.conditions}
        extra = [
            name
            for name in judged
            if name not in known and name not in _FREE and not name.startswith(_FREE_PREFIX)
        ]
        if extra:
            raise _denied(f"Extra input fields: {', '.join(extra)}")


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that no property hides another of its name."""


def parse_policy(encoded: str) -> PostPolicy:
    """The policy of a form; InvalidPolicyDocument."""
    try:
        text = base64.b64decode("".join(encoded.split()), validate=True).decode()
        document = json.loads(
            _ESCAPE.sub(_unescaped, text), object_pairs_hook=_Object, parse_constant=_refuse
        )
    except (binascii.Error, ValueError, RecursionError):
        raise _invalid("Invalid JSON.") from None
    if not isinstance(document, _Object):
        raise _invalid("Invalid JSON.")
    found = dict(document)
    for name in ("expiration", "conditions"):
        if name not in found:
            raise _invalid(f"Policy missing {name}.")
    if len(document) > len(found) or len(found) > 2:
        raise _invalid("Unexpected or repeated property.")
    conditions = found["conditions"]
    if not isinstance(conditions, list) or isinstance(conditions, _Object):
        raise _invalid("Invalid 'conditions' value: must be a List.")
    return _policy(_expiration(found["expiration"]), conditions)


def _unescaped(match: re.Match[str]) -> str:
    return _OF_S3.get(match[1], match[0])


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _expiration(value: object) -> float:
    try:
        if not isinstance(value, str):
            raise TypeError("a time is a text")
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError("it names no zone")
        return at.timestamp()
    except (TypeError, ValueError, OverflowError):
        shown = str(value)[: limits.S3_DETAIL_CHARS_MAX]
        raise _invalid(f"Invalid 'expiration' value: '{shown}'") from None


def _policy(expires_s: float, documents: list[Any]) -> PostPolicy:
    conditions: list[FieldCondition] = []
    size = SizeRange()
    for one in documents:
        if isinstance(one, _Object):
            conditions.append(_simple(one))
        elif not isinstance(one, list) or not one or not isinstance(one[0], str):
            raise _invalid("Invalid Condition: must be an object, or a list with an operation.")
        elif one[0].lower() == _RANGE:
            least, most = _range(one)
            size = SizeRange(max(size.least, least), min(size.most, most))
        else:
            conditions.append(_condition(one))
    return PostPolicy(expires_s, tuple(conditions), size)


def _simple(pairs: _Object) -> FieldCondition:
    what = "Invalid Simple-Condition: "
    if len(pairs) != 1:
        raise _invalid(f"{what}Simple-Conditions must have exactly one property specified.")
    name, value = pairs[0]
    if not isinstance(value, str):
        raise _invalid(f"{what}value must be a string.")
    return FieldCondition(_EQ, name, value)


def _condition(parts: list[Any]) -> FieldCondition:
    operation = parts[0].lower()
    if operation not in (_EQ, _STARTS):
        raise _invalid("Invalid Condition: unknown operation.")
    if len(parts) != 3:
        raise _invalid(f"Invalid Condition: {operation} takes 2 arguments.")
    _, name, value = parts
    if not isinstance(name, str) or not isinstance(value, str) or name[:1] != "$" or name == "$":
        raise _invalid(f"Invalid Condition: {operation} takes a field, $name, and a string.")
    return FieldCondition(operation, name[1:], value)


def _range(parts: list[Any]) -> tuple[int, int]:
    numbers = [_number(one) for one in parts[1:]]
    if len(numbers) != 2:
        raise _invalid(f"Invalid {_RANGE}: it takes 2 arguments.")
    return numbers[0], numbers[1]


def _number(value: object) -> int:
    text = str(value) if type(value) in (int, str) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise _invalid(f"Invalid {_RANGE}: its arguments are numbers of bytes.")
    return int(text)


def _denied(why: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {why}")


def _invalid(why: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {why}")
