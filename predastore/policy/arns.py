"""Amazon Resource Names in policies: arn:partition:service:region:account:resource.

The first five segments of a pattern are each matched alone, so that no wildcard and no variable in
one reaches into the next; the resource is matched as a whole, with all its colons and slashes.
(IAM User Guide, "IAM JSON policy elements: Resource".)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from predastore.policy.facts import Lookup
from predastore.policy.patterns import Mark, Patterns, Token

SEGMENTS: Final = 6
S3: Final = "arn:aws:s3:::"

_PARTITION: Final = re.compile(r"aws(-[a-z]+)*|[a-z*?-]*[*?][a-z*?-]*")
_SERVICE: Final = re.compile(r"[a-z0-9*?-]+")


def arn_patterns(
    patterns: Iterable[tuple[Token, ...]], *, if_absent: bool = False
) -> Patterns | ArnPatterns:
    """Several patterns of ARNs, one of which has to fit. `*` alone fits everything."""
    whole, segmented = [], []
    for pattern in patterns:
        segments = split(pattern)
        if pattern == (Mark.ANY,) or all(_is_literal(one) for one in segments[:-1]):
            whole.append(pattern)
        else:
            segmented.append(tuple(Patterns([one], if_absent=if_absent) for one in segments))
    found = Patterns(whole, if_absent=if_absent)
    return ArnPatterns(found, segmented) if segmented else found


class ArnPatterns:
    """`whole`: patterns whose first five segments are plain text. `segmented`: the others, as one
    for each segment."""

    __slots__ = ("segmented", "whole")

    def __init__(self, whole: Patterns, segmented: Iterable[tuple[Patterns, ...]]) -> None:
        self.whole = whole
        self.segmented = tuple(segmented)

    @property
    def heads(self) -> tuple[str, ...]:
        """Beginnings, one of which each text has that fits."""
        return ("",)

    def fit(self, text: str, lookup: Lookup) -> bool:
        """Whether one of them is the whole text."""
        if self.whole.fit(text, lookup):
            return True
        segments = text.split(":", SEGMENTS - 1)
        return len(segments) == SEGMENTS and any(
            all(one.fit(part, lookup) for one, part in zip(pattern, segments, strict=True))
            for pattern in self.segmented
        )


def split(pattern: tuple[Token, ...]) -> list[tuple[Token, ...]]:
    """The segments of a pattern, as many as there are, at most six."""
    found: list[list[Token]] = [[]]
    for token in pattern:
        if not isinstance(token, str):
            found[-1].append(token)
            continue
        first, *more = token.split(":", SEGMENTS - len(found))
        if first:
            found[-1].append(first)
        found.extend([one] if one else [] for one in more)
    return [tuple(one) for one in found]


def _is_literal(segment: tuple[Token, ...]) -> bool:
    return all(isinstance(token, str) for token in segment)


def is_arn(pattern: tuple[Token, ...]) -> bool:
    """Whether a pattern has the form of an ARN with all of its segments."""
    shapes = [
        "".join(token if isinstance(token, str) else "*" for token in segment)
        for segment in split(pattern)
    ]
    return (
        len(shapes) == SEGMENTS
        and shapes[0] == "arn"
        and _PARTITION.fullmatch(shapes[1]) is not None
        and _SERVICE.fullmatch(shapes[2]) is not None
        and shapes[5] != ""
    )


def completed(text: str) -> str:
    """An ARN that ends early, with `*` for each segment that is not there, as IAM has it."""
    missing = SEGMENTS - 1 - text.count(":")
    is_short = text.startswith("arn:") and "${" not in text and missing > 0
    return text + ":*" * missing if is_short else text
