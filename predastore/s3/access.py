"""Who may do what: the decisions of one request.

    identity, bucket, documents, object  ->  policy/decision.py  ->  allowed, or why not

A request asks for the action of its route, and for whatever it wants besides (`require`): to tag
what it writes, to read the source of a copy, to delete by version. What it asks for is decided on
the bucket's row, its policy and its ACL of one moment, and on the object where one is read: nothing
of the bucket is told or changed before (`Context.bucket`, `permit`, `object`, which are the only
ways to one). A change is decided anew where its commit finds another generation of the bucket.

What is decided on an object that is there (to change its tags, say) needs its row; the same action
for an object that a request makes does not (`makes_object`).

The public access block of the owner's account matters to other accounts, and to users to whom an
ACL gives something as it does to everybody; it is read for these (`needs_block`). A bucket that the
configuration makes public has, for that, a grant to everybody.

Whether a bucket is there is no secret: NoSuchBucket comes before AccessDenied, as with Amazon S3,
but for those whose own policies do not allow what they ask for. Whether a key is there is one for
who may not list (`Context.absent`).
"""

from __future__ import annotations

import logging
from typing import Any, Final, NamedTuple

from predastore.auth.sigv4 import Credential
from predastore.base.errors import S3Error
from predastore.catalog.buckets import ACL, POLICY
from predastore.catalog.documents import DocumentKind, Meanings
from predastore.catalog.rows import BucketRow, PublicBlock, Tags
from predastore.catalog.values import ObjectVersion
from predastore.httpd.message import Headers, Request
from predastore.iam.identity import Identity
from predastore.policy import (
    ANONYMOUS,
    AccessRequest,
    Decision,
    Policies,
    PolicyDocument,
    Principal,
    Side,
    Why,
    decide,
)
from predastore.policy.actions import ACTIONS, Level
from predastore.s3 import acl, acl_effect
from predastore.s3.bucket_policy import of_stored
from predastore.s3.condition_keys import ConditionKeys
from predastore.s3.public_access import union

GET_OBJECT: Final = "s3:GetObject"
PUT_OBJECT: Final = "s3:PutObject"
LIST_BUCKET: Final = "s3:ListBucket"
BYPASS_GOVERNANCE: Final = "s3:BypassGovernanceRetention"

# What takes the place of an action where a request names a version.
OF_A_VERSION: Final = {
    GET_OBJECT: "s3:GetObjectVersion",
    "s3:GetObjectAcl": "s3:GetObjectVersionAcl",
    "s3:GetObjectTagging": "s3:GetObjectVersionTagging",
    "s3:DeleteObject": "s3:DeleteObjectVersion",
    "s3:DeleteObjectTagging": "s3:DeleteObjectVersionTagging",
    "s3:GetObjectAttributes": "s3:GetObjectVersionAttributes",
    "s3:PutObjectTagging": "s3:PutObjectVersionTagging",
    "s3:PutObjectAcl": "s3:PutObjectVersionAcl",
}

POLICY_KIND: Final[DocumentKind[PolicyDocument]] = DocumentKind(POLICY, of_stored, memory_ratio=30)
ACL_KIND: Final[DocumentKind[tuple[acl.Grant, ...]]] = DocumentKind(
    ACL, acl.grants_of, memory_ratio=30
)
# The documents that decisions are made by.
KINDS: Final[tuple[DocumentKind[Any], ...]] = (POLICY_KIND, ACL_KIND)

# What everybody may in a bucket that the configuration makes public.
_PUBLIC: Final = frozenset({GET_OBJECT, LIST_BUCKET, "s3:GetObjectAttributes"})
# What the owner of an object decides about, where that is another account than the bucket's.
_OF_OBJECTS_OWNER: Final = frozenset(
    {
        *acl_effect.ON_OBJECT,
        *("s3:GetObjectTagging", "s3:GetObjectVersionTagging", "s3:PutObjectTagging"),
        *("s3:PutObjectVersionTagging", "s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"),
        *("s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"),
    }
)
# What is decided on the object that is there, and not only on its name.
ON_THE_OBJECT: Final = _OF_OBJECTS_OWNER - acl_effect.ON_OBJECT.keys() | {
    "s3:PutObjectAcl",
    "s3:PutObjectVersionAcl",
}
_ARN: Final = "arn:aws:s3:::"
_ROOT: Final = Decision(Why.ALLOWED, "root of the account")

_log: Final = logging.getLogger("predastore.s3")


class Basis(NamedTuple):
    """What a decision about a bucket rests on: its row, its documents of that generation, and the
    object that is addressed, where it was read."""

    row: BucketRow
    meanings: Meanings
    version: ObjectVersion | None = None


class VersionUnknown(Exception):
    """To decide, the object that is addressed is needed, too."""


class Access:
    """Of one request for `bucket` and `key`. `identity`: None, an anonymous one.

    `basis`: of the last `check`. `blocks`: the public access blocks of accounts whose buckets it is
    about, which are read before anything is decided that they matter to (reach.py).
    `makes_object`: what is asked about an object is about the one that the request makes, of which
    only the name is there. `last`: the decision that was made last."""

    __slots__ = (
        *("_facts", "_request", "_wanted", "basis", "blocks", "bucket", "identity", "key"),
        *("last", "makes_object"),
    )

    def __init__(
        self,
        request: Request,
        facts: ConditionKeys,
        identity: Identity | None,
        bucket: str,
        key: str,
    ) -> None:
        self._request = request
        self._facts = facts
        self.identity = identity
        self.bucket = bucket
        self.key = key
        self.basis: Basis | None = None
        self.blocks: dict[str, PublicBlock | None] = {}
        self.makes_object = False
        self.last: Decision | None = None
        self._wanted: list[tuple[str, str]] = []

    @property
    def principal(self) -> Principal:
        return ANONYMOUS if self.identity is None else self.identity.principal

    @property
    def credential(self) -> Credential | None:
        """By which the request was signed; None: an anonymous request."""
        return self._facts.credential

    @property
    def account(self) -> str | None:
        """The account that asks; None: an anonymous request."""
        return None if self.identity is None else self.identity.account

    # --- what the request wants -----------------------------------------------------------

    def require(self, action: str, key: str | None = None) -> None:
        """The request wants this, too, which the next `check` decides. `key`: another than the
        request's."""
        self._wanted.append((action, self.key if key is None else key))

    def gives(self, given: Tags) -> None:
        """The request gives these tags, too, which decisions from now on may ask about."""
        self._facts.tagged = given

    def needs_block(self, basis: Basis) -> bool:
        """Whether the public access block of the owner's account has to be read, to decide."""
        owner, identity = basis.row.owner, self.identity
        if owner in self.blocks:
            return False
        if identity is None or identity.account != owner:
            return True
        return not identity.has_all_rights and acl_effect.give_to_public(
            basis.meanings.of(ACL_KIND), basis.version
        )

    def check(self, basis: Basis) -> None:
        """AccessDenied unless all that is wanted is allowed. VersionUnknown."""
        for action, key in self._wanted:
            self.demand(action, key, basis)
        self.basis = basis

    def check_absent(self) -> None:
        """As `check`, where there is no such bucket: by what the requester's own policies say. Who
        is anonymous may know as much as of a public bucket."""
        for action, key in self._wanted:
            if self.identity is not None or action not in _PUBLIC:
                self.demand_own(action, key)

    def demand_own(self, action: str, key: str = "", bucket: str | None = None) -> None:
        """AccessDenied, unless the requester's own policies allow it in what is its account's."""
        where = self.bucket if bucket is None else bucket
        decision = self.decide_own(action, where, key)
        if not decision.allowed:
            raise self._denied(action, resource_of(action, where, key), decision, self.account)

    def may(self, action: str, key: str | None = None) -> bool:
        """Whether it is allowed on the basis of the last `check`."""
        assert self.basis is not None, "nothing was looked up"
        return self.decide(action, self.key if key is None else key, self.basis).allowed

    def demand(self, action: str, key: str, basis: Basis) -> None:
        """AccessDenied unless it is allowed on that basis."""
        decision = self.decide(action, key, basis)
        if not decision.allowed:
            resource = resource_of(action, basis.row.name, key)
            raise self._denied(action, resource, decision, basis.row.owner)

    # --- decisions ------------------------------------------------------------------------

    def decide_own(self, action: str, bucket: str, key: str = "") -> Decision:
        """On what is, or will be, of the requester's account."""
        identity = self.identity
        if identity is None:
            return Decision(Why.IMPLICIT_DENY)
        resource = resource_of(action, bucket, key)
        lookup = self._facts.lookup(None)
        asked = AccessRequest(action, resource, identity.principal, identity.account, lookup)
        return self._told(asked, decide(asked, identity.policies))

    def decide(self, action: str, key: str, basis: Basis) -> Decision:
        """On a bucket, or on an object in it. VersionUnknown."""
        row, meanings, version = basis
        identity, principal = self.identity, self.principal
        policy = meanings.of(POLICY_KIND)
        is_home = principal.account == row.owner
        needs_version = (
            version is None and action in ON_THE_OBJECT and bool(key) and not self.makes_object
        )
        if is_home and policy is None and identity is not None and identity.has_all_rights:
            if version is None:
                is_own = not needs_version or not acl_effect.count(row)
            else:
                is_own = acl_effect.object_owner(row, version.owner) == row.owner
            if is_own:
                self.last = _ROOT
                return _ROOT
        own = Policies() if identity is None else identity.policies
        if needs_version:
            raise VersionUnknown
        is_known = row.owner in self.blocks or not is_home
        block = union(row.block, self.blocks[row.owner] if is_known else None)
        asked = AccessRequest(
            action,
            resource_of(action, row.name, key),
            principal,
            row.owner,
            self._facts.lookup(version),
            _objects_owner(action, row, version),
        )
        policies = Policies(
            own.identity,
            own.boundary,
            own.session,
            policy,
            self._acl_grant(action, basis, block),
            block.restrict_buckets,
        )
        return self._told(asked, decide(asked, policies))

    def _told(self, asked: AccessRequest, decision: Decision) -> Decision:
        self.last = decision
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "%s: %s on %s for %s, by %s %s",
                decision.why.value,
                asked.action,
                asked.resource,
                asked.principal.arn or "anybody",
                decision.document or "nothing",
                decision.statement,
                extra={"request_id": self._request.id},
            )
        return decision

    def _acl_grant(self, action: str, basis: Basis, block: PublicBlock) -> Side:
        """What ACLs give for the action, and `public` of the configuration."""
        row, meanings, version = basis
        is_restricted = block.restrict_buckets and self.account != row.owner
        if row.public and action in _PUBLIC and not is_restricted:
            return Side.PRINCIPAL
        if action in acl_effect.ON_BUCKET:
            grants = meanings.of(ACL_KIND) or ()
            wanted, owner = acl_effect.ON_BUCKET[action], row.owner
        elif action in acl_effect.ON_OBJECT and version is not None:
            grants = acl.grants_of(version.acl)
            wanted = acl_effect.ON_OBJECT[action]
            owner = acl_effect.object_owner(row, version.owner)
        else:
            return Side.NONE
        if not acl_effect.count(row):
            grants = ()
        return acl_effect.grant(
            grants, owner, self.account, wanted, ignores_public=block.ignore_acls
        )

    def _denied(self, action: str, resource: str, decision: Decision, owner: str | None) -> S3Error:
        """As S3 says it: who is of the account that it is about is told what is missing."""
        if self.identity is None or owner != self.account:
            return S3Error("AccessDenied")
        kind = decision.document or "identity-based policy"
        because = f"because no {kind} allows the {action} action"
        if decision.why is Why.EXPLICIT_DENY:
            because = f"with an explicit deny in {kind}, statement {decision.statement}"
        return S3Error(
            "AccessDenied",
            f"User: {self.principal.arn} is not authorized to perform: {action} on resource: "
            f'"{resource}" {because}',
        )


def resource_of(action: str, bucket: str, key: str) -> str:
    """The ARN of what an action is done to. `bucket`: "" for an action of none."""
    if not bucket:
        return f"{_ARN}*"
    if key and ACTIONS.get(action.lower(), Level.OBJECT) is Level.OBJECT:
        return f"{_ARN}{bucket}/{key}"
    return f"{_ARN}{bucket}"


def _objects_owner(action: str, row: BucketRow, version: ObjectVersion | None) -> str:
    """The account that owns the object, where that decides; "": the bucket's."""
    if version is None or action not in _OF_OBJECTS_OWNER:
        return ""
    return acl_effect.object_owner(row, version.owner)


def check_expected(
    row: BucketRow, headers: Headers, field: str = "x-amz-expected-bucket-owner"
) -> None:
    """AccessDenied where the client expects the bucket to be another account's."""
    expected = headers.get(field)
    if expected and expected != row.owner:
        raise S3Error("AccessDenied")


def with_public(shown: acl.AccessControlPolicy, row: BucketRow) -> acl.AccessControlPolicy:
    """What is told of an ACL: in a bucket that the configuration makes public, everybody reads."""
    to_all = acl.to_group(acl.Grantee.ALL_USERS, acl.Permission.READ)
    if not row.public or to_all in shown.grants:
        return shown
    return acl.AccessControlPolicy(shown.owner, (*shown.grants, to_all))
