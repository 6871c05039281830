"""The Principal of a statement: read, checked, and how far it means who asks.

(IAM User Guide, "AWS JSON policy elements: Principal", and "NotPrincipal".) `*` and `{"AWS": "*"}`
are everybody, who signs nothing included. An account (its id, or the ARN of its root) is all of its
principals, but what it is given its own identity policies have to pass on. The ARN of a role is
each session of it. No other wildcards are taken. A service is a name that nobody here has.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from predastore.policy.elements import Where, quoted, strings
from predastore.policy.errors import PolicyError
from predastore.policy.facts import Principal, PrincipalKind, Side

_ACCOUNT: Final = re.compile(r"[0-9]{12}", re.ASCII)
_WORD: Final = r"[\w+=,.@-]+"
_ARN: Final = re.compile(
    rf"arn:aws(?:-[a-z]+)*:(?:iam::({_WORD}):root"
    rf"|iam::{_WORD}:(?:user|role)/(?:[!-~]+/)?{_WORD}"
    rf"|sts::{_WORD}:assumed-role/{_WORD}/{_WORD}"
    rf"|sts::{_WORD}:federated-user/{_WORD})",
    re.ASCII,
)
_CANONICAL: Final = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_PROVIDER: Final = re.compile(
    rf"arn:aws(?:-[a-z]+)*:iam::{_WORD}:(?:oidc-provider|saml-provider)/[!-~]+"
    r"|[a-z0-9-]+(?:\.[a-z0-9-]+)+(?:/[!-~]*)?",
    re.ASCII,
)
_SERVICE: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?", re.ASCII)
_INVALID: Final = "Invalid principal in policy"


class Principals(NamedTuple):
    """Whom a statement names. `excluded`: it means everybody but these."""

    everybody: bool = False
    accounts: frozenset[str] = frozenset()
    arns: frozenset[str] = frozenset()
    canonical_ids: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    excluded: bool = False

    def grant(self, principal: Principal) -> Side:
        """How far the statement means the principal."""
        if self.excluded:
            return Side.NONE if self._named(principal) else Side.PRINCIPAL
        return self._named(principal)

    def _named(self, principal: Principal) -> Side:
        if principal.arn and principal.arn in self.arns:
            return Side.SESSION
        if self.everybody:
            return Side.PRINCIPAL
        if principal.role_arn and principal.role_arn in self.arns:
            return Side.PRINCIPAL
        if principal.provider and principal.provider in self.providers:
            return Side.PRINCIPAL
        if (principal.account and principal.account in self.accounts) or (
            principal.canonical_id and principal.canonical_id in self.canonical_ids
        ):
            is_root = principal.kind is PrincipalKind.ROOT
            return Side.PRINCIPAL if is_root else Side.ACCOUNT
        return Side.NONE


def read_principals(value: Any, place: Where, *, excluded: bool) -> Principals:
    """The principals of `Principal`, or of `NotPrincipal` (`excluded`)."""
    if value == "*":
        return Principals(everybody=True, excluded=excluded)
    if not isinstance(value, dict) or not value:
        raise PolicyError(_INVALID, place.text)
    everybody = False
    accounts: set[str] = set()
    named: dict[str, set[str]] = {"AWS": set(), "CanonicalUser": set(), "Federated": set()}
    for kind, raw in value.items():
        inner = place / kind
        for text in _listed(raw, inner):
            if kind == "AWS" and text == "*":
                everybody = True
            elif kind == "AWS" and (account := _account(text)):
                accounts.add(account)
            elif not _is_of(kind, text):
                raise PolicyError(f"{_INVALID}: {quoted(text)}", inner.text)
            elif kind != "Service":
                named[kind].add(text)
    return Principals(
        everybody,
        frozenset(accounts),
        frozenset(named["AWS"]),
        frozenset(named["CanonicalUser"]),
        frozenset(named["Federated"]),
        excluded,
    )


def _listed(raw: Any, place: Where) -> tuple[str, ...]:
    found = strings(raw, place)
    if not found:
        raise PolicyError(_INVALID, place.text)
    return found


def _account(text: str) -> str:
    if _ACCOUNT.fullmatch(text):
        return text
    found = _ARN.fullmatch(text)
    return (found and found.group(1)) or ""


_FORMS: Final = {
    "AWS": _ARN,
    "CanonicalUser": _CANONICAL,
    "Federated": _PROVIDER,
    "Service": _SERVICE,
}


def _is_of(kind: str, text: str) -> bool:
    form = _FORMS.get(kind)
    return form is not None and form.fullmatch(text) is not None
