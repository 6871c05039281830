"""The procedures about managed policies and their versions."""

from __future__ import annotations

import msgspec

from predastore.base.limits import IAM_POLICIES_MAX, IAM_POLICY_VERSIONS_MAX
from predastore.iam import keys, names
from predastore.iam.keys import IAM
from predastore.iam.procedures.arguments import (
    DONE,
    AddVersion,
    Cause,
    ChangePolicy,
    ChooseVersion,
    CreatePolicy,
    DeletePolicy,
    MadeVersion,
    done,
    refuse,
)
from predastore.iam.procedures.reading import (
    amended,
    concerned_by_policy,
    count,
    count_below,
    find_policy,
    rewrite,
    touch,
)
from predastore.iam.rows import PolicyRow, PolicyVersionRow
from predastore.s3db.procedures import View
from predastore.storage.formats import encode, unpack


def create(view: View, arguments: bytes) -> bytes:
    """`CreatePolicy` to nothing; EXISTS, LIMIT."""
    args = unpack(CreatePolicy, arguments)
    account, row = args.account, args.row
    place = keys.policy(account, row.name)
    if view.get(IAM, place) is not None:
        raise refuse(Cause.EXISTS, "policy", row.name)
    count(view, account, "policies", 1, IAM_POLICIES_MAX)
    amended((), row.tags, ())
    view.put(IAM, place, encode(row))
    version = PolicyVersionRow(args.document, row.created_ms)
    view.put(IAM, keys.policy_version(account, row.name, 1), encode(version))
    return DONE


def add_version(view: View, arguments: bytes) -> bytes:
    """`AddVersion` to `MadeVersion`; NO_SUCH, LIMIT."""
    args = unpack(AddVersion, arguments)
    account = args.account
    row = find_policy(view, account, args.name)
    if count_below(view, keys.policy_versions(account, row.name)) >= IAM_POLICY_VERSIONS_MAX:
        raise refuse(Cause.LIMIT, "versions of a policy", str(IAM_POLICY_VERSIONS_MAX))
    number = row.latest + 1
    version = PolicyVersionRow(args.document, args.now_ms)
    view.put(IAM, keys.policy_version(account, row.name, number), encode(version))
    new = msgspec.structs.replace(row, latest=number, updated_ms=args.now_ms)
    if args.is_default:
        new = msgspec.structs.replace(new, default=number)
        _touch(view, account, row)
    rewrite(view, keys.policy(account, row.name), new)
    return done(MadeVersion(number))


def choose_version(view: View, arguments: bytes) -> bytes:
    """`ChooseVersion` to nothing: it is in force from now on. NO_SUCH."""
    args = unpack(ChooseVersion, arguments)
    account = args.account
    row = find_policy(view, account, args.name)
    _check_version(view, account, row, args.number)
    if row.default != args.number:
        new = msgspec.structs.replace(row, default=args.number, updated_ms=args.now_ms)
        rewrite(view, keys.policy(account, row.name), new)
        _touch(view, account, row)
    return DONE


def delete_version(view: View, arguments: bytes) -> bytes:
    """`ChooseVersion` to nothing; NO_SUCH, CONFLICT for the one in force."""
    args = unpack(ChooseVersion, arguments)
    account = args.account
    row = find_policy(view, account, args.name)
    _check_version(view, account, row, args.number)
    if row.default == args.number:
        raise refuse(Cause.CONFLICT, "default version")
    view.delete(IAM, keys.policy_version(account, row.name, args.number))
    new = msgspec.structs.replace(row, updated_ms=args.now_ms)
    rewrite(view, keys.policy(account, row.name), new)
    return DONE


def change(view: View, arguments: bytes) -> bytes:
    """`ChangePolicy` to nothing; NO_SUCH, LIMIT."""
    args = unpack(ChangePolicy, arguments)
    row = find_policy(view, args.account, args.name)
    new = msgspec.structs.replace(row, tags=amended(row.tags, args.tags, args.untagged))
    rewrite(view, keys.policy(args.account, row.name), new)
    return DONE


def delete(view: View, arguments: bytes) -> bytes:
    """`DeletePolicy` to nothing; NO_SUCH, CONFLICT while anything has it, or it has versions beside
    the one in force."""
    args = unpack(DeletePolicy, arguments)
    account = args.account
    row = find_policy(view, account, args.name)
    if row.attached or row.bounding:
        raise refuse(Cause.CONFLICT, "attachments")
    if count_below(view, keys.policy_versions(account, row.name)) > 1:
        raise refuse(Cause.CONFLICT, "versions")
    view.delete(IAM, keys.policy(account, row.name))
    view.delete(IAM, keys.policy_version(account, row.name, row.default))
    count(view, account, "policies", -1, IAM_POLICIES_MAX)
    return DONE


def _check_version(view: View, account: str, row: PolicyRow, number: int) -> None:
    if view.get(IAM, keys.policy_version(account, row.name, number)) is None:
        raise refuse(Cause.NO_SUCH, "policy version", f"v{number}")


def _touch(view: View, account: str, row: PolicyRow) -> None:
    arn = names.policy_arn(account, row.path, row.name)
    touch(view, account, concerned_by_policy(view, account, arn))
