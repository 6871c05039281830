"""A key with a policy does what the policy allows, by whatever route, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.client import BaseClient

from predastore.auth.sigv4 import Credential
from predastore.s3.access import OF_A_VERSION
from predastore.s3.routes import BUCKET, OBJECT, ROUTES, Route
from support.forms import Form
from support.s3raw import UNSIGNED, Answer, Raw, exchange
from support.s3refusals import refused
from support.s3routes import (
    ACTIONS,
    FURTHER,
    NOTHING_THERE,
    by_name,
    delete_objects_of,
    is_denied,
    request_of,
)
from support.s3server import ALICE, BOB, REGION, S3Server

DENIED = ("AccessDenied", 403)


# --- every route ------------------------------------------------------------------------------


def sent(server: S3Server, who: Credential, route: Route, raw: Raw) -> Answer:
    """The answer to a request of this key's."""
    if route.name == "PostObject":  # what signs it is within
        return Form(raw.path[1:], who=who).post(server)
    return server.signer(who).send(raw)


@pytest.mark.parametrize("route", ROUTES, ids=by_name)
def test_every_route_is_denied_without_its_action_and_allowed_with_it(
    server: S3Server, s3: BaseClient, bucket: str, route: Route
) -> None:
    if route.name != "DeleteBucket":
        s3.put_object(Bucket=bucket, Key="k", Body=b"hello")
    raw = request_of(route, s3, bucket, ALICE.account_id)
    others = " ".join(action for action in ACTIONS if action != route.action)
    assert is_denied(sent(server, server.limited((f"{bucket}*", others)), route, raw))
    if route.level in (BUCKET, OBJECT):
        assert is_denied(sent(server, server.limited(("another-bucket", "s3:*")), route, raw))
    own = f"{route.action} {FURTHER.get(route.name, '')}"
    answer = sent(server, server.limited((f"{bucket}*", own)), route, raw)
    is_absent = route.called and answer.status in (400, 404)
    assert answer.status < 300 or is_absent or answer.code == NOTHING_THERE.get(route.name)


@pytest.mark.parametrize(
    "route", [one for one in ROUTES if one.action in OF_A_VERSION and "versionId" in one.query],
    ids=by_name,
)  # fmt: skip
def test_a_version_has_actions_of_its_own(
    server: S3Server, s3: BaseClient, bucket: str, route: Route
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello")
    raw = request_of(route, s3, bucket, ALICE.account_id)
    raw.query = "&".join(filter(None, [raw.query, "versionId=null"]))
    of_version = OF_A_VERSION[route.action]
    others = " ".join(action for action in ACTIONS if action != of_version)
    assert server.signer(server.limited((bucket, others))).send(raw).status == 403
    own = f"{of_version} {OF_A_VERSION.get(FURTHER.get(route.name, ''), '')}"
    assert server.signer(server.limited((bucket, own))).send(raw).status < 300
    assert of_version not in {one.action for one in ROUTES}


def test_every_action_has_the_form_of_amazons() -> None:
    assert all(action.startswith("s3:") and action[3:].isalpha() for action in ACTIONS)


# --- ways around ------------------------------------------------------------------------------


@pytest.fixture
def secret(s3: BaseClient, bucket: str) -> str:
    """A bucket of the same account, with something in it."""
    name = f"{bucket}-secret"
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"secret")
    return name


def test_a_copy_reads_only_what_may_be_read(
    server: S3Server, s3: BaseClient, bucket: str, secret: str
) -> None:
    limited = server.client(
        server.limited((bucket, "s3:*"), (secret, "s3:PutObject s3:ListBucket"))
    )
    source = {"Bucket": secret, "Key": "k"}
    assert refused(limited.copy_object, Bucket=bucket, Key="c", CopySource=source) == DENIED
    upload = {"Bucket": bucket, "Key": "c"}
    upload["UploadId"] = limited.create_multipart_upload(**upload)["UploadId"]
    part = {**upload, "PartNumber": 1}
    assert refused(limited.upload_part_copy, **part, CopySource=source) == DENIED
    assert refused(
        limited.copy_object, Bucket=bucket, Key="c", CopySource={**source, "VersionId": "null"}
    ) == DENIED  # fmt: skip
    s3.put_object(Bucket=bucket, Key="k", Body=b"own")
    limited.copy_object(Bucket=secret, Key="c", CopySource={"Bucket": bucket, "Key": "k"})
    limited.close()


def test_a_copy_of_a_version_needs_that_of_a_version(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"own")
    source = {"Bucket": bucket, "Key": "k", "VersionId": "null"}
    for allowed, works in (("s3:GetObject", False), ("s3:GetObjectVersion", True)):
        limited = server.client(server.limited((bucket, f"s3:PutObject {allowed}")))
        where = {"Bucket": bucket, "Key": "c", "CopySource": source}
        if works:
            limited.copy_object(**where)
        else:
            assert refused(limited.copy_object, **where) == DENIED
        limited.close()


def test_only_buckets_that_may_be_listed_are(server: S3Server, bucket: str, secret: str) -> None:
    limited = server.client(server.limited((bucket, "s3:ListAllMyBuckets"), (secret, "s3:Get*")))
    assert [one["Name"] for one in limited.list_buckets()["Buckets"]] == [bucket]
    limited.close()
    all_of_them = server.client(server.limited(("*", "s3:ListAllMyBuckets")))
    names = {one["Name"] for one in all_of_them.list_buckets()["Buckets"]}
    assert {bucket, secret} <= names
    all_of_them.close()


def test_a_key_that_is_absent_is_no_secret_only_to_who_may_list(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"own")
    reader = server.client(server.limited((bucket, "s3:Get*")))
    lister = server.client(server.limited((bucket, "s3:Get* s3:ListBucket")))
    for call in ("get_object", "get_object_acl", "get_object_tagging"):
        absent = {"Bucket": bucket, "Key": "absent"}
        assert refused(getattr(reader, call), **absent) == DENIED
        assert refused(getattr(lister, call), **absent) == ("NoSuchKey", 404)
    assert refused(reader.head_object, Bucket=bucket, Key="absent") == ("403", 403)
    assert refused(lister.head_object, Bucket=bucket, Key="absent") == ("404", 404)
    reader.close()
    lister.close()


def test_who_may_not_list_says_of_what_it_writes_what_it_may(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="there", Body=b"old", Tagging="a=old")
    s3.put_object(Bucket=bucket, Key="source", Body=b"copied", Tagging="b=2")
    needed = ["s3:GetObject", "s3:PutObject", "s3:PutObjectTagging", "s3:PutObjectAcl"]
    said = {"Tagging": "a=1", "ACL": "private"}
    source = {"Bucket": bucket, "Key": "source"}
    for missing in (*needed[2:], ""):
        rest = " ".join(action for action in needed if action != missing)
        writer = server.client(server.limited((bucket, rest)))
        for key in ("there", f"new{len(missing)}"):
            where = {"Bucket": bucket, "Key": key}
            copy = {**where, **said, "CopySource": source, "TaggingDirective": "REPLACE"}
            for call, asked in (
                (writer.put_object, {**where, **said, "Body": b"x"}),
                (writer.create_multipart_upload, {**where, **said}),
                (writer.copy_object, copy),
            ):
                if missing:
                    assert refused(call, **asked) == DENIED
                else:
                    call(**asked)
                    assert s3.get_object_tagging(**where)["TagSet"] == [{"Key": "a", "Value": "1"}]
        writer.close()


def test_a_condition_on_what_is_there_needs_the_right_to_read_it(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    tag = s3.put_object(Bucket=bucket, Key="k", Body=b"own")["ETag"]
    actions = "s3:PutObject s3:DeleteObject"
    writer = server.client(server.limited((bucket, actions)))
    reader = server.client(server.limited((bucket, f"{actions} s3:GetObject")))
    where = {"Bucket": bucket, "Key": "k"}
    entry = {"Delete": {"Objects": [{"Key": "k", "ETag": tag}]}}
    assert refused(writer.put_object, **where, Body=b"new", IfMatch=tag) == DENIED
    assert refused(writer.delete_object, **where, IfMatch=tag) == DENIED
    told = writer.delete_objects(Bucket=bucket, **entry)
    assert [one["Code"] for one in told["Errors"]] == ["AccessDenied"]
    assert s3.get_object(**where)["Body"].read() == b"own"
    assert refused(writer.put_object, **where, Body=b"", IfNoneMatch="*")[1] == 412
    reader.put_object(**where, Body=b"own", IfMatch=tag)
    assert len(reader.delete_objects(Bucket=bucket, **entry)["Deleted"]) == 1
    writer.close()
    reader.close()


def test_deleting_versions_by_the_list_needs_that_of_a_version(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"own")
    inner = "<Object><Key>k</Key><VersionId>null</VersionId></Object>"
    raw = delete_objects_of(bucket, inner)
    answer = server.signer(server.limited((bucket, "s3:DeleteObject"))).send(raw)
    assert b"<Code>AccessDenied</Code>" in answer.body
    s3.head_object(Bucket=bucket, Key="k")
    both = server.limited((bucket, "s3:DeleteObject s3:DeleteObjectVersion"))
    assert b"<Deleted>" in server.signer(both).send(raw).body


def presigned(server: S3Server, who: Any, raw: Raw) -> Answer:
    raw.query = server.signer(who).presigned(raw)
    fields = {"host": f"127.0.0.1:{server.port}", "content-length": "0"}
    return exchange(server.address, raw.method, raw.path, raw.query, fields.items())


def test_a_presigned_url_is_worth_what_its_key_is(
    server: S3Server, s3: BaseClient, bucket: str, secret: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"own")
    who = server.limited((bucket, "s3:GetObject"))
    assert presigned(server, who, Raw("GET", f"/{bucket}/k")).status == 200
    assert presigned(server, who, Raw("GET", f"/{secret}/k")).status == 403
    assert presigned(server, who, Raw("DELETE", f"/{bucket}/k")).status == 403
    hoisted = f"x-amz-copy-source={secret}%2Fk"
    writer = server.limited((bucket, "s3:PutObject"))
    assert presigned(server, writer, Raw("PUT", f"/{bucket}/c", hoisted)).status == 403
    client = server.client(who, signature_version="s3")  # Version 2
    for name, status in ((bucket, 200), (secret, 403)):
        url = client.generate_presigned_url("get_object", {"Bucket": name, "Key": "k"})
        query = url.partition("?")[2]
        fields = {"host": f"127.0.0.1:{server.port}"}
        answer = exchange(server.address, "GET", f"/{name}/k", query, fields.items())
        assert (answer.status, "Signature=" in query) == (status, True)
    client.close()


# --- whose buckets ----------------------------------------------------------------------------


def test_a_policy_gives_nothing_in_the_buckets_of_others(
    server: S3Server, bucket: str, s3: BaseClient
) -> None:
    bob = server.client(BOB)
    bob.create_bucket(Bucket=f"{bucket}-bob")
    bob.put_object(Bucket=f"{bucket}-bob", Key="k", Body=b"bob's")
    limited = server.client(server.limited(("*", "s3:GetObject s3:PutObject")))
    where = {"Bucket": f"{bucket}-bob", "Key": "k"}
    assert refused(limited.get_object, **where) == DENIED
    assert refused(limited.put_object, **where, Body=b"") == DENIED
    limited.close()
    bob.close()


def test_a_public_bucket_is_not_read_with_a_key_that_may_not(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    name = f"{bucket}-open"
    server.run(server.catalog.create_bucket(name, ALICE.account_id, REGION, public=True))
    s3.put_object(Bucket=name, Key="k", Body=b"for all")
    writer = server.client(server.limited((name, "s3:PutObject")))
    assert refused(writer.get_object, Bucket=name, Key="k") == DENIED
    nobody = server.client(None)
    assert nobody.get_object(Bucket=name, Key="k")["Body"].read() == b"for all"
    writer.close()
    nobody.close()


def test_patterns_reach_as_far_as_they_say(server: S3Server, s3: BaseClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"own")
    where = {"Bucket": bucket, "Key": "k"}
    for rule, works in (
        (("*", "*"), True),
        ((f"{bucket[:-1]}*", "s3:get*"), True),
        ((f"{bucket}*", "S3:GETOBJECT"), True),
        ((f"{bucket}-*", "s3:GetObject"), False),
        ((bucket, "s3:GetObjectA*"), False),
        ((bucket[:-1], "s3:*"), False),
    ):
        client = server.client(server.limited(rule))
        if works:
            client.get_object(**where)
        else:
            assert refused(client.get_object, **where) == DENIED
        client.close()


def test_a_key_with_an_empty_policy_may_nothing(server: S3Server, bucket: str) -> None:
    nothing = server.client(server.limited())
    assert refused(nothing.list_buckets) == DENIED
    assert refused(nothing.list_objects_v2, Bucket=bucket) == DENIED
    nothing.close()


def test_the_answer_names_the_action(server: S3Server, bucket: str) -> None:
    raw = Raw("GET", f"/{bucket}/k", payload=UNSIGNED)
    answer = server.signer(server.limited((bucket, "s3:ListBucket"))).send(raw)
    assert b"is not authorized to perform: s3:GetObject on resource:" in answer.body
    assert b"arn:aws:s3:::" + bucket.encode() + b"/k" in answer.body
