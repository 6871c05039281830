"""Object ownership and public access blocks: kept, told, and obeyed by whatever sets an ACL."""

from __future__ import annotations

import http.client
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.client import BaseClient

from predastore.s3.control import BLOCK_PATH
from predastore.s3.ownership import new_buckets_of
from predastore.s3.public_access import EVERYTHING
from predastore.s3.xml_write import CONTROL_NAMESPACE
from support.s3control import control_client
from support.s3raw import Answer, Raw
from support.s3refusals import refused
from support.s3server import ALICE, BOB, DOMAIN, S3Server, filesystem_catalog, running

NO_CONTROLS = ("OwnershipControlsNotFoundError", 404)
NO_BLOCK = ("NoSuchPublicAccessBlockConfiguration", 404)
NO_ACLS = ("AccessControlListNotSupported", 400)
DENIED = ("AccessDenied", 403)
PUBLIC = "public-read"


def controls(name: str) -> dict[str, Any]:
    return {"Rules": [{"ObjectOwnership": name}]}


def own(s3: BaseClient, bucket: str, name: str) -> None:
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=controls(name))


def block(s3: BaseClient, bucket: str, **switches: bool) -> None:
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=switches)


# --- ownership --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ObjectWriter", "BucketOwnerPreferred", "BucketOwnerEnforced"])
def test_a_buckets_ownership_is_set_told_and_taken_away(
    s3: BaseClient, bucket: str, name: str
) -> None:
    assert refused(s3.get_bucket_ownership_controls, Bucket=bucket) == NO_CONTROLS
    own(s3, bucket, name)
    told = s3.get_bucket_ownership_controls(Bucket=bucket)
    assert told["OwnershipControls"] == controls(name)
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": []})
    assert s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"] == controls(name)
    s3.delete_bucket_ownership_controls(Bucket=bucket)
    s3.delete_bucket_ownership_controls(Bucket=bucket)
    assert refused(s3.get_bucket_ownership_controls, Bucket=bucket) == NO_CONTROLS
    s3.create_bucket(Bucket=f"{bucket}-new", ObjectOwnership=name)
    told = s3.get_bucket_ownership_controls(Bucket=f"{bucket}-new")
    assert told["OwnershipControls"] == controls(name)


@pytest.fixture
def enforced(s3: BaseClient, bucket: str) -> str:
    own(s3, bucket, "BucketOwnerEnforced")
    return bucket


def test_where_no_acl_counts_none_is_taken_but_the_owners(s3: BaseClient, enforced: str) -> None:
    where = {"Bucket": enforced, "Key": "k"}
    s3.put_object(**where, Body=b"kept")
    for taken in ("private", "bucket-owner-full-control"):
        s3.put_object(**where, Body=b"kept", ACL=taken)
        s3.put_object_acl(**where, ACL=taken)
        s3.put_bucket_acl(Bucket=enforced, ACL=taken)
    read = s3.get_bucket_acl(Bucket=enforced)
    policy = {"Owner": read["Owner"], "Grants": read["Grants"]}
    s3.put_bucket_acl(Bucket=enforced, AccessControlPolicy=policy)
    s3.put_object_acl(**where, AccessControlPolicy=policy)
    copy = {"Bucket": enforced, "Key": "copy", "CopySource": where}
    for asked in ({"ACL": PUBLIC}, {"GrantRead": f"id={BOB.account_id}"}):
        assert refused(s3.put_object, **where, Body=b"lost", **asked) == NO_ACLS
        assert refused(s3.copy_object, **copy, **asked) == NO_ACLS
        assert refused(s3.create_multipart_upload, **where, **asked) == NO_ACLS
        assert refused(s3.put_object_acl, **where, **asked) == NO_ACLS
        assert refused(s3.put_bucket_acl, Bucket=enforced, **asked) == NO_ACLS
    assert s3.get_object(**where)["Body"].read() == b"kept"
    assert s3.list_objects_v2(Bucket=enforced)["KeyCount"] == 1


def test_acls_of_before_do_not_count_and_come_back(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"", ACL=PUBLIC)
    own(s3, bucket, "BucketOwnerEnforced")
    assert len(s3.get_object_acl(**where)["Grants"]) == 1
    own(s3, bucket, "ObjectWriter")
    assert len(s3.get_object_acl(**where)["Grants"]) == 2


def test_a_bucket_with_an_acl_can_not_do_without(s3: BaseClient, bucket: str) -> None:
    refusal = ("InvalidBucketAclWithObjectOwnership", 400)
    s3.put_bucket_acl(Bucket=bucket, ACL=PUBLIC)
    own(s3, bucket, "BucketOwnerPreferred")
    assert refused(own, s3=s3, bucket=bucket, name="BucketOwnerEnforced") == refusal
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    own(s3, bucket, "BucketOwnerEnforced")
    new = {"Bucket": f"{bucket}-new", "ACL": PUBLIC, "ObjectOwnership": "BucketOwnerEnforced"}
    assert refused(s3.create_bucket, **new) == refusal
    assert refused(s3.head_bucket, Bucket=f"{bucket}-new") == ("404", 404)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<Rule/>",
        "<Rule><ObjectOwnership/></Rule>",
        "<Rule><ObjectOwnership>bucketownerenforced</ObjectOwnership></Rule>",
        "<Rule><ObjectOwnership>ObjectWriter</ObjectOwnership><X/></Rule>",
        "<Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>" * 2,
        "<ObjectOwnership>ObjectWriter</ObjectOwnership>",
    ],
)
def test_malformed_ownership_changes_nothing(server: S3Server, bucket: str, body: str) -> None:
    data = f"<OwnershipControls>{body}</OwnershipControls>".encode()
    with server.unchanged():
        answer = server.signer().send(Raw("PUT", f"/{bucket}", "ownershipControls", data))
    assert (answer.status, answer.code) == (400, "MalformedXML")


# --- blocks -----------------------------------------------------------------------------------

SWITCHES = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
OFF = dict.fromkeys(SWITCHES, False)


def test_a_block_is_set_told_and_taken_away(s3: BaseClient, bucket: str) -> None:
    assert refused(s3.get_public_access_block, Bucket=bucket) == NO_BLOCK
    for name in SWITCHES:
        block(s3, bucket, **{name: True})
        told = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        assert told == {**OFF, name: True}
    block(s3, bucket, **OFF)
    told = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert told == OFF
    s3.delete_public_access_block(Bucket=bucket)
    s3.delete_public_access_block(Bucket=bucket)
    assert refused(s3.get_public_access_block, Bucket=bucket) == NO_BLOCK


def test_a_block_refuses_public_acls_wherever_they_are_said(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"kept", ACL=PUBLIC)
    block(s3, bucket, BlockPublicAcls=True)
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": where}
    all_users = 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'
    for asked in ({"ACL": PUBLIC}, {"ACL": "authenticated-read"}, {"GrantReadACP": all_users}):
        assert refused(s3.put_object, **where, Body=b"lost", **asked) == DENIED
        assert refused(s3.copy_object, **copy, **asked) == DENIED
        assert refused(s3.create_multipart_upload, **where, **asked) == DENIED
        assert refused(s3.put_object_acl, **where, **asked) == DENIED
        assert refused(s3.put_bucket_acl, Bucket=bucket, **asked) == DENIED
    s3.put_object_acl(**where, GrantRead=f"id={BOB.account_id}")
    assert s3.get_object(**where)["Body"].read() == b"kept"
    assert len(s3.get_bucket_acl(Bucket=bucket)["Grants"]) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "InvalidRequest"),
        ("<BlockPublicAcls>perhaps</BlockPublicAcls>", "MalformedXML"),
        ("<BlockPublicAcls/>", "MalformedXML"),
        ("<Other>true</Other>", "MalformedXML"),
        ("<BlockPublicAcls>true</BlockPublicAcls>" * 2, "MalformedXML"),
    ],
)
def test_a_malformed_block_changes_nothing(
    server: S3Server, bucket: str, body: str, code: str
) -> None:
    data = f"<PublicAccessBlockConfiguration>{body}</PublicAccessBlockConfiguration>".encode()
    with server.unchanged():
        answer = server.signer().send(Raw("PUT", f"/{bucket}", "publicAccessBlock", data))
        again = account_call(server, "PUT", data)
    assert (answer.status, answer.code) == (again.status, again.code) == (400, code)


# --- accounts ---------------------------------------------------------------------------------


def account_call(
    server: S3Server, method: str, body: bytes = b"", account: str = BOB.account_id
) -> Answer:
    """Of Bob's, whose account has nothing to do with other tests."""
    fields = {"x-amz-account-id": account}
    return server.signer(BOB).send(Raw(method, BLOCK_PATH.decode(), "", body, fields))


def blocking(*names: str) -> bytes:
    inner = "".join(f"<{name}>true</{name}>" for name in names)
    root = "PublicAccessBlockConfiguration"
    return f'<{root} xmlns="{CONTROL_NAMESPACE}">{inner}</{root}>'.encode()


def test_an_account_has_a_block_that_holds_in_all_its_buckets(
    server: S3Server, s3: BaseClient, bob: BaseClient, bucket: str
) -> None:
    assert account_call(server, "GET").code == NO_BLOCK[0]
    where = {"Bucket": f"{bucket}-bobs", "Key": "k"}
    bob.create_bucket(Bucket=where["Bucket"])
    bob.put_object(**where, Body=b"", ACL=PUBLIC)
    assert account_call(server, "PUT", blocking("BlockPublicAcls")).status == 201
    told = ET.fromstring(account_call(server, "GET").body)
    assert told.tag == f"{{{CONTROL_NAMESPACE}}}PublicAccessBlockConfiguration"
    assert told.findtext(f"{{{CONTROL_NAMESPACE}}}BlockPublicAcls") == "true"
    assert refused(bob.put_object, **where, Body=b"", ACL=PUBLIC) == DENIED
    assert refused(bob.put_object_acl, **where, ACL=PUBLIC) == DENIED
    assert refused(bob.put_bucket_acl, Bucket=where["Bucket"], ACL=PUBLIC) == DENIED
    assert refused(bob.create_bucket, Bucket=f"{bucket}-new", ACL=PUBLIC) == DENIED
    assert refused(bob.get_public_access_block, Bucket=where["Bucket"]) == NO_BLOCK
    s3.put_bucket_acl(Bucket=bucket, ACL=PUBLIC)  # of another account
    assert account_call(server, "DELETE").status == 204
    assert account_call(server, "GET").code == NO_BLOCK[0]
    bob.put_object_acl(**where, ACL=PUBLIC)


def test_an_accounts_block_is_its_own_affair(server: S3Server) -> None:
    for method in ("GET", "PUT", "DELETE"):
        body = blocking("BlockPublicAcls") if method == "PUT" else b""
        answer = account_call(server, method, body, ALICE.account_id)
        assert (answer.status, answer.code) == (403, "AccessDenied")
    fields = {"x-amz-account-id": BOB.account_id, "host": f"127.0.0.1:{server.port}"}
    connection = http.client.HTTPConnection(*server.address)
    connection.request("GET", BLOCK_PATH.decode(), headers=fields)
    assert connection.getresponse().status == 403
    connection.close()


def test_an_account_may_stand_before_the_domain(server: S3Server) -> None:
    fields = {"x-amz-account-id": BOB.account_id, "host": f"{BOB.account_id}.{DOMAIN}"}
    raw = Raw("GET", BLOCK_PATH.decode(), headers=fields)
    assert server.signer(BOB).send(raw).code == NO_BLOCK[0]


def test_the_path_of_accounts_is_a_key_like_any_other(server: S3Server, s3: BaseClient) -> None:
    """Where no account is named."""
    _, bucket, key = BLOCK_PATH.decode().split("/", 2)
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=key, Body=b"mine")
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"mine"
    s3.delete_object(Bucket=bucket, Key=key)
    s3.delete_bucket(Bucket=bucket)


def test_boto3_knows_the_calls_of_accounts(server: S3Server) -> None:
    control = control_client(server, BOB)
    account = {"AccountId": BOB.account_id}
    switches = {**OFF, "RestrictPublicBuckets": True}
    control.put_public_access_block(**account, PublicAccessBlockConfiguration=switches)
    told = control.get_public_access_block(**account)["PublicAccessBlockConfiguration"]
    assert told == switches
    control.delete_public_access_block(**account)
    assert refused(control.get_public_access_block, **account) == NO_BLOCK
    control.close()


# --- at the commit ----------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["block", "ownership"])
def test_what_is_forbidden_while_a_body_arrives_is_not_stored(
    server: S3Server, s3: BaseClient, bucket: str, by: str
) -> None:
    url = urlsplit(s3.generate_presigned_url(
        "put_object", {"Bucket": bucket, "Key": "k", "ACL": PUBLIC}
    ))  # fmt: skip
    connection = http.client.HTTPConnection(*server.address)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    connection.putheader("content-length", "100000")
    connection.putheader("x-amz-acl", PUBLIC)
    connection.endheaders(b"x" * 50_000)
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": []})
    if by == "block":
        block(s3, bucket, BlockPublicAcls=True)
    else:
        own(s3, bucket, "BucketOwnerEnforced")
    connection.send(b"x" * 50_000)
    answer = connection.getresponse()
    code = ET.fromstring(answer.read()).findtext("Code")
    connection.close()
    assert (code, answer.status) == (DENIED if by == "block" else NO_ACLS)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


# --- new buckets ------------------------------------------------------------------------------


def test_new_buckets_are_as_the_configuration_says(tmp_path: Path) -> None:
    given = new_buckets_of("BucketOwnerEnforced", blocks=True)
    with running(filesystem_catalog, tmp_path, new_buckets=given) as server:
        s3 = server.client()
        s3.create_bucket(Bucket="amazons")
        told = s3.get_bucket_ownership_controls(Bucket="amazons")
        assert told["OwnershipControls"] == controls("BucketOwnerEnforced")
        told = s3.get_public_access_block(Bucket="amazons")
        assert told["PublicAccessBlockConfiguration"] == dict.fromkeys(SWITCHES, True)
        assert refused(s3.create_bucket, Bucket="public", ACL=PUBLIC) == (
            "InvalidBucketAclWithObjectOwnership", 400,
        )  # fmt: skip
        assert refused(
            s3.create_bucket, Bucket="public", ACL=PUBLIC, ObjectOwnership="ObjectWriter"
        ) == ("InvalidBucketAclWithBlockPublicAccessError", 400)
        s3.create_bucket(Bucket="other", ObjectOwnership="ObjectWriter")
        told = s3.get_bucket_ownership_controls(Bucket="other")
        assert told["OwnershipControls"] == controls("ObjectWriter")
        s3.close()


def test_what_s3_does_anyway_needs_no_saying() -> None:
    assert new_buckets_of("ObjectWriter", blocks=False) == (0, None)
    assert new_buckets_of("BucketOwnerPreferred", blocks=True).block == EVERYTHING
