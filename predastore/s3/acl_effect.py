"""What the ACLs of a bucket and of an object give, with all that bears on them. Pure.

For who decides about a request: in come the bucket's row, its document ACL, the object's owner and
ACL, and the public access block of the bucket owner's account; out comes what counts of the ACLs,
and whether it allows an action.

Source: Amazon S3 User Guide, "Mapping of ACL permissions and access policy permissions".
"""

from __future__ import annotations

from typing import Final

from predastore.catalog.rows import BucketRow, ObjectOwnership, PublicBlock
from predastore.s3.acl import (
    AccessControlPolicy,
    Permission,
    allows,
    of_stored,
    private,
    without_public,
)
from predastore.s3.public_access import union

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


def in_force(
    bucket: BucketRow, owner: str, stored: bytes | None, account: PublicBlock | None
) -> AccessControlPolicy:
    """The same, as it counts: without public grants where these are ignored. `account`: the public
    access block of the account that owns the bucket."""
    acl = shown(bucket, owner, stored)
    return without_public(acl) if union(bucket.block, account).ignore_acls else acl


def acls_allow(
    action: str,
    account: str | None,
    of_bucket: AccessControlPolicy,
    of_object: AccessControlPolicy | None = None,
) -> bool:
    """Whether the ACLs in force allow the action to an account, or (None) to an anonymous request.
    `of_object`: of the object that is addressed, None where there is none."""
    if action in ON_BUCKET:
        return allows(of_bucket, account, ON_BUCKET[action])
    if action in ON_OBJECT and of_object is not None:
        return allows(of_object, account, ON_OBJECT[action])
    return False
