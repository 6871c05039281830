"""CreateBucket: PUT /bucket, with an optional CreateBucketConfiguration. One with object lock is
versioned from the beginning."""

from __future__ import annotations

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3.access import check_policy
from predastore.s3.context import Context
from predastore.s3.errors import not_implemented
from predastore.s3.names import check_bucket_name
from predastore.s3.xml_read import Element

_DEFAULT_REGION = "us-east-1"  # the one that LocationConstraint never names

_LOCK = "x-amz-bucket-object-lock-enabled"
_TO_LOCK = ("s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning")

_KINDS = {
    "Location": "a directory bucket",
    "Bucket": "a directory bucket",
    "Tags": "tags",
}


def _check_configuration(document: Element, region: str) -> None:
    """The bucket must be wanted here; other kinds of bucket there are none."""
    known = {"LocationConstraint": ""}
    for child in document.children:
        if child.name in _KINDS:
            raise not_implemented(f"{child.name} asks for {_KINDS[child.name]}")
    known.update(document.only("LocationConstraint"))
    wanted = known["LocationConstraint"].strip()
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
    async with ctx.document(limits.S3_CONFIG_XML_BYTES_MAX) as data:
        if data:
            async with ctx.services.documents.tree(data, "CreateBucketConfiguration") as document:
                _check_configuration(document, region)
    if not await ctx.catalog.create_bucket(name, account, region, is_locked=is_locked):
        there = await ctx.catalog.bucket(name)
        if there is None or there.owner != account:
            raise S3Error("BucketAlreadyExists", BucketName=name)
        # the oldest one says yes again, and changes nothing: never where that is not what is asked
        if region != _DEFAULT_REGION or (is_locked and not there.is_locked):
            raise S3Error("BucketAlreadyOwnedByYou", BucketName=name)
    return Response(200, [("Location", f"/{name}")])
