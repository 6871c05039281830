"""GetBucketAcl and GetObjectAcl: GET ?acl. The owner has full control, and nobody else any.

Who may do what is decided by account alone (see access.py), so this is the whole truth, but for
buckets that the configuration makes public, where everybody may read.
"""

from __future__ import annotations

from predastore.httpd.message import Response
from predastore.s3.access import Need
from predastore.s3.context import Context
from predastore.s3.xml_write import escape, owner, xml_response

_XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"


def _grants(account: str, *, public: bool) -> str:
    who = escape(account)
    grants = (
        f'<Grant><Grantee {_XSI} xsi:type="CanonicalUser"><ID>{who}</ID>'
        f"<DisplayName>{who}</DisplayName></Grantee><Permission>FULL_CONTROL</Permission></Grant>"
    )
    if public:
        grants += (
            f'<Grant><Grantee {_XSI} xsi:type="Group"><URI>{_ALL_USERS}</URI></Grantee>'
            "<Permission>READ</Permission></Grant>"
        )
    return f"<AccessControlList>{grants}</AccessControlList>"


async def run(ctx: Context) -> Response:
    if ctx.key:
        version = await ctx.object(Need.WRITE)
        bucket, holder = version.bucket, version.owner
    else:
        bucket = await ctx.bucket(Need.WRITE)
        holder = bucket.owner
    return xml_response(
        "AccessControlPolicy", (owner(holder), _grants(holder, public=bucket.public))
    )
