"""Conditional requests: RFC 9110 section 13, on reads and on writes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predastore.base.errors import S3Error
from predastore.catalog.procedures.arguments import NO_CONDITION, Condition
from predastore.httpd.message import Headers
from predastore.s3.conditions import (
    COPY_SOURCE,
    READ,
    etag_in,
    failed,
    is_not_modified,
    shown,
    write_condition,
)
from predastore.s3.dates import http_date, iso8601, parse_date

MODIFIED_MS = 1_700_000_000_789
LATER_THAN_NOW = http_date(int((time.time() + 3600) * 1000))
BEFORE, SAME, AFTER = (http_date(MODIFIED_MS + delta) for delta in (-5000, 0, 5000))


def outcome(**conditions: str) -> int:
    headers = Headers.of((name.replace("_", "-"), value) for name, value in conditions.items())
    name = failed(headers, READ, "abc", MODIFIED_MS)
    return 200 if not name else 304 if is_not_modified(name) else 412


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({}, 200),
        ({"if_match": '"abc"'}, 200),
        ({"if_match": "abc"}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": '"x", "abc"'}, 200),
        ({"if_match": '"x"'}, 412),
        ({"if_none_match": '"abc"'}, 304),
        ({"if_none_match": 'W/"abc"'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_modified_since": BEFORE}, 200),
        ({"if_modified_since": SAME}, 304),
        ({"if_modified_since": AFTER}, 304),
        ({"if_modified_since": LATER_THAN_NOW}, 200),
        ({"if_none_match": '"abc"', "if_modified_since": LATER_THAN_NOW}, 304),
        ({"if_unmodified_since": LATER_THAN_NOW}, 200),
        ({"if_modified_since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ({"if_modified_since": "Fri, 31 Dec 1909 23:59:59 GMT"}, 200),
        ({"if_unmodified_since": "Fri, 31 Dec 1909 23:59:59 GMT"}, 412),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_unmodified_since": BEFORE}, 412),
        ({"if_unmodified_since": SAME}, 200),
        ({"if_unmodified_since": "never"}, 200),
        ({"if_match": '"abc"', "if_unmodified_since": BEFORE}, 200),
        ({"if_none_match": '"x"', "if_modified_since": AFTER}, 200),
        ({"if_none_match": '"abc"', "if_modified_since": BEFORE}, 304),
        ({"if_match": '"x"', "if_none_match": '"abc"'}, 412),
    ],
)
def test_precedence(conditions: dict[str, str], status: int) -> None:
    assert outcome(**conditions) == status


def test_a_copy_source_has_names_of_its_own() -> None:
    headers = Headers.of([("x-amz-copy-source-if-none-match", '"abc"'), ("if-match", '"x"')])
    name = failed(headers, COPY_SOURCE, "abc", MODIFIED_MS)
    assert name == "x-amz-copy-source-if-none-match"
    assert shown(name) == "x-amz-copy-source-If-None-Match"
    assert shown("if-unmodified-since") == "If-Unmodified-Since"
    assert not is_not_modified(name)


def test_etag_lists() -> None:
    assert etag_in('"a","b-2"', "b-2")
    assert not etag_in('"a","b-2"', "b")
    assert not etag_in("", "a")


def test_write_conditions() -> None:
    def condition(*fields: tuple[str, str], may_be_any: bool = False) -> Condition:
        return write_condition(Headers.of(list(fields)), may_be_any=may_be_any)

    assert condition() is NO_CONDITION
    assert condition(("if-none-match", "*")) == Condition(None, "*")
    assert condition(("if-match", '"abc"')) == Condition("abc", None)
    assert condition(("if-match", "*"), may_be_any=True) == Condition("*", None)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([("if-none-match", '"abc"')], "NotImplemented"),
        ([("if-none-match", "*"), ("if-match", '"abc"')], "NotImplemented"),
        ([("if-unmodified-since", SAME)], "NotImplemented"),
        ([("if-match", "*")], "NotImplemented"),
        ([("if-match", '"a", "b"')], "InvalidArgument"),
        ([("if-match", "")], "InvalidArgument"),
    ],
)
def test_write_conditions_that_s3_lacks_are_refused(
    fields: list[tuple[str, str]], code: str
) -> None:
    with pytest.raises(S3Error) as caught:
        write_condition(Headers.of(fields), may_be_any=False)
    assert caught.value.s3_code == code


def test_dates() -> None:
    assert http_date(784_111_777_000) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert iso8601(784_111_777_999) == "1994-11-06T08:49:37.000Z"
    for text in (
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "1994-11-06T08:49:37Z",
    ):
        assert parse_date(text) == 784_111_777
    for text in ("", "soon", "99999", "Sun, 99 Nov 1994 08:49:37 GMT"):
        assert parse_date(text) is None
    assert parse_date("Fri, 31 Dec 1909 23:59:59 GMT") == -1_893_456_001
    assert parse_date("0001-01-01T00:00:00+23:59") is not None


@given(st.text() | st.from_regex(r"\w+, \d{1,9} \w{3} \d{1,9} \d+:\d+:\d+ [+-]?\d{0,9}"))
def test_no_date_is_too_strange(text: str) -> None:
    found = parse_date(text)
    assert found is None or isinstance(found, int)
