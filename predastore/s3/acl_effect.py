"""What the ACLs of a bucket and of an object give, with all that bears on them. Pure.

For who decides about a request (access.py): what an action needs, and how far the grants that are
stored give it.

Source: Amazon S3 User Guide, "Mapping of ACL permissions and access policy permissions".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from predastore.catalog.rows import BucketRow, ObjectOwnership
from predastore.catalog.values import ObjectVersion
from predastore.policy import Side
from predastore.s3.acl import (
    AccessControlPolicy,
    Grant,
    Permission,
    grants_of,
    of_stored,
    private,
)

# action -> the permission on the bucket that gives it
ON_BUCKET: Final = {
    **dict.fromkeys(
        ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"),
        Permission.READ,
    ),
    "s3:PutObject": Permission.WRITE,
    "s3:GetBucketAcl": Permission.READ_ACP,
    "s3:PutBucketAcl": Permission.WRITE_ACP,
}
# action -> the permission on the object that gives it
ON_OBJECT: Final = {
    "s3:GetObject": Permission.READ,
    "s3:GetObjectVersion": Permission.READ,
    "s3:GetObjectAcl": Permission.READ_ACP,
    "s3:GetObjectVersionAcl": Permission.READ_ACP,
    "s3:PutObjectAcl": Permission.WRITE_ACP,
    "s3:PutObjectVersionAcl": Permission.WRITE_ACP,
}


def object_owner(bucket: BucketRow, owner: str) -> str:
    """Who owns an object that `owner` owned when it was made: ownership that is enforced later
    holds for what was there, too."""
    return bucket.owner if bucket.ownership is ObjectOwnership.BUCKET_OWNER_ENFORCED else owner


def shown(bucket: BucketRow, owner: str, stored: bytes | None) -> AccessControlPolicy:
    """The ACL of the bucket, or of an object in it, as a request for it is told: what is stored,
    but where no ACL counts."""
    owner = object_owner(bucket, owner)
    if bucket.ownership is ObjectOwnership.BUCKET_OWNER_ENFORCED:
        return private(owner)
    return of_stored(stored, owner)


def count(bucket: BucketRow) -> bool:
    """Whether ACLs count in the bucket at all."""
    return bucket.ownership is not ObjectOwnership.BUCKET_OWNER_ENFORCED


def give_to_public(of_bucket: tuple[Grant, ...] | None, version: ObjectVersion | None) -> bool:
    """Whether the grants of a bucket, or those of an object in it, give anything to everybody."""
    of_object = () if version is None else grants_of(version.acl)
    return any(one.is_public for one in (*(of_bucket or ()), *of_object))


def grant(
    grants: Iterable[Grant],
    owner: str,
    account: str | None,
    permission: Permission,
    *,
    ignores_public: bool,
) -> Side:
    """How far stored grants of what `owner` owns allow it to an account, or (None) to an anonymous
    request: a grant to the account leaves it to the account's own policies, one to a group is to
    each of its members. Who owns a thing may always read and write its ACL."""
    if account == owner and permission in (Permission.READ_ACP, Permission.WRITE_ACP):
        return Side.ACCOUNT
    enough = (permission, Permission.FULL_CONTROL)
    best = Side.NONE
    for one in grants:
        if one.permission in enough and one.reaches(account):
            if one.is_public:
                if not ignores_public:
                    return Side.PRINCIPAL
            else:
                best = Side.ACCOUNT
    return best
