"""Managed policies and their versions."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from predastore.base.limits import IAM_MANAGED_CHARS_MAX
from predastore.iam import documents, keys, names, refusals
from predastore.iam.errors import InvalidInput
from predastore.iam.keys import IAM
from predastore.iam.managed import CREATED_MS, MANAGED
from predastore.iam.procedures.arguments import (
    AddVersion,
    ChooseVersion,
    CreatePolicy,
    DeletePolicy,
    MadeVersion,
)
from predastore.iam.query import conditions
from predastore.iam.query.actions import shown
from predastore.iam.query.actions.entities import entities_of
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Content, Result, stamp
from predastore.iam.query.form import invalid
from predastore.iam.rows import EntityKind, EntityRow, PolicyRow, PolicyVersionRow
from predastore.policy import PolicyKind
from predastore.storage.formats import decode

_VERSION: Final = re.compile(r"v([1-9][0-9]{0,8})")
_SCOPES: Final = ("All", "AWS", "Local")
_HOLDERS_MAX: Final = 10_000


async def create(call: QueryCall) -> Result | None:
    form, account = call.form, call.account
    name, path, tags = form.name("PolicyName"), form.path(), form.tags()
    text = _document(call)
    description = form.text("Description", 1_000, default="")
    row = PolicyRow(
        *(names.policy_id(), name, path, description, call.now_ms, call.now_ms), tags=tags
    )
    await call.permit(names.policy_arn(account, path, name), conditions.of_tags(tags))
    await call.change("iam.policy.create", CreatePolicy(account, row, text))
    return {"Policy": shown.policy(account, row)}


async def get(call: QueryCall) -> Result | None:
    arn, row = await call.policy()
    return {"Policy": shown.policy_of(call.account, arn, row)}


async def delete(call: QueryCall) -> Result | None:
    _, row = await call.own_policy()
    await call.change("iam.policy.delete", DeletePolicy(call.account, row.name))
    return None


async def list_(call: QueryCall) -> Result | None:
    form, account = call.form, call.account
    scope, below = form.choice("Scope", _SCOPES, "All"), form.path_prefix()
    is_attached = form.flag("OnlyAttached")
    await call.permit(names.policy_arn(account, below, "*"))
    found: list[Content] = []
    if scope != "Local" and not is_attached and "Marker" not in form and below == "/":
        for arn in MANAGED:
            row = await call.find_policy(arn)
            if row is not None:
                found.append(shown.managed(row, in_full=False))
    if scope == "AWS":
        return {"Policies": found, "IsTruncated": False}

    def wanted(_: bytes, stored: bytes) -> Content:
        row = decode(PolicyRow, stored)
        shows = row.path.startswith(below) and (row.attached or not is_attached)
        return shown.policy(account, row, in_full=False) if shows else None

    rows, page = await call.page(keys.policies(account), wanted)
    return {"Policies": [*found, *rows], **page}


# --- versions -------------------------------------------------------------------------------------


async def create_version(call: QueryCall) -> Result | None:
    _, row = await call.own_policy()
    text, is_default = _document(call), call.form.flag("SetAsDefault")
    answer = await call.change(
        "iam.policy.add-version",
        AddVersion(call.account, row.name, text, is_default, call.now_ms),
    )
    made = refusals.read(MadeVersion, answer)
    version = PolicyVersionRow(text, call.now_ms)
    return {"PolicyVersion": _shown_version(made.number, version, is_default=is_default)}


async def get_version(call: QueryCall) -> Result | None:
    arn, row = await call.policy()
    number = _number(call)
    version = await _version(call, arn, row, number)
    if version is None:
        raise refusals.no_such("policy version", f"v{number}")
    is_default = number == row.default
    return {"PolicyVersion": _shown_version(number, version, is_default=is_default, in_full=True)}


async def list_versions(call: QueryCall) -> Result | None:
    arn, row = await call.policy()
    if arn in MANAGED:
        version = PolicyVersionRow(MANAGED[arn], CREATED_MS)
        return {"Versions": [_shown_version(1, version, is_default=True)], "IsTruncated": False}
    prefix = keys.policy_versions(call.account, row.name)
    found = await call.services.state.scan(IAM, prefix, b"", 100)
    versions: list[Content] = []
    for key, stored in reversed(found):
        number = keys.version_number(key)
        version = decode(PolicyVersionRow, stored)
        versions.append(_shown_version(number, version, is_default=number == row.default))
    return {"Versions": versions, "IsTruncated": False}


async def choose_version(call: QueryCall) -> Result | None:
    _, row = await call.own_policy()
    await call.change(
        "iam.policy.choose-version",
        ChooseVersion(call.account, row.name, _number(call), call.now_ms),
    )
    return None


async def delete_version(call: QueryCall) -> Result | None:
    _, row = await call.own_policy()
    await call.change(
        "iam.policy.delete-version",
        ChooseVersion(call.account, row.name, _number(call), call.now_ms),
    )
    return None


async def _version(
    call: QueryCall, arn: str, row: PolicyRow, number: int
) -> PolicyVersionRow | None:
    if arn in MANAGED:
        return PolicyVersionRow(MANAGED[arn], CREATED_MS) if number == 1 else None
    key = keys.policy_version(call.account, row.name, number)
    stored = await call.services.state.get(IAM, key)
    return None if stored is None else decode(PolicyVersionRow, stored)


def _number(call: QueryCall) -> int:
    text = call.form.required("VersionId")
    matched = _VERSION.fullmatch(text)
    if matched is None:
        raise invalid("VersionId", text, "Member must satisfy regular expression pattern: v[1-9]+")
    return min(int(matched[1]), 2**32 - 1)


def _shown_version(
    number: int, version: PolicyVersionRow, *, is_default: bool, in_full: bool = False
) -> Result:
    return {
        "Document": shown.document(version.document) if in_full else None,
        "VersionId": f"v{number}",
        "IsDefaultVersion": is_default,
        "CreateDate": stamp(version.created_ms),
    }


def _document(call: QueryCall) -> str:
    text = call.form.required("PolicyDocument")
    quota = "PolicySize"
    documents.checked(text, PolicyKind.IDENTITY, chars_max=IAM_MANAGED_CHARS_MAX, quota=quota)
    return text


# --- who has one ----------------------------------------------------------------------------------


async def list_entities(call: QueryCall) -> Result | None:
    """At once, all of them."""
    arn, _ = await call.policy()
    usage = call.form.choice(
        "PolicyUsageFilter", ("", "PermissionsPolicy", "PermissionsBoundary"), ""
    )
    wanted = call.form.optional("EntityFilter")
    prefixes = []
    if usage != "PermissionsBoundary":
        prefixes.append(keys.attachments(call.account, arn))
    if usage != "PermissionsPolicy":
        prefixes.append(keys.boundaries(call.account, arn))
    state = call.services.state
    found = await asyncio.gather(
        *(state.list_keys(IAM, prefix, _HOLDERS_MAX) for prefix in prefixes)
    )
    ids = [
        key[len(prefix) :].decode()
        for prefix, each in zip(prefixes, found, strict=True)
        for key in each
    ]
    rows = [
        row
        for start in range(0, len(ids), 500)
        for row in await entities_of(call, ids[start : start + 500])
    ]
    if wanted in ("LocalManagedPolicy", "AWSManagedPolicy"):
        raise InvalidInput(f"{wanted} is nothing that a policy is attached to.", "InvalidInput")
    return {
        "PolicyGroups": _holders(rows, EntityKind.GROUP, wanted),
        "PolicyUsers": _holders(rows, EntityKind.USER, wanted),
        "PolicyRoles": _holders(rows, EntityKind.ROLE, wanted),
        "IsTruncated": False,
    }


def _holders(rows: list[EntityRow], kind: EntityKind, wanted: str) -> list[Content]:
    word = names.WORD[kind].capitalize()
    if wanted and wanted != word:
        return []
    return [
        {f"{word}Name": row.name, f"{word}Id": row.id}
        for row in {row.id: row for row in rows}.values()
        if row.kind is kind
    ]
