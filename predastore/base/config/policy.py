"""What a key of [[auth]] may do: its `policy`, a list of buckets with the actions allowed in them.

Everything that no rule allows is denied. A bucket, and an action, is a name or a pattern, in which
"*" stands for any run of characters. Actions are Amazon's names, whatever their case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from predastore.base import limits

_BUCKET: Final = re.compile(r"[a-z0-9.*-]{1,63}")
_ACTION: Final = re.compile(r"\*|s3:[a-z*]{1,64}", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """In the buckets that `bucket` fits, the actions that one of `actions` fits."""

    bucket: str
    actions: tuple[str, ...]

    def allows(self, action: str) -> bool:
        """Whether it allows the action in its buckets."""
        return any(fits(pattern, action.lower()) for pattern in self.actions)


@dataclass(frozen=True)
class Policy:
    """`rules`: one that allows is enough; without any, nothing is allowed."""

    rules: tuple[Rule, ...] = ()

    def allows(self, action: str, bucket: str) -> bool:
        """Whether it allows the action in the bucket."""
        return any(fits(rule.bucket, bucket) and rule.allows(action) for rule in self.rules)

    def allows_somewhere(self, action: str) -> bool:
        """Whether it allows the action in any bucket there may be."""
        return any(rule.allows(action) for rule in self.rules)

    @property
    def is_everything(self) -> bool:
        """Whether it allows each action in each bucket, so that it limits nothing."""
        return any(
            not rule.bucket.strip("*") and any(one in ("*", "s3:*") for one in rule.actions)
            for rule in self.rules
        )


def fits(pattern: str, text: str) -> bool:
    """Whether the whole text is the pattern, "*" being any run of characters; in linear time."""
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == text
    last = middle.pop()
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def read_policy(value: Any) -> Policy:
    """The policy that the raw value of `policy` says; ValueError with what to write."""
    if not isinstance(value, list):
        raise ValueError(f"expected a list such as {_EXAMPLE}, got {value!r:.80}")
    if len(value) > limits.POLICY_RULES_MAX:
        raise ValueError(f"at most {limits.POLICY_RULES_MAX} rules, got {len(value)}")
    return Policy(tuple(_rules(value)))


_EXAMPLE: Final = '[{ bucket = "my-bucket", actions = ["s3:GetObject"] }]'


def _rules(value: list[Any]) -> Iterator[Rule]:
    for number, raw in enumerate(value, 1):
        if not isinstance(raw, Mapping) or raw.keys() != {"bucket", "actions"}:
            raise ValueError(
                f"rule {number}: expected bucket and actions, as in {_EXAMPLE}, got {raw!r:.80}"
            )
        bucket, actions = raw["bucket"], raw["actions"]
        if not isinstance(bucket, str) or _BUCKET.fullmatch(bucket) is None:
            raise ValueError(
                f'rule {number}: bucket: expected a bucket\'s name, "*", or the beginning of names '
                f'with "*" behind it, got {bucket!r:.80}'
            )
        if not isinstance(actions, list) or len(actions) > limits.POLICY_ACTIONS_MAX:
            raise ValueError(
                f"rule {number}: actions: expected a list of at most {limits.POLICY_ACTIONS_MAX}, "
                f'such as ["s3:GetObject"], got {actions!r:.80}'
            )
        yield Rule(bucket, tuple(_action(number, one) for one in actions))


def _action(number: int, value: Any) -> str:
    if not isinstance(value, str) or _ACTION.fullmatch(value) is None:
        raise ValueError(
            f'rule {number}: actions: expected names such as "s3:GetObject", "s3:Get*" or "s3:*", '
            f"got {value!r:.80}"
        )
    return value.lower()
