"""Conditions of policies over real requests: each key says what the request says, in a statement
that allows and in one that denies."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from botocore.client import BaseClient

from support.forms import Form
from support.iamserver import (
    ROOT_ACCOUNT,
    Cloud,
    Keys,
    credentials_of,
    document,
    statement,
)
from support.s3raw import Answer, Raw, exchange

TAGGING = "<Tagging><TagSet><Tag><Key>class</Key><Value>{}</Value></Tag></TagSet></Tagging>"
VERSIONING = {"Status": "Enabled"}
NO_BODY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Case(NamedTuple):
    """`actions`: what the requests ask for. `condition`: operator -> key -> value. `fitting`: a
    request that fulfils it, `other`: one that does not."""

    actions: str | list[str]
    condition: dict[str, dict[str, Any]]
    fitting: Raw
    other: Raw


def listing(query: str) -> Raw:
    return Raw("GET", "/{}", query)


def put(**headers: str) -> Raw:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Raw("PUT", "/{}/new", body=b"x", headers=fields)


def tagging(key: str, value: str) -> Raw:
    return Raw("PUT", f"/{{}}/{key}", "tagging=", TAGGING.format(value).encode())


def get(key: str = "open", query: str = "", **headers: str) -> Raw:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Raw("GET", f"/{{}}/{key}", query, headers=fields)


def one_tag(key: str) -> dict[str, dict[str, Any]]:
    return {"StringEquals": {f"{key}/class": "open"}}


GET_TAGS = "s3:GetObjectTagging"
SET_TAGS = "s3:PutObjectTagging"
# The objects `open` and `shut` have a tag that says so, `bare` has none.
CASES = {
    "prefix": Case(
        "s3:ListBucket",
        {"StringLike": {"s3:prefix": "home/*"}},
        listing("list-type=2&prefix=home/a"),
        listing("list-type=2&prefix=other"),
    ),
    "no prefix": Case(
        "s3:ListBucket",
        {"StringEquals": {"s3:prefix": ""}},
        listing("list-type=2"),
        listing("prefix=a"),
    ),
    "prefix of versions": Case(
        "s3:ListBucketVersions",
        {"StringEquals": {"s3:prefix": "home/"}},
        listing("versions=&prefix=home/"),
        listing("versions="),
    ),
    "prefix of uploads": Case(
        "s3:ListBucketMultipartUploads",
        {"StringEquals": {"s3:prefix": "a b"}},
        listing("prefix=a%20b&uploads="),
        listing("prefix=a&uploads="),
    ),
    "delimiter": Case(
        "s3:ListBucket",
        {"StringEquals": {"s3:delimiter": "/"}},
        listing("delimiter=%2F"),
        listing("delimiter=-"),
    ),
    "max-keys": Case(
        "s3:ListBucket",
        {"NumericLessThanEquals": {"s3:max-keys": "10"}},
        listing("max-keys=10"),
        listing("max-keys=11"),
    ),
    "referer": Case(
        "s3:GetObject",
        {"StringLike": {"aws:Referer": "http://here/*"}},
        get(referer="http://here/a"),
        get(referer="http://there/a"),
    ),
    "user agent": Case(
        "s3:GetObject",
        {"StringEquals": {"aws:UserAgent": "one"}},
        get(user_agent="one"),
        get(user_agent="two"),
    ),
    "existing tag": Case("s3:GetObject", one_tag("s3:ExistingObjectTag"), get(), get("shut")),
    "existing tag, none": Case("s3:GetObject", one_tag("s3:ExistingObjectTag"), get(), get("bare")),
    "existing tag of HEAD": Case(
        "s3:GetObject",
        one_tag("s3:ExistingObjectTag"),
        Raw("HEAD", "/{}/open"),
        Raw("HEAD", "/{}/shut"),
    ),
    "existing tag, told": Case(
        GET_TAGS,
        one_tag("s3:ExistingObjectTag"),
        get(query="tagging="),
        get("shut", "tagging="),
    ),
    "existing tag, set": Case(
        SET_TAGS,
        one_tag("s3:ExistingObjectTag"),
        tagging("open", "new"),
        tagging("shut", "new"),
    ),
    "existing tag, deleted": Case(
        "s3:DeleteObjectTagging",
        one_tag("s3:ExistingObjectTag"),
        Raw("DELETE", "/{}/open", "tagging="),
        Raw("DELETE", "/{}/shut", "tagging="),
    ),
    "existing tag of an ACL": Case(
        "s3:GetObjectAcl",
        one_tag("s3:ExistingObjectTag"),
        get(query="acl="),
        get("shut", "acl="),
    ),
    "existing tag of a source": Case(
        ["s3:PutObject", "s3:GetObject", GET_TAGS, SET_TAGS],
        {"StringEqualsIfExists": {"s3:ExistingObjectTag/class": "open"}},
        put(x_amz_copy_source="{}/open"),
        put(x_amz_copy_source="{}/shut"),
    ),
    "given tag": Case(
        ["s3:PutObject", SET_TAGS],
        one_tag("s3:RequestObjectTag"),
        put(x_amz_tagging="class=open"),
        put(x_amz_tagging="class=shut"),
    ),
    "given tag, set": Case(
        SET_TAGS,
        one_tag("s3:RequestObjectTag"),
        tagging("shut", "open"),
        tagging("open", "shut"),
    ),
    "names of given tags": Case(
        ["s3:PutObject", SET_TAGS],
        {"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": ["class", "x"]}},
        put(x_amz_tagging="a=b&class=open"),
        put(x_amz_tagging="a=b&b=c"),
    ),
    "names of given tags, set": Case(
        SET_TAGS,
        {"StringEquals": {"s3:RequestObjectTag/class": ["1", "2"]}},
        tagging("open", "2"),
        tagging("open", "3"),
    ),
    "canned ACL": Case(
        ["s3:PutObject", "s3:PutObjectAcl"],
        {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}},
        put(x_amz_acl="bucket-owner-full-control"),
        put(x_amz_acl="private"),
    ),
    "granted": Case(
        ["s3:PutObject", "s3:PutObjectAcl"],
        {"StringEquals": {"s3:x-amz-grant-read": f"id={ROOT_ACCOUNT}"}},
        put(x_amz_grant_read=f"id={ROOT_ACCOUNT}"),
        put(x_amz_acl="private"),
    ),
    "storage class": Case(
        "s3:PutObject",
        {"StringEquals": {"s3:x-amz-storage-class": "STANDARD_IA"}},
        put(x_amz_storage_class="STANDARD_IA"),
        put(x_amz_storage_class="STANDARD"),
    ),
    "copy source": Case(
        ["s3:PutObject", "s3:Get*", SET_TAGS],
        {"StringLikeIfExists": {"s3:x-amz-copy-source": "*/open"}},
        put(x_amz_copy_source="/{}/open"),
        put(x_amz_copy_source="/{}/bare"),
    ),
    "digest": Case(
        "s3:GetObject",
        {"StringEquals": {"s3:x-amz-content-sha256": NO_BODY}},
        get(),
        Raw("GET", "/{}/open", payload="UNSIGNED-PAYLOAD"),
    ),
    "if-none-match": Case(
        "s3:PutObject",
        {"Null": {"s3:if-none-match": "false"}},
        put(if_none_match="*"),
        put(),
    ),
    "version": Case(
        "s3:GetObjectVersion",
        {"StringEquals": {"s3:VersionId": "null"}},
        get(query="versionId=null"),
        get(query="versionId={version}"),
    ),
    "version that is deleted": Case(
        "s3:DeleteObjectVersion",
        {"StringEquals": {"s3:VersionId": "null"}},
        Raw("DELETE", "/{}/open", "versionId=null"),
        Raw("DELETE", "/{}/open", "versionId={version}"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def alice(cloud: Cloud) -> Keys:
    return cloud.user("alice")


@pytest.fixture
def place(root: BaseClient, box: str) -> tuple[str, str]:
    """A bucket with `open`, `shut` and `bare`; the id of a version of `open` that is not null."""
    for key in ("open", "shut"):
        root.put_object(Bucket=box, Key=key, Body=b"null", Tagging=f"class={key}")
    root.put_bucket_versioning(Bucket=box, VersioningConfiguration=VERSIONING)
    made = root.put_object(Bucket=box, Key="open", Body=b"new", Tagging="class=open")
    root.put_object(Bucket=box, Key="bare", Body=b"bare")
    return box, made["VersionId"]


def at(raw: Raw, place: tuple[str, str]) -> Raw:
    bucket, version = place
    fields = {name: value.format(bucket) for name, value in raw.headers.items()}
    query = raw.query.replace("{version}", version)
    return Raw(raw.method, raw.path.format(bucket), query, raw.body, fields, raw.payload)


def both(bucket: str) -> list[str]:
    return [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]


@pytest.mark.parametrize("name", CASES)
def test_a_condition_allows_what_it_says(
    cloud: Cloud, alice: Keys, place: tuple[str, str], name: str
) -> None:
    case = CASES[name]
    cloud.allow("alice", statement(case.actions, both(place[0]), **case.condition))
    with cloud.unchanged():
        answer = cloud.send(at(case.other, place), alice)
        assert answer.status == 403, answer.body
    answer = cloud.send(at(case.fitting, place), alice)
    assert answer.status < 300, answer.body


@pytest.mark.parametrize("name", CASES)
def test_a_condition_denies_what_it_says(
    cloud: Cloud, alice: Keys, place: tuple[str, str], name: str
) -> None:
    case = CASES[name]
    if "IfExists" in "".join(case.condition):
        pytest.skip("it denies what the other request asks for besides, too")
    deny = statement(case.actions, both(place[0]), effect="Deny", principal="*", **case.condition)
    cloud.allow("alice", statement("s3:*"))
    cloud.set_policy(place[0], deny)
    with cloud.unchanged():
        answer = cloud.send(at(case.fitting, place), alice)
        assert answer.status == 403, answer.body
    answer = cloud.send(at(case.other, place), alice)
    assert answer.status < 300, answer.body


# --- who asks, from where and how -------------------------------------------------------------


def allows(cloud: Cloud, who: Keys | None, box: str, send: Callable[[], Answer], **op: Any) -> bool:
    """Whether a bucket policy with this condition gives the object to somebody."""
    cloud.set_policy(box, statement("s3:*Object", f"arn:aws:s3:::{box}/*", principal="*", **op))
    return send().status < 300


def test_where_a_request_comes_from(cloud: Cloud, box: str) -> None:
    def read() -> Answer:
        return cloud.send(Raw("GET", f"/{box}/k"), None)

    for addresses, expected in (
        ("127.0.0.1", True),
        (["10.0.0.0/8", "127.0.0.0/8"], True),
        ("127.0.0.2/32", False),
        ("2001:db8::/32", False),
    ):
        assert allows(cloud, None, box, read, IpAddress={"aws:SourceIp": addresses}) is expected
        negated = {"NotIpAddress": {"aws:SourceIp": addresses}}
        assert allows(cloud, None, box, read, **negated) is not expected


def test_what_is_not_encrypted_on_its_way_is_known_to_be_so(cloud: Cloud, box: str) -> None:
    deny = {"Bool": {"aws:SecureTransport": "false"}}
    own = both(box)
    cloud.set_policy(box, statement("s3:*", own, effect="Deny", principal="*", **deny))
    assert cloud.send(Raw("GET", f"/{box}/k")).status == 403
    deny = {"Bool": {"aws:SecureTransport": "true"}}
    cloud.set_policy(box, statement("s3:*", own, effect="Deny", principal="*", **deny))
    assert cloud.send(Raw("GET", f"/{box}/k")).status == 200


def presigned(cloud: Cloud, who: Keys, raw: Raw, *, age_s: float = 0.0) -> Answer:
    raw.signed_at = time.time() - age_s
    query = cloud.signer(who).presigned(raw, expires_s=3600)
    fields = {"host": "{}:{}".format(*cloud.address), "content-length": "0"}
    return exchange(cloud.address, raw.method, raw.path, query, fields.items())


@pytest.mark.parametrize("auth", ["REST-HEADER", "REST-QUERY-STRING", "POST"])
def test_how_a_request_is_signed(cloud: Cloud, alice: Keys, box: str, auth: str) -> None:
    where = f"arn:aws:s3:::{box}/k"
    condition = {"StringEquals": {"s3:authType": auth, "s3:signatureversion": "AWS4-HMAC-SHA256"}}
    cloud.allow("alice", statement(["s3:GetObject", "s3:PutObject"], where, **condition))
    raw = Raw("GET", f"/{box}/k")
    told = {
        "REST-HEADER": cloud.send(raw, alice).status,
        "REST-QUERY-STRING": presigned(cloud, alice, raw).status,
        "POST": Form(box, who=alice.credential).post(cloud).status,
    }
    assert {name for name, status in told.items() if status < 300} == {auth}
    assert {status for name, status in told.items() if name != auth} == {403}


def test_version_2_is_told_from_version_4(cloud: Cloud, alice: Keys, box: str) -> None:
    condition = {"StringEquals": {"s3:signatureversion": "AWS"}}
    cloud.allow("alice", statement("s3:PutObject", f"arn:aws:s3:::{box}/k", **condition))
    assert Form(box, who=alice.credential).post(cloud).status == 403
    assert Form(box, who=alice.credential, v2=True).post(cloud).status == 204


def test_how_long_ago_a_request_was_signed(cloud: Cloud, alice: Keys, box: str) -> None:
    condition = {"NumericGreaterThan": {"s3:signatureAge": "600000"}}
    cloud.allow("alice", statement("s3:*"), statement("s3:*", effect="Deny", **condition))
    raw = Raw("GET", f"/{box}/k")
    assert presigned(cloud, alice, raw, age_s=300).status == 200
    assert presigned(cloud, alice, raw, age_s=900).status == 403


def test_a_form_gives_its_tags_and_its_address(cloud: Cloud, alice: Keys, box: str) -> None:
    condition = {
        "StringEquals": {"s3:RequestObjectTag/class": "open"},
        "IpAddress": {"aws:SourceIp": "127.0.0.0/8"},
    }
    own = ["s3:PutObject", SET_TAGS]
    cloud.allow("alice", statement(own, f"arn:aws:s3:::{box}/k", **condition))
    for value, status in (("shut", 403), ("open", 204)):
        fields = {"tagging": TAGGING.format(value)}
        assert Form(box, fields, who=alice.credential).post(cloud).status == status


def test_a_copy_gives_the_tags_that_it_brings(
    cloud: Cloud, root: BaseClient, alice: Keys, place: tuple[str, str]
) -> None:
    deny = {"StringEquals": {"s3:RequestObjectTag/class": "shut"}}
    cloud.allow("alice", statement("s3:*"), statement("s3:Put*", effect="Deny", **deny))
    copies = at(put(x_amz_copy_source="{}/shut"), place)
    with cloud.unchanged():
        assert cloud.send(copies, alice).status == 403
    copies.headers["x-amz-copy-source"] = f"{place[0]}/open"
    assert cloud.send(copies, alice).status == 200
    told = root.get_object_tagging(Bucket=place[0], Key="new")["TagSet"]
    assert told == [{"Key": "class", "Value": "open"}]


def test_each_user_has_a_folder_by_name(cloud: Cloud, alice: Keys, box: str) -> None:
    cloud.allow(
        "alice",
        statement("s3:*Object", f"arn:aws:s3:::{box}/home/${{aws:username}}/*"),
        statement(
            "s3:ListBucket",
            f"arn:aws:s3:::{box}",
            StringLike={"s3:prefix": "home/${aws:username}/*"},
        ),
    )
    for name, status in (("alice", 200), ("bob", 403), ("${aws:username}", 403)):
        path = f"/{box}/home/{name}/a".replace("${", "%24%7B").replace("}", "%7D")
        path = path.replace("aws:", "aws%3A")
        assert cloud.send(Raw("PUT", path, body=b"x"), alice).status == status
        query = f"list-type=2&prefix=home/{name}/".replace("${aws:username}", "x")
        assert cloud.send(Raw("GET", f"/{box}", query), alice).status == status
    # whoever has no name has no folder
    folder = f"arn:aws:s3:::{box}/home/${{aws:username}}/*"
    cloud.set_policy(box, statement("s3:GetObject", folder, principal="*"))
    assert cloud.send(Raw("GET", f"/{box}/home//a"), None).status == 403


def test_a_users_name_and_id_are_told(cloud: Cloud, alice: Keys, box: str) -> None:
    arn = f"arn:aws:iam::{ROOT_ACCOUNT}:user/alice"
    unique = cloud.client("iam").get_user(UserName="alice")["User"]["UserId"]
    cloud.allow("alice")
    raw = Raw("GET", f"/{box}/k")
    for key, value, other in (
        ("aws:username", "alice", "bob"),
        ("aws:userid", unique, "AIDAOTHER"),
        ("aws:PrincipalArn", arn, arn + "s"),
        ("aws:PrincipalAccount", ROOT_ACCOUNT, "111111111111"),
        ("aws:PrincipalType", "User", "Account"),
        ("s3:ResourceAccount", ROOT_ACCOUNT, "111111111111"),
    ):
        op = "ArnEquals" if key.endswith("Arn") else "StringEquals"

        def read() -> Answer:
            return cloud.send(raw, alice)

        assert allows(cloud, alice, box, read, **{op: {key: value}}), key
        assert not allows(cloud, alice, box, read, **{op: {key: other}}), key


def test_tags_of_users_and_of_roles_are_the_principals(cloud: Cloud, alice: Keys, box: str) -> None:
    iam, arn = cloud.client("iam"), f"arn:aws:iam::{ROOT_ACCOUNT}:user/alice"
    trust = {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName="job", AssumeRolePolicyDocument=document(trust))
    session = credentials_of(
        cloud.client("sts", alice).assume_role(
            RoleArn=f"arn:aws:iam::{ROOT_ACCOUNT}:role/job", RoleSessionName="night"
        )
    )
    cloud.allow("alice")
    cloud.set_policy(
        box,
        statement(
            "s3:GetObject",
            f"arn:aws:s3:::{box}/*",
            principal="*",
            StringEquals={"aws:PrincipalTag/team": "blue"},
        ),
    )
    raw = Raw("GET", f"/{box}/k")
    for who, tag in ((alice, iam.tag_user), (session, iam.tag_role)):
        name = {"UserName": "alice"} if who is alice else {"RoleName": "job"}
        assert cloud.send(raw, who).status == 403
        tag(**name, Tags=[{"Key": "team", "Value": "red"}])
        assert cloud.send(raw, who).status == 403
        tag(**name, Tags=[{"Key": "team", "Value": "blue"}])
        assert cloud.send(raw, who).status == 200
    assert cloud.send(raw, None).status == 403
