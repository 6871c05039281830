"""The `policy` of a key of [[auth]] as an identity policy: the same rights in the other form."""

from __future__ import annotations

from typing import Final

from predastore.base.config.policy import Policy
from predastore.policy.arns import S3
from predastore.policy.document import PolicyDocument, PolicyKind
from predastore.policy.facts import Lookup
from predastore.policy.patterns import Patterns, tokens
from predastore.policy.statement import Statement

_EVERY_BUCKET: Final = f"{S3}*"  # the resource of an action that is of no bucket


class _Buckets:
    """Buckets by a pattern, which never reaches into keys; what is of no bucket is within it."""

    __slots__ = ("_names",)

    def __init__(self, pattern: str) -> None:
        self._names = Patterns([tokens(pattern, wildcards=True, key_of=None)])

    @property
    def heads(self) -> tuple[str, ...]:
        """Beginnings, one of which each resource has that fits."""
        return ("",)

    def fit(self, text: str, lookup: Lookup, /) -> bool:
        """Whether the resource is one of the buckets, or in one of them."""
        if text == _EVERY_BUCKET:
            return True
        name = text.removeprefix(S3).partition("/")[0]
        return text.startswith(S3) and self._names.fit(name, lookup)


def from_rules(policy: Policy, *, name: str = "policy of [[auth]]") -> PolicyDocument:
    """The identity policy with the rights of `policy`; its statements are the rules in order."""
    return PolicyDocument(
        PolicyKind.IDENTITY,
        name,
        (
            Statement(
                f"[{index}]",
                allows=True,
                actions=Patterns(
                    tokens(action, wildcards=True, key_of=None) for action in rule.actions
                ),
                resources=_Buckets(rule.bucket),
            )
            for index, rule in enumerate(policy.rules)
        ),
    )
