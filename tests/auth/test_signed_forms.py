"""Forms: whose policy it is. The first is the example of Amazon's reference."""

from __future__ import annotations

import asyncio
import base64
import calendar
import time
from typing import Any

import pytest

from predastore.auth.sigv4 import Credential, Verifier
from predastore.base.errors import SignatureError

EXAMPLE = Credential("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "1")
DAY = 86_400
WHEN_S = calendar.timegm((2015, 12, 29, 0, 0, 0))

# "Example: Browser-Based Upload using HTTP POST (Using AWS Signature Version 4)".
_CONDITIONS = (
    '    {"bucket": "sigv4examplebucket"},',
    '    ["starts-with", "$key", "user/user1/"],',
    '    {"acl": "public-read"},',
    '    {"success_action_redirect": '
    '"http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},',
    '    ["starts-with", "$Content-Type", "image/"],',
    '    {"x-amz-meta-uuid": "14365123651274"},',
    '    {"x-amz-server-side-encryption": "AES256"},',
    '    ["starts-with", "$x-amz-meta-tag", ""],',
    "",
    '    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},',
    '    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},',
    '    {"x-amz-date": "20151229T000000Z" }',
)
POLICY = "\r\n".join(
    ['{ "expiration": "2015-12-30T12:00:00.000Z",', '  "conditions": [', *_CONDITIONS, "  ]", "}"]
)
FIELDS = {
    "policy": base64.b64encode(POLICY.encode()).decode(),
    "x-amz-algorithm": "AWS4-HMAC-SHA256",
    "x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request",
    "x-amz-date": "20151229T000000Z",
    "x-amz-signature": "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
}


def verifier(later_s: float = 0.0) -> Verifier:
    known = {EXAMPLE.access_key_id: EXAMPLE}
    return Verifier(known.get, region="us-east-1", now=lambda: WHEN_S + later_s)


def signer_of(by: Verifier, fields: dict[str, str]) -> Credential | None:
    return asyncio.run(by.authenticate_policy(fields)).credential


def refused(fields: dict[str, str], later_s: float = 0.0) -> tuple[str, dict[str, Any]]:
    with pytest.raises(SignatureError) as caught:
        signer_of(verifier(later_s), fields)
    return caught.value.s3_code, caught.value.extra


def test_the_example_of_amazons_reference() -> None:
    for later_s in (-899, 0, 7 * DAY):
        assert signer_of(verifier(later_s), FIELDS) == EXAMPLE
    assert refused(FIELDS, -901)[0] == "AccessDenied"
    assert refused(FIELDS, 7 * DAY + 1)[0] == "AccessDenied"


def test_nothing_that_signs_and_no_policy_is_nobody() -> None:
    assert signer_of(verifier(), {"key": "k", "acl": "private"}) is None


@pytest.mark.parametrize("name", ["policy", "x-amz-signature"])
def test_what_was_changed_is_not_signed(name: str) -> None:
    for changed in (FIELDS[name][1:], FIELDS[name] + "0", "", "\u00e4"):
        assert refused({**FIELDS, name: changed})[0] == "SignatureDoesNotMatch"


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_that_signs_is_needed(name: str) -> None:
    fields = {one: value for one, value in FIELDS.items() if one != name}
    code, extra = refused(fields)
    assert (code, extra["ArgumentName"].lower()) == ("InvalidArgument", name)


def test_another_region_is_told_the_right_one() -> None:
    credential = FIELDS["x-amz-credential"].replace("us-east-1", "eu-west-1")
    code, extra = refused({**FIELDS, "x-amz-credential": credential})
    assert (code, extra) == ("AuthorizationQueryParametersError", {"Region": "us-east-1"})


def test_a_token_is_refused_while_there_are_no_sessions() -> None:
    assert refused({**FIELDS, "x-amz-security-token": "t"})[0] == "InvalidToken"
    assert signer_of(verifier(), {**FIELDS, "x-amz-security-token": ""}) == EXAMPLE


def test_the_clock_is_that_of_signatures() -> None:
    assert verifier(5).now_s() == WHEN_S + 5
    assert abs(Verifier({}.get, region="r").now_s() - time.time()) < 5
