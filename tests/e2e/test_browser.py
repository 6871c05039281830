"""A browser at a bucket: signed forms, and fetch under CORS, over plain HTTP and over TLS."""

from __future__ import annotations

import html
import itertools
import json
import random
from collections.abc import Iterator
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient

from support import browser
from support.access import only, session, user_with_role
from support.browser import Browser, Page, Site
from support.processes import S3d, development, fresh_network

pytestmark = pytest.mark.e2e
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module", params=["http", "https"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3d]:
    """One process: with plain files and without TLS; with nodes and TLS."""
    if browser.program() is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    folder = tmp_path_factory.mktemp("browser")
    if request.param == "https":
        with development(folder) as running:
            yield running
        return
    file = folder / "plain.toml"
    file.write_text('backend = "filesystem"\ntls = false\n')
    host = f"{fresh_network()}.1"
    plain = S3d(folder / "data", host, ["-config", str(file)], secure=False)
    try:
        yield plain.start()
    finally:
        plain.end()


@pytest.fixture(scope="module")
def chromium(server: S3d, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    trusted = server.base_path / "tls" / "server.pem" if server.secure else None
    running = Browser(tmp_path_factory.mktemp("chromium"), trusted)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def origin() -> Iterator[Site]:
    with browser.site() as running:
        yield running


@pytest.fixture
def s3(server: S3d) -> BaseClient:
    return server.client(signature="s3v4")


@pytest.fixture
def bucket(s3: BaseClient) -> str:
    name = f"seen-{next(_NUMBERS)}"
    s3.create_bucket(Bucket=name)
    return name


# --- forms ------------------------------------------------------------------------------------


def form_page(signed: dict[str, Any], **more: str) -> str:
    fields = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in {**signed["fields"], **more}.items()
    )
    return (
        f'<form method="post" enctype="multipart/form-data" action="{signed["url"]}">{fields}'
        '<input type="file" name="file"></form>'
    )


def submit(page: Page, file: Path) -> None:
    page.choose("input[type=file]", file)
    page.evaluate("document.forms[0].submit()")


@pytest.mark.parametrize("signature", ["s3v4", None], ids=["v4", "v2"])
def test_a_form_uploads_a_file_and_the_browser_goes_on(
    server: S3d, chromium: Browser, origin: Site, bucket: str, tmp_path: Path, signature: str | None
) -> None:
    said = {
        "success_action_redirect": f"{origin.url}/done",
        "Content-Type": "application/x-test",
        "x-amz-meta-von": "übung",
    }
    conditions = [{name: value} for name, value in said.items()]
    signed = server.client(signature=signature).generate_presigned_post(
        *(bucket, "in/${filename}", said, [*conditions, ["content-length-range", 1, 20 << 20]])
    )
    origin.pages["/form"] = '<meta charset="utf-8">' + form_page(signed)
    file = tmp_path / "a photo.bin"
    file.write_bytes(random.Random(5).randbytes(9 << 20))
    page = chromium.open(f"{origin.url}/form")
    submit(page, file)
    page.wait_for("location.pathname === '/done' && document.readyState === 'complete'")
    told = page.evaluate("Object.fromEntries(new URLSearchParams(location.search))")
    assert (told["bucket"], told["key"]) == (bucket, "in/a photo.bin")
    found = server.client().get_object(Bucket=bucket, Key="in/a photo.bin")
    assert found["Body"].read() == file.read_bytes()
    assert told["etag"] == found["ETag"]
    assert found["ContentType"] == "application/x-test"
    assert str(make_header(decode_header(found["Metadata"]["von"]))) == "übung"


def test_a_form_of_a_session_uploads(
    server: S3d, chromium: Browser, origin: Site, bucket: str, tmp_path: Path
) -> None:
    keys = session(server, *user_with_role(server, only(bucket, "mine/")))
    client = server.client("s3", keys, signature="s3v4")
    file = tmp_path / "small"
    file.write_bytes(b"by a session")
    for key, is_done in (("mine/k", True), ("theirs/k", False)):
        where = {"success_action_redirect": f"{origin.url}/done"}
        signed = client.generate_presigned_post(bucket, key, where, [where])
        origin.pages["/form"] = form_page(signed)
        page = chromium.open(f"{origin.url}/form")
        submit(page, file)
        page.wait_for(
            "location.pathname === '/done'"
            if is_done
            else "document.documentElement.textContent.includes('AccessDenied')"
        )
    listed = server.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert [one["Key"] for one in listed] == ["mine/k"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"x-amz-meta-more": "1"}, "AccessDenied"),  # in no condition of the policy
        ({"key": "elsewhere"}, "AccessDenied"),
        ({"policy": "e30="}, "SignatureDoesNotMatch"),
        ({}, "EntityTooLarge"),
    ],
    ids=["field", "key", "forged", "size"],
)
def test_a_form_outside_its_policy_stores_nothing(
    s3: BaseClient, chromium: Browser, origin: Site, bucket: str, tmp_path: Path,
    more: dict[str, str], said: str,
) -> None:  # fmt: skip
    signed = s3.generate_presigned_post(bucket, "k", {}, [["content-length-range", 0, 10]])
    origin.pages["/form"] = form_page(signed, **more)
    file = tmp_path / "file"
    file.write_bytes(b"x" * (5 if more else 11))
    page = chromium.open(f"{origin.url}/form")
    submit(page, file)
    page.wait_for(f"document.documentElement.textContent.includes('{said}')")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


# --- fetch ------------------------------------------------------------------------------------


def fetch(page: Page, url: str, **options: Any) -> dict[str, Any]:
    """Status, header fields that a script sees, and text; or `error`."""
    called = f"fetch({json.dumps(url)}, {json.dumps({'cache': 'no-store', **options})})"
    answer: dict[str, Any] = page.evaluate(
        f"{called}.then(async r => ({{status: r.status, fields: Object.fromEntries(r.headers), "
        "text: await r.text()}), e => ({error: String(e)}))"
    )
    return answer


def allow(s3: BaseClient, bucket: str, origin: str, **changes: Any) -> None:
    rule = {
        "AllowedOrigins": [origin],
        "AllowedMethods": ["GET", "PUT"],
        "AllowedHeaders": ["content-type", "x-amz-meta-*"],
        "ExposeHeaders": ["ETag", "x-amz-meta-from"],
        "MaxAgeSeconds": 600,
        **changes,
    }
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})


def url_of(s3: BaseClient, call: str, bucket: str, **params: Any) -> str:
    url: str = s3.generate_presigned_url(call, Params={"Bucket": bucket, "Key": "k", **params})
    return url


def test_fetch_puts_and_reads_under_cors(
    s3: BaseClient, chromium: Browser, origin: Site, bucket: str
) -> None:
    allow(s3, bucket, origin.url)
    page = chromium.open(origin.url + "/")
    put = url_of(s3, "put_object", bucket, ContentType="text/x-test", Metadata={"from": "page"})
    fields = {"content-type": "text/x-test", "x-amz-meta-from": "page"}
    stored = fetch(page, put, method="PUT", body="hello", headers=fields)
    assert stored["status"] == 200, stored
    found = s3.get_object(Bucket=bucket, Key="k")
    assert found["Body"].read() == b"hello"
    assert stored["fields"]["etag"] == found["ETag"]

    read = fetch(page, url_of(s3, "get_object", bucket))
    assert (read["status"], read["text"]) == (200, "hello")
    assert read["fields"]["etag"] == found["ETag"]
    assert read["fields"]["x-amz-meta-from"] == "page"
    assert "x-amz-request-id" not in read["fields"]  # not exposed
    kept = fetch(page, url_of(s3, "get_object", bucket), credentials="include")
    assert kept["text"] == "hello"
    denied = fetch(page, f"{s3.meta.endpoint_url}/{bucket}/k")
    assert denied["status"] == 403
    assert "AccessDenied" in denied["text"]  # a script reads why


def test_fetch_is_refused_by_origin_method_and_header(
    s3: BaseClient, chromium: Browser, origin: Site, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    get, put = (url_of(s3, call, bucket) for call in ("get_object", "put_object"))
    failed = {"error": "TypeError: Failed to fetch"}
    page = chromium.open(origin.url + "/")
    assert fetch(page, get) == failed  # no rules
    allow(s3, bucket, origin.url, MaxAgeSeconds=0)
    assert fetch(page, get)["text"] == "kept"
    delete = url_of(s3, "delete_object", bucket)
    assert fetch(page, delete, method="DELETE") == failed
    assert fetch(page, put, method="PUT", body="x", headers={"x-custom": "1"}) == failed
    with browser.site() as other:
        stranger = chromium.open(other.url + "/")
        assert fetch(stranger, get) == failed
        assert fetch(stranger, put, method="PUT", body="x") == failed
        allow(s3, bucket, "http://127.0.0.1:*", MaxAgeSeconds=0)
        assert fetch(stranger, get)["text"] == "kept"
        allow(s3, bucket, "*", MaxAgeSeconds=0)
        assert fetch(stranger, get)["text"] == "kept"
        assert fetch(stranger, get, credentials="include") == failed  # `*` is without credentials
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"
    s3.delete_bucket_cors(Bucket=bucket)
    assert fetch(page, get) == failed
