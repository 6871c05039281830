"""What a decision is made of, and what it says: plain values, made by those who ask.

Terms are those of the IAM User Guide, "Policy evaluation logic".
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from predastore.policy.document import PolicyDocument

# The values that a request has for a condition key, spelt as in keys.py; None where it has none.
Lookup = Callable[[str], tuple[str, ...] | None]


class PrincipalKind(enum.Enum):
    """Who asks. The value is what `aws:PrincipalType` says of it."""

    ANONYMOUS = "Anonymous"
    ROOT = "Account"  # of an account: nothing but a deny of the resource's policy limits it at home
    USER = "User"
    ROLE = "AssumedRole"  # a session of a role
    FEDERATED = "FederatedUser"  # who shows a token of an identity provider, to take on a role


class Principal(msgspec.Struct, frozen=True):
    """Who asks.

    `account`: its account's id, "" for ANONYMOUS and FEDERATED. `arn`: of the root
    (arn:aws:iam::A:root), of the user, of the role's session (arn:aws:sts::A:assumed-role/R/S).
    `role_arn`: of the role of a session (arn:aws:iam::A:role/R). `user_id`: `aws:userid`.
    `name`: `aws:username`, of a user alone. `canonical_id`: the account's canonical user id.
    `provider`: of FEDERATED, the ARN or host name of who made its token.
    """

    kind: PrincipalKind
    account: str = ""
    arn: str = ""
    role_arn: str = ""
    user_id: str = ""
    name: str = ""
    canonical_id: str = ""
    provider: str = ""


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS, user_id="anonymous")


def _nothing(key: str) -> tuple[str, ...] | None:
    """The look-up of a request without condition keys."""
    return None


class AccessRequest(msgspec.Struct, frozen=True):
    """One action on one resource.

    `action`: as `s3:GetObject`, in any case. `resource`: its ARN (arn:aws:s3:::bucket/key; an
    action of no bucket has arn:aws:s3:::*). `resource_account`: who owns it, of an object the owner
    of its bucket. `object_account`: who owns the object, where that is another account than the
    bucket's: then the bucket's policy can deny, and can not allow. `lookup`: condition keys; those
    that `principal` and `resource_account` tell are not asked for.
    """

    action: str
    resource: str
    principal: Principal
    resource_account: str
    lookup: Lookup = _nothing
    object_account: str = ""


class Side(enum.IntEnum):
    """How far the resource's side allows a request; a larger one has what a smaller one has."""

    NONE = 0
    ACCOUNT = 1  # the principal's account may: its identity policies have to allow it, too
    PRINCIPAL = 2  # this principal, its role, or everybody may
    SESSION = (
        3  # this very user or session is named, so that no boundary or session policy limits it
    )


class Policies(msgspec.Struct, frozen=True):
    """What the decision is made by.

    `identity`: the principal's own policies and those of its groups, or of its role. `boundary`:
    its permissions boundary. `session`: policies of its session, None where it has none.
    `resource`: the bucket's policy, or the trust policy of a role. `acl`: what ACLs give for the
    action: ACCOUNT through a grant to the principal's account, PRINCIPAL through a grant to a
    group; NONE where public grants are ignored. `restrict_public_buckets`: of the public access
    block in force.
    """

    identity: tuple[PolicyDocument, ...] = ()
    boundary: PolicyDocument | None = None
    session: tuple[PolicyDocument, ...] | None = None
    resource: PolicyDocument | None = None
    acl: Side = Side.NONE
    restrict_public_buckets: bool = False


class Why(enum.Enum):
    """How a decision came about."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicit deny"
    IMPLICIT_DENY = "implicit deny"


class Decision(msgspec.Struct, frozen=True):
    """`document`: the name of the policy that decided, or what else did ("root of the account",
    "ACL"); of an implicit deny what does not allow it. `statement`: its Sid, or its index from 0 as
    "[2]"; "" where no statement decided."""

    why: Why
    document: str = ""
    statement: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the request may go on."""
        return self.why is Why.ALLOWED
