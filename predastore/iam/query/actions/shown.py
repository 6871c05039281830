"""How users, groups, roles and policies are shown in answers."""

from __future__ import annotations

from urllib.parse import quote

from predastore.iam import names
from predastore.iam.managed import MANAGED
from predastore.iam.query.document import Content, Result, stamp
from predastore.iam.rows import EntityKind, EntityRow, PolicyRow, Tags

_NAME = {EntityKind.USER: "UserName", EntityKind.GROUP: "GroupName", EntityKind.ROLE: "RoleName"}
_ID = {EntityKind.USER: "UserId", EntityKind.GROUP: "GroupId", EntityKind.ROLE: "RoleId"}


def document(text: str) -> str:
    """A policy, as answers have it: percent-encoded (RFC 3986)."""
    return quote(text, safe="")


def tags(pairs: Tags) -> list[Content]:
    return [{"Key": key, "Value": value} for key, value in pairs]


def entity(account: str, row: EntityRow, *, in_full: bool = True) -> Result:
    """`in_full`: with tags and the boundary, which listings leave out."""
    found: dict[str, Content] = {
        "Path": row.path,
        _NAME[row.kind]: row.name,
        _ID[row.kind]: row.id,
        "Arn": names.entity_arn(account, row.kind, row.path, row.name),
        "CreateDate": stamp(row.created_ms),
    }
    if row.kind is EntityKind.ROLE:
        found["AssumeRolePolicyDocument"] = document(row.trust)
        found["Description"] = row.description or None
        found["MaxSessionDuration"] = row.max_session_s
        if in_full:
            found["RoleLastUsed"] = {}
    if in_full and row.boundary:
        found["PermissionsBoundary"] = {
            "PermissionsBoundaryType": "PermissionsBoundaryPolicy",
            "PermissionsBoundaryArn": row.boundary,
        }
    if in_full and row.tags:
        found["Tags"] = tags(row.tags)
    return found


def policy(account: str, row: PolicyRow, *, in_full: bool = True) -> Result:
    arn = names.policy_arn(account, row.path, row.name)
    return {
        "PolicyName": row.name,
        "PolicyId": row.id,
        "Arn": arn,
        "Path": row.path,
        "DefaultVersionId": f"v{row.default}",
        "AttachmentCount": row.attached,
        "PermissionsBoundaryUsageCount": row.bounding,
        "IsAttachable": True,
        "Description": (row.description or None) if in_full else None,
        "CreateDate": stamp(row.created_ms),
        "UpdateDate": stamp(row.updated_ms),
        "Tags": tags(row.tags) if in_full and row.tags else None,
    }


def managed(row: PolicyRow, *, in_full: bool = True) -> Result:
    """One that AWS manages."""
    return policy(names.AWS_ACCOUNT, row, in_full=in_full)


def policy_of(account: str, arn: str, row: PolicyRow) -> Result:
    """One of either."""
    return managed(row) if arn in MANAGED else policy(account, row)
