"""Access control lists: what they are, what they allow, and how they are stored. Pure.

An ACL has an owner and up to 100 grants, each of a permission to an account (by its canonical id,
which here is the account's id) or to one of three groups. The owner is that of the bucket or the
object, whose row has it, so it is not stored; and an ACL that gives the owner FULL_CONTROL, and
nobody else anything, is none: private.

Source: Amazon S3 User Guide, "Access control list (ACL) overview".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import msgspec

from predastore.storage.formats import decode, encode


class Permission(enum.IntEnum):
    """What a grant gives; stored by number."""

    READ = 1
    WRITE = 2
    READ_ACP = 3
    WRITE_ACP = 4
    FULL_CONTROL = 5


class Grantee(enum.IntEnum):
    """Whom a grant is to: one account, or a group of S3's; stored by number."""

    ACCOUNT = 0
    ALL_USERS = 1
    AUTHENTICATED_USERS = 2
    LOG_DELIVERY = 3


GROUPS: Final = {
    Grantee.ALL_USERS: "http://acs.amazonaws.com/groups/global/AllUsers",
    Grantee.AUTHENTICATED_USERS: "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
    Grantee.LOG_DELIVERY: "http://acs.amazonaws.com/groups/s3/LogDelivery",
}
_PUBLIC: Final = frozenset({Grantee.ALL_USERS, Grantee.AUTHENTICATED_USERS})


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """`account`: the canonical id of an ACCOUNT, "" of a group."""

    grantee: Grantee
    account: str
    permission: Permission

    @property
    def is_public(self) -> bool:
        return self.grantee in _PUBLIC

    def reaches(self, account: str | None) -> bool:
        """Whether it is to this account, or (None) to an anonymous request."""
        if self.grantee is Grantee.ACCOUNT:
            return self.account == account
        if self.grantee is Grantee.AUTHENTICATED_USERS:
            return account is not None
        return self.grantee is Grantee.ALL_USERS


class StoredAcl(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of an ACL: the document ACL of a bucket, and `Detail.acl` of a version."""

    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class AccessControlPolicy:
    """`owner`: a canonical id."""

    owner: str
    grants: tuple[Grant, ...]


def private(owner: str) -> AccessControlPolicy:
    """What there is without an ACL."""
    return AccessControlPolicy(owner, (to_account(owner, Permission.FULL_CONTROL),))


def to_account(account: str, permission: Permission) -> Grant:
    return Grant(Grantee.ACCOUNT, account, permission)


def to_group(group: Grantee, permission: Permission) -> Grant:
    return Grant(group, "", permission)


# --- what it allows ---------------------------------------------------------------------------


def is_public(acl: AccessControlPolicy) -> bool:
    """Whether it gives anything to all, or to all who have signed."""
    return any(one.is_public for one in acl.grants)


# --- canned ACLs ------------------------------------------------------------------------------

BUCKET_OWNER_FULL_CONTROL: Final = "bucket-owner-full-control"
PRIVATE: Final = "private"

_TO_ALL: Final = to_group(Grantee.ALL_USERS, Permission.READ)
_CANNED: Final[dict[str, tuple[Grant, ...]]] = {
    PRIVATE: (),
    "public-read": (_TO_ALL,),
    "public-read-write": (_TO_ALL, to_group(Grantee.ALL_USERS, Permission.WRITE)),
    "authenticated-read": (to_group(Grantee.AUTHENTICATED_USERS, Permission.READ),),
    "aws-exec-read": (),  # to a service that is not here
    "log-delivery-write": (
        to_group(Grantee.LOG_DELIVERY, Permission.WRITE),
        to_group(Grantee.LOG_DELIVERY, Permission.READ_ACP),
    ),
}
_TO_BUCKET_OWNER: Final = {
    "bucket-owner-read": Permission.READ,
    BUCKET_OWNER_FULL_CONTROL: Permission.FULL_CONTROL,
}
CANNED: Final = frozenset({*_CANNED, *_TO_BUCKET_OWNER})
OF_BUCKETS_ALONE: Final = frozenset({"log-delivery-write"})


def canned(name: str, owner: str, bucket_owner: str) -> AccessControlPolicy:
    """The ACL of a name of CANNED. What it gives to the bucket's owner is nothing where that is the
    owner anyway."""
    grants = _CANNED.get(name, ())
    if name in _TO_BUCKET_OWNER and bucket_owner != owner:
        grants = (to_account(bucket_owner, _TO_BUCKET_OWNER[name]),)
    return AccessControlPolicy(owner, private(owner).grants + grants)


# --- as it is stored --------------------------------------------------------------------------


def to_stored(acl: AccessControlPolicy) -> bytes:
    """Without its owner; b"" for private."""
    return b"" if acl == private(acl.owner) else encode(StoredAcl(acl.grants))


def grants_of(stored: bytes | None) -> tuple[Grant, ...]:
    """What is given beside what the owner has; of private, nothing."""
    return decode(StoredAcl, stored).grants if stored else ()


def of_stored(stored: bytes | None, owner: str) -> AccessControlPolicy:
    """The ACL of what `owner` owns; UnsupportedFormat, CorruptData."""
    if not stored:
        return private(owner)
    return AccessControlPolicy(owner, decode(StoredAcl, stored).grants)
