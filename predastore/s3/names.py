"""The rules for bucket names (Amazon S3 User Guide, "Bucket naming rules")."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from predastore.base.errors import S3Error
from predastore.base.limits import S3_NAMES_CACHED_MAX

_ALLOWED: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")
_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_SUFFIXES: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def _is_ipv4(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 4 and all(part.isdigit() for part in parts)


@lru_cache(maxsize=S3_NAMES_CACHED_MAX)
def is_bucket_name(name: str) -> bool:
    return (
        3 <= len(name) <= 63
        and _ALLOWED.issuperset(name)
        and name[0] not in "-."
        and name[-1] not in "-."
        and ".." not in name
        and not name.startswith(_PREFIXES)
        and not name.endswith(_SUFFIXES)
        and not _is_ipv4(name)
    )


def check_bucket_name(name: str) -> None:
    """InvalidBucketName unless a bucket may be called so."""
    if not is_bucket_name(name):
        raise S3Error("InvalidBucketName", BucketName=name)
