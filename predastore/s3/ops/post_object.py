"""PostObject: POST /bucket with a form (multipart/form-data), as browsers send it.

Who uploads is told by the fields of the form, which sign a policy; a form without one is anonymous.
So the action is checked here, when they have been read, and all that a PUT would be asked, of the
request that the form stands for (`forms.Form.as_put`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from predastore.auth.post_policy import POLICY
from predastore.base.errors import S3Error
from predastore.catalog.values import Stored
from predastore.httpd.message import Response
from predastore.iam.identities import identity_of
from predastore.s3.access import Access
from predastore.s3.condition_keys import ConditionKeys
from predastore.s3.context import Context
from predastore.s3.forms import OBEYED, Form, SizedFile, check_bucket_field, read_form
from predastore.s3.headers import check_unimplemented
from predastore.s3.ops import put_object
from predastore.s3.post_policy import SizeRange, parse_policy
from predastore.s3.target import host_bucket
from predastore.s3.xml_write import DECLARATION, tag

_STATUSES: Final = {"200": 200, "201": 201}
_NO_CONTENT: Final = 204


async def run(ctx: Context) -> Response:
    form = await read_form(ctx.request)
    if ctx.account is not None:
        raise S3Error("InvalidArgument", "Only one auth mechanism allowed.")
    check_bucket_field(form.fields, ctx.bucket_name)
    put, file = await _as_put(ctx, form)
    ctx.request.names = ctx.bucket_name, put.key
    ctx.request.account = put.account or ""
    check_unimplemented(put.headers, OBEYED, mutating=True)
    stored = await put_object.store(put, file.check_bound(), may_end=True)
    return _answer(ctx, put.key, form.fields, stored)


async def _as_put(ctx: Context, form: Form) -> tuple[Context, SizedFile]:
    """The request that the form stands for, by who signed its policy."""
    key = form.key
    services = ctx.services
    verifier = services.verifier
    verified = await verifier.authenticate_policy(form.fields, services.find)
    size, identity = SizeRange(), None
    if verified.credential is not None:
        identity = identity_of(verified.credential)
        policy = parse_policy(form.fields[POLICY])
        policy.check(form.fields, ctx.bucket_name, verifier.now_s())
        size = policy.size
    request, file = await form.as_put(ctx.services, ctx.request, size)
    facts = ConditionKeys(request, {}, verified, identity, services.region)
    access = Access(request, facts, identity, ctx.bucket_name, key)
    access.require("s3:PutObject")
    return replace(ctx, request=request, key=key, access=access, payload_sha256=None), file


def _answer(ctx: Context, key: str, asked: dict[str, str], stored: Stored) -> Response:
    """What the form asks for: to go on elsewhere, or a status."""
    fields, etag = put_object.answer_fields(stored), f'"{stored.etag}"'
    target = asked.get("success_action_redirect") or asked.get("redirect", "")
    if _is_address(target):
        said = urlencode({"bucket": ctx.bucket_name, "key": key, "etag": etag})
        page, mark, fragment = target.partition("#")
        page += ("&" if "?" in page else "?") + said
        return Response(303, [*fields, ("Location", page + mark + fragment)])
    location = _location(ctx, key)
    fields.append(("Location", location))
    status = _STATUSES.get(asked.get("success_action_status", ""), _NO_CONTENT)
    if status != 201:
        return Response(status, fields)
    told = {"Location": location, "Bucket": ctx.bucket_name, "Key": key, "ETag": etag}
    parts = "".join(tag(name, text) for name, text in told.items())
    body = f"{DECLARATION}<PostResponse>{parts}</PostResponse>".encode()
    return Response(201, [*fields, ("Content-Type", "application/xml")], body, len(body))


def _is_address(target: str) -> bool:
    """Whether a browser can be sent there; a form whose target is none is as one without it."""
    if not (target.isascii() and target.isprintable()) or " " in target:
        return False
    try:
        parts = urlsplit(target)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _location(ctx: Context, key: str) -> str:
    """The object's address, of the style that the form's had."""
    host = ctx.headers.get("host", "")
    scheme = "https" if ctx.request.secure else "http"
    bucket = "" if host_bucket(host, ctx.services.domains) else f"/{ctx.bucket_name}"
    return f"{scheme}://{host}{bucket}/{quote(key, safe='/~')}"
