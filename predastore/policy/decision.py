"""How a decision comes about.

An explicit deny in any document wins. Then what is allowed is looked for, first in the identity
policies, within what a boundary and the session's policies leave; then on the side of the resource
(its policy, ACLs). Within an account one of the two is enough; across accounts both have to allow.
(IAM User Guide, "Policy evaluation logic"; Amazon S3 User Guide, "How Amazon S3 authorizes a
request".)

Two things stand above the rules: the root of an account needs no identity policy, and the root of a
bucket's owner may always read, put and delete the bucket's policy, so that nobody is locked out for
good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from predastore.policy.document import PolicyDocument
from predastore.policy.facts import (
    AccessRequest,
    Decision,
    Lookup,
    Policies,
    Principal,
    PrincipalKind,
    Side,
    Why,
)
from predastore.policy.statement import Statement

_ROOT: Final = "root of the account"
_BOUNDARY: Final = "permissions boundary"
_SESSION: Final = "session policy"
_NEVER_LOCKED_OUT: Final = frozenset(
    {"s3:getbucketpolicy", "s3:putbucketpolicy", "s3:deletebucketpolicy"}
)
# Who has no account of its own: the resource's side alone decides.
_STRANGERS: Final = (PrincipalKind.ANONYMOUS, PrincipalKind.FEDERATED)
_NOTHING: Final = Decision(Why.IMPLICIT_DENY)


def decide(request: AccessRequest, policies: Policies) -> Decision:
    """Whether the request may go on, why, and which statement decided."""
    principal = request.principal
    is_owner = principal.account == request.resource_account and principal.account != ""
    if (
        principal.kind is PrincipalKind.ROOT
        and is_owner
        and request.action.lower() in _NEVER_LOCKED_OUT
    ):
        return Decision(Why.ALLOWED, _ROOT)
    lookup = _with_own_keys(request)
    denied = _denied(request, policies, lookup)
    if denied is not None:
        return denied
    identity = None
    if principal.kind not in _STRANGERS:
        identity = _allowed_by_identity(request, policies, lookup)
    owner = request.object_account or request.resource_account
    is_home = principal.account == owner and principal.account != ""
    if identity is not None and is_home:
        limit = _limit(request, policies, lookup)
        if limit is None:
            return identity
    grant, granted = _granted(request, policies, lookup, is_owner=is_owner)
    if principal.kind in _STRANGERS:
        return granted if grant >= Side.PRINCIPAL else _NOTHING
    if is_home:
        return _at_home(request, policies, lookup, grant, granted, identity)
    if identity is None or grant is Side.NONE:
        return _NOTHING
    return _limit(request, policies, lookup) or granted


def _at_home(
    request: AccessRequest,
    policies: Policies,
    lookup: Lookup,
    grant: Side,
    granted: Decision,
    identity: Decision | None,
) -> Decision:
    """Within the account: the identity's side does not allow it, or what limits it does not."""
    if grant is Side.SESSION and _is_unlimited(request.principal, policies):
        return granted
    limit = _limit(request, policies, lookup)
    if grant is Side.SESSION and request.principal.kind is PrincipalKind.USER:
        limit = _limit(request, policies, lookup, boundary=False)
    if grant >= Side.PRINCIPAL:
        return limit or granted
    return (identity and limit) or _NOTHING


def _is_unlimited(principal: Principal, policies: Policies) -> bool:
    return principal.kind is not PrincipalKind.USER or policies.session is None


def _denied(request: AccessRequest, policies: Policies, lookup: Lookup) -> Decision | None:
    action, resource = request.action, request.resource
    for document in policies.identity:
        for statement in document.about(action)[0].near(resource):
            if statement.applies(resource, lookup):
                return Decision(Why.EXPLICIT_DENY, document.name, statement.name)
    for document in _limiting(policies):
        for statement in document.about(action)[0].near(resource):
            if statement.applies(resource, lookup):
                return Decision(Why.EXPLICIT_DENY, document.name, statement.name)
    if policies.resource is not None:
        for statement in policies.resource.about(action)[0].near(resource):
            if statement.grant(request.principal, resource, lookup):
                return Decision(Why.EXPLICIT_DENY, policies.resource.name, statement.name)
    return None


def _limiting(policies: Policies) -> tuple[PolicyDocument, ...]:
    session = policies.session or ()
    return session if policies.boundary is None else (policies.boundary, *session)


def _allowing(document: PolicyDocument, request: AccessRequest, lookup: Lookup) -> Statement | None:
    for statement in document.about(request.action)[1].near(request.resource):
        if statement.applies(request.resource, lookup):
            return statement
    return None


def _allowed_by_identity(
    request: AccessRequest, policies: Policies, lookup: Lookup
) -> Decision | None:
    if request.principal.kind is PrincipalKind.ROOT:
        return Decision(Why.ALLOWED, _ROOT)
    for document in policies.identity:
        statement = _allowing(document, request, lookup)
        if statement is not None:
            return Decision(Why.ALLOWED, document.name, statement.name)
    return None


def _limit(
    request: AccessRequest, policies: Policies, lookup: Lookup, *, boundary: bool = True
) -> Decision | None:
    """What of boundary and session does not allow it; None where both do."""
    if (
        boundary
        and policies.boundary is not None
        and _allowing(policies.boundary, request, lookup) is None
    ):
        return Decision(Why.IMPLICIT_DENY, _BOUNDARY)
    if policies.session is not None and not any(
        _allowing(document, request, lookup) for document in policies.session
    ):
        return Decision(Why.IMPLICIT_DENY, _SESSION)
    return None


def _granted(
    request: AccessRequest, policies: Policies, lookup: Lookup, *, is_owner: bool
) -> tuple[Side, Decision]:
    """The most that the resource's side allows, and by what."""
    best, by = Side.NONE, _NOTHING
    document = policies.resource
    if document is not None and _may_allow(request, policies, document, is_owner):
        for statement in document.about(request.action)[1].near(request.resource):
            grant = statement.grant(request.principal, request.resource, lookup)
            if grant > best:
                best, by = grant, Decision(Why.ALLOWED, document.name, statement.name)
                if best is Side.SESSION:
                    break
    if policies.acl > best:
        best, by = policies.acl, Decision(Why.ALLOWED, "ACL")
    return best, by


def _may_allow(
    request: AccessRequest, policies: Policies, document: PolicyDocument, is_owner: bool
) -> bool:
    """Whether the resource's policy may allow anything: not to objects of other accounts; a public
    one not to other accounts, where the public access block restricts it."""
    if request.object_account not in ("", request.resource_account):
        return False
    return is_owner or not (policies.restrict_public_buckets and document.public)


def _with_own_keys(request: AccessRequest) -> Lookup:
    """The look-up of the request, with the keys that the principal and the resource tell."""
    own, lookup = _OWN_KEYS, request.lookup

    def look(key: str) -> tuple[str, ...] | None:
        if key not in own:
            return lookup(key)
        text = own[key](request)
        return (text,) if text else None

    return look


def _principal_arn(request: AccessRequest) -> str:
    return request.principal.role_arn or request.principal.arn


_OWN_KEYS: Final[dict[str, Callable[[AccessRequest], str]]] = {
    "aws:PrincipalAccount": lambda request: request.principal.account,
    "aws:PrincipalArn": _principal_arn,
    "aws:PrincipalType": lambda request: request.principal.kind.value,
    "aws:ResourceAccount": lambda request: request.resource_account,
    "aws:userid": lambda request: request.principal.user_id,
    "aws:username": lambda request: request.principal.name,
    "s3:ResourceAccount": lambda request: request.resource_account,
}
