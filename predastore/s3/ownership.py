"""Object ownership: its names, as XML, and what new buckets have."""

from __future__ import annotations

from typing import Final, NamedTuple

from predastore.base.errors import S3Error
from predastore.catalog.rows import ObjectOwnership, PublicBlock
from predastore.s3.public_access import EVERYTHING
from predastore.s3.xml_read import Element
from predastore.s3.xml_write import tag

HEADER: Final = "x-amz-object-ownership"
ROOT: Final = "OwnershipControls"
NAMES: Final = {
    ObjectOwnership.OBJECT_WRITER: "ObjectWriter",
    ObjectOwnership.BUCKET_OWNER_PREFERRED: "BucketOwnerPreferred",
    ObjectOwnership.BUCKET_OWNER_ENFORCED: "BucketOwnerEnforced",
}
_BY_NAME: Final = {name.lower(): ownership for ownership, name in NAMES.items()}


class NewBuckets(NamedTuple):
    """What a bucket has whose request says nothing of it."""

    ownership: ObjectOwnership = ObjectOwnership.NONE
    block: PublicBlock | None = None


NOTHING_SAID: Final = NewBuckets()


def new_buckets_of(name: str, *, blocks: bool) -> NewBuckets:
    """By a name of the configuration. `blocks`: all public access is blocked. What S3 does where
    nothing is said needs no saying."""
    ownership = named(name)
    if ownership is ObjectOwnership.OBJECT_WRITER:
        ownership = ObjectOwnership.NONE
    return NewBuckets(ownership, EVERYTHING if blocks else None)


def named(name: str) -> ObjectOwnership:
    """By a name of the configuration, or of a header field that was checked; NONE for ""."""
    return _BY_NAME[name.lower()] if name else ObjectOwnership.NONE


def parse_controls(document: Element) -> ObjectOwnership:
    """Of an OwnershipControls document, which has one rule; MalformedXML."""
    rules = document.children
    if len(rules) != 1 or rules[0].name != "Rule":
        raise S3Error("MalformedXML")
    said = rules[0].only("ObjectOwnership").get("ObjectOwnership", "").strip()
    if said not in NAMES.values():
        raise S3Error("MalformedXML")
    return named(said)


def elements(ownership: ObjectOwnership) -> str:
    """What is in an OwnershipControls."""
    return f"<Rule>{tag('ObjectOwnership', NAMES[ownership])}</Rule>"
