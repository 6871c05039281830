"""What all listings share: their parameters, how names are encoded, and their XML pieces."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.rows import Summary, UploadRow
from predastore.s3.context import Context
from predastore.s3.dates import iso8601
from predastore.s3.xml_write import escape, is_exact, owner, tag


class Parameters(NamedTuple):
    """`encode` writes a name as XML content, in the encoding that was asked for."""

    prefix: str
    delimiter: str
    encode: Callable[[str], str]
    encoding_element: str

    def common_prefix(self, key: str) -> str:
        """The common prefix that stands for `key`; "" where none does."""
        cut = key.find(self.delimiter, len(self.prefix)) if self.delimiter else -1
        return key[: cut + len(self.delimiter)] if cut >= 0 and key.startswith(self.prefix) else ""

    def check_marker(self, name: str) -> None:
        """InvalidArgument where a client could not go on after this name, as it can not be said."""
        if not self.encoding_element and not is_exact(name):
            raise S3Error(
                "InvalidArgument",
                "The page ends with a key that XML can not hold; list with encoding-type=url",
                ArgumentName="encoding-type",
                ArgumentValue="",
            )


def url_encode(name: str) -> str:
    return quote(name, safe="/")


def parameters(ctx: Context) -> Parameters:
    """prefix, delimiter and encoding-type."""
    encoding = ctx.query.get("encoding-type")
    if encoding not in (None, "url"):
        raise S3Error(
            "InvalidArgument",
            "Invalid Encoding Method specified in Request",
            ArgumentName="encoding-type",
            ArgumentValue=encoding or "",
        )
    return Parameters(
        prefix=ctx.query.get("prefix", ""),
        delimiter=ctx.query.get("delimiter", ""),
        encode=url_encode if encoding else escape,
        encoding_element="<EncodingType>url</EncodingType>" if encoding else "",
    )


def max_keys(ctx: Context) -> int:
    return ctx.count("max-keys", limits.S3_PAGE_MAX, limits.S3_PAGE_MAX)


def storage_class(about: Summary | UploadRow) -> str:
    """The class that the client wanted; it is kept and shown, and changes nothing."""
    return about.storage_class or "STANDARD"


@lru_cache(maxsize=limits.S3_NAMES_CACHED_MAX)
def _checks(algorithms: tuple[str, ...], kind: str) -> str:
    text = "".join(tag("ChecksumAlgorithm", name.upper()) for name in algorithms)
    return text + tag("ChecksumType", kind) if kind else text


def contents(
    key: str,
    about: Summary,
    encode: Callable[[str], str],
    *,
    with_owner: bool,
    element: str = "Contents",
    version: str = "",
) -> str:
    """One object of a listing. `version`: the elements that name it, in a listing of versions."""
    checks = _checks(about.checksum_algorithms, about.checksum_type)
    return (
        f"<{element}><Key>{encode(key)}</Key>{version}"
        f"<LastModified>{iso8601(about.modified_ms)}</LastModified>"
        f"<ETag>&quot;{about.etag}&quot;</ETag>{checks}<Size>{about.size}</Size>"
        f"{owner(about.owner) if with_owner else ''}"
        f"<StorageClass>{storage_class(about)}</StorageClass></{element}>"
    )


def common_prefixes(prefixes: list[str], encode: Callable[[str], str]) -> str:
    return "".join(
        f"<CommonPrefixes><Prefix>{encode(one)}</Prefix></CommonPrefixes>" for one in prefixes
    )
