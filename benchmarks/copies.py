"""CopyObject of a large object within one `s3d`, over HTTP: what it takes, and that no byte moves.

    copy.1g          a copy of 1 GiB that one PUT has stored, to a new key each time, in ms;
                     yardstick: of 64 KiB, by turns
    copy.1g.parts    the same of 1 GiB that an upload of 128 parts has stored

COPY_MIB=n for less than 1 GiB.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import closing
from typing import Final

from benchmarks.asking import S3
from benchmarks.measure import Row, medians_row
from benchmarks.served import Served, s3d, scratch

MIB: Final = 1 << 20
LARGE_BYTES: Final = int(os.environ.get("COPY_MIB", "1024")) * MIB
PART_BYTES: Final = 8 * MIB
SMALL_BYTES: Final = 64 << 10
COPIES: Final = 40


def rows() -> list[Row]:
    with scratch() as folder, s3d(folder) as served, closing(S3(served)) as s3:
        block = os.urandom(PART_BYTES)
        s3.ask("PUT", "/bench/small", body=block[:SMALL_BYTES])
        s3.ask("PUT", "/bench/large", body=block * (LARGE_BYTES // PART_BYTES))
        _upload(s3, "/bench/parts", block)
        stored = _segment_bytes(served)
        found = [_copied(s3, "copy.1g", "large"), _copied(s3, "copy.1g.parts", "parts")]
        if _segment_bytes(served) != stored:
            raise RuntimeError("copies have moved bytes")
        for copy in ("large", "parts"):
            _check(s3, f"/bench/{copy}-{COPIES - 1}", block)
        return found


def _upload(s3: S3, path: str, block: bytes) -> None:
    begun = s3.ask("POST", path, "uploads=")
    upload = re.findall(rb"<UploadId>(.*?)</UploadId>", begun)[0].decode()
    listed = ""
    for number in range(1, LARGE_BYTES // PART_BYTES + 1):
        s3.ask("PUT", path, f"partNumber={number}&uploadId={upload}", block)
    parts = s3.ask("GET", path, f"uploadId={upload}")
    for number, tag in enumerate(re.findall(rb"<ETag>(.*?)</ETag>", parts), 1):
        listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{tag.decode()}</ETag></Part>"
    xml = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
    s3.ask("POST", path, f"uploadId={upload}", xml.encode())


def _copied(s3: S3, row: str, source: str) -> Row:
    large, small = [], []
    for number in range(COPIES):
        large.append(_copy(s3, source, f"{source}-{number}"))
        small.append(_copy(s3, "small", f"{source}-small-{number}"))
    return medians_row(row, "ms", large, "of 64 KiB", small)


def _copy(s3: S3, source: str, target: str) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    found = s3.ask("PUT", f"/bench/{target}", headers={"x-amz-copy-source": f"/bench/{source}"})
    taken_ms = (time.perf_counter() - began) * 1e3
    if b"<CopyObjectResult" not in found:
        raise RuntimeError(f"a copy was answered with {found!r}")
    return taken_ms


def _check(s3: S3, path: str, block: bytes) -> None:
    """Its last bytes are those that were stored, and it has no more."""
    size_bytes = 4096
    first = LARGE_BYTES - size_bytes
    found = s3.ask("GET", path, headers={"range": f"bytes={first}-"}, status=206)
    if found != block[-size_bytes:]:
        raise RuntimeError(f"{path} is not what was copied")


def _segment_bytes(served: Served) -> int:
    """What the nodes' logs hold; each only ever appends."""
    return sum(file.stat().st_size for file in served.folder.rglob("*.seg"))
