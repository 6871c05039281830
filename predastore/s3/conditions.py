"""Conditional requests: RFC 9110 section 13, as far as S3 has them.

Reads are decided here, against a record that was read; the order of precedence is that of
section 13.2.2. Writes (`write_condition`) are only parsed here: they are decided where the
commit is applied, so that no other write comes in between.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from predastore.base.errors import S3Error
from predastore.catalog.procedures.arguments import NO_CONDITION, Condition
from predastore.httpd.message import Headers
from predastore.s3.dates import parse_date
from predastore.s3.errors import not_implemented


class Names(NamedTuple):
    """The header fields that carry the four conditions."""

    if_match: str
    if_none_match: str
    if_modified_since: str
    if_unmodified_since: str


READ = Names("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
COPY_SOURCE = Names(*(f"x-amz-copy-source-{name}" for name in READ))


def etag_in(listed: str, etag: str) -> bool:
    """Is `etag` (unquoted) in a header's list of entity tags? Quotes and W/ are optional."""
    if listed.strip() == "*":
        return True
    for one in listed.split(","):
        tag = one.strip()
        if tag[:2] == "W/":
            tag = tag[2:]
        if tag.strip('"') == etag:
            return True
    return False


def shown(name: str) -> str:
    """How S3 writes the field's name in errors: x-amz-copy-source-If-Match."""
    prefix = "x-amz-copy-source-" if name.startswith("x-amz-") else ""
    return prefix + name.removeprefix(prefix).title()


def failed(headers: Headers, names: Names, etag: str, modified_ms: int) -> str:
    """The name of the condition that does not hold; empty if the request may go on. As with S3, a
    time that has not come yet is none to have been modified since."""
    modified_s = modified_ms // 1000
    if (wanted := headers.get(names.if_match)) is not None:
        if not etag_in(wanted, etag):
            return names.if_match
    elif (date := headers.get(names.if_unmodified_since)) is not None:
        limit_s = parse_date(date)
        if limit_s is not None and modified_s > limit_s:
            return names.if_unmodified_since
    if (unwanted := headers.get(names.if_none_match)) is not None:
        if etag_in(unwanted, etag):
            return names.if_none_match
    elif (date := headers.get(names.if_modified_since)) is not None:
        since_s = parse_date(date)
        if since_s is not None and modified_s <= since_s <= time.time():
            return names.if_modified_since
    return ""


def is_not_modified(condition: str) -> bool:
    """Does the failure of this condition mean 304 on GET and HEAD (else 412)?"""
    return condition in (READ.if_none_match, READ.if_modified_since)


def _unaccepted(name: str) -> S3Error:
    what = f"We don't accept the provided value of {name} header for this API"
    return not_implemented(what, header=name)


def write_condition(headers: Headers, *, may_be_any: bool) -> Condition:
    """If-Match and If-None-Match of a write; NotImplemented for what S3 does not offer on one.
    `may_be_any`: If-Match may be "*"."""
    wanted = headers.get("if-match")
    unwanted = headers.get("if-none-match")
    for name in ("if-modified-since", "if-unmodified-since"):
        if name in headers:
            raise not_implemented(
                f"{name} asks for a write on the condition of a time", header=name
            )
    if wanted is None and unwanted is None:
        return NO_CONDITION
    if unwanted is not None and wanted is not None:
        what = "Multiple conditional request headers present in the request"
        raise not_implemented(what, header="If-Match,If-None-Match")
    if unwanted is not None and unwanted.strip() != "*":
        raise _unaccepted("If-None-Match")
    if wanted is not None:
        if wanted.strip() == "*" and not may_be_any:
            raise _unaccepted("If-Match")
        wanted = wanted.strip().strip('"')
        if not wanted or "," in wanted:
            raise S3Error("InvalidArgument", "If-Match takes one entity tag.")
    return Condition(if_match=wanted, if_none_match="*" if unwanted is not None else None)
