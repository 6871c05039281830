"""Listing uploads in progress: grouping table keys by key, common prefix and page.

The grouping is done here, not in the state, as the upload id at the end of a table key could
contain the delimiter. Below a common prefix the walk jumps: no UTF-8 text has a byte 0xFF, so
`prefix + 0xFF` lies beyond all keys that begin with it, and before all others after them.
"""

from __future__ import annotations

from collections.abc import Iterable

from predastore.catalog import keys
from predastore.catalog.rows import UploadRow
from predastore.catalog.values import UploadListing
from predastore.storage.formats import decode

_BEYOND = b"\xff"
_ID_SUFFIX_BYTES = 1 + keys.UPLOAD_ID_CHARS  # \0 and the upload id


class UploadWalk:
    """Collects one page; `base` is what all table keys of the bucket begin with."""

    def __init__(self, base: bytes, prefix: str, delimiter: str, limit: int) -> None:
        self._base = base
        self._prefix = prefix.encode()
        self._delimiter = delimiter.encode()
        self._limit = limit
        self._uploads: list[UploadRow] = []
        self._prefixes: list[bytes] = []
        self._next_key = b""
        self._next_upload_id = ""
        self._truncated = False

    @property
    def full(self) -> bool:
        return self._truncated or self._limit < 1

    def start(self, key_marker: str, upload_id_marker: str) -> bytes:
        """The position after the markers."""
        key = key_marker.encode()
        if not key:
            return b""
        if upload_id_marker:
            return self._base + key + b"\0" + upload_id_marker.encode()
        if self._common_prefix(key) == key:
            return self._base + key + _BEYOND
        return self._base + key + b"\0" + _BEYOND

    def take(self, entries: Iterable[tuple[bytes, bytes]], position: bytes) -> bytes:
        """Takes what the state listed up to `position`; the position to go on from."""
        below = self._base + self._prefixes[-1] if self._prefixes else None
        for table_key, stored in entries:
            if below is not None and table_key.startswith(below):
                continue
            if len(self._uploads) + len(self._prefixes) >= self._limit:
                self._truncated = True
                return position
            key = table_key[len(self._base) : -_ID_SUFFIX_BYTES]
            common = self._common_prefix(key)
            if common is None:
                upload = decode(UploadRow, stored)
                self._uploads.append(upload)
                self._next_key, self._next_upload_id = key, upload.upload_id
                below = None
            else:
                self._prefixes.append(common)
                self._next_key, self._next_upload_id = common, ""
                below = self._base + common
        return position if below is None else max(position, below + _BEYOND)

    def listing(self) -> UploadListing:
        return UploadListing(
            uploads=self._uploads,
            prefixes=[prefix.decode() for prefix in self._prefixes],
            truncated=self._truncated,
            next_key=self._next_key.decode(),
            next_upload_id=self._next_upload_id,
        )

    def _common_prefix(self, key: bytes) -> bytes | None:
        if not self._delimiter or not key.startswith(self._prefix):
            return None
        cut = key.find(self._delimiter, len(self._prefix))
        return None if cut < 0 else key[: cut + len(self._delimiter)]
