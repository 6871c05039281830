"""Version ids and markers that name nothing, or nothing here: an error of S3's, nothing changed."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from botocore.client import BaseClient

from support.s3raw import Answer, Raw
from support.s3server import S3Server

NULL = "null"
NONE = {
    "short": "abc",
    "of Amazon's kind": "3HL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY",
    "a digit less": "0" * 31,
    "a digit more": "0" * 33,
    "capitals": "F" * 32,
    "null in capitals": "NULL",
    "null and more": "null%01",
    "spaces": "%20null",
    "other digits": "%D9%A0" * 32,
    "bytes": "%01" * 16,
    "long": "0" * 4096,
}
TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
UNTIL = "2999-01-01T00:00:00Z"
RETENTION = (
    f"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{UNTIL}</RetainUntilDate></Retention>"
).encode()
HOLD = b"<LegalHold><Status>ON</Status></LegalHold>"
_NUMBERS = itertools.count(1)


class Call(NamedTuple):
    """A request that may name a version."""

    method: str
    query: str = ""
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


CALLS = {
    "GetObject": Call("GET"),
    "HeadObject": Call("HEAD"),
    "GetObjectAcl": Call("GET", "acl"),
    "PutObjectAcl": Call("PUT", "acl", headers=(("x-amz-acl", "private"),)),
    "GetObjectAttributes": Call(
        "GET", "attributes", headers=(("x-amz-object-attributes", "ETag"),)
    ),
    "GetObjectTagging": Call("GET", "tagging"),
    "PutObjectTagging": Call("PUT", "tagging", TAGS),
    "DeleteObjectTagging": Call("DELETE", "tagging"),
    "GetObjectRetention": Call("GET", "retention"),
    "PutObjectRetention": Call("PUT", "retention", RETENTION),
    "GetObjectLegalHold": Call("GET", "legal-hold"),
    "PutObjectLegalHold": Call("PUT", "legal-hold", HOLD),
    "DeleteObject": Call("DELETE"),
}


class Place(NamedTuple):
    """`versions`: of key `k`, the older first; `marker`: over key `gone`; `other`: a version of
    key `other`; `elsewhere`: one of key `k` of another bucket."""

    bucket: str
    versions: tuple[str, str]
    marker: str
    other: str
    elsewhere: str


@pytest.fixture(scope="module")
def place(server: S3Server, s3: BaseClient) -> Place:
    name, second = f"lock-{next(_NUMBERS)}", f"lock-{next(_NUMBERS)}"
    for bucket in (name, second):
        s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)

    def put(bucket: str, key: str, body: bytes = b"x") -> str:
        return str(s3.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"])

    return Place(
        name,
        (put(name, "k", b"1"), put(name, "k", b"2" * 5000)),
        s3.delete_object(Bucket=name, Key="gone")["VersionId"],
        put(name, "other"),
        put(second, "k"),
    )


def send(server: S3Server, bucket: str, call: Call, version: str | None, key: str = "k") -> Answer:
    query = (
        call.query
        if version is None
        else "&".join(filter(None, [call.query, f"versionId={version}"]))
    )
    raw = Raw(call.method, f"/{bucket}/{key}", query, call.body, dict(call.headers))
    return server.signer().send(raw)


def told(answer: Answer) -> tuple[int, str]:
    """Status and code; HEAD has no body that would say the code."""
    return answer.status, answer.code


# --- ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_can_be_no_id(server: S3Server, place: Place, call: Call) -> None:
    code = "" if call.method == "HEAD" else "InvalidArgument"
    with server.unchanged():
        for version in NONE.values():
            answer = send(server, place.bucket, call, version)
            assert told(answer) == (400, code), version
            assert not code or b"<Message>Invalid version id specified" in answer.body
        for query in ("versionId=", "versionId"):
            full = "&".join(filter(None, [call.query, query]))
            raw = Raw(call.method, f"/{place.bucket}/k", full, call.body, dict(call.headers))
            answer = server.signer().send(raw)
            assert told(answer) == (400, code), query
            assert not code or b"Version id cannot be the empty string" in answer.body


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_ids_of_what_is_not_here(server: S3Server, place: Place, call: Call) -> None:
    code = "" if call.method == "HEAD" else "NoSuchVersion"
    unknown = place.versions[0][:16] + "0" * 16  # its place, and another's name
    with server.unchanged():
        for version in (NULL, place.other, place.elsewhere, place.marker, unknown, "f" * 32):
            answer = send(server, place.bucket, call, version)
            if call == CALLS["DeleteObject"]:  # it is gone, whoever it was
                assert told(answer) == (204, ""), version
                assert answer.headers["x-amz-version-id"] == version
                assert "x-amz-delete-marker" not in answer.headers
            else:
                assert told(answer) == (404, code), version


@pytest.mark.parametrize(
    "call", [call for name, call in CALLS.items() if name != "DeleteObject"],
    ids=[name for name in CALLS if name != "DeleteObject"],
)  # fmt: skip
def test_a_delete_marker_has_nothing(server: S3Server, place: Place, call: Call) -> None:
    is_head = call.method == "HEAD"
    with server.unchanged():
        named = send(server, place.bucket, call, place.marker, "gone")
        assert told(named) == (405, "" if is_head else "MethodNotAllowed")
        current = send(server, place.bucket, call, None, "gone")
        if call.method in ("GET", "HEAD") and call != CALLS["GetObjectTagging"]:
            assert told(current) == (404, "" if is_head else "NoSuchKey")
        else:
            assert told(current) == (405, "MethodNotAllowed")


def test_a_bucket_without_versions_knows_no_id_but_null(
    server: S3Server, s3: BaseClient, place: Place, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    with server.unchanged():
        for version in (*place.versions, "0" * 32):
            assert send(server, bucket, CALLS["GetObject"], version).code == "NoSuchVersion"
            assert send(server, bucket, CALLS["PutObjectTagging"], version).code == "NoSuchVersion"
            assert send(server, bucket, CALLS["DeleteObject"], version).status == 204
        assert send(server, bucket, CALLS["GetObject"], NULL).status == 200
        assert send(server, bucket, CALLS["DeleteObject"], NULL, "absent").status == 204


def test_an_id_in_a_bucket_that_is_none(server: S3Server, place: Place) -> None:
    with server.unchanged():
        for name, call in CALLS.items():
            answer = send(server, "no-such-bucket", call, place.versions[0])
            code = "" if name == "HeadObject" else "NoSuchBucket"
            assert told(answer) == (404, code), name


@pytest.mark.parametrize(
    ("method", "key", "query"),
    [
        ("PUT", "/new", ""),
        ("PUT", "/k", ""),
        ("POST", "/k", "uploads&"),
        ("PUT", "", "versioning&"),
        ("PUT", "", "tagging&"),
        ("GET", "", "versions&"),
        ("DELETE", "", ""),
    ],
)
def test_who_takes_no_id_says_so(
    server: S3Server, place: Place, method: str, key: str, query: str
) -> None:
    with server.unchanged():
        for version in ("", "abc", NULL, place.versions[0]):
            raw = Raw(method, f"/{place.bucket}{key}", f"{query}versionId={version}", b"x")
            answer = server.signer().send(raw)
            assert told(answer) == (400, "InvalidArgument")
            assert b"This operation does not accept a version-id." in answer.body


# --- sources of copies --------------------------------------------------------------------------


@pytest.mark.parametrize("is_part", [False, True])
def test_sources_that_are_none(
    server: S3Server, s3: BaseClient, place: Place, is_part: bool
) -> None:
    where = {"Bucket": place.bucket, "Key": "copy"}
    query = ""
    if is_part:
        upload = s3.create_multipart_upload(**where)["UploadId"]
        query = f"partNumber=1&uploadId={upload}"

    def copy(source: str) -> tuple[int, str]:
        headers = {"x-amz-copy-source": source}
        path = f"/{where['Bucket']}/{where['Key']}"
        return told(server.signer().send(Raw("PUT", path, query, headers=headers)))

    source = f"{place.bucket}/k?versionId="
    with server.unchanged():
        for version in (*NONE.values(), ""):
            assert copy(source + version) == (400, "InvalidArgument"), version
        for version in (NULL, place.other, place.elsewhere, "0" * 32):
            assert copy(source + version) == (404, "NoSuchVersion"), version
        assert copy(f"{place.bucket}/gone") == (404, "NoSuchKey")
        assert copy(f"{place.bucket}/gone?versionId={place.marker}") == (400, "InvalidRequest")
        assert copy(f"{source}{place.versions[0]}&versionId={NULL}") == (400, "InvalidArgument")
        assert copy(f"{source}{place.versions[0]}&a=b") == (400, "InvalidArgument")
        assert copy(f"{place.bucket}/k?version={NULL}") == (400, "InvalidArgument")
        assert copy(f"{place.bucket}/k%3FversionId={place.versions[0]}") == (404, "NoSuchKey")


# --- lists --------------------------------------------------------------------------------------


def test_a_list_of_ids_that_name_nothing(server: S3Server, s3: BaseClient, place: Place) -> None:
    none = ["abc", "F" * 32, "0" * 31, "NULL", " ", "\u0660" * 32]
    absent = [NULL, place.other, place.elsewhere, "f" * 32]
    objects = [{"Key": "k", "VersionId": version} for version in (*none, *absent)]
    with server.unchanged():
        answer = s3.delete_objects(Bucket=place.bucket, Delete={"Objects": objects})
    errors = [(one["VersionId"], one["Code"]) for one in answer["Errors"]]
    assert errors == [(version, "NoSuchVersion") for version in none]
    assert [one["VersionId"] for one in answer["Deleted"]] == absent
    assert not any("DeleteMarker" in one for one in answer["Deleted"])


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("version-id-marker={}", "cannot be specified without a key marker"),
        ("version-id-marker=", "cannot be specified without a key marker"),
        ("version-id-marker=abc&prefix=k", "cannot be specified without a key marker"),
        ("key-marker=k&version-id-marker=", "A version-id marker cannot be empty."),
        ("key-marker=k&version-id-marker=abc", "Invalid version id specified"),
        ("key-marker=k&version-id-marker=NULL", "Invalid version id specified"),
        ("max-keys=-1", "not an integer or within integer range"),
        ("max-keys=x", "not an integer or within integer range"),
        ("max-keys=99999999999", "not an integer or within integer range"),
        ("encoding-type=xml", "Invalid Encoding Method"),
        ("key-marker=a&key-marker=b", "given twice"),
        ("key-marker=%ff", ""),
    ],
)
def test_markers_that_make_no_sense(server: S3Server, place: Place, query: str, why: str) -> None:
    asked = "versions&" + query.format(place.versions[0])
    answer = server.signer().send(Raw("GET", f"/{place.bucket}", asked))
    assert answer.status == 400
    assert answer.code in ("InvalidArgument", "InvalidURI")
    assert why in answer.body.decode()


def test_markers_of_what_is_not_there(s3: BaseClient, place: Place) -> None:
    def after(key: str, version: str = "") -> list[str]:
        more = {"VersionIdMarker": version} if version else {}
        page = s3.list_object_versions(Bucket=place.bucket, KeyMarker=key, Prefix="k", **more)
        return [one["VersionId"] for one in page.get("Versions", [])]

    older, newer = place.versions
    assert after("k", newer) == [older]
    assert after("k") == after("k", older) == after("l") == after("\U0010ffff") == []
    assert after("j", newer) == [newer, older]  # as if it named one of that key
    assert after("k", "f" * 32) == [newer, older]  # newer than all
    assert after("k", "0" * 32) == []  # older than all
    assert after("k", NULL) == []  # there is none
