"""CORS over a real server: settings by boto3, preflights and answers byte by byte."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from botocore.client import BaseClient

from predastore.auth.sigv4 import Credential
from predastore.catalog import keys
from predastore.catalog.buckets import CORS
from predastore.catalog.documents import BucketDocuments
from predastore.catalog.procedures.arguments import ChangeBucket, HeldBucket
from predastore.httpd.message import BytesBody, Headers, Request, Response
from predastore.s3.cross_origin import Crossing, CrossOrigin, crossing_of
from predastore.s3db.commands import Put, batch
from support.s3raw import Answer, Raw, exchange
from support.s3refusals import refused
from support.s3server import ALICE, BOB, S3Server

SITE, OTHER = "https://site.example", "https://other.example"
METHOD, HEADERS = "access-control-request-method", "access-control-request-headers"
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"
RULE: dict[str, Any] = {
    "AllowedOrigins": [SITE],
    "AllowedMethods": ["GET", "PUT", "DELETE", "POST"],
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["ETag", "x-amz-version-id"],
    "MaxAgeSeconds": 600,
}
FIELDS = {
    "access-control-allow-origin": SITE,
    "access-control-allow-methods": "GET, PUT, DELETE, POST",
    "access-control-expose-headers": "ETag, x-amz-version-id",
    "access-control-max-age": "600",
    "access-control-allow-credentials": "true",
    "vary": VARY,
}
NOT_ENABLED = "CORSResponse: CORS is not enabled for this bucket."
NOT_ALLOWED = (
    "CORSResponse: This CORS request is not allowed. This is usually because the evalution of "
    "Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are "
    "not whitelisted by the resource's CORS spec."
)


def allow(s3: BaseClient, bucket: str, *rules: dict[str, Any]) -> None:
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": list(rules) or [RULE]})


@pytest.fixture
def open_bucket(s3: BaseClient, bucket: str) -> str:
    """A bucket that SITE may use, with an object."""
    allow(s3, bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    return bucket


def cors_of(answer: Answer) -> dict[str, str]:
    """The fields of CORS that an answer has."""
    return {
        name: value
        for name, value in answer.headers.items()
        if name.startswith("access-control-") or name == "vary"
    }


def preflight(server: S3Server, path: str, **fields: str) -> Answer:
    """OPTIONS, unsigned; `_` for `-`."""
    sent = {"host": "x", **{name.replace("_", "-"): value for name, value in fields.items()}}
    return exchange(server.address, "OPTIONS", path, "", sent.items())


def asks(method: str = "PUT", headers: str = "", origin: str = SITE) -> dict[str, str]:
    fields = {"origin": origin, METHOD: method}
    return {**fields, HEADERS: headers} if headers else fields


def error_of(answer: Answer) -> tuple[int, str, str, str | None, str | None]:
    error = ET.fromstring(answer.body)
    message = (error.findtext("Message") or "").partition(" (")[0]
    found = error.findtext("Method"), error.findtext("ResourceType")
    return answer.status, answer.code, message, *found


# --- the document -----------------------------------------------------------------------------


def test_rules_are_put_got_and_deleted(s3: BaseClient, bucket: str) -> None:
    absent = ("NoSuchCORSConfiguration", 404)
    assert refused(s3.get_bucket_cors, Bucket=bucket) == absent
    other = {"ID": "x", "AllowedOrigins": ["http://*.a", "b"], "AllowedMethods": ["HEAD"]}
    allow(s3, bucket, RULE, other)
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == [RULE, other]
    allow(s3, bucket, other)
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == [other]
    for _ in range(2):
        answer = s3.delete_bucket_cors(Bucket=bucket)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert refused(s3.get_bucket_cors, Bucket=bucket) == absent


def test_rules_are_for_the_owner_and_who_may(
    server: S3Server, s3: BaseClient, bob: BaseClient, open_bucket: str
) -> None:
    rules = {"CORSRules": [RULE]}
    for client in (bob, server.client(server.limited((open_bucket, "s3:PutBucketTagging")))):
        for call, more in (
            (client.get_bucket_cors, {}),
            (client.put_bucket_cors, {"CORSConfiguration": rules}),
            (client.delete_bucket_cors, {}),
        ):
            assert refused(call, Bucket=open_bucket, **more) == ("AccessDenied", 403)
    reader = server.client(server.limited((open_bucket, "s3:GetBucketCORS")))
    assert reader.get_bucket_cors(Bucket=open_bucket)["CORSRules"] == [RULE]
    writer = server.client(server.limited((open_bucket, "s3:PutBucketCORS")))
    writer.put_bucket_cors(Bucket=open_bucket, CORSConfiguration=rules)
    writer.delete_bucket_cors(Bucket=open_bucket)
    assert refused(s3.get_bucket_cors, Bucket=open_bucket)[1] == 404


BOMB = (
    b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    b"<CORSConfiguration><CORSRule><ID>&b;</ID></CORSRule></CORSConfiguration>"
)
RULES = "<CORSConfiguration>{}</CORSConfiguration>".format


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "MissingRequestBodyError"),
        (b"<", "MalformedXML"),
        (BOMB, "MalformedXML"),
        (RULES("<CORSRule/>").encode(), "MalformedXML"),
        (RULES("<CORSRule><AllowedOrigin><a/></AllowedOrigin></CORSRule>").encode(),
         "MalformedXML"),
        (RULES("<CORSRule><ID>" * 2000).encode(), "MalformedXML"),
        (RULES("x" * 70_000).encode(), "MaxMessageLengthExceeded"),
        (RULES("<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
               "<ExposeHeader>a&#13;&#10;b: c</ExposeHeader></CORSRule>").encode(),
         "InvalidRequest"),
    ],
)  # fmt: skip
def test_hostile_rules_are_refused_and_change_nothing(
    server: S3Server, open_bucket: str, body: bytes, code: str
) -> None:
    with server.unchanged():
        answer = server.signer().send(Raw("PUT", f"/{open_bucket}", "cors", body))
        assert (answer.status, answer.code) == (400, code)


def test_rules_whose_digest_differs_are_refused(server: S3Server, open_bucket: str) -> None:
    raw = Raw("PUT", f"/{open_bucket}", "cors", b"<a/>", {"content-md5": "A" * 22 + "=="})
    with server.unchanged():
        assert server.signer().send(raw).code == "BadDigest"


# --- preflights ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "/", "/k", "/not/there"])
def test_a_preflight_is_answered_by_the_rule_that_fits(
    server: S3Server, open_bucket: str, key: str
) -> None:
    answer = preflight(server, f"/{open_bucket}{key}", **asks("PUT", "X-Amz-Date,content-type"))
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    allowed = {"access-control-allow-headers": "x-amz-date, content-type"}
    assert cors_of(answer) == FIELDS | allowed
    assert answer.headers["x-amz-request-id"]
    assert cors_of(preflight(server, f"/{open_bucket}{key}", **asks())) == FIELDS


def test_a_preflight_asks_for_no_signature_and_obeys_none(
    server: S3Server, open_bucket: str
) -> None:
    path = f"/{open_bucket}/k"
    wrong = preflight(server, path, **asks(), authorization="AWS4-HMAC-SHA256 nonsense")
    assert wrong.status == 200
    query = server.signer().presigned(Raw("PUT", path))
    fields = {"host": "x", **asks()}
    assert exchange(server.address, "OPTIONS", path, query, fields.items()).status == 200


def test_a_preflight_may_name_the_bucket_in_its_host(server: S3Server, open_bucket: str) -> None:
    answer = preflight(server, "/k", host=f"{open_bucket}.s3.localhost", **asks())
    assert cors_of(answer) == FIELDS


def test_what_is_not_allowed_is_said_as_s3_does(server: S3Server, open_bucket: str) -> None:
    for path, kind in ((f"/{open_bucket}", "BUCKET"), (f"/{open_bucket}/k", "OBJECT")):
        for fields in (asks(origin=OTHER), asks("HEAD"), asks(origin=SITE + "/")):
            answer = preflight(server, path, **fields)
            assert error_of(answer) == (403, "AccessForbidden", NOT_ALLOWED, fields[METHOD], kind)
            assert cors_of(answer) == {}


def test_a_preflight_that_says_too_little_is_bad(server: S3Server, open_bucket: str) -> None:
    path = f"/{open_bucket}/k"
    origin = "Insufficient information. Origin request header needed."
    for fields in ({}, {METHOD: "PUT"}, {"origin": ""}):
        assert error_of(preflight(server, path, **fields))[:3] == (400, "BadRequest", origin)
    for method, shown in (("", "null"), ("PATCH", "PATCH"), ("get", "get"), ("OPTIONS", "OPTIONS")):
        answer = preflight(server, path, **asks(method))
        message = f"Invalid Access-Control-Request-Method: {shown}"
        assert error_of(answer)[:3] == (400, "BadRequest", message)
    answer = preflight(server, path, origin=SITE)
    assert error_of(answer)[2] == "Invalid Access-Control-Request-Method: null"


def test_a_bucket_without_rules_and_none_at_all(server: S3Server, bucket: str) -> None:
    for path, message in (
        (f"/{bucket}/k", NOT_ENABLED),
        ("/not-there-at-all/k", "CORSResponse: Bucket not found"),
        ("/No_Bucket", "CORSResponse: Bucket not found"),
        ("/", "CORSResponse: Bucket not found"),
    ):
        answer = preflight(server, path, **asks())
        assert error_of(answer) == (403, "AccessForbidden", message, "PUT", "BUCKET")
    only_origin = preflight(server, f"/{bucket}", origin=SITE)
    assert error_of(only_origin) == (403, "AccessForbidden", NOT_ENABLED, "OPTIONS", "BUCKET")


def test_a_preflight_obeys_the_rules_as_they_are_now(
    server: S3Server, s3: BaseClient, open_bucket: str
) -> None:
    for number in range(20):
        allow(s3, open_bucket, {**RULE, "MaxAgeSeconds": number})
        answer = preflight(server, f"/{open_bucket}/k", **asks())
        assert answer.headers["access-control-max-age"] == str(number)
        s3.delete_bucket_cors(Bucket=open_bucket)
        assert preflight(server, f"/{open_bucket}/k", **asks()).status == 403


def test_a_change_through_another_process_is_obeyed_at_once(
    server: S3Server, open_bucket: str
) -> None:
    path = f"/{open_bucket}/k"
    assert server.signer().send(Raw("GET", path, headers={"origin": SITE})).status == 200
    row = server.run(server.catalog.bucket(open_bucket))
    assert row is not None
    held = HeldBucket(open_bucket, row.id, row.generation)
    arguments = ChangeBucket(held, document=(CORS, None)).encode()
    server.run(server.state.call("bucket.change", arguments))
    assert preflight(server, path, **asks()).status == 403
    assert cors_of(server.signer().send(Raw("GET", path, headers={"origin": SITE}))) == {}


class StalledState:
    """Of `ask` nothing comes; the rest is not needed."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def ask(self, name: str, arguments: bytes) -> bytes:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError(name, arguments)


class ClosableBody:
    is_closed = False

    def __aiter__(self) -> ClosableBody:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.is_closed = True


def crossing() -> tuple[StalledState, CrossOrigin, Request, Crossing]:
    """A request with an origin, at metadata that never answer."""
    state: Any = StalledState()
    headers = Headers.of([("origin", SITE)])
    request = Request("GET", b"/bucket/k", b"", headers, BytesBody(), names=("bucket", "k"))
    found = crossing_of(request)
    assert found is not None
    return state, CrossOrigin(BucketDocuments(state)), request, found


def test_an_answer_that_waits_for_its_fields_is_closed_with_its_request() -> None:
    async def test() -> None:
        state, cross_origin, request, found = crossing()
        body = ClosableBody()
        work = cross_origin.decorate(request, found, Response(200, body=body))
        decorating = asyncio.ensure_future(work)
        await state.asked.wait()
        decorating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await decorating
        assert body.is_closed

    asyncio.run(test())


def test_an_answer_that_the_service_can_not_now_waits_for_no_fields() -> None:
    async def test() -> None:
        _, cross_origin, request, found = crossing()
        answer = Response(503)
        await cross_origin.decorate(request, found, answer)
        assert answer.headers == []

    asyncio.run(test())


# --- answers ------------------------------------------------------------------------------------


def test_each_answer_to_an_origin_that_fits_says_so(
    server: S3Server, s3: BaseClient, open_bucket: str
) -> None:
    signer, path = server.signer(), f"/{open_bucket}/k"
    etag = s3.head_object(Bucket=open_bucket, Key="k")["ETag"]
    for raw, status in (
        (Raw("GET", path), 200),
        (Raw("GET", path, headers={"range": "bytes=1-2"}), 206),
        (Raw("GET", path, headers={"range": "bytes=90-"}), 416),
        (Raw("GET", path, headers={"if-none-match": etag}), 304),
        (Raw("GET", path, headers={"if-match": '"0"'}), 412),
        (Raw("GET", path + "x"), 404),
        (Raw("GET", f"/{open_bucket}"), 200),
        (Raw("GET", f"/{open_bucket}", "tagging"), 404),
        (Raw("PUT", path, body=b"new"), 200),
        (Raw("PUT", path, body=b"new", headers={"if-none-match": "*"}), 412),
        (Raw("PUT", path, body=b"x", headers={"content-md5": "A" * 22 + "=="}), 400),
        (Raw("PUT", path, "frobnicate", b"x"), 501),
        (Raw("POST", path, "uploads"), 200),
        (Raw("DELETE", path), 204),
    ):
        answer = signer.send(Raw(**{**vars(raw), "headers": {**raw.headers, "origin": SITE}}))
        assert (answer.status, cors_of(answer)) == (status, FIELDS), raw


def test_a_refusal_says_so_too(server: S3Server, open_bucket: str) -> None:
    path = f"/{open_bucket}/k"
    origin = {"origin": SITE}
    stranger = server.signer(BOB).send(Raw("GET", path, headers=origin))
    assert (stranger.status, cors_of(stranger)) == (403, FIELDS)
    wrong = Credential(ALICE.access_key_id, "another secret", ALICE.account_id)
    forged = server.signer(wrong).send(Raw("GET", path, headers=origin))
    assert (forged.status, cors_of(forged)) == (403, FIELDS)
    anonymous = exchange(server.address, "GET", path, "", {"host": "x", **origin}.items())
    assert (anonymous.status, cors_of(anonymous)) == (403, FIELDS)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"origin": ""},
        {"origin": OTHER},
        {"origin": "null"},
        {"origin": SITE, METHOD: "HEAD"},
    ],
)
def test_an_answer_to_anybody_else_is_as_ever(
    server: S3Server, open_bucket: str, fields: dict[str, str]
) -> None:
    answer = server.signer().send(Raw("GET", f"/{open_bucket}/k", headers=fields))
    assert (answer.status, answer.body, cors_of(answer)) == (200, b"0123456789", {})


def test_the_method_is_that_of_the_request_unless_it_names_another(
    server: S3Server, s3: BaseClient, open_bucket: str
) -> None:
    signer, path = server.signer(), f"/{open_bucket}/k"
    head = signer.send(Raw("HEAD", path, headers={"origin": SITE}))
    assert (head.status, cors_of(head)) == (200, {})
    named = signer.send(Raw("HEAD", path, headers={"origin": SITE, METHOD: "GET"}))
    assert cors_of(named) == FIELDS
    allow(s3, open_bucket, {**RULE, "AllowedHeaders": ["x-a"]})
    for asked, expected in (("x-b", {}), ("x-a", FIELDS)):
        answer = signer.send(Raw("GET", path, headers={"origin": SITE, HEADERS: asked}))
        found = cors_of(answer)
        found.pop("access-control-allow-headers", "")
        assert found == expected


def test_anybodys_origin_is_an_asterisk_without_credentials(
    server: S3Server, s3: BaseClient, open_bucket: str
) -> None:
    allow(s3, open_bucket, {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]})
    expected = {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "GET",
        "vary": VARY,
    }
    raw = Raw("GET", f"/{open_bucket}/k", headers={"origin": OTHER})
    assert cors_of(server.signer().send(raw)) == expected
    assert cors_of(preflight(server, f"/{open_bucket}/k", **asks("GET", origin=OTHER))) == expected


def test_what_belongs_to_no_bucket_has_no_fields(server: S3Server) -> None:
    origin = {"origin": SITE}
    for path in ("/", "/-/health/live", "/not-there-at-all/k", "/No_Bucket/k", "/%zz"):
        answer = server.signer().send(Raw("GET", path, headers=origin))
        assert cors_of(answer) == {}


def test_rules_go_with_their_bucket(server: S3Server, s3: BaseClient) -> None:
    s3.create_bucket(Bucket="crossed-and-gone")
    allow(s3, "crossed-and-gone")
    raw = Raw("GET", "/crossed-and-gone", headers={"origin": SITE})
    assert cors_of(server.signer().send(raw)) == FIELDS
    s3.delete_bucket(Bucket="crossed-and-gone")
    assert cors_of(server.signer().send(raw)) == {}
    s3.create_bucket(Bucket="crossed-and-gone")
    assert cors_of(server.signer().send(raw)) == {}
    s3.delete_bucket(Bucket="crossed-and-gone")


def test_rules_that_can_not_be_read_fail_preflights_and_nothing_else(
    server: S3Server, open_bucket: str
) -> None:
    row = server.run(server.catalog.bucket(open_bucket))
    assert row is not None
    damaged = Put(keys.DOCUMENTS, keys.document(row.id, CORS), b"\x02\xc1")
    server.run(server.state.commit(batch(damaged)))
    assert preflight(server, f"/{open_bucket}/k", **asks()).status == 500
    answer = server.signer().send(Raw("GET", f"/{open_bucket}/k", headers={"origin": SITE}))
    assert (answer.status, answer.body, cors_of(answer)) == (200, b"0123456789", {})
