"""Errors in S3's words."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from predastore import errors
from predastore.errors import BodyMismatch, HttpError, PredastoreError, S3Error
from predastore.s3.errors import TABLE, error_response, translate


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (BodyMismatch("", "md5"), "BadDigest", 400),
        (BodyMismatch("", "crc64nvme"), "BadDigest", 400),
        (BodyMismatch("", "length"), "IncompleteBody", 400),
        (BodyMismatch("", "signature"), "SignatureDoesNotMatch", 403),
        (errors.NoLeader(""), "ServiceUnavailable", 503),
        (errors.NotEnoughNodes(""), "ServiceUnavailable", 503),
        (errors.ObjectUnreadable(""), "ServiceUnavailable", 503),
        (errors.PeerUnreachable(""), "ServiceUnavailable", 503),
        (errors.DeadlineExceeded(""), "ServiceUnavailable", 503),
        (errors.Overloaded(""), "SlowDown", 503),
        (errors.NodeFull(""), "SlowDown", 503),
        (errors.OutcomeUnknown(""), "InternalError", 500),
        (errors.CorruptData(""), "InternalError", 500),
        (HttpError(408, ""), "RequestTimeout", 400),
        (HttpError(413, ""), "MaxMessageLengthExceeded", 400),
        (HttpError(400, ""), "InvalidRequest", 400),
        (S3Error("NoSuchKey"), "NoSuchKey", 404),
    ],
)
def test_what_lower_layers_say(error: PredastoreError, code: str, status: int) -> None:
    shown = translate(error)
    assert shown.s3_code == code
    answer = error_response(shown, resource="/", request_id="1", head=False)
    assert answer.status == status
    assert ("Retry-After" in dict(answer.headers)) == (status == 503)


def test_the_document() -> None:
    error = S3Error("NoSuchKey", "gone: <x>", headers={"X": "y"}, Key="a&b")
    answer = error_response(error, resource="/b/a&b", request_id="0123", head=False)
    assert isinstance(answer.body, bytes)
    assert answer.length == len(answer.body)
    root = ET.fromstring(answer.body)
    assert [(child.tag, child.text) for child in root] == [
        ("Code", "NoSuchKey"),
        ("Message", "gone: <x>"),
        ("Key", "a&b"),
        ("Resource", "/b/a&b"),
        ("RequestId", "0123"),
    ]
    assert dict(answer.headers) == {
        "x-amz-request-id": "0123",
        "X": "y",
        "Content-Type": "application/xml",
    }


def test_head_has_no_body_and_no_type() -> None:
    answer = error_response(S3Error("NoSuchKey"), resource="/", request_id="1", head=True)
    assert (answer.status, answer.body) == (404, b"")
    assert "Content-Type" not in dict(answer.headers)


@pytest.mark.parametrize("head", [True, False])
def test_the_right_region_is_in_a_field_too(head: bool) -> None:
    error = S3Error("AuthorizationHeaderMalformed", Region="eu-test-1")
    answer = error_response(error, resource="/", request_id="1", head=head)
    assert dict(answer.headers)["x-amz-bucket-region"] == "eu-test-1"


def test_what_xml_can_not_hold_does_not_spoil_the_document() -> None:
    error = S3Error("NoSuchKey", Key="a\x01b")
    answer = error_response(error, resource="/b", request_id="1", head=False)
    assert isinstance(answer.body, bytes)
    assert ET.fromstring(answer.body).findtext("Key") == "a\ufffdb"


def test_the_table_is_sound() -> None:
    for code, (status, message) in TABLE.items():
        assert code.isalnum()
        assert 300 <= status < 600
        assert message
