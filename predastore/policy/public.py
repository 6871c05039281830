"""What makes a bucket's policy public.

One definition serves GetBucketPolicyStatus, BlockPublicPolicy and RestrictPublicBuckets.

A policy is public if one of its statements is. A statement that allows is public unless it names
its principals, or one of its conditions holds a key of the table to fixed values: such without
wildcards and variables. Address ranges have a prefix of at least 8 bits, of version 6 at least 32,
or are private. (Amazon S3 User Guide, "Blocking public access to your Amazon S3 storage", "The
meaning of public".)
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

from predastore.policy import values
from predastore.policy.conditions import PolicyCondition
from predastore.policy.operators import Quantifier
from predastore.policy.statement import Statement

_FIXING: Final = frozenset(
    {
        "aws:PrincipalAccount",
        "aws:PrincipalArn",
        "aws:PrincipalOrgID",
        "aws:PrincipalOrgPaths",
        "aws:SourceAccount",
        "aws:SourceArn",
        "aws:SourceIp",
        "aws:SourceOrgID",
        "aws:SourceOrgPaths",
        "aws:SourceOwner",
        "aws:SourceVpc",
        "aws:SourceVpce",
        "aws:VpceAccount",
        "aws:VpceOrgID",
        "aws:VpceOrgPaths",
        "aws:userid",
        "s3:DataAccessPointAccount",
        "s3:DataAccessPointArn",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
    }
)
_EXACT: Final = frozenset(
    {"StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike", "IpAddress"}
)
_PREFIX_MIN: Final = {4: 8, 6: 32}
_ACCESS_POINT: Final = "s3:DataAccessPointArn"


def is_public_statement(statement: Statement) -> bool:
    """Whether the statement gives something to the public."""
    principals = statement.principals
    if not statement.allows or principals is None:
        return False
    if not principals.everybody and not principals.excluded:
        return False
    return not any(map(_fixes, statement.conditions))


def _fixes(condition: PolicyCondition) -> bool:
    """Whether the condition leaves no more than a fixed few."""
    op = condition.op
    if op.negated or op.if_exists or op.quantifier is Quantifier.ALL or op.base not in _EXACT:
        return False
    if condition.key not in _FIXING:
        return False
    if condition.key == "aws:SourceIp":
        return op.base == "IpAddress" and all(map(_is_narrow, condition.named))
    if condition.key == _ACCESS_POINT:
        return all(map(_fixes_account, condition.named))
    return not any(_has_marks(one) for one in condition.named)


def _has_marks(text: str) -> bool:
    return "*" in text or "?" in text or "${" in text


def _fixes_account(text: str) -> bool:
    """The name of an access point may have wildcards: its account may not."""
    return not _has_marks("".join(text.split(":")[:5])) and text.count(":") >= 5


def _is_narrow(text: str) -> bool:
    found = values.network(text)
    if found is None:
        return False
    return found.length >= _PREFIX_MIN[found.version] or ip_network(text, strict=False).is_private
