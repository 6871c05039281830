"""One statement, compiled: to which requests it applies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from predastore.policy.conditions import PolicyCondition, all_hold
from predastore.policy.facts import Lookup, Principal, Side
from predastore.policy.patterns import Patterns
from predastore.policy.principals import Principals


class ResourceMatcher(Protocol):
    """What a statement is about."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Beginnings, one of which each resource has that fits."""

    def fit(self, text: str, lookup: Lookup, /) -> bool:
        """Whether it is about the resource."""


class Statement:
    """A statement. `name`: its Sid, or its index as "[2]". `actions` in lower case. `resources`:
    None for all. `principals`: None where the document is of an identity."""

    __slots__ = (
        "actions",
        "allows",
        "conditions",
        "excludes_actions",
        "excludes_resources",
        "name",
        "principals",
        "resources",
    )

    def __init__(
        self,
        name: str,
        *,
        allows: bool,
        actions: Patterns,
        resources: ResourceMatcher | None,
        excludes_actions: bool = False,
        excludes_resources: bool = False,
        principals: Principals | None = None,
        conditions: Iterable[PolicyCondition] = (),
    ) -> None:
        self.name = name
        self.allows = allows
        self.actions = actions
        self.resources = resources
        self.excludes_actions = excludes_actions
        self.excludes_resources = excludes_resources
        self.principals = principals
        self.conditions = tuple(conditions)

    @property
    def heads(self) -> tuple[str, ...]:
        """Beginnings, one of which each resource has that it is about."""
        if self.resources is None or self.excludes_resources:
            return ("",)
        return self.resources.heads

    def is_about(self, action: str) -> bool:
        """Whether it is about the action, in lower case."""
        return self.actions.fit(action, _no_variables) != self.excludes_actions

    def applies(self, resource: str, lookup: Lookup) -> bool:
        """Whether it is about the resource, and its conditions hold."""
        resources = self.resources
        if resources is not None and resources.fit(resource, lookup) == self.excludes_resources:
            return False
        return not self.conditions or all_hold(self.conditions, lookup)

    def grant(self, principal: Principal, resource: str, lookup: Lookup) -> Side:
        """How far it applies to the principal, if it applies; NONE if not."""
        resources = self.resources
        if resources is not None and resources.fit(resource, lookup) == self.excludes_resources:
            return Side.NONE
        grant = Side.NONE if self.principals is None else self.principals.grant(principal)
        if grant and self.conditions and not all_hold(self.conditions, lookup):
            return Side.NONE
        return grant


def _no_variables(key: str) -> tuple[str, ...] | None:
    """Patterns of actions have none."""
    return None
