"""Requests that want others to do what the requester may not, and credentials that lie: refused in
S3's words, and nothing is stored."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient

from support.forms import Form
from support.iamserver import (
    ROOT,
    ROOT_ACCOUNT,
    Cloud,
    Keys,
    credentials_of,
    document,
    running,
    statement,
)
from support.s3raw import Answer, Raw, exchange
from support.s3routes import delete_objects_of
from support.s3server import filesystem_catalog

DENIED = (403, "AccessDenied")


@pytest.fixture(scope="module")
def alice(cloud: Cloud) -> Keys:
    return cloud.user("alice")


@pytest.fixture
def safe(root: BaseClient, box: str) -> str:
    """A bucket of the same account that Alice has no rights to, with the object `k`."""
    name = f"{box}-safe"
    root.create_bucket(Bucket=name)
    root.put_object(Bucket=name, Key="k", Body=b"secret", Tagging="class=secret")
    return name


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


def objects(bucket: str, pattern: str = "*") -> str:
    return f"arn:aws:s3:::{bucket}/{pattern}"


def copy(source: str, to: str, query: str = "", **headers: str) -> Raw:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Raw("PUT", to, query, headers={"x-amz-copy-source": source, **fields})


# --- copies -----------------------------------------------------------------------------------


def test_a_copy_needs_the_right_to_its_source(
    cloud: Cloud, alice: Keys, box: str, safe: str
) -> None:
    cloud.allow("alice", statement("s3:*", objects(box)), statement("s3:PutObject"))
    with cloud.unchanged():
        for source in (f"{safe}/k", f"/{safe}/k", f"{safe}/k?versionId=null", f"{safe}%2Fk"):
            assert told(cloud.send(copy(source, f"/{box}/new"), alice)) == DENIED
            back = copy(source, f"/{safe}/k", x_amz_metadata_directive="REPLACE")
            assert told(cloud.send(back, alice)) == DENIED
        absent = copy(f"{safe}/absent", f"/{box}/new")
        assert told(cloud.send(absent, alice)) == DENIED
    own = copy(f"{box}/k", f"/{box}/new")
    assert cloud.send(own, alice).status == 200


def test_a_source_is_not_read_where_its_own_bucket_denies_it(
    cloud: Cloud, box: str, safe: str
) -> None:
    cloud.set_policy(safe, statement("s3:GetObject", objects(safe), effect="Deny", principal="*"))
    with cloud.unchanged():
        assert told(cloud.send(copy(f"{safe}/k", f"/{box}/new"))) == DENIED


def test_a_part_needs_the_right_to_its_source(
    cloud: Cloud, root: BaseClient, alice: Keys, box: str, safe: str
) -> None:
    cloud.allow("alice", statement("s3:*", objects(box)))
    upload = root.create_multipart_upload(Bucket=box, Key="up")["UploadId"]
    query = f"partNumber=1&uploadId={upload}"
    with cloud.unchanged():
        assert told(cloud.send(copy(f"{safe}/k", f"/{box}/up", query), alice)) == DENIED
        ranged = copy(f"{safe}/k", f"/{box}/up", query, x_amz_copy_source_range="bytes=0-1")
        assert told(cloud.send(ranged, alice)) == DENIED
    assert cloud.send(copy(f"{box}/k", f"/{box}/up", query), alice).status == 200


@pytest.mark.parametrize("lacks", ["s3:GetObjectTagging", "s3:PutObjectTagging"])
def test_a_copy_does_not_bring_tags_that_may_not_be_read_or_given(
    cloud: Cloud, alice: Keys, box: str, safe: str, lacks: str
) -> None:
    cloud.allow("alice", statement("s3:*"), statement(lacks, effect="Deny"))
    with cloud.unchanged():
        assert told(cloud.send(copy(f"{safe}/k", f"/{box}/new"), alice)) == DENIED
    replaced = copy(f"{safe}/k", f"/{box}/new", x_amz_tagging_directive="REPLACE")
    assert cloud.send(replaced, alice).status == 200
    told_tags = cloud.send(Raw("GET", f"/{box}/new", "tagging="))
    assert b"secret" not in told_tags.body


# --- lists of what is to be deleted --------------------------------------------------------------


def test_a_list_deletes_what_may_be_and_nothing_else(
    cloud: Cloud, root: BaseClient, alice: Keys, box: str
) -> None:
    for key in ("mine/1", "mine/2", "yours/1"):
        root.put_object(Bucket=box, Key=key, Body=b"x")
    versioning = {"Status": "Enabled"}
    root.put_bucket_versioning(Bucket=box, VersioningConfiguration=versioning)
    cloud.allow("alice", statement("s3:DeleteObject", objects(box, "mine/*")))
    entries = "".join(
        f"<Object><Key>{key}</Key>{version}</Object>"
        for key, version in (
            ("mine/1", ""),
            ("yours/1", ""),
            ("mine/2", "<VersionId>null</VersionId>"),
            ("k", ""),
        )
    )
    answer = cloud.send(delete_objects_of(box, entries), alice)
    assert answer.status == 200
    assert answer.body.count(b"<Deleted>") == 1
    assert answer.body.count(b"<Code>AccessDenied</Code>") == 3
    assert b"<Deleted><Key>mine/1</Key>" in answer.body
    left = {one["Key"] for one in root.list_objects_v2(Bucket=box)["Contents"]}
    assert left == {"k", "mine/2", "yours/1"}


def test_a_list_bypasses_a_retention_of_such_keys_alone_as_it_may(
    cloud: Cloud, root: BaseClient, alice: Keys, box: str
) -> None:
    name = f"{box}-locked"
    root.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    versions = {
        key: root.put_object(
            Bucket=name, Key=key, Body=b"x", ChecksumAlgorithm="CRC32",
            ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate="2099-01-01T00:00:00Z",
        )["VersionId"]
        for key in ("open/1", "shut/1", "shut/2", "open/2")
    }  # fmt: skip
    entries = "".join(
        f"<Object><Key>{key}</Key><VersionId>{version}</VersionId></Object>"
        for key, version in versions.items()
    )
    raw = delete_objects_of(name, entries)
    raw.headers["x-amz-bypass-governance-retention"] = "true"
    bypass = "s3:BypassGovernanceRetention"
    cloud.allow(
        "alice",
        statement("s3:*"),
        statement(bypass, objects(name, "shut/*"), effect="Deny"),
    )
    answer = cloud.send(raw, alice)
    assert answer.body.count(b"<Code>AccessDenied</Code>") == 2
    left = {one["Key"] for one in root.list_object_versions(Bucket=name)["Versions"]}
    assert left == {"shut/1", "shut/2"}
    cloud.allow("alice", statement("s3:Delete*"), statement(bypass, objects(name, "shut/1")))
    cloud.send(raw, alice)
    left = {one["Key"] for one in root.list_object_versions(Bucket=name)["Versions"]}
    assert left == {"shut/2"}


@pytest.mark.parametrize("is_list", [False, True])
def test_a_right_that_was_given_elsewhere_counts_for_each_key_at_once(
    cloud: Cloud, root: BaseClient, alice: Keys, box: str, *, is_list: bool
) -> None:
    arn = f"arn:aws:iam::{ROOT_ACCOUNT}:user/alice"
    cloud.allow("alice")
    for number in range(10):
        root.put_object(Bucket=box, Key="k", Body=b"x")
        raw = delete_objects_of(box) if is_list else Raw("DELETE", f"/{box}/k")
        refused = cloud.send(raw, alice, gateway=1)
        assert b"AccessDenied" in refused.body, number
        give = statement("s3:DeleteObject", objects(box), principal=arn)
        cloud.set_policy(box, give)
        done = cloud.send(raw, alice, gateway=1)
        assert b"AccessDenied" not in done.body, number
        cloud.set_policy(box)


# --- uploads of others --------------------------------------------------------------------------


def completion(tag: str) -> bytes:
    part = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
    return f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()


def test_an_upload_of_another_is_touched_by_nobody_without_its_rights(
    cloud: Cloud, root: BaseClient, alice: Keys, box: str
) -> None:
    where: dict[str, Any] = {"Bucket": box, "Key": "up"}
    where["UploadId"] = root.create_multipart_upload(**where)["UploadId"]
    tag = root.upload_part(**where, PartNumber=1, Body=b"x")["ETag"].strip('"')
    query = f"uploadId={where['UploadId']}"
    # what Alice may is for another key, with which the upload is none
    cloud.allow("alice", statement("s3:*", objects(box, "mine/*")))
    requests = [
        ("POST", query, completion(tag)),
        ("PUT", f"partNumber=1&{query}", b"evil"),
        ("GET", query, b""),
        ("DELETE", query, b""),
    ]
    with cloud.unchanged():
        for method, parameters, body in requests:
            assert told(cloud.send(Raw(method, f"/{box}/up", parameters, body), alice)) == DENIED
            stolen = cloud.send(Raw(method, f"/{box}/mine/up", parameters, body), alice)
            assert told(stolen) == (404, "NoSuchUpload")
    assert root.complete_multipart_upload(
        **where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]}
    )


def test_an_upload_of_another_account_stays_its_own(
    cloud: Cloud, root: BaseClient, alice: Keys, box: str
) -> None:
    tenant = cloud.account("uploader")
    account = cloud.client("sts", tenant).get_caller_identity()["Account"]
    arn = f"arn:aws:iam::{account}:root"
    cloud.set_policy(box, statement("s3:PutObject", objects(box), principal=arn))
    begun = cloud.send(Raw("POST", f"/{box}/up", "uploads="), tenant)
    upload = begun.body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    part = Raw("PUT", f"/{box}/up", f"partNumber=1&uploadId={upload}", b"x")
    tag = cloud.send(part, tenant).headers["etag"].strip('"')
    cloud.allow("alice", statement("s3:PutObject", objects(box)))
    raw = Raw("POST", f"/{box}/up", f"uploadId={upload}", completion(tag))
    assert cloud.send(raw, alice).status == 200  # whoever may write here
    owners = root.list_objects_v2(Bucket=box, FetchOwner=True)["Contents"]
    assert {one["Key"]: one["Owner"]["ID"] for one in owners}["up"] == account


# --- what was signed before ---------------------------------------------------------------------


def test_a_form_is_worth_what_its_signer_may(cloud: Cloud, alice: Keys, box: str) -> None:
    form = Form(box, who=alice.credential)
    body = form.body()
    for statements in ([], [statement("s3:*", objects(box, "other"))], [statement("s3:Get*")]):
        cloud.allow("alice", *statements)
        with cloud.unchanged():
            assert told(form.post(cloud, body)) == DENIED
    cloud.allow("alice", statement("s3:PutObject", objects(box, "k")))
    with cloud.unchanged():
        tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
        for field in ({"tagging": tagging}, {"acl": "public-read"}):
            assert told(Form(box, field, who=alice.credential).post(cloud)) == DENIED
    assert form.post(cloud, body).status == 204


def test_what_a_deleted_user_has_signed_is_worth_nothing(cloud: Cloud, box: str) -> None:
    gone = cloud.user("gone", policy=document(statement("s3:*")))
    raws = {method: Raw(method, f"/{box}/k") for method in ("GET", "DELETE")}
    urls = {method: cloud.signer(gone).presigned(raw) for method, raw in raws.items()}
    form = Form(box, who=gone.credential)
    body = form.body()
    host = {"host": "{}:{}".format(*cloud.address), "content-length": "0"}

    def sent(method: str) -> Answer:
        return exchange(cloud.address, method, f"/{box}/k", urls[method], host.items())

    assert sent("GET").status == 200
    iam = cloud.client("iam")
    iam.delete_access_key(UserName="gone", AccessKeyId=gone.id)
    iam.delete_user_policy(UserName="gone", PolicyName="own")
    iam.delete_user(UserName="gone")
    with cloud.unchanged():
        for method in raws:
            assert told(sent(method)) == (403, "InvalidAccessKeyId")
        assert told(form.post(cloud, body)) == (403, "InvalidAccessKeyId")
    again = cloud.user("gone", policy=document(statement("s3:*")))
    assert told(sent("GET")) == (403, "InvalidAccessKeyId")
    assert cloud.send(raws["GET"], again).status == 200


# --- tokens -------------------------------------------------------------------------------------


def session_of(cloud: Cloud, name: str) -> Keys:
    user = cloud.user(name, policy=document(statement("s3:*")))
    return credentials_of(cloud.client("sts", user).get_session_token(DurationSeconds=900))


def test_a_token_that_is_forged_or_anothers_opens_nothing(cloud: Cloud, box: str) -> None:
    mine, theirs = session_of(cloud, "mine"), session_of(cloud, "theirs")
    assert mine.token is not None
    put, get = Raw("PUT", f"/{box}/new", body=b"x"), Raw("GET", f"/{box}/k")
    assert cloud.send(get, mine).status == 200
    sealed = base64.b64decode(mine.token)
    flipped = [
        base64.b64encode(sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :])
        for place in (0, 5, len(sealed) // 2, len(sealed) - 1)
    ]
    lies = [mine._replace(token=token.decode()) for token in flipped]
    lies += [mine._replace(token=token) for token in ("x", "AAAA", "A" * 4096, theirs.token)]
    lies += [mine._replace(id=theirs.id), theirs._replace(token=mine.token)]
    lies += [ROOT._replace(token=mine.token), mine._replace(id=ROOT.id)]
    with cloud.unchanged():
        for who in lies:
            for raw in (put, get):
                assert told(cloud.send(raw, who)) == (400, "InvalidToken"), who
        # a session's key is none without its token
        assert told(cloud.send(put, mine._replace(token=None))) == (403, "InvalidAccessKeyId")
        # a token without its secret
        answer = cloud.send(put, mine._replace(secret="another"))
        assert told(answer) == (403, "SignatureDoesNotMatch")


def test_a_token_is_no_form_and_no_url_of_another(cloud: Cloud, box: str) -> None:
    mine, theirs = session_of(cloud, "mine-2"), session_of(cloud, "theirs-2")
    field = "x-amz-security-token"
    for token, expected in ((mine.token, 204), (theirs.token, 400), ("x", 400)):
        form = Form(box, {field: str(token)}, who=mine.credential)
        assert form.post(cloud).status == expected
    query = cloud.signer(mine).presigned(Raw("GET", f"/{box}/k"))
    host = {"host": "{}:{}".format(*cloud.address)}
    bare = exchange(cloud.address, "GET", f"/{box}/k", query, host.items())
    assert told(bare) == (403, "InvalidAccessKeyId")


def test_a_token_of_another_cluster_opens_nothing(cloud: Cloud, tmp_path: Path, box: str) -> None:
    with running(filesystem_catalog, tmp_path) as other:
        session = session_of(other, "abroad")
        other.client("s3").create_bucket(Bucket=box)
        assert other.send(Raw("PUT", f"/{box}/k", body=b"x"), session).status == 200
    with cloud.unchanged():
        answer = cloud.send(Raw("PUT", f"/{box}/k", body=b"x"), session)
        assert told(answer) == (400, "InvalidToken")


def test_a_token_that_is_over_opens_nothing(tmp_path: Path) -> None:
    with running(filesystem_catalog, tmp_path) as cloud:
        cloud.client("s3").create_bucket(Bucket="box")
        session = session_of(cloud, "alice")
        raw = Raw("PUT", "/box/k", body=b"x")
        assert cloud.send(raw, session).status == 200
        cloud.clock.offset_s = 901
        raw.signed_at = cloud.clock.s()
        with cloud.unchanged():
            assert told(cloud.send(raw, session)) == (400, "ExpiredToken")


# --- grants to nobody ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/{}", "/{}/k"])
def test_nobody_is_given_anything(cloud: Cloud, box: str, path: str) -> None:
    where = path.format(box)
    nobody = "999999999999"
    with cloud.unchanged():
        for value in (f"id={nobody}", f'id="{hashlib.sha256().hexdigest()}"', "uri=http://nowhere"):
            raw = Raw("PUT", where, "acl=", headers={"x-amz-grant-read": value})
            assert told(cloud.send(raw)) == (400, "InvalidArgument"), value
        raw = Raw("PUT", f"/{box}/new", headers={"x-amz-grant-read": f"id={nobody}"})
        assert told(cloud.send(raw)) == (400, "InvalidArgument")
    tenant = cloud.account(f"tenant-{box}")
    account = cloud.client("sts", tenant).get_caller_identity()["Account"]
    raw = Raw("PUT", where, "acl=", headers={"x-amz-grant-read": f"id={account}"})
    assert cloud.send(raw).status == 200
