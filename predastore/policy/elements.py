"""A document as JSON: bounded, without names that stand twice, each place with its name.

JSON's numbers and booleans are read as their text, since the language compares texts; `Bare` marks
them where only a string may stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from predastore.base import limits
from predastore.policy.errors import PolicyError

# It has no way to fail once it began, so it never goes back.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[\]{}]")


class Bare(str):
    """A number or a boolean."""

    __slots__ = ()


class Where:
    """Where something stands, as `Statement[2].Condition.StringEquals`."""

    __slots__ = ("text",)

    def __init__(self, text: str = "") -> None:
        self.text = text

    def __truediv__(self, name: str) -> Where:
        """What stands under `name` there."""
        return Where(f"{self.text}.{quoted(name)}" if self.text else quoted(name))

    def at(self, index: int) -> Where:
        """What stands at the index there."""
        return Where(f"{self.text}[{index}]")


def quoted(text: str) -> str:
    """A document's own words, cut where they are long."""
    most = limits.POLICY_QUOTED_CHARS_MAX
    return text if len(text) <= most else text[:most] + "..."


def read_object(text: bytes) -> dict[str, Any]:
    """The object that the text is. PolicyError for anything else."""
    if len(text) > limits.POLICY_DOCUMENT_BYTES_MAX:
        raise PolicyError(
            f"Policy exceeds the maximum allowed document size of "
            f"{limits.POLICY_DOCUMENT_BYTES_MAX} bytes"
        )
    if not text.startswith(b"{"):
        raise PolicyError("Policies must be valid JSON and the first byte must be '{'")
    _check_depth(text)
    try:
        decoded = text.decode("utf-8")
        found = json.loads(
            decoded,
            object_pairs_hook=_object,
            parse_int=Bare,
            parse_float=Bare,
            parse_constant=_refuse_constant,
        )
        # A half of a surrogate pair, escaped, is no character.
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except ValueError as error:
        raise PolicyError(f"Policies must be valid JSON: {_of_json(error)}") from None
    return found if isinstance(found, dict) else {}


def _of_json(error: ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    return str(error)


def _check_depth(text: bytes) -> None:
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", text)):
        depth += 1 if bracket in b"[{" else -1
        if depth > limits.POLICY_DEPTH_MAX:
            raise PolicyError("Invalid policy syntax. The document is nested too deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise PolicyError(f"Invalid policy syntax. The field {quoted(name)} stands twice")
        found[name] = Bare(str(value).lower()) if isinstance(value, bool) else value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def strings(value: Any, place: Where, *, numbers: bool = False) -> tuple[str, ...]:
    """One string, or a list of them. `numbers`: numbers and booleans are taken as well."""
    found = tuple(_strings(value, place, numbers))
    return tuple(dict.fromkeys(found))


def _strings(value: Any, place: Where, numbers: bool) -> Iterator[str]:
    for one in value if isinstance(value, list) else (value,):
        if numbers and isinstance(one, bool):
            yield str(one).lower()
        elif not isinstance(one, str) or (isinstance(one, Bare) and not numbers):
            raise PolicyError("Invalid policy syntax. Expected a string", place.text)
        else:
            yield str(one)
