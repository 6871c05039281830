"""The S3 checksum family: one table, incremental digests, and the checksums of multipart objects.

An algorithm is named by a lower-case word (`md5`, `crc64nvme`), from which S3's three spellings
follow: `CRC64NVME` (x-amz-sdk-checksum-algorithm, ChecksumAlgorithm), `x-amz-checksum-crc64nvme`
(headers and trailers) and `ChecksumCRC64NVME` (XML). Values travel in base64; CRCs and XXH values
are big-endian.

The checksum of a multipart object is of one of two types. COMPOSITE: the algorithm over the parts'
raw digests in their order, with "-" and the number of parts. FULL_OBJECT: that of all the bytes,
which only CRCs can derive from those of the parts. (Amazon S3 User Guide, "Checking object
integrity"; names as in the service model of the AWS SDKs.)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec
import xxhash

from predastore._fast import crc

if TYPE_CHECKING:
    from typing_extensions import Buffer

ChecksumType = Literal["COMPOSITE", "FULL_OBJECT"]


class Hasher(Protocol):
    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


class Algorithm(msgspec.Struct, frozen=True):
    """`combine(crc1, crc2, len2)`: for CRCs; what the others lack makes them composite only."""

    name: str
    digest_bytes: int
    make: Callable[[], Hasher]
    combine: Callable[[int, int, int], int] | None = None
    composite: bool = True

    @property
    def s3_name(self) -> str:
        return self.name.upper()

    @property
    def header(self) -> str:
        return f"x-amz-checksum-{self.name}"

    @property
    def xml_name(self) -> str:
        return f"Checksum{self.s3_name}"

    @property
    def multipart_types(self) -> tuple[ChecksumType, ...]:
        """The types that a multipart upload may ask for; the first is the default."""
        composite: tuple[ChecksumType, ...] = ("COMPOSITE",) if self.composite else ()
        return (*composite, "FULL_OBJECT") if self.combine else composite


class _Crc:
    def __init__(self, function: Callable[[Buffer, int], int], digest_bytes: int) -> None:
        self._function = function
        self._digest_bytes = digest_bytes
        self._value = 0

    def update(self, data: Buffer, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._digest_bytes, "big")


_TABLE = (
    Algorithm("crc32", 4, lambda: _Crc(crc.crc32, 4), crc.crc32_combine),
    Algorithm("crc32c", 4, lambda: _Crc(crc.crc32c, 4), crc.crc32c_combine),
    Algorithm(
        "crc64nvme", 8, lambda: _Crc(crc.crc64nvme, 8), crc.crc64nvme_combine, composite=False
    ),
    Algorithm("md5", 16, lambda: hashlib.md5(usedforsecurity=False)),
    Algorithm("sha1", 20, lambda: hashlib.sha1(usedforsecurity=False)),
    Algorithm("sha256", 32, hashlib.sha256),
    Algorithm("sha512", 64, hashlib.sha512),
    Algorithm("xxhash64", 8, xxhash.xxh64),
    Algorithm("xxhash3", 8, xxhash.xxh3_64),
    Algorithm("xxhash128", 16, xxhash.xxh3_128),
)

ALGORITHMS: Final = {algorithm.name: algorithm for algorithm in _TABLE}


class Digests:
    """Several digests of one stream of bytes; KeyError for a name that is not in ALGORITHMS.

    Not to be updated by two threads at once. `update` releases the GIL for all but short buffers,
    and works through long ones algorithm by algorithm: at MD5's speed, call it in a worker thread.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._hashers = {name: ALGORITHMS[name].make() for name in names}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._hashers)

    def update(self, data: Buffer) -> None:
        for hasher in self._hashers.values():
            hasher.update(data)

    def digest(self, name: str) -> bytes:
        return self._hashers[name].digest()

    def hexdigest(self, name: str) -> str:
        return self.digest(name).hex()

    def all(self) -> dict[str, bytes]:
        return {name: hasher.digest() for name, hasher in self._hashers.items()}


def encode(digest: bytes) -> str:
    """As it stands in a header."""
    return base64.b64encode(digest).decode("ascii")


def decode(name: str, text: str) -> bytes:
    """The digest in a header's value; ValueError unless it is canonical and of the right length."""
    try:
        digest = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError(f"not base64: {text!r}") from None
    if len(digest) != ALGORITHMS[name].digest_bytes or encode(digest) != text:
        raise ValueError(f"not a {name} digest in base64: {text!r}")
    return digest


def composite(name: str, part_digests: Sequence[bytes]) -> str:
    """A multipart object's COMPOSITE checksum, "base64-n"; ValueError where there is none."""
    if not ALGORITHMS[name].composite:
        raise ValueError(f"{name} has no composite checksums")
    return f"{encode(_digest_of_digests(name, part_digests))}-{len(part_digests)}"


def full_object(name: str, parts: Iterable[tuple[bytes, int]]) -> bytes:
    """A multipart object's FULL_OBJECT digest, from each part's digest and length in bytes.

    ValueError for an algorithm that can not combine.
    """
    algorithm = ALGORITHMS[name]
    if algorithm.combine is None:
        raise ValueError(f"{name} digests of parts can not be combined")
    value = 0
    for digest, length in parts:
        value = algorithm.combine(value, int.from_bytes(digest, "big"), length)
    return value.to_bytes(algorithm.digest_bytes, "big")


def multipart_etag(part_md5s: Sequence[bytes]) -> str:
    """The ETag, without quotes, of a multipart object: "hex-n"."""
    return f"{_digest_of_digests('md5', part_md5s).hex()}-{len(part_md5s)}"


def _digest_of_digests(name: str, digests: Sequence[bytes]) -> bytes:
    hasher = ALGORITHMS[name].make()
    hasher.update(b"".join(digests))
    return hasher.digest()
