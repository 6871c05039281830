"""The procedures about the policies of users, groups and roles: inline, attached, the boundary."""

from __future__ import annotations

from typing import Final

import msgspec

from predastore.base.limits import (
    IAM_ATTACHED_MAX,
    IAM_GROUP_INLINE_CHARS_MAX,
    IAM_ROLE_INLINE_CHARS_MAX,
    IAM_USER_INLINE_CHARS_MAX,
)
from predastore.iam import keys, names
from predastore.iam.keys import IAM
from predastore.iam.procedures.arguments import (
    DONE,
    Cause,
    ChangeAttached,
    DeleteInline,
    PutInline,
    refuse,
)
from predastore.iam.procedures.reading import (
    below,
    concerned,
    count_below,
    find_entity,
    find_policy,
    rewrite,
    touch,
)
from predastore.iam.rows import EntityKind, InlineRow
from predastore.s3db.procedures import View
from predastore.storage.formats import decode, encode, unpack

_INLINE_CHARS_MAX: Final = {
    EntityKind.USER: IAM_USER_INLINE_CHARS_MAX,
    EntityKind.GROUP: IAM_GROUP_INLINE_CHARS_MAX,
    EntityKind.ROLE: IAM_ROLE_INLINE_CHARS_MAX,
}


def size_of(document: str) -> int:
    """Characters but for white space, as AWS counts them."""
    return sum(map(len, document.split()))


def put_inline(view: View, arguments: bytes) -> bytes:
    """`PutInline` to nothing; NO_SUCH, LIMIT."""
    args = unpack(PutInline, arguments)
    account = args.account
    row = find_entity(view, account, args.kind, args.name)
    own = args.policy.lower().encode()
    others = below(view, keys.inlines(account, row.id))
    size = sum(size_of(decode(InlineRow, one).document) for name, one in others if name != own)
    most = _INLINE_CHARS_MAX[args.kind]
    if size + size_of(args.document) > most:
        raise refuse(Cause.LIMIT, f"inline of {names.WORD[args.kind]} {row.name}", str(most))
    place = keys.inline(account, row.id, args.policy)
    view.put(IAM, place, encode(InlineRow(args.policy, args.document)))
    touch(view, account, concerned(view, account, row.id))
    return DONE


def delete_inline(view: View, arguments: bytes) -> bytes:
    """`DeleteInline` to nothing; NO_SUCH."""
    args = unpack(DeleteInline, arguments)
    account = args.account
    row = find_entity(view, account, args.kind, args.name)
    place = keys.inline(account, row.id, args.policy)
    if view.get(IAM, place) is None:
        raise refuse(Cause.NO_SUCH, f"{names.WORD[args.kind]} policy", args.policy)
    view.delete(IAM, place)
    touch(view, account, concerned(view, account, row.id))
    return DONE


def attach(view: View, arguments: bytes) -> bytes:
    """`ChangeAttached` to nothing, also where it is attached; NO_SUCH, LIMIT."""
    args = unpack(ChangeAttached, arguments)
    account, arn = args.account, args.arn
    row = find_entity(view, account, args.kind, args.name)
    if view.get(IAM, keys.attached(account, row.id, arn)) is not None:
        return DONE
    if count_below(view, keys.attached_to(account, row.id)) >= IAM_ATTACHED_MAX:
        what = f"PoliciesPer{names.WORD[args.kind].capitalize()}"
        raise refuse(Cause.LIMIT, what, str(IAM_ATTACHED_MAX))
    _count_of_policy(view, account, arn, attached=1)
    view.put(IAM, keys.attached(account, row.id, arn), b"")
    view.put(IAM, keys.attachment(account, arn, row.id), b"")
    touch(view, account, concerned(view, account, row.id))
    return DONE


def detach(view: View, arguments: bytes) -> bytes:
    """`ChangeAttached` to nothing; NO_SUCH, also where it is not attached."""
    args = unpack(ChangeAttached, arguments)
    account, arn = args.account, args.arn
    row = find_entity(view, account, args.kind, args.name)
    if view.get(IAM, keys.attached(account, row.id, arn)) is None:
        raise refuse(Cause.NO_SUCH, "attached policy", arn)
    _count_of_policy(view, account, arn, attached=-1)
    view.delete(IAM, keys.attached(account, row.id, arn))
    view.delete(IAM, keys.attachment(account, arn, row.id))
    touch(view, account, concerned(view, account, row.id))
    return DONE


def change_boundary(view: View, account: str, entity_id: str, old: str, new: str) -> None:
    """Notes that another policy bounds an entity, or none; NO_SUCH."""
    if old:
        _count_of_policy(view, account, old, bounding=-1)
        view.delete(IAM, keys.boundary(account, old, entity_id))
    if new:
        _count_of_policy(view, account, new, bounding=1)
        view.put(IAM, keys.boundary(account, new, entity_id), b"")


def _count_of_policy(
    view: View, account: str, arn: str, *, attached: int = 0, bounding: int = 0
) -> None:
    """How many have a policy. NO_SUCH, where it is none of the account's; those that AWS manages
    are known to the caller."""
    parsed = names.parse_arn(arn)
    if parsed is not None and parsed.account == names.AWS_ACCOUNT:
        return
    if parsed is None or parsed.account != account or parsed.word != "policy":
        raise refuse(Cause.NO_SUCH, "policy", arn)
    row = find_policy(view, account, parsed.name)
    if names.policy_arn(account, row.path, row.name) != arn:
        raise refuse(Cause.NO_SUCH, "policy", arn)
    new = msgspec.structs.replace(
        row, attached=row.attached + attached, bounding=row.bounding + bounding
    )
    rewrite(view, keys.policy(account, row.name), new)
