"""From the parts of an upload, and the client's list of them, to a version and its placement.

Pure. What is wrong with the list is a refusal: INVALID_PART, PART_TOO_SMALL, TOO_LARGE,
SIZE_DIFFERS, CHECKSUM_DIFFERS. A placement has pages of PLACEMENT_PAGE_EXTENTS; the first one says
where each begins, so that a range of a large object is found with one more read.
"""

from __future__ import annotations

import msgspec

from predastore.base.limits import (
    PLACEMENT_PAGE_EXTENTS,
    S3_OBJECT_BYTES_MAX,
    S3_PART_BYTES_MIN,
)
from predastore.catalog.procedures.arguments import (
    CompletedPart,
    CompleteUpload,
    Reason,
    refuse,
)
from predastore.catalog.rows import (
    Checksum,
    Detail,
    PartRow,
    PartSize,
    PlacementRow,
    Summary,
    UploadRow,
)
from predastore.coding import checksum
from predastore.storage.formats import pack


class Assembly:
    """Is given the named parts one by one, each as the client names it and as it is stored."""

    def __init__(self, upload: UploadRow) -> None:
        self._upload = upload
        self._rows: list[PartRow] = []
        self._digests: list[bytes] = []
        self._too_small: PartRow | None = None
        self.size = 0

    def take(self, named: CompletedPart, row: PartRow | None) -> None:
        """INVALID_PART for one that is not there, or is another."""
        if row is None or row.etag != named.etag or not _agrees(row, named):
            raise refuse(Reason.INVALID_PART, PartNumber=str(named.number), ETag=named.etag)
        before = self._rows[-1] if self._rows else None
        if before is not None and before.size < S3_PART_BYTES_MIN and self._too_small is None:
            self._too_small = before
        self._rows.append(row)
        self._digests.append(self._digest(row))
        self.size += row.size

    def check(self, args: CompleteUpload) -> None:
        """The whole, against what S3 allows and the client expects; INVALID_PART for no part."""
        if not self._rows:
            raise refuse(Reason.INVALID_PART)
        small = self._too_small
        if small is not None:
            raise refuse(
                Reason.PART_TOO_SMALL,
                PartNumber=str(small.number),
                ProposedSize=str(small.size),
                MinSizeAllowed=str(S3_PART_BYTES_MIN),
                ETag=small.etag,
            )
        if self.size > S3_OBJECT_BYTES_MAX:
            raise refuse(
                Reason.TOO_LARGE,
                ProposedSize=str(self.size),
                MaxSizeAllowed=str(S3_OBJECT_BYTES_MAX),
            )
        if args.size is not None and args.size != self.size:
            raise refuse(Reason.SIZE_DIFFERS, Size=str(self.size), Expected=str(args.size))
        values = {each.algorithm: each.value for each in self.checksums()}
        for each in args.checksums:
            if values.get(each.algorithm) != each.value:
                raise refuse(Reason.CHECKSUM_DIFFERS, Algorithm=each.algorithm)

    def checksums(self) -> tuple[Checksum, ...]:
        """The whole object's, of the parts' digests or combined from them."""
        name = self._upload.checksum_algorithm
        if not name:
            return ()
        if self._upload.checksum_type == "FULL_OBJECT":
            values = [
                (digest, row.size) for digest, row in zip(self._digests, self._rows, strict=True)
            ]
            return (Checksum(name, checksum.full_object(name, values)),)
        digests = checksum.Digests((name,))
        digests.update(b"".join(self._digests))
        return (Checksum(name, digests.digest(name), len(self._digests)),)

    def summary(self, now_ms: int) -> Summary:
        upload = self._upload
        return Summary(
            size=self.size,
            etag=checksum.multipart_etag([bytes.fromhex(row.etag) for row in self._rows]),
            modified_ms=now_ms,
            owner=upload.owner,
            checksum_algorithms=(upload.checksum_algorithm,) if upload.checksum_algorithm else (),
            checksum_type=upload.checksum_type if upload.checksum_algorithm else "",
            storage_class=upload.storage_class,
        )

    def detail(self) -> msgspec.Raw:
        upload = self._upload
        detail = Detail(
            upload.content_type,
            upload.headers,
            upload.user,
            self.checksums(),
            len(self._rows),
            upload.upload_id,
            upload.acl,
        )
        return msgspec.Raw(pack(detail))

    def pages(self) -> list[PlacementRow]:
        """The layout's, at least one."""
        upload, pages, starts, start = self._upload, [], [], 0
        is_composite = upload.checksum_type == "COMPOSITE"
        for first in range(0, len(self._rows), PLACEMENT_PAGE_EXTENTS):
            rows = self._rows[first : first + PLACEMENT_PAGE_EXTENTS]
            digests = self._digests[first : first + PLACEMENT_PAGE_EXTENTS]
            sizes = tuple(
                PartSize(row.number, row.size, digest if is_composite else b"")
                for row, digest in zip(rows, digests, strict=True)
            )
            extents = tuple(row.extent for row in rows)
            pages.append(PlacementRow(upload.bucket, upload.key, extents, sizes))
            starts.append((start, rows[0].number))
            start += sum(row.size for row in rows)
        if len(pages) > 1:
            pages[0] = msgspec.structs.replace(pages[0], pages=tuple(starts))
        return pages

    def _digest(self, row: PartRow) -> bytes:
        """Of the upload's algorithm, raw; b"" where that has none."""
        name = self._upload.checksum_algorithm
        if not name:
            return b""
        for each in row.checksums:
            if each.algorithm == name:
                return each.value
        raise refuse(Reason.INVALID_PART, PartNumber=str(row.number), ETag=row.etag)


def _agrees(row: PartRow, named: CompletedPart) -> bool:
    values = {each.algorithm: each.value for each in row.checksums}
    return all(values.get(each.algorithm) == each.value for each in named.checksums)
