"""Range headers, as Amazon S3 reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predastore.base.errors import S3Error
from predastore.s3.ranges import parse_copy_range, parse_range


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=2-5", 10, (2, 6)),
        ("bytes=2-", 10, (2, 10)),
        ("bytes=-3", 10, (7, 10)),
        ("bytes=-30", 10, (0, 10)),
        ("bytes=5-999999999999", 10, (5, 10)),
        ("Bytes=1-2", 10, (1, 3)),
    ],
)
def test_one_range(value: str, size: int, expected: tuple[int, int]) -> None:
    assert parse_range(value, size) == expected


@pytest.mark.parametrize(
    "value",
    ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=1-2,4-5", "lines=1-2",
     "bytes=1-2x", "bytes=--3", "bytes=+1-2", "bytes=1_0-20", "bytes=\u0661-2", "0-5",
     "bytes=0-" + "9" * 30],
)  # fmt: skip
def test_what_is_no_single_range_is_ignored(value: str) -> None:
    assert parse_range(value, 10) is None


@pytest.mark.parametrize(
    ("value", "size"), [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10),
                        ("bytes=0-", 0), ("bytes=0-0", 0), ("bytes=-0", 0)],
)  # fmt: skip
def test_a_range_outside_the_object_is_416(value: str, size: int) -> None:
    with pytest.raises(S3Error) as caught:
        parse_range(value, size)
    assert caught.value.s3_code == "InvalidRange"
    assert caught.value.headers == {"Content-Range": f"bytes */{size}"}
    assert caught.value.extra == {"RangeRequested": value, "ActualObjectSize": str(size)}


def test_the_end_of_an_object_without_bytes_is_all_of_it() -> None:
    assert parse_range("bytes=-1", 0) is None
    assert parse_range(f"bytes=-{'9' * 19}", 0) is None


@given(st.binary(min_size=1, max_size=40), st.integers(0, 60), st.integers(0, 60))
def test_a_range_is_the_slice_that_it_says(data: bytes, first: int, last: int) -> None:
    if first < len(data) and first <= last:
        span = parse_range(f"bytes={first}-{last}", len(data))
        assert span is not None
        assert data[span.start : span.end] == data[first : last + 1]


def test_copy_range() -> None:
    assert parse_copy_range("bytes=0-9", 10) == (0, 10)
    for value in ("bytes=0-10", "bytes=0-", "bytes=-5", "0-5", "bytes=5-2", "bytes=1-2,3-4", ""):
        with pytest.raises(S3Error) as caught:
            parse_copy_range(value, 10)
        assert caught.value.s3_code == "InvalidArgument"
        assert caught.value.extra["ArgumentName"] == "x-amz-copy-source-range"
    for value, size in (("bytes=10-11", 10), ("bytes=0-0", 0)):
        with pytest.raises(S3Error, match="invalid for the source object size"):
            parse_copy_range(value, size)
