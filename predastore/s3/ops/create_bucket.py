"""CreateBucket: PUT /bucket, with an optional CreateBucketConfiguration. One with object lock is
versioned from the beginning; its tags are there as soon as it is."""

from __future__ import annotations

from collections.abc import Mapping

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.buckets import ACL, TAGS
from predastore.catalog.rows import BucketRow, ObjectOwnership, Tags
from predastore.httpd.message import Response
from predastore.s3 import acl, acl_change, acl_request, ownership, tags
from predastore.s3.acl_request import AclRequest
from predastore.s3.context import Context
from predastore.s3.errors import not_implemented
from predastore.s3.names import check_bucket_name
from predastore.s3.ownership import NewBuckets
from predastore.s3.xml_read import Element

_DEFAULT_REGION = "us-east-1"  # the one that LocationConstraint never names

_LOCK = "x-amz-bucket-object-lock-enabled"
_TO_LOCK = ("s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning")

_TO_TAG = "s3:TagResource"
_TO_SET_ACL = "s3:PutBucketAcl"
_TO_OWN = "s3:PutBucketOwnershipControls"
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


def _check_acl(asked: AclRequest, owner: str, wanted: NewBuckets) -> None:
    """Whether a bucket may be made with that ACL."""
    if wanted.ownership is ObjectOwnership.BUCKET_OWNER_ENFORCED and not asked.is_as_none(owner):
        raise S3Error("InvalidBucketAclWithObjectOwnership")
    if wanted.block is not None and wanted.block.block_acls and asked.is_public:
        raise S3Error("InvalidBucketAclWithBlockPublicAccessError")


async def _asked(ctx: Context, account: str) -> tuple[AclRequest, NewBuckets]:
    """The ACL, ownership and public access block that the bucket is to have."""
    asked = acl_request.of_headers(ctx.headers, of_bucket=True)
    said = ctx.headers.get(ownership.HEADER, "")
    for action, is_asked in ((_TO_SET_ACL, asked.is_asked), (_TO_OWN, said)):
        if is_asked:
            ctx.access.demand_own(action)
    wanted = ctx.services.new_buckets
    if said:
        wanted = wanted._replace(ownership=ownership.named(said))
    _check_acl(asked, account, wanted)
    await acl_change.check_accounts(ctx, asked, account)
    await acl_change.check_public(ctx, asked, account)
    return asked, wanted


async def _configuration(ctx: Context) -> Tags:
    """What the document of the request says, if there is one."""
    region = ctx.services.region
    async with ctx.document(limits.S3_CONFIG_XML_BYTES_MAX) as data:
        if not data:
            return ()
        async with ctx.services.documents.tree(data, "CreateBucketConfiguration") as document:
            return _configured(document, region)


def _differs(ctx: Context, there: BucketRow, documents: Mapping[str, bytes], locks: bool) -> bool:
    """Whether the request asks for something that the bucket, its own, may not have."""
    said = ctx.headers.get(ownership.HEADER, "")
    owns = bool(said) and ownership.named(said) is not there.ownership
    return bool(documents) or (locks and not there.is_locked) or owns


async def run(ctx: Context) -> Response:
    account = ctx.signer()
    ctx.access.check_absent()
    name = ctx.bucket_name
    check_bucket_name(name)
    region = ctx.services.region
    is_locked = ctx.headers.get(_LOCK, "").lower() == "true"
    for action in _TO_LOCK if is_locked else ():
        ctx.access.demand_own(action)
    asked, wanted = await _asked(ctx, account)
    tagged = await _configuration(ctx)
    if tagged:
        ctx.access.demand_own(_TO_TAG)
    documents = {TAGS: tags.to_document(tagged)} if tagged else {}
    stored = acl.to_stored(asked.of(account, account))
    if stored:
        documents[ACL] = stored
    if not await ctx.catalog.create_bucket(
        name,
        account,
        region,
        is_locked=is_locked,
        ownership=wanted.ownership,
        block=wanted.block,
        documents=documents,
    ):
        there = await ctx.catalog.bucket(name)
        if there is None or there.owner != account:
            raise S3Error("BucketAlreadyExists", BucketName=name)
        # the oldest one says yes again, and changes nothing: never where that is not what is asked
        if region != _DEFAULT_REGION or _differs(ctx, there, documents, is_locked):
            raise S3Error("BucketAlreadyOwnedByYou", BucketName=name)
    return Response(200, [("Location", f"/{name}")])
