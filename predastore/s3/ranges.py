"""Byte ranges: RFC 9110 section 14 as Amazon S3 reads it.

One range is honoured. A Range header that can not be parsed, has another unit, or names several
ranges is ignored, and the whole object is sent, as S3 does; so is an end of an object that has no
bytes. One that can be parsed but lies outside the object is InvalidRange (416), with the size in
Content-Range.
"""

from __future__ import annotations

from typing import NamedTuple

from predastore.base.errors import S3Error

_DIGITS_MAX = 19  # of a number that fits in 64 bits; a longer one is no position in any object


class Span(NamedTuple):
    """Bytes [start, end) of an object."""

    start: int
    end: int


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else None


def _bounds(value: str) -> tuple[int | None, int | None] | None:
    """(first, last) of "bytes=first-last" with either missing, or None if it is not that."""
    unit, equals, rest = value.strip().partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    first_text, dash, last_text = rest.strip().partition("-")
    first, last = _number(first_text), _number(last_text)
    if not dash or (first is None and last is None):
        return None
    if (first_text and first is None) or (last_text and last is None):
        return None
    if first is not None and last is not None and last < first:
        return None
    return first, last


def unsatisfiable(value: str, size: int) -> S3Error:
    return S3Error(
        "InvalidRange",
        headers={"Content-Range": f"bytes */{size}"},
        RangeRequested=value,
        ActualObjectSize=str(size),
    )


def parse_range(value: str, size: int) -> Span | None:
    """What a Range header asks of an object of `size` bytes; None: the whole object."""
    bounds = _bounds(value)
    if bounds is None:
        return None
    first, last = bounds
    if first is None:
        assert last is not None
        if last == 0:
            raise unsatisfiable(value, size)
        return Span(max(0, size - last), size) if size else None
    if first >= size:
        raise unsatisfiable(value, size)
    return Span(first, size if last is None else min(last + 1, size))


def parse_copy_range(value: str, size: int) -> Span:
    """x-amz-copy-source-range: "bytes=first-last" exactly, wholly inside the source."""
    first, last = _bounds(value) or (None, None)
    if first is None or last is None:
        raise _bad_copy_range(value, _COPY_RANGE_FORM)
    if first >= size:
        raise S3Error(
            "InvalidRequest", "The specified copy range is invalid for the source object size"
        )
    if last >= size:
        raise _bad_copy_range(
            value, f"Range specified is not valid for source object of size: {size}"
        )
    return Span(first, last + 1)


_COPY_RANGE_FORM = (
    "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last "
    "are the zero-based offsets of the first and last bytes to copy"
)


def _bad_copy_range(value: str, why: str) -> S3Error:
    return S3Error(
        "InvalidArgument", why, ArgumentName="x-amz-copy-source-range", ArgumentValue=value
    )
