"""Reading a segment record by record, over damage.

`walk` yields each record in order, and a `Gap` wherever what follows is no record: it looks for
the next good header and goes on from there. A gap that reaches the end of the file has nothing
good after it. Memory is bounded by one window, whatever the segment's size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from predastore._fast import frame
from predastore.base.errors import UnsupportedFormat
from predastore.base.limits import NODE_RECORD_BYTES_MAX
from predastore.node.segment import HEADER_BYTES

WINDOW_BYTES = NODE_RECORD_BYTES_MAX  # so that every record fits into one


class Gap(NamedTuple):
    """Bytes of a segment that are no records. `empty`: all of them are zeros."""

    start: int
    end: int
    empty: bool


class Stretch(NamedTuple):
    """Some records in a row, the bytes that they are in, and what comes after them if that is no
    record. `base`: offset of the first byte."""

    data: bytes
    base: int
    records: list[frame.Record]
    gap: Gap | None


def stretches(
    descriptor: int,
    start: int,
    size: int,
    tag: int,
    *,
    payloads: bool,
    window_bytes: int = WINDOW_BYTES,
) -> Iterator[Stretch]:
    """As `walk`, with the bytes; `window_bytes` at a time, unless a record has more."""
    base, length = start, window_bytes
    while base < size:
        window = os.pread(descriptor, min(length, size - base), base)
        at_end = base + len(window) >= size or not window
        records, after, stop = frame.scan(window, base, tag, payloads)
        if stop == frame.STOP_NEWER:
            raise UnsupportedFormat(f"a record at {after} was written by a newer version")
        if stop == frame.STOP_MORE and not at_end:
            if after > base:
                yield Stretch(window, base, records, None)
                base, length = after, window_bytes
                continue
            if length < WINDOW_BYTES:
                length = min(2 * length, WINDOW_BYTES)
                continue
        if after == size:
            yield Stretch(window, base, records, None)
            return
        # What is here can not be gone over by its length, so each place after it is tried.
        found = _next_record(descriptor, after + frame.ALIGN_BYTES, size, tag)
        end = size if found is None else found
        empty = found is None and _is_empty(descriptor, after, size)
        yield Stretch(window, base, records, Gap(after, end, empty))
        base, length = end, window_bytes


def walk(
    descriptor: int, start: int, size: int, tag: int, *, payloads: bool
) -> Iterator[frame.Record | Gap]:
    """UnsupportedFormat for a record of a newer version; OSError if reading fails."""
    for stretch in stretches(descriptor, start, size, tag, payloads=payloads):
        yield from stretch.records
        if stretch.gap is not None:
            yield stretch.gap


def _windows(descriptor: int, start: int, size: int, overlap: int) -> Iterator[tuple[int, bytes]]:
    base = start
    while base < size:
        window = os.pread(descriptor, min(WINDOW_BYTES, size - base), base)
        if not window:
            return
        yield base, window
        if base + len(window) >= size:
            return
        base += len(window) - overlap


def _next_record(descriptor: int, start: int, size: int, tag: int) -> int | None:
    # A header may lie across the end of a window; the overlap keeps places multiples of 8.
    for base, window in _windows(descriptor, start, size, frame.HEADER_BYTES):
        found = frame.resync(window, 0, base, tag)
        if found is not None:
            return found
    return None


def _is_empty(descriptor: int, start: int, size: int) -> bool:
    return not any(
        window.count(0) != len(window) for _, window in _windows(descriptor, start, size, 0)
    )


def find_tag(descriptor: int, size: int) -> int | None:
    """The tag of a segment whose header is lost: that of its first good record."""
    for base, window in _windows(descriptor, HEADER_BYTES, size, frame.HEADER_BYTES):
        found = frame.resync(window, 0, base, frame.ANY_TAG)
        if found is not None:
            record = frame.unpack(window, found - base, found, frame.ANY_TAG)
            return None if isinstance(record, int) else record.tag
    return None
