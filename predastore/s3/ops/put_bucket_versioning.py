"""PutBucketVersioning: PUT /bucket?versioning. Enabled or suspended; never again as it was before.

Deleting with a second factor is not there: asking for it is answered as S3 answers a request that
has no code of a device.
"""

from __future__ import annotations

from typing import Final

from predastore.base.errors import S3Error
from predastore.catalog.errors import BucketLocked
from predastore.httpd.message import Response
from predastore.s3.context import Context
from predastore.s3.ops.get_bucket_versioning import STATUS
from predastore.s3.xml_read import Element

_BY_STATUS: Final = {text: versioning for versioning, text in STATUS.items()}


def _status(document: Element) -> str:
    fields = document.only("Status", "MfaDelete")
    second_factor = fields.get("MfaDelete", "Disabled")
    if second_factor not in ("Enabled", "Disabled"):
        raise S3Error("MalformedXML")
    if second_factor == "Enabled":
        raise S3Error("AccessDenied", "Mfa Authentication must be used for this request")
    if "Status" not in fields:
        raise S3Error("IllegalVersioningConfigurationException")
    if fields["Status"] not in _BY_STATUS:
        raise S3Error("MalformedXML")
    return fields["Status"]


async def run(ctx: Context) -> Response:
    permit = await ctx.permit()
    status = await ctx.said("VersioningConfiguration", _status)
    try:
        await ctx.catalog.change_bucket(permit, versioning=_BY_STATUS[status])
    except BucketLocked:
        raise S3Error(
            "InvalidBucketState",
            "An Object Lock configuration is present on this bucket, so the versioning state "
            "cannot be changed.",
        ) from None
    return Response(200)
