"""What a procedure answered, as a struct or as the error that it means: the one place for that."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from predastore.base.errors import BodyMismatch, CorruptData, PredastoreError
from predastore.catalog.errors import (
    AclChanged,
    BucketLocked,
    BucketNotEmpty,
    CatalogError,
    ConditionFailed,
    Contended,
    InvalidPart,
    IsDeleteMarker,
    LayoutGone,
    NoLock,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    ObjectLocked,
    ObjectTooLarge,
    PartTooSmall,
    SizeDiffers,
)
from predastore.catalog.procedures.arguments import Reason
from predastore.storage.formats import unpack

S = TypeVar("S", bound=msgspec.Struct)

_DETAILS: Final = msgspec.msgpack.Decoder(dict[str, str])

_ERRORS: Final[dict[Reason, type[CatalogError]]] = {
    Reason.BUCKET_CHANGED: Contended,
    Reason.BUCKET_NOT_EMPTY: BucketNotEmpty,
    Reason.BUCKET_LOCKED: BucketLocked,
    Reason.NO_LOCK: NoLock,
    Reason.ACL_CHANGED: AclChanged,
    Reason.NO_SUCH_KEY: NoSuchKey,
    Reason.CONDITION_FAILED: ConditionFailed,
    Reason.NO_SUCH_VERSION: NoSuchVersion,
    Reason.IS_MARKER: IsDeleteMarker,
    Reason.LOCKED: ObjectLocked,
    Reason.LAYOUT_GONE: LayoutGone,
    Reason.NO_SUCH_UPLOAD: NoSuchUpload,
    Reason.INVALID_PART: InvalidPart,
    Reason.PART_TOO_SMALL: PartTooSmall,
    Reason.TOO_LARGE: ObjectTooLarge,
    Reason.SIZE_DIFFERS: SizeDiffers,
}


def reason_of(answer: bytes) -> Reason:
    """DONE, or why nothing was done; CorruptData."""
    try:
        return Reason(answer[0])
    except (IndexError, ValueError):
        raise CorruptData("an answer that this program does not know") from None


def read(kind: type[S], answer: bytes) -> S:
    """The answer of what was done; the error of what was refused."""
    reason = reason_of(answer)
    if reason:
        raise error_of(reason, _DETAILS.decode(answer[1:]))
    return unpack(kind, answer[1:])


def error_of(reason: Reason, details: dict[str, str] | None = None) -> PredastoreError:
    """What a reason means; of one that is not DONE."""
    said = details or {}
    if reason is Reason.CHECKSUM_DIFFERS:
        name = said.get("Algorithm", "")
        return BodyMismatch(f"the object's {name} is not the one that was declared", name)
    return _ERRORS[reason]("", **said)
