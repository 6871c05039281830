"""Wildcards and variables: what fits, and that no text and no pattern makes it slow."""

from __future__ import annotations

from random import Random

import pytest

from predastore.base import limits
from predastore.policy.arns import arn_patterns
from predastore.policy.patterns import Mark, Patterns, fits, pieces_of, tokens
from reference import policy_model

NAMES = {"user": ("bob",), "star": ("*",), "two": ("a", "b"), "empty": ("",), "path": ("a/b:c",)}


def fit(pattern: str, text: str, *, if_absent: bool = False) -> bool:
    found = tokens(pattern, wildcards=True, key_of=str)
    return Patterns([found], if_absent=if_absent).fit(text, NAMES.get)


def static(pattern: str) -> list[str | Mark]:
    return [{"*": Mark.ANY, "?": Mark.ONE}.get(one, one) for one in pattern]


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("", [""], ["a"]),
        ("abc", ["abc"], ["", "ab", "abcd", "xabc"]),
        ("*", ["", "a", "a/b"], []),
        ("?", ["a", "é", "*"], ["", "ab"]),
        ("a*", ["a", "ab", "a/b"], ["", "ba"]),
        ("*a", ["a", "ba", "aa"], ["", "ab"]),
        ("a*a", ["aa", "aba"], ["a", "ab"]),
        ("**", ["", "a"], []),
        ("a?*c", ["abc", "abxc"], ["ac", "abx"]),
        ("*ab*ab*", ["abab", "xabyabz"], ["ab", "aba"]),
        ("*a?c*a?c", ["abcadc", "xa-cya-c"], ["abc", "abca"]),
        ("a.*", ["a.b"], ["ab", "axb"]),
        ("[ab]", ["[ab]"], ["a"]),
    ],
)
def test_wildcards_stand_for_characters(
    pattern: str, fitting: list[str], others: list[str]
) -> None:
    assert [fit(pattern, text) for text in fitting] == [True] * len(fitting)
    assert [fit(pattern, text) for text in others] == [False] * len(others)


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("home/${user}/*", ["home/bob/", "home/bob/x"], ["home/alice/x", "home/${user}/x"]),
        ("${ user }", ["bob"], [" bob "]),
        ("${none, 'x'}", ["x"], ["", "'x'"]),
        ("${none,'*'}", ["*"], ["anything"]),
        ("${none, ''}", [""], ["x"]),
        ("${user, 'x'}", ["bob"], ["x"]),
        ("${none}", [], ["", "none", "${none}"]),
        ("${two, 'x'}", [], ["a", "b", "x"]),
        ("${star}", ["*"], ["", "bob"]),
        ("${empty}x", ["x"], ["ax"]),
        ("${path}*", ["a/b:c", "a/b:cd"], ["a"]),
        ("${*}${?}${$}", ["*?$"], ["abc", "${*}?$"]),
        ("?${user}?", ["xbobx"], ["bob", "xbob"]),
        ("*${user}*${user}", ["bobbob", "xbobxbob"], ["bob", "bobo"]),
        ("$user {x}", ["$user {x}"], ["bob"]),
    ],
)
def test_variables_stand_for_values_as_they_are(
    pattern: str, fitting: list[str], others: list[str]
) -> None:
    assert [fit(pattern, text) for text in fitting] == [True] * len(fitting)
    assert [fit(pattern, text) for text in others] == [False] * len(others)


def test_without_variables_in_the_language_they_are_plain_text() -> None:
    found = Patterns([tokens("a${user}*", wildcards=True, key_of=None)])
    assert found.fit("a${user}b", NAMES.get)
    assert not found.fit("abob", NAMES.get)


def test_a_variable_has_no_value_that_is_too_long() -> None:
    most = limits.POLICY_VARIABLE_CHARS_MAX
    found = Patterns([tokens("${long}", wildcards=True, key_of=str)])
    assert found.fit("x" * most, lambda key: ("x" * most,))
    assert not found.fit("x" * (most + 1), lambda key: ("x" * (most + 1),))


def test_a_variable_without_a_value_answers_what_is_said() -> None:
    assert fit("x${none}", "anything", if_absent=True)
    assert not fit("x${none}", "anything", if_absent=False)


@pytest.mark.parametrize("pattern", ["${user", "a${", "${a, b}", "${a, 'b}", "${a, '}"])
def test_what_is_no_variable_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="variable"):
        tokens(pattern, wildcards=True, key_of=str)


def test_patterns_fit_as_the_plain_model_says() -> None:
    random = Random(16)
    for _ in range(20_000):
        pattern = "".join(random.choices("ab*?", k=random.randint(0, 9)))
        text = "".join(random.choices("ab", k=random.randint(0, 12)))
        plain = policy_model.expand(pattern, True, False, {})
        assert fit(pattern, text) == policy_model.like(plain or [], text), (pattern, text)


def test_an_arn_is_taken_segment_by_segment() -> None:
    def fit_arn(pattern: str, text: str) -> bool:
        found = tokens(pattern, wildcards=True, key_of=str)
        return arn_patterns([found]).fit(text, NAMES.get)

    assert fit_arn("arn:aws:s3:::b/*", "arn:aws:s3:::b/x:y/z")
    assert fit_arn("arn:*:s3:::b/?", "arn:aws-cn:s3:::b/x")
    assert fit_arn("*", "anything")
    assert not fit_arn("arn:aws:*:b", "arn:aws:s3:::b")
    assert not fit_arn("arn:*:b/x", "arn:aws:s3:::b/x")
    assert not fit_arn("arn:aws:iam:*:user/x", "arn:aws:iam::1:user/x")
    assert not fit_arn("arn:aws:s3::${path}:b", "arn:aws:s3::a/b:c:b")


class Watched(str):
    """Counts what is asked of a text: searches, and the characters that they may look at."""

    searches = 0
    looked_at = 0

    def find(self, piece: str, start: int = 0, end: int | None = None) -> int:
        stop = len(self) if end is None else end
        found = super().find(piece, start, stop)
        Watched.searches += 1
        Watched.looked_at += (stop if found < 0 else found + len(piece)) - start
        return found

    def __getitem__(self, index: object) -> str:
        part = super().__getitem__(index)
        Watched.searches += 1
        Watched.looked_at += len(part)
        return part


@pytest.mark.parametrize(
    "pattern",
    [
        "a*" * 500 + "b",
        "*a" * 500 + "*b",
        "*" + "a" * 500 + "b*",
        "*aab" * 100 + "*",
        "*" * 1000 + "b",
        "*" + "aaaaaaab*" * 50,
        "a*" * 200 + "c" + "*a" * 200,
    ],
)
def test_no_character_is_looked_at_by_two_searches(pattern: str) -> None:
    pieces = pieces_of(static(pattern))
    text = Watched("a" * 1200)
    Watched.searches = Watched.looked_at = 0
    fits(pieces, text)
    assert Watched.searches <= len(pieces)
    assert Watched.looked_at <= len(text)


class Stepped(dict[str, int]):
    """The masks of a piece with `?`, which are asked once a step."""

    steps = 0

    def get(self, key: str, default: int = 0) -> int:
        Stepped.steps += 1
        return super().get(key, default)


@pytest.mark.parametrize(
    "pattern", ["*?a?a?a?ab*", "*" + "?" * 300 + "b*", "*a?" * 200 + "*b?*", "*??b" * 100 + "*"]
)
def test_a_piece_with_single_wildcards_takes_one_step_a_character(pattern: str) -> None:
    pieces = pieces_of(static(pattern))
    for piece in pieces:
        if not isinstance(piece, str):
            piece.masks = Stepped(piece.masks)
    Stepped.steps = 0
    fits(pieces, "a" * 1200)
    assert Stepped.steps <= 1200
