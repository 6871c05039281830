"""GetBucketPolicyStatus: GET /bucket?policyStatus. Whether the bucket's policy is public."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.policy import is_public
from predastore.s3.access import POLICY_KIND
from predastore.s3.context import Context
from predastore.s3.xml_write import tag, xml_response


async def run(ctx: Context) -> Response:
    await ctx.bucket()
    assert ctx.access.basis is not None, "the bucket was decided on"
    policy = ctx.access.basis.meanings.of(POLICY_KIND)
    if policy is None:
        raise S3Error("NoSuchBucketPolicy", BucketName=ctx.bucket_name)
    return xml_response("PolicyStatus", (tag("IsPublic", is_public(policy)),))
