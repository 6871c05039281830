"""What ACLs allow, as tables; how they are stored; and what a request for one comes to."""

from __future__ import annotations

import msgspec
import pytest

from predastore.base.errors import S3Error
from predastore.catalog.rows import BucketRow, ObjectOwnership, PublicBlock
from predastore.httpd.message import Headers
from predastore.policy import Side
from predastore.s3 import acl, acl_effect, acl_request, public_access
from predastore.s3.acl import (
    CANNED,
    AccessControlPolicy,
    Grant,
    Grantee,
    Permission,
    canned,
    is_public,
    private,
    to_account,
    to_group,
)
from predastore.s3.acl_request import NOT_ASKED, AclRequest
from predastore.s3.routes import ROUTES

OWNER, BUCKET_OWNER, OTHER = "1", "2", "3"
READ, WRITE, READ_ACP, WRITE_ACP, FULL = Permission
NOBODY = None
BUCKET = BucketRow("b", b"\x80" + bytes(15), BUCKET_OWNER, "eu", 5)
ENFORCED = msgspec.structs.replace(BUCKET, ownership=ObjectOwnership.BUCKET_OWNER_ENFORCED)
PREFERRED = msgspec.structs.replace(BUCKET, ownership=ObjectOwnership.BUCKET_OWNER_PREFERRED)


def rights(policy: AccessControlPolicy, account: str | None) -> set[Permission]:
    return {one for one in Permission if side_of(policy, account, one)}


def side_of(
    policy: AccessControlPolicy,
    account: str | None,
    permission: Permission,
    *,
    ignores_public: bool = False,
) -> Side:
    return acl_effect.grant(
        policy.grants, policy.owner, account, permission, ignores_public=ignores_public
    )


ALL = set(Permission)
# canned ACL -> what it gives to the bucket's owner, to another account, and to an anonymous request
GIVES = {
    "private": (set(), set(), set()),
    "public-read": ({READ}, {READ}, {READ}),
    "public-read-write": ({READ, WRITE}, {READ, WRITE}, {READ, WRITE}),
    "authenticated-read": ({READ}, {READ}, set()),
    "bucket-owner-read": ({READ}, set(), set()),
    "bucket-owner-full-control": (ALL, set(), set()),
    "aws-exec-read": (set(), set(), set()),
    "log-delivery-write": (set(), set(), set()),
}


def test_every_canned_acl_is_in_the_table() -> None:
    assert set(GIVES) == CANNED


@pytest.mark.parametrize("name", GIVES)
def test_a_canned_acl_gives_what_amazon_says(name: str) -> None:
    policy = canned(name, OWNER, BUCKET_OWNER)
    assert rights(policy, OWNER) == ALL
    found = tuple(rights(policy, who) for who in (BUCKET_OWNER, OTHER, NOBODY))
    assert found == GIVES[name]
    assert is_public(policy) is (name.startswith("public") or name == "authenticated-read")


def test_log_delivery_is_no_public_group_and_no_account() -> None:
    policy = canned("log-delivery-write", OWNER, OWNER)
    given = {(one.grantee, one.permission) for one in policy.grants[1:]}
    assert given == {(Grantee.LOG_DELIVERY, WRITE), (Grantee.LOG_DELIVERY, READ_ACP)}
    assert not is_public(policy)


@pytest.mark.parametrize("given", Permission)
def test_a_grant_gives_its_permission_and_full_control_each(given: Permission) -> None:
    policy = AccessControlPolicy(OWNER, (to_account(OTHER, given),))
    assert rights(policy, OTHER) == (ALL if given is FULL else {given})
    assert rights(policy, NOBODY) == rights(policy, BUCKET_OWNER) == set()


def test_an_owner_without_a_grant_may_still_read_and_write_the_acl() -> None:
    assert rights(AccessControlPolicy(OWNER, ()), OWNER) == {READ_ACP, WRITE_ACP}


def test_what_is_public_can_be_ignored() -> None:
    kept = (to_account(OTHER, READ), to_group(Grantee.LOG_DELIVERY, WRITE))
    public = (to_group(Grantee.ALL_USERS, READ), to_group(Grantee.AUTHENTICATED_USERS, FULL))
    policy = AccessControlPolicy(OWNER, (*public, *kept))
    assert side_of(policy, NOBODY, READ) is Side.PRINCIPAL
    assert side_of(policy, NOBODY, READ, ignores_public=True) is Side.NONE
    assert side_of(policy, OTHER, WRITE) is Side.PRINCIPAL
    assert side_of(policy, OTHER, WRITE, ignores_public=True) is Side.NONE
    assert side_of(policy, OTHER, READ, ignores_public=True) is Side.ACCOUNT


# --- stored -----------------------------------------------------------------------------------

STORED = {
    "0291929300a131059301a001": AccessControlPolicy(
        OWNER, (to_account(OWNER, FULL), to_group(Grantee.ALL_USERS, READ))
    ),
    "0291919303a002": AccessControlPolicy(OWNER, (to_group(Grantee.LOG_DELIVERY, WRITE),)),
    "029190": AccessControlPolicy(OWNER, ()),
}


@pytest.mark.parametrize("text", STORED)
def test_the_stored_form_does_not_change(text: str) -> None:
    stored = bytes.fromhex(text)
    assert acl.to_stored(STORED[text]) == stored
    assert acl.of_stored(stored, OWNER) == STORED[text]


@pytest.mark.parametrize("nothing", [b"", None])
def test_private_is_not_stored(nothing: bytes | None) -> None:
    assert acl.to_stored(private(OWNER)) == b""
    assert acl.of_stored(nothing, OWNER) == private(OWNER)


def test_the_largest_acl_is_small() -> None:
    grants = tuple(to_account(f"{number:064}", FULL) for number in range(100))
    assert len(acl.to_stored(AccessControlPolicy(OWNER, grants))) < 8192


def test_an_accounts_block_is_stored_as_ever() -> None:
    block = PublicBlock(True, False, False, True)
    assert public_access.to_document(block) == bytes.fromhex("0294c3c2c2c3")
    assert public_access.of_document(bytes.fromhex("0294c3c2c2c3")) == block
    assert public_access.of_document(None) is None


def test_blocks_add_up() -> None:
    one, other = PublicBlock(block_acls=True), PublicBlock(restrict_buckets=True)
    assert public_access.union(one, None, other) == PublicBlock(True, False, False, True)
    assert public_access.union(None, None) == PublicBlock()


# --- asked ------------------------------------------------------------------------------------


def asked(*fields: tuple[str, str], of_bucket: bool = False) -> AclRequest:
    return acl_request.of_headers(Headers.of(list(fields)), of_bucket=of_bucket)


def test_grants_are_read_as_they_may_be_written() -> None:
    all_users = acl.GROUPS[Grantee.ALL_USERS]
    said = asked(
        ("x-amz-grant-read", f'id="1", URI="{all_users}",id=3'),
        ("x-amz-grant-full-control", " id=2"),
        ("x-amz-grant-full-control", 'Id = "2"'),
        ("x-amz-grant-write-acp", ""),
    )
    assert said.given == (
        to_account("1", READ),
        to_group(Grantee.ALL_USERS, READ),
        to_account("3", READ),
        to_account("2", FULL),
    )
    assert (said.is_public, said.accounts) == (True, {"1", "2", "3"})


def test_nothing_asks_for_nothing() -> None:
    assert asked(("x-amz-acl", ""), ("host", "h")) == NOT_ASKED
    assert not NOT_ASKED.is_asked
    assert NOT_ASKED.of(OWNER, BUCKET_OWNER) == private(OWNER)


BOTH = "Specifying both Canned ACLs and Header Grants is not allowed"


@pytest.mark.parametrize(
    ("fields", "code", "message", "extra"),
    [
        ([("x-amz-acl", "mine")], "InvalidArgument", "", {"ArgumentValue": "mine"}),
        ([("x-amz-acl", "log-delivery-write")], "InvalidArgument", "", {}),
        ([("x-amz-acl", "private"), ("x-amz-acl", "public-read")], "InvalidArgument", "", {}),
        ([("x-amz-acl", "private"), ("x-amz-grant-read", "id=1")], "InvalidRequest", BOTH, {}),
        ([("x-amz-grant-read", "1")], "InvalidArgument", "Argument format not recognized",
         {"ArgumentName": "x-amz-grant-read", "ArgumentValue": "1"}),
        ([("x-amz-grant-read", "id=1,")], "InvalidArgument", "Argument format not recognized", {}),
        ([("x-amz-grant-read", "id=")], "InvalidArgument", "Invalid id", {"ArgumentName": "id"}),
        ([("x-amz-grant-read", 'id=""')], "InvalidArgument", "Invalid id", {}),
        ([("x-amz-grant-read", "id=" + "9" * 65)], "InvalidArgument", "Invalid id", {}),
        ([("x-amz-grant-read", "uri=http://a/b")], "InvalidArgument", "Invalid group uri",
         {"ArgumentName": "uri", "ArgumentValue": "http://a/b"}),
        ([("x-amz-grant-read", 'emailAddress="a@b"')], "UnresolvableGrantByEmailAddress", "",
         {"EmailAddress": "a@b"}),
        ([("x-amz-grant-read", ",".join(f"id={n}" for n in range(101)))], "MalformedACLError",
         "", {}),
    ],
)  # fmt: skip
def test_what_can_not_be_asked_is_refused_in_s3s_words(
    fields: list[tuple[str, str]], code: str, message: str, extra: dict[str, str]
) -> None:
    with pytest.raises(S3Error) as caught:
        asked(*fields)
    assert (caught.value.s3_code, caught.value.message) == (code, message)
    assert extra.items() <= caught.value.extra.items()


def test_log_delivery_is_for_buckets() -> None:
    assert asked(("x-amz-acl", "Log-Delivery-Write"), of_bucket=True).is_asked


# --- in a bucket ------------------------------------------------------------------------------


def refusal(said: AclRequest, bucket: BucketRow) -> str:
    try:
        acl_request.check_in(said, bucket)
    except S3Error as error:
        return error.s3_code
    return ""


def of_grants(*grants: Grant) -> AclRequest:
    return AclRequest(given=grants)


@pytest.mark.parametrize("name", sorted(CANNED))
def test_where_no_acl_counts_only_that_of_the_bucket_owner_is_taken(name: str) -> None:
    taken = name in ("private", "bucket-owner-full-control")
    expected = "" if taken else "AccessControlListNotSupported"
    assert refusal(AclRequest(name), ENFORCED) == expected
    assert refusal(AclRequest(name), BUCKET) == ""


def test_where_no_acl_counts_the_same_may_be_said_by_grants() -> None:
    assert refusal(NOT_ASKED, ENFORCED) == ""
    assert refusal(of_grants(to_account(BUCKET_OWNER, FULL)), ENFORCED) == ""
    for grants in (
        (),
        (to_account(OTHER, FULL),),
        (to_account(BUCKET_OWNER, READ),),
        (to_account(BUCKET_OWNER, FULL), to_account(OTHER, READ)),
    ):
        assert refusal(of_grants(*grants), ENFORCED) == "AccessControlListNotSupported"


@pytest.mark.parametrize("name", sorted(CANNED))
def test_a_block_refuses_public_acls(name: str) -> None:
    blocked = msgspec.structs.replace(BUCKET, block=PublicBlock(block_acls=True))
    other = msgspec.structs.replace(BUCKET, block=PublicBlock(False, True, True, True))
    is_refused = is_public(canned(name, OWNER, BUCKET_OWNER))
    assert refusal(AclRequest(name), blocked) == ("AccessDenied" if is_refused else "")
    assert refusal(AclRequest(name), other) == ""


FULL_TO_BUCKET_OWNER = AclRequest("bucket-owner-full-control")


@pytest.mark.parametrize(
    ("bucket", "said", "owner"),
    [
        (BUCKET, NOT_ASKED, OWNER),
        (BUCKET, FULL_TO_BUCKET_OWNER, OWNER),
        (PREFERRED, NOT_ASKED, OWNER),
        (PREFERRED, of_grants(to_account(BUCKET_OWNER, FULL)), OWNER),
        (PREFERRED, AclRequest("bucket-owner-read"), OWNER),
        (PREFERRED, FULL_TO_BUCKET_OWNER, BUCKET_OWNER),
        (ENFORCED, NOT_ASKED, BUCKET_OWNER),
        (ENFORCED, FULL_TO_BUCKET_OWNER, BUCKET_OWNER),
    ],
)
def test_who_owns_what_another_account_writes(
    bucket: BucketRow, said: AclRequest, owner: str
) -> None:
    found, stored = acl_request.belonging(said, OWNER)(bucket)
    assert found == owner
    expected = private(owner) if owner == BUCKET_OWNER else said.of(owner, BUCKET_OWNER)
    assert acl.of_stored(stored, owner) == expected


# --- shown ------------------------------------------------------------------------------------


def test_where_no_acl_counts_the_bucket_owner_has_everything() -> None:
    public = (to_account(OWNER, FULL), to_group(Grantee.ALL_USERS, READ))
    stored = acl.to_stored(AccessControlPolicy(OWNER, public))
    assert is_public(acl_effect.shown(BUCKET, OWNER, stored))
    assert acl_effect.shown(ENFORCED, OWNER, stored) == private(BUCKET_OWNER)
    assert acl_effect.count(BUCKET)
    assert not acl_effect.count(ENFORCED)


def test_actions_of_acls_are_those_of_routes() -> None:
    known = {one.action for one in ROUTES} | {
        action for one in ROUTES for action in one.actions_of({"versionId": ""})
    }
    assert {*acl_effect.ON_BUCKET, *acl_effect.ON_OBJECT} <= known
