"""Versions in requests and in answers: their ids, and what is told about delete markers.

An answer names a version only in a bucket that has, or had, versions. A delete marker that is
current is as no object, and the answer says that it is one; one that is named by its id can only
be deleted.
"""

from __future__ import annotations

from typing import Final

from predastore.base.errors import S3Error
from predastore.catalog import keys
from predastore.catalog.values import Deleted, DeleteMarker, ObjectVersion, Stored
from predastore.s3.dates import http_date

VERSION_ID: Final = "x-amz-version-id"
SOURCE_VERSION_ID: Final = "x-amz-copy-source-version-id"
_DELETE_MARKER: Final = ("x-amz-delete-marker", "true")

Fields = list[tuple[str, str]]


def check_version_id(version_id: str, name: str = "versionId") -> str:
    """`version_id`; InvalidArgument for what can be none. `name`: of the parameter that has it."""
    why = "Invalid version id specified"
    if not version_id:
        why = "Version id cannot be the empty string"
    elif keys.parse_version_id(version_id) is not None:
        return version_id
    raise S3Error("InvalidArgument", why, ArgumentName=name, ArgumentValue=version_id)


def stored_fields(stored: Stored) -> Fields:
    """Of what a write has made."""
    return [(VERSION_ID, stored.version_id)] if stored.version_id else []


def read_fields(version: ObjectVersion, name: str = VERSION_ID) -> Fields:
    """Of what was read."""
    return [(name, version.version_id)] if version.bucket.versioning else []


def deleted_fields(deleted: Deleted, asked: str) -> Fields:
    """Of what was deleted; `asked`: the id that the request named, or ""."""
    fields = [_DELETE_MARKER] if deleted.is_marker else []
    name = deleted.version_id or asked
    return [*fields, (VERSION_ID, name)] if name else fields


def amended_fields(amended: str, asked: str) -> Fields:
    """Of the version whose tags or lock were changed; `asked`: as in `deleted_fields`."""
    name = amended or asked
    return [(VERSION_ID, name)] if name else []


def marker_fields(marker: DeleteMarker) -> Fields:
    return [_DELETE_MARKER, (VERSION_ID, marker.version_id)]


def is_marker(marker: DeleteMarker, method: str) -> S3Error:
    """What a request gets that names a delete marker by its id."""
    fields = [
        *marker_fields(marker),
        ("Last-Modified", http_date(marker.modified_ms)),
        ("Allow", "DELETE"),
    ]
    return S3Error(
        "MethodNotAllowed", headers=dict(fields), Method=method, ResourceType="DeleteMarker"
    )
