"""What a request asks of access control lists, and what it comes to in a bucket.

A request names a canned ACL (x-amz-acl), or gives grants in x-amz-grant-* fields, or sends an
AccessControlPolicy; of these it may use one. What it comes to depends on the bucket: on who owns
it, its object ownership, and its public access block. So it is told by the bucket's row, at first
and once more where the row has changed before the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.rows import BucketRow, ObjectOwnership
from predastore.catalog.values import Belonging
from predastore.httpd.message import Headers
from predastore.s3.acl import (
    BUCKET_OWNER_FULL_CONTROL,
    CANNED,
    OF_BUCKETS_ALONE,
    PRIVATE,
    AccessControlPolicy,
    Grant,
    Grantee,
    Permission,
    canned,
    is_public,
    private,
    to_account,
    to_group,
    to_stored,
)
from predastore.s3.acl_xml import check_id, group_of

HEADER: Final = "x-amz-acl"
GRANTS: Final = {
    f"x-amz-grant-{permission.name.lower().replace('_', '-')}": permission
    for permission in Permission
}
FIELDS: Final = frozenset(name.encode() for name in (HEADER, *GRANTS))

_ALWAYS_TAKEN: Final = frozenset({PRIVATE, BUCKET_OWNER_FULL_CONTROL})


@dataclass(frozen=True, slots=True)
class AclRequest:
    """`canned`: the name of one, or "". `given`: grants that are said one by one. `owner`: of whose
    thing the request believes it to be, or ""."""

    canned: str = ""
    given: tuple[Grant, ...] | None = None
    owner: str = ""

    @property
    def is_asked(self) -> bool:
        return bool(self.canned) or self.given is not None

    @property
    def is_public(self) -> bool:
        return self.is_asked and is_public(self.of("", ""))

    @property
    def accounts(self) -> frozenset[str]:
        """To whom the grants are that are said one by one."""
        given = self.given or ()
        return frozenset(one.account for one in given if one.grantee is Grantee.ACCOUNT)

    def of(self, owner: str, bucket_owner: str) -> AccessControlPolicy:
        """The ACL of what `owner` owns in a bucket of `bucket_owner`."""
        if self.given is not None:
            return AccessControlPolicy(owner, self.given)
        return canned(self.canned or PRIVATE, owner, bucket_owner)

    def is_as_none(self, owner: str) -> bool:
        """Whether it says no more than that the bucket's owner has full control."""
        if self.canned:
            return self.canned in _ALWAYS_TAKEN
        return self.given is None or self.of(owner, owner) == private(owner)


NOT_ASKED: Final = AclRequest()


# --- read -------------------------------------------------------------------------------------


def of_headers(headers: Headers, *, of_bucket: bool = False) -> AclRequest:
    """InvalidRequest, InvalidArgument, UnresolvableGrantByEmailAddress, MalformedACLError."""
    named = {value.lower() for value in _all(headers, HEADER)}
    fields = [(field, value) for field in GRANTS for value in _all(headers, field)]
    if named and fields:
        raise S3Error(
            "InvalidRequest",
            "Specifying both Canned ACLs and Header Grants is not allowed",
        )
    allowed = CANNED if of_bucket else CANNED - OF_BUCKETS_ALONE
    if len(named) > 1 or not named <= allowed:
        said = ",".join(sorted(named))
        raise S3Error("InvalidArgument", ArgumentName=HEADER, ArgumentValue=said)
    if not fields:
        return AclRequest(named.pop()) if named else NOT_ASKED
    grants = tuple(
        grant for field, value in fields for grant in _grants(field, value, GRANTS[field])
    )
    if len(grants) > limits.S3_ACL_GRANTS_MAX:
        raise S3Error("MalformedACLError")
    return AclRequest(given=tuple(dict.fromkeys(grants)))


def _all(headers: Headers, name: str) -> list[str]:
    """The values of a field that may stand there more than once."""
    return [value for value in headers.get_all(name) if value] if name in headers else []


def _grants(field: str, value: str, permission: Permission) -> Iterator[Grant]:
    """Of one field: kind="value" pairs with commas between them; the quotes may be absent."""
    for pair in value.split(","):
        kind, _, text = (part.strip() for part in pair.partition("="))
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1]
        match kind.lower():
            case "id":
                yield to_account(check_id(text, "id"), permission)
            case "uri":
                yield to_group(group_of(text, "uri"), permission)
            case "emailaddress":
                raise S3Error("UnresolvableGrantByEmailAddress", EmailAddress=text)
            case _:
                raise S3Error(
                    "InvalidArgument",
                    "Argument format not recognized",
                    ArgumentName=field,
                    ArgumentValue=value,
                )


# --- in a bucket ------------------------------------------------------------------------------


def check_in(asked: AclRequest, bucket: BucketRow) -> None:
    """AccessControlListNotSupported, where the bucket's ownership leaves no ACL; AccessDenied,
    where its public access block refuses this one."""
    is_enforced = bucket.ownership is ObjectOwnership.BUCKET_OWNER_ENFORCED
    if is_enforced and not asked.is_as_none(bucket.owner):
        raise S3Error("AccessControlListNotSupported")
    if bucket.block is not None and bucket.block.block_acls and asked.is_public:
        raise S3Error("AccessDenied")


def owner_in(bucket: BucketRow, writer: str, asked: AclRequest = NOT_ASKED) -> str:
    """The account that owns what `writer` writes to the bucket with such an ACL."""
    match bucket.ownership:
        case ObjectOwnership.BUCKET_OWNER_ENFORCED:
            return bucket.owner
        case ObjectOwnership.BUCKET_OWNER_PREFERRED if asked.canned == BUCKET_OWNER_FULL_CONTROL:
            return bucket.owner
        case _:
            return writer


def belonging(asked: AclRequest, writer: str) -> Belonging:
    """Of a version that `writer` makes."""

    def of(bucket: BucketRow) -> tuple[str, bytes]:
        owner = owner_in(bucket, writer, asked)
        return owner, acl_in(asked, owner)(bucket) if asked.is_asked else b""

    return of


def acl_in(asked: AclRequest, owner: str) -> Callable[[BucketRow], bytes]:
    """As it is stored for what `owner` owns in a bucket; there may be no other than private where
    the bucket's ownership leaves none."""

    def of(bucket: BucketRow) -> bytes:
        if bucket.ownership is ObjectOwnership.BUCKET_OWNER_ENFORCED:
            return b""
        return to_stored(asked.of(owner, bucket.owner))

    return of
