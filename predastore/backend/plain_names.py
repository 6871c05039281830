"""Which keys can be plain files, and which plain paths are being written to.

A key is a plain file at <bucket>/<key> where a file system can hold it so. Any other lies under
.predastore/objects/, by its write id: keys with empty, "." or ".." segments (a trailing slash
makes an empty one), segments over 255 bytes, NUL, a first segment like our own directory's, all
keys of a bucket named like something that the process keeps beside the buckets, keys of more than
FILE_SEGMENTS_MAX segments, as every directory that is made costs all writers a sync; and on a
file system that ignores case, keys that are not in the one form that no other key can equal.
The record says where an object is, so no name is ever mapped back.

`a` and `a/b` can not both be files. The first to come is; while it is being written its path is
reserved, so that the second sees it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from predastore.limits import FILE_SEGMENTS_MAX

OWN_DIRECTORY: Final = ".predastore"
SEGMENT_BYTES_MAX: Final = 255  # NAME_MAX of the usual file systems

# what else lies in the base path: certificates, the generated credential, other backends' data
_TAKEN: Final = frozenset({"tls", "nodes", "credentials.json"})


def plain_path(bucket: str, key: str, *, ignores_case: bool) -> str | None:
    """The path of a key's plain file, relative to the base path; None if it can not have one."""
    segments = key.split("/")
    if len(segments) > FILE_SEGMENTS_MAX:
        return None
    if bucket in _TAKEN or segments[0].lower().startswith(OWN_DIRECTORY):
        return None
    for segment in segments:
        if segment in ("", ".", "..") or "\0" in segment:
            return None
        if len(segment.encode()) > SEGMENT_BYTES_MAX:
            return None
        if ignores_case and not (segment.isascii() and segment == segment.lower()):
            return None
    return f"{bucket}/{key}"


class Reservations:
    """Plain paths that are being written to."""

    def __init__(self) -> None:
        self._files: Counter[str] = Counter()
        self._directories: Counter[str] = Counter()

    def reserve(self, path: str) -> bool:
        """False, and nothing reserved, if a reserved path is above or below this one."""
        above = list(_above(path))
        if path in self._directories or any(directory in self._files for directory in above):
            return False
        self._files[path] += 1
        self._directories.update(above)
        return True

    def release(self, path: str) -> None:
        for counter, names in ((self._files, [path]), (self._directories, [*_above(path)])):
            for name in names:
                counter[name] -= 1
                if not counter[name]:
                    del counter[name]


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
