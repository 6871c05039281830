"""Errors in S3's words."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import predastore
from predastore.base import errors
from predastore.base.errors import BodyMismatch, HttpError, PredastoreError, S3Error
from predastore.base.limits import S3_DETAIL_CHARS_MAX
from predastore.s3.errors import TABLE, error_response, message_of, not_implemented, translate


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (BodyMismatch("", "md5"), "BadDigest", 400),
        (BodyMismatch("", "crc64nvme"), "BadDigest", 400),
        (BodyMismatch("", "length"), "IncompleteBody", 400),
        (BodyMismatch("", "signature"), "SignatureDoesNotMatch", 403),
        (errors.NoLeader(""), "ServiceUnavailable", 503),
        (errors.LevelTooLow(""), "ServiceUnavailable", 503),
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
    answer = error_response(shown, resource="/", request_id="1", host_id="h", head=False)
    assert answer.status == status
    assert ("Retry-After" in dict(answer.headers)) == (status == 503)


def test_the_document() -> None:
    error = S3Error("NoSuchKey", "gone: <x>", headers={"X": "y"}, Key="a&b")
    answer = error_response(error, resource="/b/a&b", request_id="0123", host_id="h/+=", head=False)
    assert isinstance(answer.body, bytes)
    assert answer.length == len(answer.body)
    root = ET.fromstring(answer.body)
    assert [(child.tag, child.text) for child in root] == [
        ("Code", "NoSuchKey"),
        ("Message", "gone: <x> (Key: a&b)"),
        ("Key", "a&b"),
        ("Resource", "/b/a&b"),
        ("RequestId", "0123"),
        ("HostId", "h/+="),
    ]
    assert dict(answer.headers) == {
        "x-amz-request-id": "0123",
        "x-amz-id-2": "h/+=",
        "X": "y",
        "Content-Type": "application/xml",
    }


def test_head_has_no_body_and_no_type() -> None:
    answer = error_response(
        S3Error("NoSuchKey"), resource="/", request_id="1", host_id="h", head=True
    )
    assert (answer.status, answer.body) == (404, b"")
    assert "Content-Type" not in dict(answer.headers)


@pytest.mark.parametrize("head", [True, False])
def test_the_right_region_is_in_a_field_too(head: bool) -> None:
    error = S3Error("AuthorizationHeaderMalformed", Region="eu-test-1")
    answer = error_response(error, resource="/", request_id="1", host_id="h", head=head)
    assert dict(answer.headers)["x-amz-bucket-region"] == "eu-test-1"


def test_what_xml_can_not_hold_does_not_spoil_the_document() -> None:
    error = S3Error("NoSuchKey", Key="a\x01b")
    answer = error_response(error, resource="/b", request_id="1", host_id="h", head=False)
    assert isinstance(answer.body, bytes)
    assert ET.fromstring(answer.body).findtext("Key") == "a\ufffdb"


@pytest.mark.parametrize(
    ("error", "address", "message"),
    [
        # what the request's address says is not said again: the text is S3's alone
        (
            S3Error("NoSuchKey", Key="a/b"),
            "bucket/bucket/a/b?",
            "The specified key does not exist.",
        ),
        (S3Error("NoSuchUpload", UploadId="12"), "b/b/k?uploadId=12", TABLE["NoSuchUpload"][1]),
        # but the source of a copy is
        (
            S3Error("NoSuchBucket", BucketName="source"),
            "target/target/k?",
            "The specified bucket does not exist (BucketName: source)",
        ),
        (
            S3Error("PreconditionFailed", Condition="If-Match"),
            "",
            "At least one of the pre-conditions you specified did not hold (Condition: If-Match)",
        ),
        (
            S3Error("InvalidArgument", "max-keys is wrong", ArgumentName="max-keys", Two="2"),
            "b/?max-keys=2",
            "max-keys is wrong (Two: 2)",
        ),
        (S3Error("InvalidArgument", "at most 20", Given="2"), "", "at most 20 (Given: 2)"),
        (
            S3Error("InvalidArgument", "x", Long="v" * 1000, Empty=""),
            "",
            f"x (Long: {'v' * S3_DETAIL_CHARS_MAX})",
        ),
    ],
)
def test_the_message_has_the_details(error: S3Error, address: str, message: str) -> None:
    assert message_of(error, address) == message


def test_what_is_not_implemented_is_said_in_the_message() -> None:
    error = not_implemented("x-amz-a asks for tea", header="x-amz-a")
    text = "A header you provided implies functionality that is not implemented"
    elements = "(Header: x-amz-a, additionalMessage: x-amz-a asks for tea)"
    assert message_of(error) == f"{text} {elements}"
    assert error.extra == {"Header": "x-amz-a", "additionalMessage": "x-amz-a asks for tea"}
    assert not_implemented("tea").extra == {"additionalMessage": "tea"}


def test_every_code_that_is_raised_has_a_status() -> None:
    """Also of what is raised below S3, by signatures and tokens."""
    package = Path(predastore.__file__).parent
    files = [*(package / "s3").rglob("*.py"), *(package / "auth").glob("*.py")]
    raised = {
        node.args[0].value
        for file in [*files, package / "iam" / "sessions.py"]
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("S3Error", "SignatureError")
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(raised) > 50
    assert raised - TABLE.keys() == set()


def test_every_501_is_raised_with_words_for_it() -> None:
    for file in Path(predastore.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and node.args:
                code = node.args[0]
                if isinstance(code, ast.Constant) and code.value == "NotImplemented":
                    assert len(node.args) > 1, f"{file}:{node.lineno}"


def test_the_table_is_sound() -> None:
    for code, (status, message) in TABLE.items():
        assert code.isalnum()
        assert 300 <= status < 600
        assert message
