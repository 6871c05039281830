"""What is asked of a feature that a bucket does not have: the answers of features.py."""

from __future__ import annotations

from predastore.base.errors import S3Error
from predastore.httpd.message import Response
from predastore.s3.context import Context, Operation
from predastore.s3.features import AbsentFeature
from predastore.s3.xml_write import xml_response


def answers(feature: AbsentFeature) -> Operation:
    """The operation that gives the feature's answer, once the bucket is known to be there and the
    requester's."""

    async def run(ctx: Context) -> Response:
        await ctx.bucket()
        if feature.code:
            raise S3Error(feature.code, feature.message, BucketName=ctx.bucket_name)
        if feature.root:
            return xml_response(feature.root, (feature.body,))
        return Response(204)

    return run
