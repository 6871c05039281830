"""The policy of a form: what it allows, and what is none."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from predastore.base.errors import S3Error
from predastore.base.limits import S3_PUT_BYTES_MAX
from predastore.s3.post_policy import SizeRange, parse_policy

NEVER = "2999-01-01T00:00:00.000Z"


def encoded(document: Any) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.b64encode(raw).decode()


def said(conditions: Any, fields: dict[str, str], expiration: str = NEVER) -> str:
    """ "" where the policy allows the form, else why not. The form is for "bkt"."""
    policy = parse_policy(encoded({"expiration": expiration, "conditions": conditions}))
    try:
        policy.check(fields, "bkt", time.time())
    except S3Error as error:
        assert error.s3_code == "AccessDenied"
        return error.message.removeprefix("Invalid according to Policy: ")
    return ""


def refused(document: Any) -> str:
    """Why it is no policy."""
    with pytest.raises(S3Error) as caught:
        parse_policy(document if isinstance(document, str) else encoded(document))
    assert caught.value.s3_code == "InvalidPolicyDocument"
    return caught.value.message.removeprefix("Invalid Policy: ")


BKT = {"bucket": "bkt"}


@pytest.mark.parametrize(
    ("condition", "fields"),
    [
        ({"key": "a"}, {"key": "a"}),
        ({"KEY": "a"}, {"key": "a"}),
        (["eq", "$key", "a"], {"key": "a"}),
        (["eQ", "$Key", "a"], {"key": "a"}),
        (["starts-with", "$key", "user/"], {"key": "user/a"}),
        (["StArTs-WiTh", "$key", ""], {"key": "any"}),
        (["starts-with", "$key", ""], {"key": ""}),
        (["starts-with", "$Content-Type", "image/"], {"content-type": "image/png, image/gif"}),
        (["starts-with", "$x-amz-meta-a", "$b"], {"x-amz-meta-a": "$bc"}),
        ({"x-amz-meta-a": "\u00e4"}, {"x-amz-meta-a": "\u00e4"}),
    ],
)
def test_what_a_condition_allows(condition: Any, fields: dict[str, str]) -> None:
    assert said([BKT, condition], fields) == ""


@pytest.mark.parametrize(
    ("condition", "fields", "shown"),
    [
        ({"key": "a"}, {"key": "A"}, '["eq", "$key", "a"]'),
        ({"Key": "a"}, {"key": "ab"}, '["eq", "$Key", "a"]'),
        (["starts-with", "$key", "user/"], {"key": "user"}, '["starts-with", "$key", "user/"]'),
        (["starts-with", "$key", ""], {}, '["starts-with", "$key", ""]'),
        (["eq", "$acl", ""], {}, '["eq", "$acl", ""]'),
        (
            ["starts-with", "$Content-Type", "image/"],
            {"content-type": "image/png,text/html"},
            '["starts-with", "$Content-Type", "image/"]',
        ),
        ({"bucket": "other"}, {}, '["eq", "$bucket", "other"]'),
    ],
)
def test_what_a_condition_refuses(condition: Any, fields: dict[str, str], shown: str) -> None:
    assert said([BKT, condition], fields) == f"Policy Condition failed: {shown}"


def test_all_conditions_of_a_field_must_hold() -> None:
    conditions = [BKT, ["starts-with", "$key", "a"], {"key": "b"}]
    assert said(conditions, {"key": "b"}).startswith("Policy Condition failed")
    assert said(conditions, {"key": "a"}).startswith("Policy Condition failed")


def test_each_field_needs_a_condition_but_for_those_that_sign() -> None:
    free = {"policy": "", "x-amz-signature": "", "signature": "", "awsaccesskeyid": "", "file": ""}
    assert said([BKT], {**free, "x-ignore-a": "b"}) == ""
    fields = {"key": "a", "x-amz-meta-b": "", "x-amz-date": "", "x-amz-credential": ""}
    extra = "Extra input fields: key, x-amz-meta-b, x-amz-date, x-amz-credential"
    assert said([BKT], fields) == extra
    assert said([{"key": "a"}], {"key": "a"}) == "Extra input fields: bucket"


def test_time_runs_out() -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 100))
    assert said([BKT], {}, soon) == ""
    assert said([BKT], {}, "2020-01-01T00:00:00Z") == "Policy expired."
    assert said([BKT], {}, "2999-01-01T00:00:00+02:00") == ""


def test_sizes() -> None:
    def size(*ranges: list[Any]) -> SizeRange:
        return parse_policy(encoded({"expiration": NEVER, "conditions": ranges})).size

    assert size() == SizeRange(0, S3_PUT_BYTES_MAX)
    assert size(["content-length-range", 1, 10]) == SizeRange(1, 10)
    assert size(["Content-Length-Range", "1", "10"]) == SizeRange(1, 10)
    assert size(["content-length-range", 5, 20], ["content-length-range", 0, 9]) == SizeRange(5, 9)
    for least, most, code in ((11, 11, "EntityTooLarge"), (0, 4, "EntityTooSmall")):
        with pytest.raises(S3Error) as caught:
            SizeRange(5, 10).check(least, most)
        assert caught.value.s3_code == code
    SizeRange(5, 10).check(0, 10**9)  # it is not known yet


def test_escapes_that_only_s3_has() -> None:
    raw = rb'{"expiration": "%s", "conditions": [{"key": "\$a\v\\$\n"}]}' % NEVER.encode()
    assert parse_policy(encoded(raw)).conditions[0].value == "$a\x0b\\$\n"


@pytest.mark.parametrize(
    "document",
    [
        "not base64!", "\u00e4", "", encoded(b""), encoded(b"{"), encoded(b"\xff"),
        encoded(b"[" * 100_000), encoded(b'{"a":' * 100_000), encoded(b'{"expiration": NaN}'),
        encoded(b'{"expiration": %s}' % (b"9" * 10_000)), [], "1" * 3,
    ],
)  # fmt: skip
def test_what_is_no_json(document: Any) -> None:
    assert refused(document) == "Invalid JSON."


def test_what_a_policy_lacks() -> None:
    assert refused({"conditions": []}) == "Policy missing expiration."
    assert refused({"EXPIRATION": NEVER, "conditions": []}) == "Policy missing expiration."
    assert refused({"expiration": NEVER}) == "Policy missing conditions."
    more = {"expiration": NEVER, "conditions": [], "more": 1}
    assert refused(more) == "Unexpected or repeated property."
    twice = b'{"expiration": "%s", "conditions": [], "conditions": []}' % NEVER.encode()
    assert refused(twice) == "Unexpected or repeated property."
    for conditions in ({}, {"key": "a"}, "a", None, 1):
        assert "must be a List" in refused({"expiration": NEVER, "conditions": conditions})


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2999-01-01", "2999-01-01 00:00:00", 1, None, [], "x" * 10_000]
)
def test_what_is_no_expiration(text: Any) -> None:
    assert refused({"expiration": text, "conditions": []}).startswith("Invalid 'expiration' value")


@pytest.mark.parametrize(
    "condition",
    [
        {}, {"a": "b", "c": "d"}, {"a": 1}, {"a": None}, {"a": ["b"]}, "a", 1, None, [], [[]], [1],
        ["eq"], ["eq", "$a"], ["eq", "$a", "b", "c"], ["eq", "a", "b"], ["eq", "$", "b"],
        ["eq", "$a", 1], ["eq", 1, "b"], ["ends-with", "$a", "b"], ["", "$a", "b"],
        ["content-length-range"], ["content-length-range", 0], ["content-length-range", 0, 1, 2],
        ["content-length-range", -1, 0], ["content-length-range", "a", 0],
        ["content-length-range", 0.5, 1], ["content-length-range", True, 1],
        ["content-length-range", 0, 10**30], ["content-length-range", 0, None],
    ],
)  # fmt: skip
def test_what_is_no_condition(condition: Any) -> None:
    assert refused({"expiration": NEVER, "conditions": [condition]}).startswith("Invalid ")
