"""ListObjects, V1 and V2: exact pages, byte order, prefixes, markers, tokens."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from botocore.client import BaseClient

from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import S3Server

KEYS = sorted(
    ["a", "a/1", "a/2", "a/b/1", "a0", "b//x", "b/", "c", "d/1", "d/2", "d/3", "e", "\u00e9", "z"],
    key=str.encode,
)


@pytest.fixture(scope="module")
def filled(s3: BaseClient) -> str:
    s3.create_bucket(Bucket="filled")
    for key in KEYS:
        s3.put_object(Bucket="filled", Key=key, Body=key.encode())
    return "filled"


def grouped(prefix: str, delimiter: str, after: str = "") -> list[str]:
    """Keys and common prefixes, in order, from the definition."""
    found: list[str] = []
    for key in KEYS:
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        shown = key
        if delimiter and delimiter in rest:
            shown = prefix + rest[: rest.index(delimiter) + len(delimiter)]
        if shown not in found and shown.encode() > after.encode():
            found.append(shown)
    return found


def names(page: dict[str, Any]) -> list[str]:
    found = [one["Key"] for one in page.get("Contents", [])]
    found += [one["Prefix"] for one in page.get("CommonPrefixes", [])]
    return sorted(found, key=str.encode)


@pytest.mark.parametrize(
    ("prefix", "delimiter"),
    [("", ""), ("a", ""), ("", "/"), ("a/", "/"), ("b/", "/"), ("", "//"), ("d", "/"),
     ("nope", "/"),
     ("", "1"), ("a/b", "/"), ("\u00e9", "/")],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_pages_are_exact(
    s3: BaseClient, filled: str, prefix: str, delimiter: str, size: int
) -> None:
    expected = grouped(prefix, delimiter)
    chunks = [expected[at : at + size] for at in range(0, len(expected), size)] or [[]]
    for operation in ("list_objects", "list_objects_v2"):
        pages = list(
            s3.get_paginator(operation).paginate(
                Bucket=filled,
                Prefix=prefix,
                Delimiter=delimiter,
                PaginationConfig={"PageSize": size},
            )
        )
        assert [names(page) for page in pages] == chunks, operation
        assert [page["IsTruncated"] for page in pages] == [True] * (len(pages) - 1) + [False]
        for page in pages:
            assert page["MaxKeys"] == size
            assert page["Name"] == filled
            assert page.get("KeyCount", len(names(page))) == len(names(page))


def test_what_is_said_of_each_object(s3: BaseClient, filled: str) -> None:
    v1 = s3.list_objects(Bucket=filled, Prefix="c")["Contents"][0]
    head = s3.head_object(Bucket=filled, Key="c")
    assert (v1["ETag"], v1["Size"], v1["StorageClass"]) == (head["ETag"], 1, "STANDARD")
    assert v1["LastModified"] == head["LastModified"]
    assert v1["Owner"]["ID"] == "111111111111"
    assert "Owner" not in s3.list_objects_v2(Bucket=filled, Prefix="c")["Contents"][0]
    fetched = s3.list_objects_v2(Bucket=filled, Prefix="c", FetchOwner=True)["Contents"][0]
    assert fetched["Owner"]["ID"] == "111111111111"


def test_marker_and_start_after(s3: BaseClient, filled: str) -> None:
    for after in ("", "a", "a/2", "d/", "nothing", "zz", "\U0001f600"):
        expected = [key for key in KEYS if key.encode() > after.encode()]
        assert names(s3.list_objects(Bucket=filled, Marker=after)) == expected
        assert names(s3.list_objects_v2(Bucket=filled, StartAfter=after)) == expected
    echoed = s3.list_objects_v2(Bucket=filled, StartAfter="a", MaxKeys=1)
    assert echoed["StartAfter"] == "a"
    token = echoed["NextContinuationToken"]
    following = s3.list_objects_v2(Bucket=filled, StartAfter="a", ContinuationToken=token)
    assert (following["StartAfter"], following["ContinuationToken"]) == ("a", token)


@pytest.mark.parametrize(
    "after", ["a/", "a/1", "a/2", "a/b/", "a/b/1", "a/b/2", "d/2", "d/3", "d/"]
)
@pytest.mark.parametrize("prefix", ["", "a", "a/", "d", "e"])
def test_start_after_within_a_common_prefix(
    s3: BaseClient, filled: str, prefix: str, after: str
) -> None:
    """What comes after the key is grouped: its own prefix may still have something to show. A
    marker passes over all of it, as a page that ended with the prefix must."""
    shown: list[str] = []
    passed_over: list[str] = []
    for key in KEYS:
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        cut = key.find("/", len(prefix))
        name = key if cut < 0 else key[: cut + 1]
        if name not in shown:
            shown.append(name)
        if name not in passed_over and not after.startswith(name):
            passed_over.append(name)
    asked = {"Bucket": filled, "Prefix": prefix, "Delimiter": "/"}
    for size in (1, 2, 3, 1000):
        paging = {"PaginationConfig": {"PageSize": size}}
        pages = s3.get_paginator("list_objects_v2").paginate(**asked, StartAfter=after, **paging)
        found = [names(page) for page in pages]
        assert [name for page in found for name in page] == shown
        assert all(len(page) == size for page in found[:-1])
        pages = s3.get_paginator("list_objects").paginate(**asked, Marker=after, **paging)
        assert [name for page in pages for name in names(page)] == passed_over


def test_next_marker_only_with_a_delimiter(s3: BaseClient, filled: str) -> None:
    assert "NextMarker" not in s3.list_objects(Bucket=filled, MaxKeys=1)
    page = s3.list_objects(Bucket=filled, MaxKeys=2, Delimiter="/")
    assert page["NextMarker"] == "a/"


def test_max_keys(s3: BaseClient, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"]) == (0, False)
    assert s3.list_objects_v2(Bucket=filled, MaxKeys=5000)["MaxKeys"] == 1000
    assert refused(s3.list_objects_v2, Bucket=filled, MaxKeys=-1) == ("InvalidArgument", 400)


def test_a_token_is_good_for_its_listing_alone(s3: BaseClient, filled: str) -> None:
    token = s3.list_objects_v2(Bucket=filled, MaxKeys=1)["NextContinuationToken"]
    following = s3.list_objects_v2(Bucket=filled, ContinuationToken=token, StartAfter="z")
    assert names(following) == KEYS[1:]
    changed = ("B" if token[0] == "A" else "A") + token[1:]
    for wrong in (
        {"ContinuationToken": changed},
        {"ContinuationToken": ""},
        {"ContinuationToken": "a"},
        {"ContinuationToken": token, "Prefix": "a"},
        {"ContinuationToken": token, "Delimiter": "/"},
    ):
        assert refused(s3.list_objects_v2, Bucket=filled, **wrong) == ("InvalidArgument", 400)


def test_encoding_type_url(server: S3Server, s3: BaseClient, filled: str) -> None:
    page = s3.list_objects_v2(Bucket=filled, EncodingType="url", Prefix="\u00e9")
    assert page["EncodingType"] == "url"
    assert page["Contents"][0]["Key"] == "%C3%A9"
    assert page["Prefix"] == "%C3%A9"
    for wrong in ("base64", "URL"):
        assert refused(s3.list_objects_v2, Bucket=filled, EncodingType=wrong) == (
            "InvalidArgument",
            400,
        )
    empty = server.signer().send(Raw("GET", f"/{filled}", "list-type=2&encoding-type="))
    assert (empty.status, empty.code) == (400, "InvalidArgument")


def test_unlike_keys_keep_byte_order(s3: BaseClient, bucket: str) -> None:
    stem = "p" * 510
    keys = [stem, stem + "a", stem + "a" * 514, stem + "b", stem[:503], "\uffee", "\U00010000", "~"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    listed = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted(keys, key=str.encode)
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 1}
    )
    paged = [one["Key"] for page in pages for one in page["Contents"]]
    assert paged == listed


def test_an_object_that_is_being_overwritten_is_always_listed(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0")
    done = threading.Event()

    def overwrite() -> None:
        client = server.client()
        for number in itertools.count():
            if done.is_set():
                break
            client.put_object(Bucket=bucket, Key="k", Body=b"%d" % number)
        client.close()

    writer = threading.Thread(target=overwrite)
    writer.start()
    try:
        counts = {s3.list_objects_v2(Bucket=bucket)["KeyCount"] for _ in range(60)}
    finally:
        done.set()
        writer.join()
    assert counts == {1}
