"""Public access blocks of buckets and accounts: as XML, stored, and taken together.

That of a bucket is in its row. That of an account is a document of the account (BLOCK); it is read
and written by calls of S3 Control, whose documents have a namespace of their own.
"""

from __future__ import annotations

from typing import Final

from predastore.base.errors import S3Error
from predastore.catalog.rows import PublicBlock
from predastore.s3.xml_read import Element
from predastore.s3.xml_write import tag
from predastore.storage.formats import decode, encode

ROOT: Final = "PublicAccessBlockConfiguration"
BLOCK: Final = "public_access_block"  # a kind of document of an account
EVERYTHING: Final = PublicBlock(True, True, True, True)

# element -> the field of PublicBlock
_FIELDS: Final = {
    "BlockPublicAcls": "block_acls",
    "IgnorePublicAcls": "ignore_acls",
    "BlockPublicPolicy": "block_policy",
    "RestrictPublicBuckets": "restrict_buckets",
}
_BOOLEANS: Final = {"true": True, "false": False}


def parse_block(document: Element) -> PublicBlock:
    """Of a PublicAccessBlockConfiguration; what it does not say is off. MalformedXML,
    InvalidRequest."""
    said = document.only(*_FIELDS)
    if not said:
        raise S3Error("InvalidRequest", "Must specify at least one configuration.")
    values = {name: _BOOLEANS.get(text.strip().lower()) for name, text in said.items()}
    if None in values.values():
        raise S3Error("MalformedXML")
    return PublicBlock(**{_FIELDS[name]: value is True for name, value in values.items()})


def elements(block: PublicBlock) -> str:
    """What is in a PublicAccessBlockConfiguration."""
    return "".join(tag(name, bool(getattr(block, field))) for name, field in _FIELDS.items())


def union(*blocks: PublicBlock | None) -> PublicBlock:
    """What is in force under all of them: each switch that one has on."""
    there = [one for one in blocks if one is not None]
    return PublicBlock(*(any(getattr(one, field) for one in there) for field in _FIELDS.values()))


def to_document(block: PublicBlock) -> bytes:
    """What an account keeps."""
    return encode(block)


def of_document(stored: bytes | None) -> PublicBlock | None:
    """None where the account has none."""
    return None if stored is None else decode(PublicBlock, stored)
