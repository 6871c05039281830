"""CreateBucket: PUT /bucket, with an optional CreateBucketConfiguration. One with object lock is
versioned from the beginning; its tags are there as soon as it is."""

from __future__ import annotations

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.buckets import TAGS
from predastore.catalog.rows import Tags
from predastore.httpd.message import Response
from predastore.s3 import tags
from predastore.s3.access import check_policy
from predastore.s3.context import Context
from predastore.s3.errors import not_implemented
from predastore.s3.names import check_bucket_name
from predastore.s3.xml_read import Element

_DEFAULT_REGION = "us-east-1"  # the one that LocationConstraint never names

_LOCK = "x-amz-bucket-object-lock-enabled"
_TO_LOCK = ("s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning")

_TO_TAG = "s3:TagResource"
_OF_DIRECTORIES = ("Location", "Bucket")


def _configured(document: Element, region: str) -> Tags:
    """The tags of the bucket, which must be wanted here; other kinds of bucket there are none."""
    children = {child.name: child for child in document.children}
    if len(children) < len(document.children):
        raise S3Error("MalformedXML")
    for name in _OF_DIRECTORIES:
        if name in children:
            raise not_implemented(f"{name} asks for a directory bucket")
    location, tag_set = children.pop("LocationConstraint", None), children.pop("Tags", None)
    if children or (location is not None and location.children):
        raise S3Error("MalformedXML")
    _check_location("" if location is None else location.text.strip(), region)
    return () if tag_set is None else tags.of_new_bucket(tag_set)


def _check_location(wanted: str, region: str) -> None:
    if wanted and wanted != region:
        if wanted == _DEFAULT_REGION:
            raise S3Error("InvalidLocationConstraint", LocationConstraint=wanted)
        raise S3Error(
            "IllegalLocationConstraintException",
            f"The {wanted} location constraint is incompatible for the region specific endpoint "
            "this request was sent to.",
        )


async def run(ctx: Context) -> Response:
    account = ctx.signer()
    name = ctx.bucket_name
    check_bucket_name(name)
    region = ctx.services.region
    is_locked = ctx.headers.get(_LOCK, "").lower() == "true"
    for action in _TO_LOCK if is_locked else ():
        check_policy(ctx.policy, action, name)
    tagged: Tags = ()
    async with ctx.document(limits.S3_CONFIG_XML_BYTES_MAX) as data:
        if data:
            async with ctx.services.documents.tree(data, "CreateBucketConfiguration") as document:
                tagged = _configured(document, region)
    if tagged:
        check_policy(ctx.policy, _TO_TAG, name)
    kept = {TAGS: tags.to_document(tagged)} if tagged else {}
    create = ctx.catalog.create_bucket
    if not await create(name, account, region, is_locked=is_locked, documents=kept):
        there = await ctx.catalog.bucket(name)
        if there is None or there.owner != account:
            raise S3Error("BucketAlreadyExists", BucketName=name)
        # the oldest one says yes again, and changes nothing: never where that is not what is asked
        if region != _DEFAULT_REGION or tagged or (is_locked and not there.is_locked):
            raise S3Error("BucketAlreadyOwnedByYou", BucketName=name)
    return Response(200, [("Location", f"/{name}")])
