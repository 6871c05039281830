"""What the catalog refuses: nothing was changed, unless an error says so.

    CatalogError               the catalog can not do it; nothing was changed; `details`
    +-- NoSuchBucket       there is none of this name
    +-- BucketChanged      it is not the one any more that was looked up; look up again
    +-- BucketNotEmpty     it has objects, versions or delete markers
    +-- NoSuchKey          there is no object
    +-- NoSuchVersion      the key has no version of this id
    +-- IsDeleteMarker     that version is one
    +-- ConditionFailed    the client's condition does not hold
    +-- Contended          others changed it again and again meanwhile; try again
    +-- RequesterChanged   what the requester may do was changed meanwhile; try again
    +-- ObjectLocked       a retention or a legal hold forbids it
    +-- BucketLocked       it has object lock, which forbids it; or it has none
    +-- NoLock             a version is to be kept, and the bucket has no object lock
    +-- LayoutGone         the bytes to be shared were let go of meanwhile; look up again
    +-- WriteTooOld        the write stood still until its data was given up
    +-- NoSuchUpload       it was completed or aborted, or never began
    +-- InvalidPart        a part is not there, or is another
    +-- PartTooSmall       all but the last have to be larger
    +-- ObjectTooLarge     the parts are, together
    +-- SizeDiffers        the parts are not as large as was declared

None of them crosses the border of a process. S3 translates them at one place (s3/errors.py).
"""

from __future__ import annotations

from typing import Any

from predastore.base.errors import PredastoreError


class CatalogError(PredastoreError):
    """`details`: what more is known, under the names that S3 has for it."""

    code = "catalog"

    def __init__(self, message: str = "", **details: str) -> None:
        super().__init__(message or type(self).__name__)
        self.details = details

    def detail(self) -> dict[str, Any]:
        return self.details


class NoSuchBucket(CatalogError):
    code = "no-such-bucket"


class BucketChanged(CatalogError):
    code = "bucket-changed"


class BucketNotEmpty(CatalogError):
    code = "bucket-not-empty"


class NoSuchKey(CatalogError):
    code = "no-such-key"


class NoSuchVersion(CatalogError):
    code = "no-such-version"


class IsDeleteMarker(CatalogError):
    code = "is-delete-marker"


class ConditionFailed(CatalogError):
    code = "condition-failed"


class Contended(CatalogError):
    code = "contended"


class ObjectLocked(CatalogError):
    code = "object-locked"


class BucketLocked(CatalogError):
    code = "bucket-locked"


class NoLock(CatalogError):
    code = "no-lock"


class RequesterChanged(CatalogError):
    code = "requester-changed"


class AclChanged(CatalogError):
    code = "acl-changed"


class LayoutGone(CatalogError):
    code = "layout-gone"


class WriteTooOld(CatalogError):
    code = "write-too-old"


class NoSuchUpload(CatalogError):
    code = "no-such-upload"


class InvalidPart(CatalogError):
    code = "invalid-part"


class PartTooSmall(CatalogError):
    code = "part-too-small"


class ObjectTooLarge(CatalogError):
    code = "object-too-large"


class SizeDiffers(CatalogError):
    code = "size-differs"
