"""Bad input, byte for byte: a clear S3 error, and nothing stored."""

from __future__ import annotations

import base64
import hashlib
import time
import zlib
from dataclasses import replace

import pytest
from botocore.client import BaseClient

from reference import chunked
from support.s3raw import (
    SIGNED_CHUNKS,
    SIGNED_CHUNKS_TRAILER,
    UNSIGNED,
    UNSIGNED_CHUNKS_TRAILER,
    Answer,
    Raw,
    Signer,
    conversation,
    exchange,
    request_bytes,
)
from support.s3refusals import refused
from support.s3server import BOB, S3Server

DATA = b"0123456789" * 1000


@pytest.fixture
def signer(server: S3Server) -> Signer:
    return server.signer()


@pytest.fixture
def put(bucket: str) -> Raw:
    return Raw("PUT", f"/{bucket}/k", body=DATA)


@pytest.fixture
def nothing_stored(s3: BaseClient, bucket: str):
    """After the test the bucket must be there, and empty."""
    yield
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_a_good_request_is_accepted(signer: Signer, put: Raw, s3: BaseClient, bucket: str) -> None:
    assert signer.send(put).status == 200
    assert signer.send(replace(put, payload=UNSIGNED)).status == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == DATA


# --- signatures -------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_stored")
class TestSignatures:
    def test_a_wrong_secret(self, server: S3Server, put: Raw) -> None:
        signer = server.signer(replace_secret(BOB))
        assert shown(signer.send(put)) == ("SignatureDoesNotMatch", 403)

    def test_an_unknown_access_key(self, server: S3Server, put: Raw) -> None:
        signer = server.signer()
        signer.access_key_id = "AKIDNOBODY"
        assert shown(signer.send(put)) == ("InvalidAccessKeyId", 403)

    @pytest.mark.parametrize("skew_s", [-16 * 60, 16 * 60])
    def test_a_skewed_clock(self, signer: Signer, put: Raw, skew_s: int) -> None:
        late = replace(put, signed_at=time.time() + skew_s)
        assert shown(signer.send(late)) == ("RequestTimeTooSkewed", 403)

    def test_a_foreign_region(self, server: S3Server, put: Raw) -> None:
        signer = server.signer(region="us-east-1")
        assert shown(signer.send(put)) == ("AuthorizationHeaderMalformed", 400)

    def test_a_foreign_service(self, server: S3Server, put: Raw) -> None:
        signer = server.signer()
        signer.service = "s3db"
        assert shown(signer.send(put)) == ("AuthorizationHeaderMalformed", 400)

    def test_no_signature(self, server: S3Server, put: Raw) -> None:
        fields = {"host": server.signer().host, "content-length": str(len(DATA))}
        answer = exchange(server.address, "PUT", put.path, "", fields.items(), DATA)
        assert shown(answer) == ("AccessDenied", 403)

    def test_what_is_changed_after_signing(self, signer: Signer, put: Raw) -> None:
        fields = signer.fields(put)
        fields["content-length"] = str(len(DATA))
        changes = [
            ("PUT", put.path + "2", "", fields),
            ("PUT", put.path, "x-id=PutObject", fields),
            ("POST", put.path, "", fields),
            ("PUT", put.path, "", {**fields, "host": "other"}),
            ("PUT", put.path, "", {**fields, "x-amz-content-sha256": UNSIGNED}),
        ]
        for method, path, query, changed in changes:
            answer = exchange(signer.address, method, path, query, changed.items(), DATA)
            assert shown(answer) == ("SignatureDoesNotMatch", 403), (method, path, query)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("x-amz-copy-source", "other/key"),
            ("x-amz-meta-role", "admin"),
            ("x-amz-acl", "private"),
            ("x-amz-website-redirect-location", "/evil"),
        ],
    )
    def test_an_unsigned_field_is_not_obeyed(
        self, signer: Signer, put: Raw, name: str, value: str
    ) -> None:
        sneaky = replace(put, headers={name: value}, leave_out=frozenset({name}))
        assert shown(signer.send(sneaky)) == ("AccessDenied", 403)

    def test_an_unsigned_field_on_a_presigned_url_is_not_obeyed(
        self, signer: Signer, put: Raw
    ) -> None:
        query = signer.presigned(put)
        fields = {
            "host": signer.host,
            "x-amz-copy-source": "other/key",
            "content-length": str(len(DATA)),
        }
        answer = exchange(signer.address, "PUT", put.path, query, fields.items(), DATA)
        assert shown(answer) == ("AccessDenied", 403)

    @pytest.mark.parametrize("value", ["", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b",
                                       "AWS AKID:c2ln", "Basic dXNlcjpwYXNz", "\xff"])  # fmt: skip
    def test_a_malformed_authorization(self, signer: Signer, put: Raw, value: str) -> None:
        answer = signer.send(put, authorization=value)
        assert answer.status in (400, 403)
        assert answer.code

    def test_an_expired_url(self, signer: Signer, put: Raw) -> None:
        old = replace(put, signed_at=time.time() - 100)
        fields = {"host": signer.host, "content-length": str(len(DATA))}
        for query in (signer.presigned(old, 60), signer.presigned(put, 604_801)):
            answer = exchange(signer.address, "PUT", put.path, query, fields.items(), DATA)
            assert answer.status in (400, 403)
            assert answer.code in ("AccessDenied", "AuthorizationQueryParametersError")


def replace_secret(credential):
    return type(credential)(credential.access_key_id, "wrong", credential.account_id)


def shown(answer: Answer) -> tuple[str, int]:
    return answer.code, answer.status


# --- bodies -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_stored")
class TestBodies:
    def test_another_body_than_was_signed(self, signer: Signer, put: Raw) -> None:
        other = DATA[:-1] + b"!"
        assert shown(signer.send(put, body=other)) == ("XAmzContentSHA256Mismatch", 400)

    def test_a_body_that_ends_early(self, signer: Signer, put: Raw) -> None:
        short = replace(put, payload=UNSIGNED)
        answer = signer.send(short, body=DATA[:100], content_length=str(len(DATA)))
        assert shown(answer) == ("IncompleteBody", 400)

    def test_no_length(self, signer: Signer, put: Raw) -> None:
        fields = signer.fields(replace(put, body=b""))
        answer = exchange(signer.address, "PUT", put.path, "", fields.items())
        assert shown(answer) == ("MissingContentLength", 411)

    def test_plain_chunked_coding(self, signer: Signer, put: Raw) -> None:
        raw = replace(put, payload=UNSIGNED)
        body = b"5\r\nhello\r\n0\r\n\r\n"
        answer = signer.send(raw, body=body, transfer_encoding="chunked")
        assert shown(answer) == ("MissingContentLength", 411)

    @pytest.mark.parametrize("length", ["-1", "x", "1e3", "+5", "99999999999999999999"])
    def test_a_length_that_is_none(self, signer: Signer, put: Raw, length: str) -> None:
        assert signer.send(put, content_length=length).status in (400, 411)

    def test_more_than_five_gib(self, signer: Signer, put: Raw) -> None:
        raw = replace(put, payload=UNSIGNED)
        answer = signer.send(raw, body=b"", content_length=str(5 * 1024**3 + 1))
        assert shown(answer) == ("EntityTooLarge", 400)

    def test_a_second_request_is_not_smuggled_in(self, signer: Signer, put: Raw) -> None:
        inner_raw = replace(put, path=put.path + "-smuggled", body=b"")
        inner_fields = {**signer.fields(inner_raw), "content-length": "0"}
        inner = request_bytes("PUT", inner_raw.path, "", inner_fields.items(), b"")
        body = b"0\r\n\r\n" + inner
        fields = signer.fields(replace(put, payload=UNSIGNED))
        fields |= {"content-length": str(len(body)), "transfer-encoding": "chunked"}
        data = request_bytes("PUT", put.path, "", fields.items(), body)
        answers = conversation(signer.address, data, ["PUT", "PUT"])
        assert [answer.status for answer in answers] == [400]

    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ({"content-md5": base64.b64encode(bytes(16)).decode()}, "BadDigest"),
            ({"content-md5": "x"}, "InvalidDigest"),
            ({"x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"),
            ({"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()}, "BadDigest"),
            ({"x-amz-checksum-crc32": "AAAA"}, "InvalidRequest"),
            ({"x-amz-sdk-checksum-algorithm": "CRC32"}, "InvalidRequest"),
        ],
    )
    def test_a_wrong_checksum(
        self, signer: Signer, put: Raw, headers: dict[str, str], code: str
    ) -> None:
        for payload in ("", UNSIGNED):
            answer = signer.send(replace(put, headers=headers, payload=payload))
            assert shown(answer) == (code, 400)


# --- aws-chunked ------------------------------------------------------------------------------


PIECES = [DATA[:8192], DATA[8192:]]
CRC = base64.b64encode(zlib.crc32(DATA).to_bytes(4, "big")).decode()
TRAILER = [("x-amz-checksum-crc32", CRC)]


def streamed(put: Raw, payload: str, *, length: int = len(DATA)) -> Raw:
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(length)}
    if payload.endswith("TRAILER"):
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    return replace(put, headers=headers, payload=payload)


def test_chunked_bodies_are_accepted(signer: Signer, put: Raw, s3: BaseClient, bucket: str) -> None:
    for payload in (SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER):
        raw = streamed(put, payload)
        fields = signer.fields(raw)
        signing = None if payload == UNSIGNED_CHUNKS_TRAILER else signer.chunks(fields)
        trailers = TRAILER if payload.endswith("TRAILER") else []
        body = chunked.encode(PIECES, signing, trailers, sign_trailer=bool(trailers))
        fields["content-length"] = str(len(body))
        answer = exchange(signer.address, "PUT", put.path, "", fields.items(), body)
        assert answer.status == 200, (payload, answer.body)
        assert answer.headers.get("x-amz-checksum-crc32") == (CRC if trailers else None)
        got = s3.get_object(Bucket=bucket, Key="k")
        assert got["Body"].read() == DATA
        assert "ContentEncoding" not in got
        s3.delete_object(Bucket=bucket, Key="k")


@pytest.mark.usefixtures("nothing_stored")
class TestChunks:
    def send(self, signer: Signer, raw: Raw, change, *, sign_trailer: bool = True) -> Answer:
        """Sends the right body as `change` has altered it."""
        fields = signer.fields(raw)
        signed = raw.payload != UNSIGNED_CHUNKS_TRAILER
        trailers = TRAILER if raw.payload.endswith("TRAILER") else []
        body = chunked.encode(
            PIECES,
            signer.chunks(fields) if signed else None,
            trailers,
            sign_trailer=sign_trailer and signed and bool(trailers),
        )
        body = change(body)
        fields["content-length"] = str(len(body))
        return exchange(signer.address, "PUT", raw.path, "", fields.items(), body)

    @pytest.mark.parametrize(
        "payload", [SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER]
    )
    def test_without_the_last_chunk(self, signer: Signer, put: Raw, payload: str) -> None:
        def cut(body: bytes) -> bytes:
            return body[: body.rindex(b"\r\n0") + 2]

        answer = self.send(signer, streamed(put, payload), cut)
        assert answer.status == 400
        assert answer.code

    @pytest.mark.parametrize(
        "payload", [SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER]
    )
    def test_changed_data(self, signer: Signer, put: Raw, payload: str) -> None:
        def change(body: bytes) -> bytes:
            return body.replace(b"\r\n0123456789", b"\r\n!123456789", 1)

        answer = self.send(signer, streamed(put, payload), change)
        assert answer.status in (400, 403)
        expected = "BadDigest" if payload == UNSIGNED_CHUNKS_TRAILER else "SignatureDoesNotMatch"
        assert answer.code == expected

    def test_a_changed_trailer(self, signer: Signer, put: Raw) -> None:
        def change(body: bytes) -> bytes:
            return body.replace(CRC.encode(), b"AAAAAA==")

        signed = self.send(signer, streamed(put, SIGNED_CHUNKS_TRAILER), change)
        assert shown(signed) == ("SignatureDoesNotMatch", 403)
        unsigned = self.send(signer, streamed(put, UNSIGNED_CHUNKS_TRAILER), change)
        assert shown(unsigned) == ("BadDigest", 400)

    def test_an_unsigned_trailer(self, signer: Signer, put: Raw) -> None:
        raw = streamed(put, SIGNED_CHUNKS_TRAILER)
        answer = self.send(signer, raw, lambda body: body, sign_trailer=False)
        assert answer.status in (400, 403)

    def test_a_trailer_that_does_not_come(self, signer: Signer, put: Raw) -> None:
        def drop(body: bytes) -> bytes:
            at = body.index(b"x-amz-checksum")
            return body[:at] + b"\r\n"

        answer = self.send(signer, streamed(put, UNSIGNED_CHUNKS_TRAILER), drop)
        assert answer.status == 400

    @pytest.mark.parametrize("length", [0, len(DATA) - 1, len(DATA) + 1])
    def test_a_lying_decoded_length(self, signer: Signer, put: Raw, length: int) -> None:
        raw = streamed(put, SIGNED_CHUNKS, length=length)
        answer = self.send(signer, raw, lambda body: body)
        assert answer.status == 400
        assert answer.code

    def test_no_decoded_length(self, signer: Signer, put: Raw) -> None:
        raw = streamed(put, SIGNED_CHUNKS)
        del raw.headers["x-amz-decoded-content-length"]
        answer = self.send(signer, raw, lambda body: body)
        assert shown(answer) == ("MissingContentLength", 411)

    @pytest.mark.parametrize(
        "size", [b"zz", b"-1", b"", b"2000 ", b"0x2000", b"ffffffffffffffff", b"9" * 400]
    )
    def test_a_malformed_chunk_size(self, signer: Signer, put: Raw, size: bytes) -> None:
        def change(body: bytes) -> bytes:
            return size + body[4:]

        for payload in (SIGNED_CHUNKS, UNSIGNED_CHUNKS_TRAILER):
            answer = self.send(signer, streamed(put, payload), change)
            assert answer.status in (400, 403), payload
            assert answer.code


# --- documents --------------------------------------------------------------------------------


DELETE = b"<Delete><Object><Key>k</Key></Object></Delete>"
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (n, b"&%c;" % (n - 1) * 10) for n in range(98, 107))
    + b"]><Delete><Object><Key>&j;</Key></Object></Delete>"
)


def md5(data: bytes) -> dict[str, str]:
    return {"content-md5": base64.b64encode(hashlib.md5(data).digest()).decode()}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "MissingRequestBodyError"),
        (b"<Delete/>", "MalformedXML"),
        (b"<Delete><Object/></Delete>", "MalformedXML"),
        (b"<Delete><Object><Key/></Object></Delete>", "MalformedXML"),
        (b"<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>", "MalformedXML"),
        (b"<Delete><Object><Key>a</Key></Object>", "MalformedXML"),
        (b"<Remove><Object><Key>a</Key></Object></Remove>", "MalformedXML"),
        (b"not XML at all", "MalformedXML"),
        (BOMB, "MalformedXML"),
        (b"<Delete>" + b" " * (2 * 1024 * 1024) + b"</Delete>", "MaxMessageLengthExceeded"),
    ],
)
def test_malformed_delete_documents(
    signer: Signer, s3: BaseClient, bucket: str, data: bytes, code: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"safe")
    raw = Raw("POST", f"/{bucket}", "delete=", body=data, headers=md5(data))
    assert shown(signer.send(raw)) == (code, 400)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"safe"


def test_a_delete_document_must_be_protected(signer: Signer, s3: BaseClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"safe")
    raw = Raw("POST", f"/{bucket}", "delete=", body=DELETE)
    assert shown(signer.send(raw)) == ("InvalidRequest", 400)
    wrong = replace(raw, headers=md5(b"other"))
    assert shown(signer.send(wrong)) == ("BadDigest", 400)
    changed = replace(raw, headers=md5(DELETE))
    answer = signer.send(changed, body=DELETE.replace(b"k", b"j"))
    assert answer.code in ("XAmzContentSHA256Mismatch", "BadDigest")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"safe"
    assert signer.send(replace(raw, headers=md5(DELETE))).status == 200


def test_an_empty_version_is_none(signer: Signer, s3: BaseClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for version in (b"<VersionId/>", b"<VersionId></VersionId>"):
        data = DELETE.replace(b"</Key>", b"</Key>" + version)
        answer = signer.send(Raw("POST", f"/{bucket}", "delete=", body=data, headers=md5(data)))
        assert b"<Deleted><Key>k</Key></Deleted>" in answer.body
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<CreateBucketConfiguration>", "MalformedXML"),
        (b"<Other/>", "MalformedXML"),
        (b"<CreateBucketConfiguration><Color>red</Color></CreateBucketConfiguration>",
         "MalformedXML"),
        (b"x" * 100_000, "MaxMessageLengthExceeded"),
    ],
)  # fmt: skip
def test_malformed_bucket_documents(signer: Signer, s3: BaseClient, data: bytes, code: str) -> None:
    assert shown(signer.send(Raw("PUT", "/malformed-one", body=data))) == (code, 400)
    assert refused(s3.head_bucket, Bucket="malformed-one")[1] == 404


# --- targets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["tagging", "acl", "policy", "cors", "lifecycle=", "versions", "frobnicate", "x=y",
     "versionId=null", "uploads", "location"],
)  # fmt: skip
def test_delete_with_a_sub_resource_deletes_no_bucket(
    signer: Signer, s3: BaseClient, bucket: str, query: str
) -> None:
    answer = signer.send(Raw("DELETE", f"/{bucket}", query))
    assert answer.status in (204, 400, 501)  # 204: there is no such configuration to delete
    s3.head_bucket(Bucket=bucket)


@pytest.mark.parametrize(
    "query", ["tagging", "acl", "retention", "legal-hold=", "torrent", "append=1", "frobnicate",
              "x=y", "uploadId=1", "partNumber=1"]
)  # fmt: skip
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_sub_resource_of_an_object_is_never_the_object(
    signer: Signer, s3: BaseClient, bucket: str, method: str, query: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"safe")
    answer = signer.send(Raw(method, f"/{bucket}/k", query, body=b"<Tagging/>"))
    assert answer.status in (400, 404, 501) or (method, query) == ("DELETE", "tagging")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"safe"


@pytest.mark.parametrize(
    ("path", "code", "status"),
    [
        ("/bucket/%", "InvalidURI", 400),
        ("/bucket/%zz", "InvalidURI", 400),
        ("/bucket/%00", "InvalidURI", 400),
        ("/bucket/%FF", "InvalidURI", 400),
        ("//key", "InvalidBucketName", 400),
        ("/a%2Fb/key", "InvalidBucketName", 400),
        ("/../etc/passwd", "InvalidBucketName", 400),
        ("/.predastore/x", "InvalidBucketName", 400),
    ],
)
def test_paths_that_lead_nowhere(signer: Signer, path: str, code: str, status: int) -> None:
    assert shown(signer.send(Raw("GET", path))) == (code, status)


def test_a_key_of_no_bytes_stores_nothing(signer: Signer, s3: BaseClient, bucket: str) -> None:
    answer = signer.send(Raw("PUT", f"/{bucket}/", body=DATA))
    assert answer.status in (400, 409)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_head_errors_have_no_body(signer: Signer, bucket: str) -> None:
    answer = signer.send(Raw("HEAD", f"/{bucket}/missing"))
    assert (answer.status, answer.body) == (404, b"")
    assert len(answer.headers["x-amz-request-id"]) == 16
    assert "content-type" not in answer.headers


def test_other_methods(signer: Signer, bucket: str) -> None:
    assert shown(signer.send(Raw("PATCH", f"/{bucket}/k"))) == ("MethodNotAllowed", 405)
    assert shown(signer.send(Raw("POST", f"/{bucket}/k"))) == ("MethodNotAllowed", 405)
    assert shown(signer.send(Raw("OPTIONS", f"/{bucket}/k"))) == ("BadRequest", 400)


def test_a_protocol_error_is_an_s3_error(server: S3Server) -> None:
    answers = conversation(server.address, b"GET / HTTP/1.1\r\nbad header\r\n\r\n", ["GET"])
    assert shown(answers[0]) == ("InvalidRequest", 400)
