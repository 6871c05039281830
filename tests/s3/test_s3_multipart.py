"""Multipart uploads, through boto3."""

from __future__ import annotations

import base64
import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import DOMAIN, S3Server

MIB = 1024 * 1024
FIRST, SECOND, LAST = os.urandom(5 * MIB), os.urandom(6 * MIB + 3), os.urandom(100)


def begin(s3: BaseClient, bucket: str, **options: Any) -> dict[str, str]:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", **options)
    return {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}


def add(s3: BaseClient, where: dict[str, str], number: int, data: bytes, **options: Any) -> Any:
    answer = s3.upload_part(**where, PartNumber=number, Body=data, **options)
    part = {name: value for name, value in answer.items() if name.startswith("Checksum")}
    return {"PartNumber": number, "ETag": answer["ETag"], **part}


def complete(s3: BaseClient, where: dict[str, str], parts: list[Any], **options: Any) -> Any:
    return s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts}, **options)


def etag_of(*parts: bytes) -> str:
    joined = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(joined).hexdigest()}-{len(parts)}"'


def test_parts_become_an_object(s3: BaseClient, bucket: str) -> None:
    where = begin(s3, bucket, ContentType="text/plain", Metadata={"a": "b"})
    parts = [
        add(s3, where, 2, SECOND),
        add(s3, where, 1, LAST),
        add(s3, where, 1, FIRST),
        add(s3, where, 7, LAST),
    ]
    assert refused(s3.get_object, Bucket=bucket, Key="k") == ("NoSuchKey", 404)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    answer = complete(s3, where, [parts[2], parts[0], parts[3]])
    etag = etag_of(FIRST, SECOND, LAST)
    assert (answer["ETag"], answer["Bucket"], answer["Key"]) == (etag, bucket, "k")
    assert answer["Location"].endswith(f"/{bucket}/k")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == FIRST + SECOND + LAST
    assert got["ETag"] == etag
    assert got["ContentType"] == "text/plain"
    assert got["Metadata"] == {"a": "b"}
    across = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={5 * MIB - 2}-{5 * MIB + 1}")
    assert across["Body"].read() == FIRST[-2:] + SECOND[:2]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_get_by_part_number(s3: BaseClient, bucket: str) -> None:
    where = begin(s3, bucket)
    complete(s3, where, [add(s3, where, 1, FIRST), add(s3, where, 2, LAST)])
    for number, data in ((1, FIRST), (2, LAST)):
        got = s3.get_object(Bucket=bucket, Key="k", PartNumber=number)
        assert got["Body"].read() == data
        assert got["PartsCount"] == 2
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        head = s3.head_object(Bucket=bucket, Key="k", PartNumber=number)
        assert (head["ContentLength"], head["PartsCount"]) == (len(data), 2)
    assert refused(s3.get_object, Bucket=bucket, Key="k", PartNumber=3) == (
        "InvalidPartNumber",
        416,
    )


def test_bad_lists_of_parts(s3: BaseClient, bucket: str) -> None:
    where = begin(s3, bucket)
    one, two = add(s3, where, 1, LAST), add(s3, where, 2, LAST)
    wrong_etag = {"PartNumber": 1, "ETag": '"0123456789abcdef0123456789abcdef"'}
    for parts, code in (
        ([], "MalformedXML"),
        ([two, one], "InvalidPartOrder"),
        ([one, one], "InvalidPartOrder"),
        ([wrong_etag], "InvalidPart"),
        ([one, {"PartNumber": 3, "ETag": one["ETag"]}], "InvalidPart"),
        ([one, two], "EntityTooSmall"),
        ([{"PartNumber": 0, "ETag": one["ETag"]}], "InvalidArgument"),
        ([{"PartNumber": 1}], "MalformedXML"),
    ):
        assert refused(complete, s3=s3, where=where, parts=parts) == (code, 400), code
    complete(s3, where, [one])


def test_uploads_that_are_not_there(s3: BaseClient, bucket: str) -> None:
    where = begin(s3, bucket)
    part = add(s3, where, 1, LAST)
    s3.abort_multipart_upload(**where)
    elsewhere = {**begin(s3, bucket), "Key": "other"}
    for gone in (where, elsewhere, {**where, "UploadId": "x"}, {**where, "UploadId": "../.."}):
        assert refused(s3.upload_part, **gone, PartNumber=1, Body=b"") == ("NoSuchUpload", 404)
        assert refused(s3.list_parts, **gone) == ("NoSuchUpload", 404)
        assert refused(s3.abort_multipart_upload, **gone) == ("NoSuchUpload", 404)
        assert refused(complete, s3=s3, where=gone, parts=[part]) == ("NoSuchUpload", 404)
    assert refused(s3.upload_part, **where, PartNumber=0, Body=b"") == ("InvalidArgument", 400)
    assert refused(s3.upload_part, **where, PartNumber=10_001, Body=b"") == ("InvalidArgument", 400)


def test_completing_twice_gives_the_same_answer(s3: BaseClient, bucket: str) -> None:
    where = begin(s3, bucket)
    parts = [add(s3, where, 1, LAST)]
    first = complete(s3, where, parts)
    assert complete(s3, where, parts)["ETag"] == first["ETag"]
    assert refused(s3.abort_multipart_upload, **where) == ("NoSuchUpload", 404)
    s3.put_object(Bucket=bucket, Key="k", Body=b"newer")
    assert complete(s3, where, parts)["ETag"] == first["ETag"]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"newer"


def test_many_that_complete_one_upload_get_the_same_answer(s3: BaseClient, bucket: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        for _ in range(5):
            where = begin(s3, bucket)
            parts = [add(s3, where, 1, FIRST), add(s3, where, 2, LAST), add(s3, where, 3, LAST)]
            calls = [threads.submit(complete, s3, where, parts[:2]) for _ in range(6)]
            etags = {call.result()["ETag"] for call in calls}
            assert etags == {etag_of(FIRST, LAST)}
            assert refused(s3.list_parts, **where) == ("NoSuchUpload", 404)


def test_of_many_that_complete_and_abort_an_upload_one_wins(s3: BaseClient, bucket: str) -> None:
    def code_of(call: Future[Any]) -> str:
        error = call.exception()
        return error.response["Error"]["Code"] if isinstance(error, ClientError) else repr(error)

    with ThreadPoolExecutor(6) as threads:
        for _ in range(8):
            s3.delete_object(Bucket=bucket, Key="k")
            where = begin(s3, bucket)
            parts = [add(s3, where, 1, LAST)]
            calls: list[Future[Any]] = []
            for _ in range(3):
                calls.append(threads.submit(complete, s3, where, parts))
                calls.append(threads.submit(s3.abort_multipart_upload, **where))
            completed, aborted = ([code_of(call) for call in calls[n::2]] for n in (0, 1))
            listed = s3.list_objects_v2(Bucket=bucket)["KeyCount"]
            if listed:
                assert completed == ["None"] * 3
                assert aborted == ["NoSuchUpload"] * 3
            else:
                assert completed == ["NoSuchUpload"] * 3
                assert sorted(aborted) == ["NoSuchUpload"] * 2 + ["None"]


def test_conditions_on_completing(s3: BaseClient, bucket: str) -> None:
    where = begin(s3, bucket)
    parts = [add(s3, where, 1, LAST)]
    missing = refused(complete, s3=s3, where=where, parts=parts, IfMatch='"x"')
    assert missing == ("NoSuchKey", 404)
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"old")["ETag"]
    for options in ({"IfNoneMatch": "*"}, {"IfMatch": '"x"'}):
        assert refused(complete, s3=s3, where=where, parts=parts, **options) == (
            "PreconditionFailed",
            412,
        )
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"
    complete(s3, where, parts, IfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == LAST


def test_the_object_size_may_be_declared(s3: BaseClient, bucket: str) -> None:
    where = begin(s3, bucket)
    parts = [add(s3, where, 1, LAST)]
    assert refused(complete, s3=s3, where=where, parts=parts, MpuObjectSize=99) == (
        "InvalidRequest",
        400,
    )
    complete(s3, where, parts, MpuObjectSize=100)


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT"), ("CRC32C", "COMPOSITE"),
     ("CRC32C", "FULL_OBJECT"), ("CRC64NVME", "FULL_OBJECT"), ("SHA1", "COMPOSITE"),
     ("SHA256", "COMPOSITE"), ("SHA512", "COMPOSITE"), ("XXHASH3", "COMPOSITE")],
)  # fmt: skip
def test_checksums(s3: BaseClient, bucket: str, algorithm: str, kind: str) -> None:
    name = f"Checksum{algorithm}"
    where = begin(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    parts = [
        add(s3, where, number, data, ChecksumAlgorithm=algorithm)
        for number, data in ((1, FIRST), (2, LAST))
    ]
    listed = s3.list_parts(**where)
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (algorithm, kind)
    assert [part[name] for part in listed["Parts"]] == [part[name] for part in parts]
    wrong = [{**parts[0], name: parts[1][name]}, parts[1]]
    assert refused(complete, s3=s3, where=where, parts=wrong) == ("InvalidPart", 400)
    whole = s3.put_object(
        Bucket=bucket, Key="whole", Body=FIRST + LAST, ChecksumAlgorithm=algorithm
    )[name]
    expected = whole if kind == "FULL_OBJECT" else None
    not_it = base64.b64encode(bytes(len(base64.b64decode(whole)))).decode()
    bad = {name: not_it if kind == "FULL_OBJECT" else f"{not_it}-2", "ChecksumType": kind}
    assert refused(complete, s3=s3, where=where, parts=parts, **bad) == ("BadDigest", 400)
    answer = complete(s3, where, parts, **({name: expected} if expected else {}))
    assert answer["ChecksumType"] == kind
    if kind == "FULL_OBJECT":
        assert answer[name] == whole
    else:
        assert answer[name].endswith("-2")
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == FIRST + LAST
    assert (got[name], got["ChecksumType"]) == (answer[name], kind)


def test_a_composite_checksum_is_the_digest_of_digests(s3: BaseClient, bucket: str) -> None:
    where = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    parts = [
        add(s3, where, number, data, ChecksumAlgorithm="SHA256")
        for number, data in ((1, FIRST), (2, LAST))
    ]
    digests = b"".join(hashlib.sha256(data).digest() for data in (FIRST, LAST))
    expected = base64.b64encode(hashlib.sha256(digests).digest()).decode() + "-2"
    answer = complete(s3, where, parts, ChecksumSHA256=expected)
    assert answer["ChecksumSHA256"] == expected


def test_a_part_checksum_of_another_kind_is_refused(s3: BaseClient, bucket: str) -> None:
    where = begin(s3, bucket, ChecksumAlgorithm="SHA256")
    assert refused(s3.upload_part, **where, PartNumber=1, Body=b"x", ChecksumAlgorithm="CRC32") == (
        "InvalidRequest",
        400,
    )
    for options in (
        {"ChecksumAlgorithm": "SHA1", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "COMPOSITE"},
    ):
        assert refused(s3.create_multipart_upload, Bucket=bucket, Key="k", **options) == (
            "InvalidRequest",
            400,
        )


def test_listing_parts(s3: BaseClient, bucket: str) -> None:
    where = begin(s3, bucket)
    numbers = [1, 2, 9, 100, 10_000]
    for number in reversed(numbers):
        add(s3, where, number, b"%d" % number)
    whole = s3.list_parts(**where)
    assert [part["PartNumber"] for part in whole["Parts"]] == numbers
    assert [part["Size"] for part in whole["Parts"]] == [1, 1, 1, 3, 5]
    assert whole["Owner"]["ID"] == whole["Initiator"]["ID"] == "111111111111"
    pages = list(s3.get_paginator("list_parts").paginate(**where, PaginationConfig={"PageSize": 2}))
    assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [
        [1, 2],
        [9, 100],
        [10_000],
    ]


def test_listing_uploads(s3: BaseClient, bucket: str) -> None:
    keys = ["a/1", "a/2", "b", "b", "c/1"]
    uploads = [
        (key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in keys
    ]
    found = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [(one["Key"], one["UploadId"]) for one in found] == uploads
    pages = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    )
    paged = [(one["Key"], one["UploadId"]) for page in pages for one in page["Uploads"]]
    assert paged == uploads
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/", EncodingType="url")
    assert [one["Prefix"] for one in page["CommonPrefixes"]] == ["a/", "c/"]
    assert [one["Key"] for one in page["Uploads"]] == ["b", "b"]
    below = s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")
    assert [one["Key"] for one in below["Uploads"]] == ["a/1", "a/2"]


def test_the_transfer_manager(server: S3Server, s3: BaseClient, bucket: str, tmp_path: Any) -> None:
    data = os.urandom(20 * MIB + 5)
    (tmp_path / "up").write_bytes(data)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_file(str(tmp_path / "up"), bucket, "k", Config=config)
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"].endswith('-5"')
    s3.download_file(bucket, "k", str(tmp_path / "down"), Config=config)
    assert (tmp_path / "down").read_bytes() == data
    s3.copy({"Bucket": bucket, "Key": "k"}, bucket, "copy", Config=config)
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == data


@pytest.mark.parametrize("host", ["{0.host}", f"{{1}}.{DOMAIN}:1234"])
def test_the_location_is_in_the_style_of_the_request(
    server: S3Server, s3: BaseClient, bucket: str, host: str
) -> None:
    signer = server.signer()
    headers = {"host": host.format(signer, bucket)}
    path = "/a%20b" if DOMAIN in host else f"/{bucket}/a%20b"
    upload = s3.create_multipart_upload(Bucket=bucket, Key="a b")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="a b", UploadId=upload, PartNumber=1, Body=b"")["ETag"]
    document = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{document}</CompleteMultipartUpload>".encode()
    answer = signer.send(Raw("POST", path, f"uploadId={upload}", body, headers))
    assert f"<Location>http://{headers['host']}{path}</Location>".encode() in answer.body


def test_a_key_that_xml_can_not_hold(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "a\x01b\uffff"}
    begun = s3.create_multipart_upload(**where)
    assert begun["Key"] == "a\ufffdb\ufffd"
    part = {**where, "UploadId": begun["UploadId"]}
    etag = s3.upload_part(**part, PartNumber=1, Body=b"x")["ETag"]
    complete(s3, part, [{"PartNumber": 1, "ETag": etag}])
    assert s3.get_object(**where)["Body"].read() == b"x"
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == where["Key"]
    s3.delete_object(**where)
    assert refused(s3.get_object, **where) == ("NoSuchKey", 404)


def test_a_page_ends_with_no_key_that_xml_can_not_hold(
    s3: BaseClient, bucket: str, server: S3Server
) -> None:
    """Clients go on after what they are told, and would skip those before U+FFFD."""
    for key in ("a\x01x", "ab", "ac"):
        s3.create_multipart_upload(Bucket=bucket, Key=key)
        s3.put_object(Bucket=bucket, Key=key)
    listed = s3.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [upload["Key"] for upload in listed] == ["a\ufffdx", "ab", "ac"]
    assert refused(s3.list_multipart_uploads, Bucket=bucket, MaxUploads=1) == (
        "InvalidArgument",
        400,
    )
    answer = server.signer().send(Raw("GET", f"/{bucket}", "max-keys=1"))
    assert (answer.status, b"list with encoding-type=url" in answer.body) == (400, True)
    assert s3.list_multipart_uploads(Bucket=bucket, MaxUploads=2)["NextKeyMarker"] == "ab"
    keys = [o["Key"] for o in s3.list_objects(Bucket=bucket, MaxKeys=1)["Contents"]]
    assert keys == ["a\x01x"], "boto3 asks for encoding-type=url"


def test_a_copy_in_parts_as_s3fs_asks_for_it(server: S3Server, s3: BaseClient, bucket: str) -> None:
    """A file renamed, and its mode changed, by s3fs-fuse: the directive is for copies of a whole
    object, and S3 passes over it here."""
    data = b"0123456789" * 600_000
    s3.put_object(Bucket=bucket, Key="old", Body=data)
    signer = server.signer()
    about = {
        "content-type": "application/octet-stream",
        "x-amz-meta-mode": "33152",
        "x-amz-meta-mtime": "1796007777",
        "x-amz-metadata-directive": "REPLACE",
    }
    made = signer.send(Raw("POST", f"/{bucket}/new", "uploads=", headers=about))
    assert made.status == 200
    upload = s3.list_multipart_uploads(Bucket=bucket)["Uploads"][0]["UploadId"]
    source = {"x-amz-copy-source": f"/{bucket}/old"}
    spans = [(0, 5 * MIB - 1), (5 * MIB, len(data) - 1)]
    parts = []
    for number, (first, last) in enumerate(spans, 1):
        headers = {**source, "x-amz-copy-source-range": f"bytes={first}-{last}"}
        query = f"partNumber={number}&uploadId={upload}"
        copied = signer.send(Raw("PUT", f"/{bucket}/new", query, headers=headers))
        assert copied.status == 200
        tag = s3.list_parts(Bucket=bucket, Key="new", UploadId=upload)["Parts"][-1]["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    s3.complete_multipart_upload(
        Bucket=bucket, Key="new", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    got = s3.get_object(Bucket=bucket, Key="new")
    assert got["Body"].read() == data
    assert got["Metadata"] == {"mode": "33152", "mtime": "1796007777"}
    put = signer.send(Raw("PUT", f"/{bucket}/put", body=b"x", headers=about))
    assert put.status == 200
    assert s3.head_object(Bucket=bucket, Key="put")["Metadata"]["mode"] == "33152"
