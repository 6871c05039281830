"""Tags of objects and buckets: in headers and documents, copied, counted, bounded."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from predastore.s3 import tags
from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import REGION, S3Server

DENIED = ("AccessDenied", 403)


def tagging(**pairs: str) -> dict[str, list[dict[str, str]]]:
    return {"TagSet": [{"Key": name, "Value": text} for name, text in pairs.items()]}


def tags_of(s3: BaseClient, bucket: str, key: str = "k", **more: Any) -> dict[str, str]:
    found = s3.get_object_tagging(Bucket=bucket, Key=key, **more)["TagSet"]
    return {one["Key"]: one["Value"] for one in found}


@pytest.fixture
def where(s3: BaseClient, bucket: str) -> dict[str, str]:
    """An object with tags."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b%20c=%C3%A4%2B&d=")
    return {"Bucket": bucket, "Key": "k"}


def test_tags_come_with_the_object(s3: BaseClient, where: dict[str, str]) -> None:
    assert tags_of(s3, where["Bucket"]) == {"a": "1", "b c": "\u00e4+", "d": ""}
    for call in (s3.get_object, s3.head_object):
        assert call(**where)["TagCount"] == 3


def test_tags_are_replaced_and_deleted(s3: BaseClient, where: dict[str, str]) -> None:
    before = s3.head_object(**where)
    s3.put_object_tagging(**where, Tagging=tagging(e="2"))
    assert tags_of(s3, where["Bucket"]) == {"e": "2"}
    s3.delete_object_tagging(**where)
    assert tags_of(s3, where["Bucket"]) == {}
    after = s3.head_object(**where)
    assert "TagCount" not in after
    assert (after["ETag"], after["LastModified"]) == (before["ETag"], before["LastModified"])
    s3.put_object(**where, Body=b"new", Tagging="f=3")
    s3.put_object(**where, Body=b"newer")
    assert tags_of(s3, where["Bucket"]) == {}


def test_what_is_not_there_has_no_tags(s3: BaseClient, bucket: str) -> None:
    absent = {"Bucket": bucket, "Key": "absent"}
    assert refused(s3.get_object_tagging, **absent) == ("NoSuchKey", 404)
    assert refused(s3.put_object_tagging, **absent, Tagging=tagging(a="1")) == ("NoSuchKey", 404)
    assert refused(s3.delete_object_tagging, **absent) == ("NoSuchKey", 404)


def test_each_version_has_its_own(s3: BaseClient, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    where = {"Bucket": bucket, "Key": "k"}
    first = s3.put_object(**where, Body=b"1", Tagging="n=1")["VersionId"]
    s3.put_object(**where, Body=b"2", Tagging="n=2")
    changed = s3.put_object_tagging(**where, VersionId=first, Tagging=tagging(n="one"))
    assert changed["VersionId"] == first
    assert tags_of(s3, bucket, VersionId=first) == {"n": "one"}
    assert tags_of(s3, bucket) == {"n": "2"}
    marker = s3.delete_object(**where)["VersionId"]
    assert refused(s3.get_object_tagging, **where) == ("MethodNotAllowed", 405)
    for call, more in (
        (s3.get_object_tagging, {}),
        (s3.put_object_tagging, {"Tagging": tagging()}),
    ):
        with pytest.raises(ClientError) as caught:
            call(**where, VersionId=marker, **more)
        error = caught.value.response["Error"]
        assert (error["Code"], error["ResourceType"]) == ("MethodNotAllowed", "DeleteMarker")
    absent = {**where, "VersionId": "0" * 32}
    assert refused(s3.put_object_tagging, **absent, Tagging=tagging()) == ("NoSuchVersion", 404)


def test_a_copy_has_the_tags_of_its_source_or_its_own(
    s3: BaseClient, where: dict[str, str]
) -> None:
    bucket = where["Bucket"]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=where, Tagging="not=these")
    assert tags_of(s3, bucket, "copy") == tags_of(s3, bucket)
    own: dict[str, Any] = {"TaggingDirective": "REPLACE", "Tagging": "own=1"}
    s3.copy_object(Bucket=bucket, Key="own", CopySource=where, **own)
    assert tags_of(s3, bucket, "own") == {"own": "1"}
    s3.copy_object(Bucket=bucket, Key="none", CopySource=where, TaggingDirective="REPLACE")
    assert tags_of(s3, bucket, "none") == {}


def test_what_is_made_of_parts_has_tags(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    begun = s3.create_multipart_upload(**where, Tagging="a=1")
    upload = {**where, "UploadId": begun["UploadId"]}
    etag = s3.upload_part(**upload, PartNumber=1, Body=b"x")["ETag"]
    named = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(**upload, MultipartUpload=named)
    assert tags_of(s3, bucket) == {"a": "1"}


def test_tags_need_the_right_to_read_and_write_them(
    server: S3Server, s3: BaseClient, where: dict[str, str]
) -> None:
    bucket = where["Bucket"]
    writer = server.client(server.limited((bucket, "s3:GetObject s3:PutObject")))
    assert refused(writer.put_object, **where, Body=b"y", Tagging="a=1") == DENIED
    to = {"Bucket": bucket, "Key": "copy", "CopySource": where}
    assert refused(writer.copy_object, **to) == DENIED
    writer.copy_object(**to, TaggingDirective="REPLACE")
    assert "TagCount" not in writer.head_object(**where)
    writer.close()


TOO_MANY = {f"k{number}": "v" for number in range(11)}


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        (TOO_MANY, "BadRequest"),
        ({"k" * 129: "v"}, "InvalidTag"),
        ({"\U0001d51e" * 65: "v"}, "InvalidTag"),
        ({"k": "v" * 257}, "InvalidTag"),
        ({"k": "a&b"}, "InvalidTag"),
        ({"k\t": "v"}, "InvalidTag"),
        ({"aws:k": "v"}, "InvalidTag"),
    ],
)
def test_tags_are_bounded(
    s3: BaseClient, where: dict[str, str], pairs: dict[str, str], code: str
) -> None:
    before = tags_of(s3, where["Bucket"])
    assert refused(s3.put_object_tagging, **where, Tagging=tagging(**pairs)) == (code, 400)
    field = "&".join(f"{quote(name)}={quote(text)}" for name, text in pairs.items())
    has_other_signs = "&" in pairs.get("k", "") or "k\t" in pairs
    of_field = "InvalidArgument" if has_other_signs else code
    assert refused(s3.put_object, **where, Body=b"", Tagging=field) == (of_field, 400)
    assert tags_of(s3, where["Bucket"]) == before


def test_the_largest_tags_are_kept(s3: BaseClient, where: dict[str, str]) -> None:
    pairs = {f"{number}" + "\u00e9" * 127: "\U0001d51e" * 128 for number in range(10)}
    s3.put_object_tagging(**where, Tagging=tagging(**pairs))
    assert tags_of(s3, where["Bucket"]) == pairs


def test_a_name_counts_once(server: S3Server, s3: BaseClient, where: dict[str, str]) -> None:
    twice = {"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}
    with pytest.raises(ClientError, match="Cannot provide multiple Tags with the same key"):
        s3.put_object_tagging(**where, Tagging=twice)
    for field in ("a=1&a=2", "a=%ff"):
        with pytest.raises(ClientError, match="shall be encoded as UTF-8") as caught:
            s3.put_object(**where, Body=b"", Tagging=field)
        assert caught.value.response["Error"]["Code"] == "InvalidArgument"
    assert refused(s3.put_object, **where, Body=b"", Tagging="=v") == ("InvalidTag", 400)
    path = f"/{where['Bucket']}/{where['Key']}"
    for body in (b"<Tagging/>", b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
                 b"<Tagging><TagSet><Other/></TagSet></Tagging>", b"<Tagging>"):  # fmt: skip
        answer = server.signer().send(Raw("PUT", path, "tagging", body))
        assert (answer.status, answer.code) == (400, "MalformedXML")


def test_a_bucket_has_tags(s3: BaseClient, bucket: str) -> None:
    assert refused(s3.get_bucket_tagging, Bucket=bucket) == ("NoSuchTagSet", 404)
    pairs = {f"k{number}": "v" for number in range(50)}
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tagging(**pairs))
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tagging(**pairs)["TagSet"]
    more = refused(s3.put_bucket_tagging, Bucket=bucket, Tagging=tagging(**pairs, one="more"))
    assert more == ("BadRequest", 400)
    system = refused(s3.put_bucket_tagging, Bucket=bucket, Tagging=tagging(**{"aws:a": "b"}))
    assert system == ("InvalidTag", 400)
    assert len(s3.get_bucket_tagging(Bucket=bucket)["TagSet"]) == 50
    s3.delete_bucket_tagging(Bucket=bucket)
    assert refused(s3.get_bucket_tagging, Bucket=bucket) == ("NoSuchTagSet", 404)
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tagging())
    assert refused(s3.get_bucket_tagging, Bucket=bucket) == ("NoSuchTagSet", 404)


def test_tags_go_with_their_bucket(s3: BaseClient) -> None:
    s3.create_bucket(Bucket="tagged-and-gone")
    s3.put_bucket_tagging(Bucket="tagged-and-gone", Tagging=tagging(a="1"))
    s3.delete_bucket(Bucket="tagged-and-gone")
    s3.create_bucket(Bucket="tagged-and-gone")
    assert refused(s3.get_bucket_tagging, Bucket="tagged-and-gone") == ("NoSuchTagSet", 404)
    s3.delete_bucket(Bucket="tagged-and-gone")


def test_what_a_bucket_keeps_of_its_tags_does_not_change() -> None:
    stored = bytes.fromhex("02919192a161a162")
    assert tags.to_document((("a", "b"),)) == stored
    assert tags.of_stored(stored) == (("a", "b"),)


def test_a_change_of_tags_names_the_version(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"first")
    assert "VersionId" not in s3.put_object_tagging(**where, Tagging=tagging(a="b"))
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    null, version = "null", s3.put_object(**where, Body=b"second")["VersionId"]
    assert s3.put_object_tagging(**where, Tagging=tagging(a="b"))["VersionId"] == version
    assert s3.get_object_tagging(**where)["VersionId"] == version
    assert s3.delete_object_tagging(**where)["VersionId"] == version
    named = {**where, "VersionId": null}
    assert s3.delete_object_tagging(**named)["VersionId"] == null
    assert s3.get_object_tagging(**named)["VersionId"] == null


def configured(*pairs: tuple[str, str], more: str = "") -> bytes:
    tags = "".join(f"<Tag><Key>{name}</Key><Value>{text}</Value></Tag>" for name, text in pairs)
    inner = f"<Tags>{tags}</Tags>{more}"
    return f"<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>".encode()


def test_a_bucket_is_made_with_tags(server: S3Server, s3: BaseClient) -> None:
    place = f"<LocationConstraint>{REGION}</LocationConstraint>"
    body = configured(("a", "b"), ("c", ""), more=place)
    assert server.signer().send(Raw("PUT", "/made-with-tags", body=body)).status == 200
    found = s3.get_bucket_tagging(Bucket="made-with-tags")["TagSet"]
    assert found == tagging(a="b", c="")["TagSet"]
    bare = Raw("PUT", "/made-with-none", body=configured())
    assert server.signer().send(bare).status == 200
    assert refused(s3.get_bucket_tagging, Bucket="made-with-none") == ("NoSuchTagSet", 404)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (configured(*((f"k{number}", "v") for number in range(51))), "BadRequest"),
        (configured(("a", "1"), ("a", "2")), "InvalidTag"),
        (configured(("aws:a", "1")), "InvalidTag"),
        (configured(("", "1")), "InvalidTag"),
        (configured(("a", "1"), more="<Tags/>"), "MalformedXML"),
        (configured(("a", "1"), more="<Other/>"), "MalformedXML"),
        (configured(more="<LocationConstraint><a/></LocationConstraint>"), "MalformedXML"),
        (configured(more="<Bucket/>"), "NotImplemented"),
    ],
)
def test_no_bucket_is_made_with_tags_that_it_can_not_have(
    server: S3Server, s3: BaseClient, body: bytes, code: str
) -> None:
    assert server.signer().send(Raw("PUT", "/not-made", body=body)).code == code
    assert refused(s3.head_bucket, Bucket="not-made") == ("404", 404)


def test_a_bucket_is_made_with_tags_by_who_may_tag(server: S3Server) -> None:
    raw = Raw("PUT", "/made-by-whom", body=configured(("a", "b")))
    maker = server.limited(("made-by-whom", "s3:CreateBucket"))
    assert server.signer(maker).send(raw).code == "AccessDenied"
    both = server.limited(("made-by-whom", "s3:CreateBucket s3:TagResource"))
    assert server.signer(both).send(raw).status == 200
