"""Tags of objects and of buckets: in a header field, as XML, and as a bucket's document.

Limits and characters are Amazon's (User Guide, "Categorizing your objects using tags"). Lengths
count UTF-16 code units, as S3's do.
"""

from __future__ import annotations

import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.rows import Tags
from predastore.s3.xml_read import Element
from predastore.s3.xml_write import tag
from predastore.storage.formats import decode, encode

HEADER: Final = "x-amz-tagging"

_SIGNS: Final = frozenset("_.:/=+-@")
_CATEGORIES: Final = frozenset("LZN")  # of Unicode: letters, separators, numbers
_OF_SYSTEM: Final = "aws:"


class BucketTags(msgspec.Struct, frozen=True, array_like=True):
    """The document TAGS of a bucket."""

    tags: Tags = ()


def of_field(value: str) -> Tags:
    """The tags of an x-amz-tagging field, which is written like the query of a URL; InvalidTag,
    BadRequest, InvalidArgument."""
    tags: list[tuple[str, str]] = []
    for pair in value.split("&"):
        if pair:
            name, _, text = pair.partition("=")
            tags.append((_decoded(name, value), _decoded(text, value)))
    has_twice = len({name for name, _ in tags}) < len(tags)
    if has_twice or not all(_has_legal_signs(name + text) for name, text in tags):
        raise _malformed(value)
    return _checked_of_object(tuple(tags))


def of_object(document: Element) -> Tags:
    """The tags of a Tagging document of an object; MalformedXML, InvalidTag, BadRequest."""
    return _checked_of_object(_read(document))


def of_bucket(document: Element) -> Tags:
    """Those of one of a bucket."""
    return checked_of_bucket(_read(document))


def of_new_bucket(tag_set: Element) -> Tags:
    """Those of a set that a CreateBucketConfiguration has."""
    return checked_of_bucket(_pairs(tag_set))


def of_resource(document: Element) -> Tags:
    """Those of a TagResourceRequest of S3 Control."""
    if len(document.children) != 1 or document.children[0].name != "Tags":
        raise S3Error("MalformedXML")
    return checked_of_bucket(_pairs(document.children[0]))


def checked_of_bucket(tags: Tags) -> Tags:
    if len(tags) > limits.S3_BUCKET_TAGS_MAX:
        raise S3Error(
            "BadRequest", f"Bucket tag count cannot be greater than {limits.S3_BUCKET_TAGS_MAX}"
        )
    _check_system(tags, "System tags cannot be added/updated by requester")
    return _checked(tags)


def element(tags: Tags, root: str = "TagSet") -> str:
    """The TagSet of an answer, or what S3 Control calls it."""
    pairs = "".join(f"<Tag>{tag('Key', name)}{tag('Value', text)}</Tag>" for name, text in tags)
    return f"<{root}>{pairs}</{root}>"


def to_document(tags: Tags) -> bytes:
    """What a bucket keeps."""
    return encode(BucketTags(tags))


def of_stored(stored: bytes) -> Tags:
    return decode(BucketTags, stored).tags


def _decoded(text: str, value: str) -> str:
    try:
        return unquote_to_bytes(text.encode("latin-1").replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise _malformed(value) from None


def _malformed(value: str) -> S3Error:
    return S3Error(
        "InvalidArgument",
        f"The header '{HEADER}' shall be encoded as UTF-8 then URLEncoded URL query parameters "
        "without tag name duplicates.",
        ArgumentName=HEADER,
        ArgumentValue=value,
    )


def _read(document: Element) -> Tags:
    if len(document.children) != 1 or document.children[0].name != "TagSet":
        raise S3Error("MalformedXML")
    return _pairs(document.children[0])


def _pairs(tag_set: Element) -> Tags:
    tags: list[tuple[str, str]] = []
    for child in tag_set.children:
        fields = child.only("Key", "Value")
        if child.name != "Tag" or len(fields) != 2:
            raise S3Error("MalformedXML")
        tags.append((fields["Key"], fields["Value"]))
    return tuple(tags)


def _checked_of_object(tags: Tags) -> Tags:
    if len(tags) > limits.S3_OBJECT_TAGS_MAX:
        raise S3Error(
            "BadRequest", f"Object tags cannot be greater than {limits.S3_OBJECT_TAGS_MAX}"
        )
    _check_system(tags, "Your TagKey cannot be prefixed with aws:")
    return _checked(tags)


def _check_system(tags: Tags, why: str) -> None:
    for name, _ in tags:
        if name.startswith(_OF_SYSTEM):
            raise S3Error("InvalidTag", why, TagKey=name)


def _checked(tags: Tags) -> Tags:
    seen: set[str] = set()
    for name, text in tags:
        if not name or not _is_legal(name, limits.S3_TAG_KEY_UNITS_MAX):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid", TagKey=name)
        if not _is_legal(text, limits.S3_TAG_VALUE_UNITS_MAX):
            raise S3Error(
                "InvalidTag",
                "The TagValue you have provided is invalid",
                TagKey=name,
                TagValue=text,
            )
        if name in seen:
            raise S3Error(
                "InvalidTag", "Cannot provide multiple Tags with the same key", TagKey=name
            )
        seen.add(name)
    return tags


def _is_legal(text: str, units_max: int) -> bool:
    if len(text.encode("utf-16-le")) // 2 > units_max:
        return False
    return _has_legal_signs(text)


def _has_legal_signs(text: str) -> bool:
    return all(each in _SIGNS or unicodedata.category(each)[0] in _CATEGORIES for each in text)
