"""Tags, retention, holds and the documents that say them, wrong in every way that there is: the
error is S3's, and nothing is changed."""

from __future__ import annotations

import base64
import hashlib
import itertools
from typing import NamedTuple

import pytest
from botocore.client import BaseClient

from support.s3raw import Answer, Raw
from support.s3server import ALICE, S3Server

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
LATER, LATEST, PAST = "2998-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "2001-01-01T00:00:00Z"
SOON = "2997-01-01T00:00:00Z"
BYPASS = {"x-amz-bypass-governance-retention": "true"}
DENIED = (403, "AccessDenied")
MD5_OF_NOTHING = "1B2M2Y8AsgTpgAmY7PhCfg=="
_NUMBERS = itertools.count(1)


def retention(mode: str, until: str) -> str:
    return f"<Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate>"


def tag_set(*pairs: tuple[str, str]) -> str:
    tags = "".join(f"<Tag><Key>{key}</Key><Value>{text}</Value></Tag>" for key, text in pairs)
    return f"<TagSet>{tags}</TagSet>"


class Document(NamedTuple):
    """A body that is right: what is in its root, and where it goes. `repeated`: an element that
    may be there once."""

    root: str
    inner: str
    query: str
    repeated: str
    of_object: bool = False
    method: str = "PUT"

    def body(self, inner: str | None = None) -> bytes:
        return f"<{self.root}>{self.inner if inner is None else inner}</{self.root}>".encode()


DOCUMENTS = {
    "PutBucketVersioning": Document(
        "VersioningConfiguration", "<Status>Enabled</Status>", "versioning",
        "<Status>Enabled</Status>",
    ),
    "PutBucketTagging": Document("Tagging", tag_set(("a", "b")), "tagging", tag_set(("c", "d"))),
    "PutObjectLockConfiguration": Document(
        "ObjectLockConfiguration", "<ObjectLockEnabled>Enabled</ObjectLockEnabled>", "object-lock",
        "<ObjectLockEnabled>Enabled</ObjectLockEnabled>",
    ),
    "PutObjectTagging": Document(
        "Tagging", tag_set(("a", "b")), "tagging", tag_set(("c", "d")), of_object=True
    ),
    "PutObjectRetention": Document(
        "Retention", retention("GOVERNANCE", LATEST), "retention", "<Mode>GOVERNANCE</Mode>",
        of_object=True,
    ),
    "PutObjectLegalHold": Document(
        "LegalHold", "<Status>ON</Status>", "legal-hold", "<Status>ON</Status>", of_object=True
    ),
    "DeleteObjects": Document(
        "Delete", "<Object><Key>k</Key></Object>", "delete",
        "<Object><Key>k</Key><Key>k</Key></Object>", method="POST",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def locked(s3: BaseClient) -> str:
    """A bucket with lock; its key `k` has tags and a retention of GOVERNANCE until LATER, `strict`
    one of COMPLIANCE, `held` a hold, `loose` nothing."""
    name = f"locked-{next(_NUMBERS)}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    for key, mode in (("k", "GOVERNANCE"), ("strict", "COMPLIANCE")):
        kept = {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": LATER}
        s3.put_object(Bucket=name, Key=key, Body=b"x", Tagging="a=1", **kept)
    s3.put_object(Bucket=name, Key="held", Body=b"x", ObjectLockLegalHoldStatus="ON")
    s3.put_object(Bucket=name, Key="loose", Body=b"x")
    return name


def send(server: S3Server, bucket: str, document: Document, body: bytes, **headers: str) -> Answer:
    """With a digest, as DeleteObjects wants one."""
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    path = f"/{bucket}/k" if document.of_object else f"/{bucket}"
    fields = {"content-md5": digest, **headers}
    return server.signer().send(Raw(document.method, path, document.query, body, fields))


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.code


# --- documents ----------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_what_is_no_such_document(server: S3Server, locked: str, document: Document) -> None:
    root, inner, whole = document.root, document.inner, document.body()
    foreign = '<x:a xmlns:x="urn:x">b</x:a>'
    attributes = "".join(f' a{number}=""' for number in range(5000))
    deep = "<a>" * 50 + "</a>" * 50
    malformed = {
        "no XML": b"Status=Enabled",
        "JSON": b'{"Status": "Enabled"}',
        "white space": b" \n ",
        "cut off": whole[:-3],
        "twice": whole + whole,
        "more behind": whole + b"x",
        "another root": b"<Other>" + whole + b"</Other>",
        "its root in a foreign namespace": whole.replace(b">", b' xmlns="urn:x">', 1),
        "its root with small letters": whole.replace(root.encode(), root.lower().encode()),
        "a foreign element": document.body(inner + "<Foreign>1</Foreign>"),
        "an element of a foreign namespace": document.body(inner + foreign),
        "text beside elements": document.body(inner + "text"),
        "deep": document.body(deep),
        "an element twice": document.body(inner + document.repeated),
        "elements where text is": document.body(inner.replace("</", "<a/></")),
        "a document type": b"<!DOCTYPE a>" + whole,
        "an entity": b'<!DOCTYPE a [<!ENTITY e "Enabled">]>' + document.body("&e;"),
        "an unknown entity": document.body("&e;"),
        "an instruction": b"<?php 1 ?>" + whole,
        "no UTF-8": whole.replace(b"<", b"\xff<", 2),
        "NUL": whole.replace(b"</", b"\0</"),
        "a control character": document.body(inner.replace("</", "&#1;</")),
        "an encoding that there is not": b'<?xml version="1.0" encoding="X-NONE"?>' + whole,
        "many attributes": document.body(f"<a{attributes}/>"),
    }
    with server.unchanged():
        for what, body in malformed.items():
            assert told(send(server, locked, document, body)) == (400, "MalformedXML"), what
        empty = send(server, locked, document, b"")
        assert told(empty) == (400, "MissingRequestBodyError")
        other = send(server, locked, document, whole, **{"content-md5": "A" * 22 + "=="})
        assert told(other) == (400, "BadDigest")
        signed = Raw(document.method, f"/{locked}/k" if document.of_object else f"/{locked}",
                     document.query, whole, {"content-md5": "x"})  # fmt: skip
        assert told(server.signer().send(signed)) == (400, "InvalidDigest")


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents_that_are_too_large(server: S3Server, locked: str, document: Document) -> None:
    large = document.body(document.inner + " " * (3 << 20))
    with server.unchanged():
        answer = send(server, locked, document, large)
        assert told(answer) == (400, "MaxMessageLengthExceeded")


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents_of_those_who_may_not(
    server: S3Server, locked: str, bob: BaseClient, document: Document
) -> None:
    path = f"/{locked}/k" if document.of_object else f"/{locked}"
    reader = server.limited((locked, "s3:Get* s3:List*"))
    body = document.body()
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    raw = Raw(document.method, path, document.query, body, {"content-md5": digest})
    with server.unchanged():
        for who in (reader, server.limited()):
            answer = server.signer(who).send(raw)
            if document.query == "delete":  # it answers for each key by itself
                assert b"<Code>AccessDenied</Code>" in answer.body
                assert b"<Deleted>" not in answer.body
            else:
                assert told(answer) == DENIED


@pytest.mark.parametrize("is_prefixed", [False, True])
@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_the_namespace_is_taken_however_it_is_written(
    server: S3Server, s3: BaseClient, document: Document, is_prefixed: bool
) -> None:
    bucket = f"named-{next(_NUMBERS)}"
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    body = document.body().decode()
    if is_prefixed:
        body = body.replace("</", "</p:").replace("<", "<p:").replace("<p:/p:", "</p:")
    attribute = f'xmlns:p="{NAMESPACE}"' if is_prefixed else f'xmlns="{NAMESPACE}"'
    answer = send(server, bucket, document, body.replace(">", f" {attribute}>", 1).encode())
    assert answer.status in (200, 204)


# --- tags ---------------------------------------------------------------------------------------

TAGS_OF_OBJECT, TAGS_OF_BUCKET = DOCUMENTS["PutObjectTagging"], DOCUMENTS["PutBucketTagging"]
BAD_TAGS = {
    "no name": ("", "v"),
    "a long name": ("k" * 129, "v"),
    "a long name of two units each": ("\U0001f600" * 65, "v"),
    "a long text": ("k", "v" * 257),
    "a name of the system": ("aws:k", "v"),
    "a sign in the name": ("a?", "v"),
    "a sign in the text": ("k", "a|b"),
    "a picture": ("k", "\U0001f600"),
    "a line": ("k", "a\nb"),
    "a mark of direction": ("k\u202e", "v"),
    "private": ("k", "\ue000"),
}


# A sign that no tag has is a fault of the field; all else is one of the tag.
FIELDS_REFUSED = ((400, "InvalidTag"), (400, "InvalidArgument"))


@pytest.mark.parametrize("pair", BAD_TAGS.values(), ids=BAD_TAGS)
def test_tags_that_may_not_be(server: S3Server, locked: str, pair: tuple[str, str]) -> None:
    body = TAGS_OF_OBJECT.body(tag_set(pair))
    with server.unchanged():
        for document in (TAGS_OF_OBJECT, TAGS_OF_BUCKET):
            assert told(send(server, locked, document, body)) == (400, "InvalidTag")
        field = "&".join(
            "".join(f"%{byte:02x}" for byte in text.encode()) + sign
            for text, sign in zip(pair, ("=", ""), strict=True)
        ).replace("=&", "=")  # fmt: skip
        for method, query, more in (
            ("PUT", "", {}),
            ("POST", "uploads", {}),
            ("PUT", "", {"x-amz-copy-source": f"{locked}/k",
                         "x-amz-tagging-directive": "REPLACE"}),
        ):  # fmt: skip
            raw = Raw(method, f"/{locked}/new", query, headers={"x-amz-tagging": field, **more})
            assert told(server.signer().send(raw)) in FIELDS_REFUSED


@pytest.mark.parametrize(("document", "most"), [(TAGS_OF_OBJECT, 10), (TAGS_OF_BUCKET, 50)])
def test_more_tags_than_there_may_be(
    server: S3Server, locked: str, document: Document, most: int
) -> None:
    pairs = [(f"k{number}", "v") for number in range(most + 1)]
    twice = [*pairs[:2], pairs[0]]
    with server.unchanged():
        for these, code in ((pairs, "BadRequest"), (pairs * 20, "BadRequest"),
                            (twice, "InvalidTag")):  # fmt: skip
            body = document.body(tag_set(*these))
            assert told(send(server, locked, document, body)) == (400, code)


def test_fields_of_tags_that_can_not_be_meant(server: S3Server, locked: str) -> None:
    directive = {"x-amz-copy-source": f"{locked}/loose", "x-amz-tagging-directive": "KEEP"}
    with server.unchanged():
        for field in ("a=1&a=2", "a=%ff", "a=1&%61=2"):
            raw = Raw("PUT", f"/{locked}/new", headers={"x-amz-tagging": field})
            assert told(server.signer().send(raw)) == (400, "InvalidArgument"), field
        copy = Raw("PUT", f"/{locked}/new", headers=directive)
        assert told(server.signer().send(copy)) == (400, "InvalidArgument")


# --- retention ----------------------------------------------------------------------------------

NOT_A_TIME = ("", "tomorrow", "2999-01-01", "2999-01-01T00:00:00", "2999-13-01T00:00:00Z",
              "10000-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "32472144000",
              "\u0662999-01-01T00:00:00Z")  # fmt: skip


def retained(server: S3Server, bucket: str, key: str, inner: str, **headers: str) -> Answer:
    body = DOCUMENTS["PutObjectRetention"].body(inner)
    return server.signer().send(Raw("PUT", f"/{bucket}/{key}", "retention", body, headers))


def test_times_that_are_none_or_past(server: S3Server, locked: str) -> None:
    with server.unchanged():
        for until in (*NOT_A_TIME, PAST, "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z"):
            inner = retention("GOVERNANCE", until)
            answer = retained(server, locked, "loose", inner)
            assert told(answer) == (400, "InvalidArgument"), until
            field = {"x-amz-object-lock-mode": "GOVERNANCE", "content-md5": MD5_OF_NOTHING,
                     "x-amz-object-lock-retain-until-date": until}  # fmt: skip
            if until.isascii():
                raw = Raw("PUT", f"/{locked}/new", headers=field)
                assert told(server.signer().send(raw)) == (400, "InvalidArgument"), until


@pytest.mark.parametrize(
    ("key", "inner", "may_bypass"),
    [
        ("k", retention("GOVERNANCE", SOON), True),
        ("k", retention("COMPLIANCE", SOON), True),
        ("k", retention("COMPLIANCE", LATEST), True),
        ("k", "", True),
        ("strict", retention("COMPLIANCE", SOON), False),
        ("strict", retention("GOVERNANCE", LATEST), False),
        ("strict", retention("GOVERNANCE", LATER), False),
        ("strict", "", False),
    ],
)
def test_what_a_retention_may_not_become(
    server: S3Server, locked: str, key: str, inner: str, may_bypass: bool
) -> None:
    body = DOCUMENTS["PutObjectRetention"].body(inner)
    limited = server.limited((locked, "s3:PutObjectRetention"))
    with server.unchanged():
        assert told(retained(server, locked, key, inner)) == DENIED
        for said, refusal in (("false", DENIED), ("yes", (400, "InvalidArgument"))):
            field = {"x-amz-bypass-governance-retention": said}
            assert told(retained(server, locked, key, inner, **field)) == refusal
        raw = Raw("PUT", f"/{locked}/{key}", "retention", body, BYPASS)
        assert told(server.signer(limited).send(raw)) == DENIED
        if not may_bypass:
            assert told(retained(server, locked, key, inner, **BYPASS)) == DENIED


@pytest.mark.parametrize("key", ["k", "strict", "held"])
def test_what_is_kept_is_not_deleted(
    server: S3Server, s3: BaseClient, locked: str, key: str
) -> None:
    version = s3.head_object(Bucket=locked, Key=key)["VersionId"]
    named = f"<Object><Key>{key}</Key><VersionId>{version}</VersionId></Object>"
    document = DOCUMENTS["DeleteObjects"]
    limited = server.signer(server.limited((locked, "s3:DeleteObject s3:DeleteObjectVersion")))
    fields = [({}, ALICE), *([(BYPASS, ALICE)] if key != "k" else [])]
    path, query = f"/{locked}/{key}", f"versionId={version}"
    with server.unchanged():
        for headers, who in fields:
            raw = Raw("DELETE", path, query, headers=headers)
            assert told(server.signer(who).send(raw)) == DENIED
            answer = send(server, locked, document, document.body(named * 2), **headers)
            assert answer.status == 200
            assert answer.body.count(b"<Code>AccessDenied</Code>") == 2
            assert b"<Deleted>" not in answer.body
        assert told(limited.send(Raw("DELETE", path, query, headers=BYPASS))) == DENIED


@pytest.mark.parametrize("name", ["PutObjectRetention", "PutObjectLegalHold"])
def test_a_bucket_without_lock_keeps_nothing(
    server: S3Server, s3: BaseClient, bucket: str, name: str
) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["VersionId"]
    document = DOCUMENTS[name]
    with server.unchanged():
        for query in ("", f"&versionId={version}", "&versionId=null"):
            asked = document._replace(query=document.query + query)
            for inner in (None, "" if name == "PutObjectRetention" else "<Status>OFF</Status>"):
                answer = send(server, bucket, asked, document.body(inner), **BYPASS)
                assert told(answer) == (400, "InvalidRequest")
                assert b"Bucket is missing Object Lock Configuration" in answer.body


def test_lock_is_never_taken_off(server: S3Server, locked: str) -> None:
    body = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    with server.unchanged():
        answer = send(server, locked, DOCUMENTS["PutBucketVersioning"], body)
        assert told(answer) == (409, "InvalidBucketState")
        for query in ("object-lock", "versioning", "retention"):
            answer = server.signer().send(Raw("DELETE", f"/{locked}", query))
            assert answer.status in (400, 405, 501)
        assert told(server.signer().send(Raw("DELETE", f"/{locked}"))) == (409, "BucketNotEmpty")
