"""ACLs that are none: refused in S3's words, and nothing changed."""

from __future__ import annotations

import pytest
from botocore.client import BaseClient

from predastore.s3.acl import GROUPS, Grantee
from predastore.s3.xml_write import NAMESPACE
from support.s3raw import Raw
from support.s3server import ALICE, BOB, S3Server

XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
ALL_USERS = GROUPS[Grantee.ALL_USERS]
OWNER = f"<Owner><ID>{ALICE.account_id}</ID><DisplayName>alice</DisplayName></Owner>"


def grant(kind: str, named: str, permission: str = "READ") -> str:
    grantee = f'<Grantee {XSI} xsi:type="{kind}">{named}</Grantee>'
    return f"<Grant>{grantee}<Permission>{permission}</Permission></Grant>"


def user(account: str, permission: str = "READ") -> str:
    return grant("CanonicalUser", f"<ID>{account}</ID>", permission)


def policy(*grants: str, owner: str = OWNER, more: str = "") -> bytes:
    listed = f"<AccessControlList>{''.join(grants)}</AccessControlList>"
    inner = f"{owner}{listed}{more}"
    return f'<AccessControlPolicy xmlns="{NAMESPACE}">{inner}</AccessControlPolicy>'.encode()


GOOD = user(BOB.account_id)
BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbb">]><AccessControlPolicy>&b;</AccessControlPolicy>'
WRONG = {
    "not XML": (b"<AccessControlPolicy>", "MalformedACLError"),
    "another document": (b"<Tagging/>", "MalformedACLError"),
    "a bomb": (BOMB, "MalformedACLError"),
    "empty": (b"<AccessControlPolicy/>", "MalformedACLError"),
    "no owner": (policy(GOOD, owner=""), "MalformedACLError"),
    "an owner without a name": (policy(GOOD, owner="<Owner/>"), "MalformedACLError"),
    "two owners": (policy(GOOD, more=OWNER), "MalformedACLError"),
    "an element more": (policy(GOOD, more="<X/>"), "MalformedACLError"),
    "another namespace": (
        b'<AccessControlPolicy xmlns="http://a/"/>', "MalformedACLError",
    ),
    "no grant": (policy("<Other/>"), "MalformedACLError"),
    "a grant of nothing": (policy("<Grant/>"), "MalformedACLError"),
    "two permissions": (
        policy(GOOD.replace("</Grant>", "<Permission>READ</Permission></Grant>")),
        "MalformedACLError",
    ),
    "no such permission": (policy(user(BOB.account_id, "DELETE")), "MalformedACLError"),
    "small letters": (policy(user(BOB.account_id, "read")), "MalformedACLError"),
    "no type": (policy(GOOD.replace(' xsi:type="CanonicalUser"', "")), "MalformedACLError"),
    "no such type": (policy(grant("Everybody", "<ID>1</ID>")), "MalformedACLError"),
    "a type that is named otherwise": (
        policy(grant("Group", f"<ID>{BOB.account_id}</ID>")), "MalformedACLError",
    ),
    "two ids": (policy(grant("CanonicalUser", "<ID>1</ID><ID>2</ID>")), "MalformedACLError"),
    "an id of elements": (policy(grant("CanonicalUser", "<ID><X/></ID>")), "MalformedACLError"),
    "an empty id": (policy(user("")), "InvalidArgument"),
    "nobody": (policy(user("999999999999")), "InvalidArgument"),
    "a long id": (policy(user("9" * 5000)), "InvalidArgument"),
    "no such group": (policy(grant("Group", "<URI>http://a/b</URI>")), "InvalidArgument"),
    "an e-mail address": (
        policy(grant("AmazonCustomerByEmail", "<EmailAddress>a@b.c</EmailAddress>")),
        "UnresolvableGrantByEmailAddress",
    ),
    "too many grants": (policy(*[GOOD] * 101), "MalformedACLError"),
    "too long": (policy(GOOD, more=f"<!--{'x' * 70_000}-->"), "MaxMessageLengthExceeded"),
}  # fmt: skip


@pytest.fixture(params=["bucket", "object"])
def path(request: pytest.FixtureRequest, s3: BaseClient, bucket: str) -> str:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    return f"/{bucket}" if request.param == "bucket" else f"/{bucket}/k"


def test_a_good_one_is_taken(server: S3Server, path: str) -> None:
    body = policy(GOOD, grant("Group", f"<URI>{ALL_USERS}</URI>", "WRITE_ACP"))
    assert server.signer().send(Raw("PUT", path, "acl", body)).status == 200
    found = server.signer().send(Raw("GET", path, "acl")).body
    assert found.count(b"<Grant>") == 2
    assert server.signer().send(Raw("PUT", path, "acl", policy(*[GOOD] * 100))).status == 200


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_one_changes_nothing(server: S3Server, path: str, name: str) -> None:
    body, code = WRONG[name]
    with server.unchanged():
        answer = server.signer().send(Raw("PUT", path, "acl", body))
    assert (answer.status, answer.code) == (400, code)


def test_a_grant_to_nobody_says_who_it_is(server: S3Server, path: str) -> None:
    answer = server.signer().send(Raw("PUT", path, "acl", policy(user("999999999999"))))
    assert b"<Message>Invalid id" in answer.body
    assert b"<ArgumentName>CanonicalUser/ID</ArgumentName>" in answer.body
    assert b"<ArgumentValue>999999999999</ArgumentValue>" in answer.body
    fields = {"x-amz-grant-read": "id=999999999999"}
    for raw in (Raw("PUT", path, "acl", headers=fields), Raw("PUT", f"{path}-new", headers=fields)):
        with server.unchanged():
            answer = server.signer().send(raw)
        assert (answer.status, answer.code) == (400, "InvalidArgument")
        assert b"<ArgumentName>id</ArgumentName>" in answer.body


def test_the_owner_is_who_it_is(server: S3Server, path: str) -> None:
    body = policy(GOOD, owner=f"<Owner><ID>{BOB.account_id}</ID></Owner>")
    with server.unchanged():
        answer = server.signer().send(Raw("PUT", path, "acl", body))
    assert (answer.status, answer.code) == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("fields", "body", "code"),
    [
        ({}, b"", "MissingSecurityHeader"),
        ({"x-amz-acl": ""}, b"", "MissingSecurityHeader"),
        ({"x-amz-acl": "private"}, policy(GOOD), "UnexpectedContent"),
        ({"x-amz-grant-read": f"id={BOB.account_id}"}, policy(GOOD), "UnexpectedContent"),
        ({"x-amz-acl": "private", "x-amz-grant-read": "id=1"}, b"", "InvalidRequest"),
        ({"x-amz-acl": "everybody"}, b"", "InvalidArgument"),
        ({"x-amz-grant-everything": "id=1"}, b"", "NotImplemented"),
    ],
)
def test_one_way_of_saying_it_is_enough(
    server: S3Server, path: str, fields: dict[str, str], body: bytes, code: str
) -> None:
    with server.unchanged():
        answer = server.signer().send(Raw("PUT", path, "acl", body, fields))
    assert answer.code == code


@pytest.mark.parametrize("name", ["mine", "log-delivery-write"])
def test_an_object_is_not_made_with_an_acl_that_it_can_not_have(
    server: S3Server, bucket: str, name: str
) -> None:
    fields = {"x-amz-acl": name}
    with server.unchanged():
        for raw in (
            Raw("PUT", f"/{bucket}/k", body=b"x", headers=fields),
            Raw("POST", f"/{bucket}/k", "uploads", headers=fields),
        ):
            answer = server.signer().send(raw)
            assert (answer.status, answer.code) == (400, "InvalidArgument")
            assert b"<ArgumentName>x-amz-acl</ArgumentName>" in answer.body
