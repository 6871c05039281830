"""Which keys can be plain files, and which plain paths are being written to.

A key is a plain file at <bucket>/<key> where a file system can hold it so. Any other lies under
.predastore/objects/, by its write id: keys with empty, "." or ".." segments (a trailing slash
makes an empty one), segments over 255 bytes, NUL, a first segment like our own directory's, all
keys of a bucket named like something that the process keeps beside the buckets, keys of more than
FILE_SEGMENTS_MAX segments, as every directory that is made costs all writers a sync; and on a
file system that ignores case, keys that are not in the one form that no other key can equal.
The record says where an object is, so no name is ever mapped back.

A bucket may have a directory of its own anywhere (`Naming.roots`). All of its bytes lie in it, with
a .predastore of its own, as files are not moved from one file system to another.

`a` and `a/b` can not both be files. The first to come is; while it is being written its path is
reserved, so that the second sees it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from predastore.base.limits import FILE_SEGMENTS_MAX

OWN_DIRECTORY: Final = ".predastore"
TMP, PARTS, OBJECTS = "tmp", "parts", "objects"  # directories in it
SEGMENT_BYTES_MAX: Final = 255  # NAME_MAX of the usual file systems

# what else lies in the base path: certificates, the generated credential, other backends' data
TAKEN: Final = frozenset({"tls", "nodes", "credentials.json"})


@dataclass(frozen=True)
class Naming:
    """How keys become paths. `roots`: buckets with a directory of their own; `taken`: names in the
    base path that are no bucket's; `ignoring`: buckets in `roots` whose file system ignores case,
    and "" for the base path's."""

    roots: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()
    ignoring: frozenset[str] = frozenset()

    def own(self, bucket: str, name: str) -> str:
        """The directory for what is no plain file of the bucket, on the same file system as those:
        TMP, PARTS or OBJECTS."""
        own = f"{bucket}/{OWN_DIRECTORY}" if bucket in self.roots else OWN_DIRECTORY
        return f"{own}/{name}"

    def all_of(self, name: str) -> list[str]:
        """Every such directory."""
        return [self.own(bucket, name) for bucket in ("", *sorted(self.roots))]

    def plain_path(self, bucket: str, key: str) -> str | None:
        """As `plain_path`."""
        if bucket in self.roots:
            return plain_path(bucket, key, ignores_case=bucket in self.ignoring, taken=frozenset())
        taken = self.taken | TAKEN
        return plain_path(bucket, key, ignores_case="" in self.ignoring, taken=taken)


def is_plain(path: str) -> bool:
    """Whether it is the path of a plain file, and not in an own directory."""
    head, _, rest = path.partition("/")
    return head != OWN_DIRECTORY and rest.partition("/")[0] != OWN_DIRECTORY


def plain_path(
    bucket: str, key: str, *, ignores_case: bool, taken: frozenset[str] = TAKEN
) -> str | None:
    """The path of a key's plain file: that of the bucket's directory, which is below the base path
    where the bucket has none of its own, and the key's in it. None if it can not have one."""
    segments = key.split("/")
    if len(segments) > FILE_SEGMENTS_MAX:
        return None
    if bucket in taken or segments[0].lower().startswith(OWN_DIRECTORY):
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
