"""Patterns of the policy language: `*`, `?` and policy variables, matched in linear time.

`*` stands for any run of characters, `?` for one. A variable is `${key}` or `${key, 'default'}`;
its value stands for itself, wildcards in it included. `${*}`, `${?}` and `${$}` are these
characters. (IAM User Guide, "IAM policy elements: Variables and tags".)

A pattern is cut at its `*` into pieces. The first stands at the beginning of the text, the last at
its end, each of the others as early as it can after the one before it: that is enough to decide, so
no piece is looked for twice and no two searches look at the same characters. A piece without `?` is
found by `str.find`, one with `?` by that of its longest plain text, and from there by Shift-And
(Baeza-Yates and Gonnet, 1992) at one step a character. No regular expression is built.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from predastore.base import limits
from predastore.policy.facts import Lookup


class Mark(enum.Enum):
    """A wildcard of a pattern."""

    ANY = "*"
    ONE = "?"


class Variable(NamedTuple):
    """`${key, 'default'}`; `default` is None where there is none."""

    key: str
    default: str | None


Token = str | Mark | Variable

_T = TypeVar("_T")
_CHARS_MAX: Final = limits.POLICY_VARIABLE_CHARS_MAX
_MARKS: Final = {"*": Mark.ANY, "?": Mark.ONE}
_SPECIAL: Final = frozenset("*?$")
_ESCAPED: Final = ("*", "?", "$")


def tokens(text: str, *, wildcards: bool, key_of: Callable[[str], str] | None) -> tuple[Token, ...]:
    """The tokens of a pattern, no two literals side by side. `key_of`: the key that a variable
    names, in its one spelling; None where variables are plain text. ValueError for what is no
    variable."""
    if _SPECIAL.isdisjoint(text):
        return (text,) if text else ()
    found: list[Token] = []
    literal: list[str] = []
    at = 0
    while at < len(text):
        token: Token = text[at]
        ahead = at + 1
        if key_of is not None and text.startswith("${", at):
            end = _end_of_variable(text, at)
            token, ahead = _variable(text[at + 2 : end], key_of), end + 1
        elif wildcards:
            token = _MARKS.get(text[at], text[at])
        at = ahead
        if isinstance(token, str):
            literal.append(token)
            continue
        if literal:
            found.append("".join(literal))
            literal.clear()
        found.append(token)
    if literal:
        found.append("".join(literal))
    return tuple(found)


def _end_of_variable(text: str, at: int) -> int:
    end = text.find("}", at)
    if end < 0:
        raise ValueError("a variable has no end")
    return end


def _variable(inner: str, key_of: Callable[[str], str]) -> Token:
    if inner in _ESCAPED:
        return inner
    name, comma, rest = inner.partition(",")
    default = rest.strip()
    if not comma:
        return Variable(key_of(name.strip()), None)
    if len(default) < 2 or not default.startswith("'") or not default.endswith("'"):
        raise ValueError("the default of a variable stands in single quotes")
    return Variable(key_of(name.strip()), default[1:-1])


class _Masked:
    """A piece with `?`: `masks` has a bit for each place where a character fits. `run`: its longest
    plain text, `ahead` of which other characters stand."""

    __slots__ = ("ahead", "anywhere", "goal", "length", "masks", "run")

    def __init__(self, piece: Sequence[str | Mark]) -> None:
        places = [one for token in piece for one in (token if isinstance(token, str) else (None,))]
        self.length = len(places)
        self.goal = 1 << (self.length - 1)
        self.run, self.ahead = _longest_run(places)
        self.anywhere = sum(1 << n for n, one in enumerate(places) if one is None)
        self.masks: dict[str, int] = {}
        for number, one in enumerate(places):
            if one is not None:
                self.masks[one] = self.masks.get(one, self.anywhere) | 1 << number

    def find(self, text: str, at: int, end: int) -> int:
        """Where it stands first in text[at:end]; -1 if nowhere."""
        found = text.find(self.run, at + self.ahead, end)
        if found < 0:
            return -1
        at = found - self.ahead
        state, masks, anywhere, goal = 0, self.masks, self.anywhere, self.goal
        for number, one in enumerate(text[at:end], at + 1):
            state = (state << 1 | 1) & masks.get(one, anywhere)
            if state & goal:
                return number - self.length
        return -1


def _longest_run(places: Sequence[str | None]) -> tuple[str, int]:
    """The longest plain text among the places, "" if there is none, and how many stand ahead."""
    best, best_at, run = "", 0, ""
    for number, one in enumerate((*places, None)):
        if one is not None:
            run += one
            continue
        if len(run) > len(best):
            best, best_at = run, number - len(run)
        run = ""
    return best, best_at


Piece = str | _Masked


def pieces_of(pattern: Iterable[str | Mark]) -> list[Piece]:
    """The pieces between the `*` of a pattern; one without `*` has one piece."""
    return [_fixed(piece) for piece in _cut(pattern)]


def _cut(pattern: Iterable[_T]) -> list[list[_T]]:
    found: list[list[_T]] = [[]]
    for token in pattern:
        if token is Mark.ANY:
            found.append([])
        else:
            found[-1].append(token)
    return found


def _fixed(piece: Iterable[Token]) -> Piece:
    """A piece without variables."""
    plain = [token for token in piece if not isinstance(token, Variable)]
    texts = [token for token in plain if isinstance(token, str)]
    return "".join(texts) if len(texts) == len(plain) else _Masked(plain)


def fits(pieces: Sequence[Piece], text: str) -> bool:
    """Whether the whole text is the pattern."""
    first, last = pieces[0], pieces[-1]
    at = _length(first)
    if len(pieces) == 1:
        return len(text) == at and _stands(first, text, 0)
    end = len(text) - _length(last)
    if at > end or not _stands(first, text, 0) or not _stands(last, text, end):
        return False
    for piece in pieces[1:-1]:
        found = (
            piece.find(text, at, end) if isinstance(piece, _Masked) else text.find(piece, at, end)
        )
        if found < 0:
            return False
        at = found + _length(piece)
    return True


def _length(piece: Piece) -> int:
    return piece.length if isinstance(piece, _Masked) else len(piece)


def _plain(piece: Piece) -> str:
    """The piece, if it has no `?`."""
    return piece if isinstance(piece, str) else ""


def _stands(piece: Piece, text: str, at: int) -> bool:
    if isinstance(piece, _Masked):
        return piece.find(text, at, at + piece.length) == at
    return text.startswith(piece, at)


class Template:
    """A pattern with variables. `if_absent`: the answer where a variable has no value and no
    default (or several values, or a longer one than variables have)."""

    __slots__ = ("_pieces", "head", "if_absent")

    def __init__(self, pattern: tuple[Token, ...], *, if_absent: bool) -> None:
        self.if_absent = if_absent
        self.head = pattern[0] if isinstance(pattern[0], str) else ""
        self._pieces = [
            tuple(piece) if any(isinstance(token, Variable) for token in piece) else _fixed(piece)
            for piece in _cut(pattern)
        ]

    def fits(self, text: str, lookup: Lookup) -> bool:
        """Whether the whole text is the pattern, with the values that variables have now."""
        if not self.if_absent and not text.startswith(self.head):
            return False
        resolved: list[Piece] = []
        for piece in self._pieces:
            if not isinstance(piece, tuple):
                resolved.append(piece)
                continue
            found = _resolved(piece, lookup)
            if found is None:
                return self.if_absent
            resolved.append(found)
        return fits(resolved, text)


def _resolved(piece: tuple[Token, ...], lookup: Lookup) -> Piece | None:
    found: list[str | Mark] = []
    for token in piece:
        if not isinstance(token, Variable):
            found.append(token)
            continue
        values = lookup(token.key)
        if values is not None and len(values) == 1 and len(values[0]) <= _CHARS_MAX:
            found.append(values[0])
        elif not values and token.default is not None:
            found.append(token.default)
        else:
            return None
    return _fixed(found)


class Patterns:
    """Several patterns, one of which has to fit. Those that are plain text, or plain text and a
    `*`, are tried all at once."""

    __slots__ = ("exact", "others", "prefixes", "templates")

    def __init__(self, patterns: Iterable[tuple[Token, ...]], *, if_absent: bool = False) -> None:
        exact, prefixes, others, templates = set(), [], [], []
        for pattern in patterns:
            static = [token for token in pattern if not isinstance(token, Variable)]
            if len(static) < len(pattern):
                templates.append(Template(pattern, if_absent=if_absent))
                continue
            pieces = pieces_of(static)
            if len(pieces) == 1 and isinstance(pieces[0], str):
                exact.add(pieces[0])
            elif len(pieces) == 2 and isinstance(pieces[0], str) and pieces[1] == "":
                prefixes.append(pieces[0])
            else:
                others.append((_plain(pieces[0]), _plain(pieces[-1]), pieces))
        self.exact = frozenset(exact)
        self.prefixes = tuple(prefixes)
        self.others = tuple(others)
        self.templates = tuple(templates)

    def fit(self, text: str, lookup: Lookup) -> bool:
        """Whether one of them is the whole text."""
        if text in self.exact or text.startswith(self.prefixes):
            return True
        for head, tail, pieces in self.others:
            if text.endswith(tail) and text.startswith(head) and fits(pieces, text):
                return True
        templates = self.templates
        return bool(templates) and any(template.fits(text, lookup) for template in templates)

    @property
    def heads(self) -> tuple[str, ...]:
        """Beginnings, one of which each text has that fits."""
        others = (head for head, _, _ in self.others)
        templates = ("" if one.if_absent else one.head for one in self.templates)
        return (*self.exact, *self.prefixes, *others, *templates)
