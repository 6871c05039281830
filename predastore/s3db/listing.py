"""One page of a listing, in exact byte order, at the cost of what it returns.

A key that has `delimiter` after `prefix` stands for a common prefix: everything up to and with
the first delimiter. A common prefix is returned once, and one seek goes past all that is
below it, however much that is.
"""

from __future__ import annotations

from predastore.s3db.commands import Page
from predastore.s3db.keys import Walk, after_all


def page(
    walk: Walk,
    prefix: bytes,
    *,
    delimiter: bytes,
    after: bytes,
    limit: int,
    bytes_max: int,
    keys_only: bool = False,
) -> Page:
    """Entries and common prefixes that begin with `prefix` and are greater than `after`.

    At most `limit` of both together, and of at most `bytes_max` bytes together (but always one,
    if there is one). An empty delimiter lists every key. With `after` = a page's `next`, the
    listing goes on where the page ended. `keys_only`: values are not read, and b"" in the page.
    """
    entries: list[tuple[bytes, bytes]] = []
    prefixes: list[bytes] = []
    last = b""
    start = _start(prefix, delimiter, after)
    more = limit > 0 and start is not None and walk.seek(start)
    bytes_left = bytes_max
    while more and walk.key.startswith(prefix):
        key = walk.key
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        value = walk.value() if cut < 0 and not keys_only else b""
        bytes_left -= len(key) + len(value)
        count = len(entries) + len(prefixes)
        if count == limit or (bytes_left < 0 and count > 0):
            return Page(entries, prefixes, True, last)
        if cut < 0:
            entries.append((key, value))
            last = key
            more = walk.next()
        else:
            last = key[: cut + len(delimiter)]
            prefixes.append(last)
            beyond = after_all(last)
            more = beyond is not None and walk.seek(beyond)
    return Page(entries, prefixes, False, last)


def _start(prefix: bytes, delimiter: bytes, after: bytes) -> bytes | None:
    """The first key worth looking at; None if nothing can be.

    `after` is passed, and with it everything below the common prefix that it lies in: that
    prefix is not greater than `after`.
    """
    if not after or after < prefix:
        return prefix
    if delimiter and after.startswith(prefix):
        cut = after.find(delimiter, len(prefix))
        if cut >= 0:
            return after_all(after[: cut + len(delimiter)])
    return after + b"\0"
