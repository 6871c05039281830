"""Forms that are refused: in S3's words, and without a trace."""

from __future__ import annotations

import os
import socket
import time
import tracemalloc
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest
from botocore.client import BaseClient

from predastore.auth.sigv4 import Credential
from predastore.base.limits import FORM_FIELDS_BYTES_MAX, KIB, MIB
from reference.multipart import encode
from support.forms import BOUNDARY, CONTENT_TYPE, Form, expiration
from support.s3raw import Answer, Raw, request_bytes
from support.s3server import ALICE, BOB, S3Server
from support.waiting import eventually

NOBODY = Credential("AKIDNOBODY", "x", "333333333333")
LIAR = Credential(ALICE.access_key_id, "not the secret", ALICE.account_id)


def shown(answer: Answer) -> tuple[str, int, str]:
    message = ET.fromstring(answer.body).findtext("Message") or ""
    return answer.code, answer.status, message


def needed(name: str) -> str:
    return (
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the "
        f"order of the fields."
    )


def signed_ago(seconds: float, **more: Any) -> Callable[[str], Form]:
    return lambda bucket: Form(bucket, signed_at=time.time() - seconds, **more)


DAY = 86_400


@pytest.mark.parametrize(
    ("form", "code", "status", "words"),
    [
        (lambda b: Form(b, who=None), "AccessDenied", 403, "Access Denied"),
        (lambda b: Form(b, who=BOB), "AccessDenied", 403, "Access Denied"),
        (lambda b: Form(b, who=NOBODY), "InvalidAccessKeyId", 403, ""),
        (lambda b: Form(b, who=LIAR), "SignatureDoesNotMatch", 403, ""),
        (lambda b: Form(b, who=LIAR, v2=True), "SignatureDoesNotMatch", 403, ""),
        (lambda b: Form(b, who=NOBODY, v2=True), "InvalidAccessKeyId", 403, ""),
        (lambda b: Form(b, changed={"policy": "e30="}), "SignatureDoesNotMatch", 403, ""),
        (lambda b: Form(b, changed={"x-amz-signature": "\u00e4" * 32}), "SignatureDoesNotMatch",
         403, ""),
        (lambda b: Form(b, changed={"policy": None}), "InvalidArgument", 400, needed("policy")),
        (lambda b: Form(b, v2=True, changed={"policy": None}), "InvalidArgument", 400,
         needed("policy")),
        (lambda b: Form(b, changed={"x-amz-signature": None}), "InvalidArgument", 400,
         needed("X-Amz-Signature")),
        (lambda b: Form(b, changed={"x-amz-credential": None}), "InvalidArgument", 400,
         needed("X-Amz-Credential")),
        (lambda b: Form(b, changed={"x-amz-date": None}), "InvalidArgument", 400,
         needed("X-Amz-Date")),
        (lambda b: Form(b, v2=True, changed={"signature": None}), "InvalidArgument", 400,
         needed("signature")),
        (lambda b: Form(b, changed={"signature": "x"}), "InvalidArgument", 400,
         "Only one auth mechanism allowed."),
        (lambda b: Form(b, changed={"x-amz-algorithm": "AWS4-HMAC-SHA1"}), "InvalidArgument", 400,
         "X-Amz-Algorithm only supports"),
        (lambda b: Form(b, changed={"x-amz-algorithm": "AWS4-ECDSA-P256-SHA256"}),
         "NotImplemented", 501, "SigV4A"),
        (lambda b: Form(b, changed={"x-amz-credential": "a/b"}), "InvalidArgument", 400,
         "the Credential is mal-formed"),
        (lambda b: Form(b, changed={"x-amz-date": "today"}), "InvalidArgument", 400, "ISO8601"),
        (lambda b: Form(b, changed={"x-amz-date": "20200101T000000Z"}),
         "AuthorizationQueryParametersError", 400, "credential date"),
        (lambda b: Form(b, region="us-east-9"), "AuthorizationQueryParametersError", 400,
         "the region 'us-east-9' is wrong"),
        (lambda b: Form(b, service="s3db"), "AuthorizationQueryParametersError", 400,
         "incorrect service"),
        (signed_ago(8 * DAY), "AccessDenied", 403, "Request has expired"),
        (signed_ago(-DAY), "AccessDenied", 403, "Request is not valid yet"),
        (lambda b: Form(b, {"x-amz-security-token": "t"}), "InvalidToken", 400, ""),
        (lambda b: Form(b, {"x-amz-security-token": "t"}, v2=True), "InvalidToken", 400, ""),
        (lambda b: Form(b, expires_in_s=-1), "AccessDenied", 403,
         "Invalid according to Policy: Policy expired."),
        (lambda b: Form(b, v2=True, expires_in_s=-1), "AccessDenied", 403,
         "Invalid according to Policy: Policy expired."),
        (lambda b: Form(b, changed={"key": "other"}, policy={"expiration": expiration(),
         "conditions": [{"key": "k"}]}), "AccessDenied", 403,
         'Invalid according to Policy: Policy Condition failed: ["eq", "$key", "k"]'),
        (lambda b: Form(b, changed={"x-amz-meta-a": "b"}), "AccessDenied", 403,
         "Invalid according to Policy: Extra input fields: x-amz-meta-a"),
        (lambda b: Form(b, policy=b"{"), "InvalidPolicyDocument", 400,
         "Invalid Policy: Invalid JSON."),
        (lambda b: Form(b, policy={"expiration": expiration()}), "InvalidPolicyDocument", 400,
         "Invalid Policy: Policy missing conditions."),
        (lambda b: Form(b, changed={"key": None}), "InvalidArgument", 400, needed("key")),
        (lambda b: Form(b, who=None, changed={"key": None}), "InvalidArgument", 400,
         needed("key")),
        (lambda b: Form(b, {"key": ""}), "InvalidArgument", 400,
         "User key must have a length greater than 0."),
        (lambda b: Form(b, {"key": "${filename}"}, filename=""), "InvalidArgument", 400,
         "User key must have a length greater than 0."),
        (lambda b: Form(b, {"key": "a\0b"}), "InvalidArgument", 400, "NUL"),
        (lambda b: Form(b, {"key": "a" * 1025}), "KeyTooLongError", 400, ""),
        (lambda b: Form(b, changed={"Key": "K"}), "InvalidArgument", 400, "twice"),
        (lambda b: Form(b, {"bucket": "other"}), "InvalidArgument", 400, "another bucket"),
        (lambda b: Form(b, {"acl": "nonsense"}), "InvalidArgument", 400, ""),
        (lambda b: Form(b, {"x-amz-server-side-encryption": "AES256"}), "NotImplemented", 501,
         "server-side encryption"),
        (lambda b: Form(b, {"x-amz-server-side-encryption-customer-key": "x"}), "NotImplemented",
         501, "server-side encryption"),
        (lambda b: Form(b, {"x-amz-grant-read": "id=1"}), "NotImplemented", 501, "grants"),
        (lambda b: Form(b, {"x-amz-storage-class": "FAST"}), "InvalidStorageClass", 400, ""),
        (lambda b: Form(b, {"x-amz-meta-a": "a\r\nb: c"}), "InvalidArgument", 400, "header field"),
        (lambda b: Form(b, {"x-amz-meta-a b": "c"}), "InvalidArgument", 400, "header field"),
        (lambda b: Form(b, {"Content-Type": "a\nb"}), "InvalidArgument", 400, "header field"),
        (lambda b: Form(b, {"x-amz-meta-a": "b" * 2049}), "MetadataTooLarge", 400, ""),
        (lambda b: Form(b, {"tagging": "<Tagging>"}), "MalformedXML", 400, ""),
        (lambda b: Form(b, {"tagging": "a=b"}), "MalformedXML", 400, ""),
        (lambda b: Form(b, {"tagging": "<Tagging><TagSet><Tag><Key>aws:a</Key><Value/></Tag>"
         "</TagSet></Tagging>"}), "InvalidTag", 400, ""),
        (lambda b: Form(b, {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}), "BadDigest", 400, ""),
        (lambda b: Form(b, {"Content-MD5": "?"}), "InvalidDigest", 400, ""),
        (lambda b: Form(b, {"x-amz-checksum-crc32": "AAAAAA=="}), "BadDigest", 400, ""),
        (lambda b: Form(b, {"x-amz-checksum-algorithm": "CRC32"}), "InvalidRequest", 400, ""),
        (lambda b: Form(b, {"x-amz-object-lock-legal-hold": "ON"}), "InvalidRequest", 400,
         "Bucket is missing Object Lock Configuration"),
        (lambda b: Form(b, {"x-amz-object-lock-mode": "NONE"}), "InvalidArgument", 400, ""),
        (lambda b: Form(b, {"If-Match": "a"}), "NoSuchKey", 404, ""),
        (lambda b: Form(b, {f"x-ignore-{n}": "" for n in range(1000)}),
         "MaxPostPreDataLengthExceeded", 400, "preceding the upload file were too large"),
        (lambda b: Form(b, {"x-ignore-a": "a" * (FORM_FIELDS_BYTES_MAX + 1)}),
         "MaxPostPreDataLengthExceeded", 400, ""),
        (lambda b: Form(b, {"x-ignore-a": "${filename}" * 1000}, filename="f" * 255),
         "MaxPostPreDataLengthExceeded", 400, ""),
        (lambda b: Form(b, behind={"a": "b" * 100_000}), "MalformedPOSTRequest", 400, ""),
        (lambda b: Form(b, behind={"file": "another"}), "InvalidArgument", 400,
         "POST requires exactly one file upload per request."),
        (lambda b: Form("no-such-bucket"), "NoSuchBucket", 404, ""),
    ],
)  # fmt: skip
def test_a_form_that_is_refused(
    server: S3Server,
    bucket: str,
    form: Callable[[str], Form],
    code: str,
    status: int,
    words: str,
) -> None:
    with server.unchanged():
        found = shown(form(bucket).post(server))
    assert found[:2] == (code, status), found
    assert words in found[2]


@pytest.mark.parametrize("behind", [{}, {"submit": "go"}])
@pytest.mark.parametrize("size", [10, 100 * KIB, 3 * MIB])
def test_sizes_that_a_policy_refuses(
    server: S3Server, s3: BaseClient, bucket: str, size: int, behind: dict[str, str]
) -> None:
    def answer(least: int, most: int) -> Answer:
        everything = [["starts-with", f"${name}", ""] for name in Form(bucket).signed()]
        allowed = [one for one in everything if one[1] not in ("$policy", "$x-amz-signature")]
        limits = ["content-length-range", least, most]
        conditions = [*allowed, {"bucket": bucket}, limits]
        return Form(bucket, data=b"d" * size, behind=behind, conditions=conditions).post(server)

    with server.unchanged():
        for least, most, code in (
            (0, size - 1, "EntityTooLarge"),
            (0, 1, "EntityTooLarge"),
            (size + 1, size + 100, "EntityTooSmall"),
            (10**9, 10**10, "EntityTooSmall"),
        ):
            found = answer(least, most)
            assert shown(found)[:2] == (code, 400)
            error = ET.fromstring(found.body)
            if code == "EntityTooLarge":
                assert error.findtext("MaxSizeAllowed") == str(most)
            else:
                assert error.findtext("MinSizeAllowed") == str(least)
    assert answer(size, size).status == 204
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size


# --- requests that carry no form, or one that is cut ------------------------------------------


def test_what_is_posted_has_to_be_a_form(server: S3Server, bucket: str) -> None:
    condition = "Bucket POST must be of the enclosure-type multipart/form-data"
    for kind in ("", "application/x-www-form-urlencoded", "multipart/mixed; boundary=a"):
        answer = Form(bucket).post(server, content_type=kind)
        assert shown(answer)[:2] == ("PreconditionFailed", 412)
        assert ET.fromstring(answer.body).findtext("Condition") == condition
    assert server.signer().send(Raw("POST", f"/{bucket}")).status == 412


@pytest.mark.parametrize(
    "kind", ["", "; boundary=", "; boundary=" + "b" * 71, "; boundary=wrong", '; boundary="']
)
def test_a_boundary_that_is_none_or_another(server: S3Server, bucket: str, kind: str) -> None:
    with server.unchanged():
        answer = Form(bucket).post(server, content_type=f"multipart/form-data{kind}")
    assert shown(answer)[:2] == ("MalformedPOSTRequest", 400)


def test_a_boundary_of_a_mebibyte(server: S3Server, bucket: str) -> None:
    kind = f"multipart/form-data; boundary={'b' * MIB}"
    assert Form(bucket).post(server, content_type=kind).status == 400


def test_a_form_without_a_file(server: S3Server, bucket: str) -> None:
    fields = [(name, value.encode(), None) for name, value in Form(bucket).signed().items()]
    answer = Form(bucket).post(server, encode(BOUNDARY, list(fields)))
    why = "POST requires exactly one file upload per request."
    assert shown(answer) == ("InvalidArgument", 400, why)


def test_fields_behind_the_file_do_not_count(server: S3Server, bucket: str) -> None:
    form = Form(bucket, changed={"policy": None})
    form.behind = {"policy": Form(bucket).signed()["policy"]}
    code, status, message = shown(form.post(server))
    assert (code, status) == ("InvalidArgument", 400)
    assert message.startswith(needed("policy"))


@pytest.mark.parametrize("size", [10, 100_000, 3 * MIB])
def test_a_form_that_ends_too_soon_stores_nothing(
    server: S3Server, s3: BaseClient, bucket: str, size: int
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"what was there")
    body = Form(bucket, data=os.urandom(size)).body()
    end = len(b"\r\n--" + BOUNDARY + b"--\r\n")
    with server.unchanged():
        for cut in (3, 4, end, end + 1, end + size // 2, end + size + 1):
            answer = Form(bucket).post(server, body[:-cut])
            assert shown(answer)[:2] == ("MalformedPOSTRequest", 400), cut
        cut_off = Form(bucket).post(server, body[:-1], content_length=str(len(body)))
        assert shown(cut_off)[:2] == ("IncompleteBody", 400)


@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_a_file_with_a_line_like_a_boundary_is_refused_and_not_cut(
    server: S3Server, bucket: str, size: int
) -> None:
    data = b"a\r\n--" + BOUNDARY + b" is what I use\r\n" + b"b" * size
    with server.unchanged():
        answer = Form(bucket, data=data).post(server)
    assert shown(answer)[:2] == ("MalformedPOSTRequest", 400)


def test_a_chunked_form_is_refused(server: S3Server, bucket: str) -> None:
    body = b"0\r\n\r\n"
    fields = [("host", "h"), ("content-type", CONTENT_TYPE), ("transfer-encoding", "chunked")]
    with socket.create_connection(server.address) as client:
        client.sendall(request_bytes("POST", f"/{bucket}", "", fields, body))
        assert client.recv(1000).startswith(b"HTTP/1.1 411 ")


def test_a_request_that_is_signed_in_its_head_can_not_post_a_form(
    server: S3Server, bucket: str
) -> None:
    body = Form(bucket).body()
    headers = {"content-type": CONTENT_TYPE}
    raw = Raw("POST", f"/{bucket}", body=body, headers=headers, payload="UNSIGNED-PAYLOAD")
    with server.unchanged():
        answer = server.signer().send(raw)
    assert shown(answer) == ("InvalidArgument", 400, "Only one auth mechanism allowed.")


@pytest.mark.parametrize(
    "header", [{"content_md5": "XUFAKrxLKna5cZ2REBfFkg=="}, {"x_amz_content_sha256": "0" * 64},
               {"x_amz_checksum_crc32": "AAAAAA=="}, {"x_amz_trailer": "x-amz-checksum-crc32"}],
)  # fmt: skip
def test_a_digest_of_the_whole_form_is_not_overlooked(
    server: S3Server, bucket: str, header: dict[str, str]
) -> None:
    with server.unchanged():
        assert Form(bucket).post(server, None, **header).status == 501


def test_header_fields_that_ask_for_what_is_not_there(server: S3Server, bucket: str) -> None:
    with server.unchanged():
        answer = Form(bucket).post(server, x_amz_server_side_encryption="AES256")
        assert shown(answer)[:2] == ("NotImplemented", 501)
        owner = Form(bucket).post(server, x_amz_expected_bucket_owner=BOB.account_id)
        assert shown(owner)[:2] == ("AccessDenied", 403)


# --- clients that are slow, endless or large --------------------------------------------------


def test_a_form_that_is_refused_by_its_fields_is_answered_before_its_file_is_sent(
    server: S3Server, bucket: str
) -> None:
    body = Form(bucket, who=LIAR, data=b"d" * 100).body()
    fields = {"host": "h", "content-type": CONTENT_TYPE, "content-length": str(10**9)}
    with socket.create_connection(server.address, timeout=20) as client:
        client.sendall(request_bytes("POST", f"/{bucket}", "", fields.items(), body[:-100]))
        assert client.recv(1000).startswith(b"HTTP/1.1 403 ")


def test_a_form_of_single_bytes(server: S3Server, s3: BaseClient, bucket: str) -> None:
    body = Form(bucket).body()
    fields = {"host": "h", "content-type": CONTENT_TYPE, "content-length": str(len(body))}
    with socket.create_connection(server.address, timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(request_bytes("POST", f"/{bucket}", "", fields.items(), b""))
        for byte in body:
            client.sendall(bytes((byte,)))
        assert client.recv(1000).startswith(b"HTTP/1.1 204 ")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"


def test_a_client_that_goes_away_in_its_file_leaves_nothing(server: S3Server, bucket: str) -> None:
    before = server.connections()

    def all_is_given_back() -> bool:
        held = server.catalog.held_bytes()
        held.pop("pool")
        return server.connections() == before and not any(held.values())

    with server.unchanged():
        body = Form(bucket, data=b"d" * 8 * MIB).body()
        fields = {"host": "h", "content-type": CONTENT_TYPE, "content-length": str(len(body))}
        for sent in (len(body) - 8 * MIB, len(body) - 4 * MIB, len(body) - 1):
            with socket.create_connection(server.address, timeout=20) as client:
                head = request_bytes("POST", f"/{bucket}", "", fields.items(), body[:sent])
                client.sendall(head)
        eventually(all_is_given_back, what="budgets and buffers are free")


def test_a_large_file_is_passed_on_within_bounded_memory(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    size = 64 * MIB
    piece = os.urandom(MIB)
    head, tail = Form(bucket, data=b"*" * 100, behind={"submit": "go"}).body().split(b"*" * 100)
    length = str(len(head) + size + len(tail))
    fields = {"host": "h", "content-type": CONTENT_TYPE, "content-length": length}
    tracemalloc.start()
    try:
        with socket.create_connection(server.address, timeout=60) as client:
            client.sendall(request_bytes("POST", f"/{bucket}", "", fields.items(), head))
            for _ in range(size // MIB):
                client.sendall(piece)
            client.sendall(tail)
            assert client.recv(1000).startswith(b"HTTP/1.1 204 ")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size
    assert peak < size // 4
