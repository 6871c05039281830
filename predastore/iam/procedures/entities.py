"""The procedures about users, groups and roles: create, change, delete, join, leave; accounts."""

from __future__ import annotations

from typing import Final

import msgspec

from predastore.base.limits import (
    IAM_ACCOUNTS_MAX,
    IAM_GROUPS_MAX,
    IAM_GROUPS_OF_USER_MAX,
    IAM_MEMBERSHIPS_MAX,
    IAM_ROLES_MAX,
    IAM_USERS_MAX,
)
from predastore.iam import keys, names
from predastore.iam.keys import ACCESS_KEYS, ACCOUNTS, IAM, PRINCIPALS
from predastore.iam.procedures.arguments import (
    DONE,
    Cause,
    ChangeEntity,
    ChangeMember,
    CreateAccount,
    CreateEntity,
    DeleteEntity,
    RenameAccount,
    refuse,
)
from predastore.iam.procedures.attachments import change_boundary
from predastore.iam.procedures.reading import (
    amended,
    below,
    concerned,
    count,
    count_below,
    find_entity,
    rewrite,
    touch,
)
from predastore.iam.rows import AccountRow, CountsRow, EntityKind, EntityRow, NameRow
from predastore.s3db.procedures import View
from predastore.storage.formats import decode, encode, unpack

_COUNTED: Final = {
    EntityKind.USER: ("users", IAM_USERS_MAX),
    EntityKind.GROUP: ("groups", IAM_GROUPS_MAX),
    EntityKind.ROLE: ("roles", IAM_ROLES_MAX),
}
_ALL_ACCOUNTS: Final = ""  # under whose counts the accounts are counted


# --- accounts -------------------------------------------------------------------------------------


def create_account(view: View, arguments: bytes) -> bytes:
    """`CreateAccount` to nothing; EXISTS, LIMIT."""
    args = unpack(CreateAccount, arguments)
    account = args.row.id
    if view.get(ACCOUNTS, keys.account(account)) is not None:
        raise refuse(Cause.EXISTS, "account", account)
    if view.get(ACCESS_KEYS, keys.access_key(args.access_key_id)) is not None:
        raise refuse(Cause.EXISTS, "access key", args.access_key_id)
    stored = view.get(IAM, keys.counts(_ALL_ACCOUNTS))
    row = CountsRow() if stored is None else decode(CountsRow, stored)
    if row.users >= IAM_ACCOUNTS_MAX:
        raise refuse(Cause.LIMIT, "Accounts", str(IAM_ACCOUNTS_MAX))
    view.put(IAM, keys.counts(_ALL_ACCOUNTS), encode(CountsRow(row.users + 1)))
    view.put(ACCOUNTS, keys.account(account), encode(args.row))
    view.put(ACCESS_KEYS, keys.access_key(args.access_key_id), encode(args.key))
    view.put(IAM, keys.key_of(account, account, args.access_key_id), b"")
    touch(view, account, (account,))
    return DONE


def rename_account(view: View, arguments: bytes) -> bytes:
    """`RenameAccount` to nothing; NO_SUCH."""
    args = unpack(RenameAccount, arguments)
    key = keys.account(args.account)
    stored = view.get(ACCOUNTS, key)
    if stored is None:
        raise refuse(Cause.NO_SUCH, "account", args.account)
    row = decode(AccountRow, stored)
    rewrite(view, key, msgspec.structs.replace(row, name=args.name), ACCOUNTS)
    return DONE


# --- entities -------------------------------------------------------------------------------------


def create(view: View, arguments: bytes) -> bytes:
    """`CreateEntity` to nothing; EXISTS, LIMIT, NO_SUCH for a boundary that is none."""
    args = unpack(CreateEntity, arguments)
    account, row = args.account, args.row
    place = keys.entity(account, row.kind, row.name)
    if view.get(IAM, place) is not None:
        raise refuse(Cause.EXISTS, names.WORD[row.kind], row.name)
    field, most = _COUNTED[row.kind]
    count(view, account, field, 1, most)
    amended((), row.tags, ())
    view.put(IAM, place, encode(row))
    view.put(IAM, keys.name_of(account, row.id), encode(NameRow(row.kind, row.name)))
    if row.boundary:
        change_boundary(view, account, row.id, "", row.boundary)
    if row.kind is not EntityKind.GROUP:
        touch(view, account, (row.id,))
    return DONE


def change(view: View, arguments: bytes) -> bytes:
    """`ChangeEntity` to nothing; NO_SUCH, EXISTS for a name that is taken, LIMIT."""
    args = unpack(ChangeEntity, arguments)
    account = args.account
    old = find_entity(view, account, args.kind, args.name)
    fields = ("path", "boundary", "void_before_ms", "trust", "description", "max_session_s")
    given = {name: getattr(args, name) for name in fields if getattr(args, name) is not None}
    if args.new_name is not None:
        given["name"] = args.new_name
    if args.tags or args.untagged:
        given["tags"] = amended(old.tags, args.tags, args.untagged)
    new = msgspec.structs.replace(old, **given)
    if new.boundary != old.boundary:
        change_boundary(view, account, old.id, old.boundary, new.boundary)
    _put(view, account, old, new)
    touch(view, account, concerned(view, account, old.id))
    return DONE


def _put(view: View, account: str, old: EntityRow, new: EntityRow) -> None:
    before, place = (keys.entity(account, old.kind, row.name) for row in (old, new))
    if before == place:
        rewrite(view, place, new)
    else:
        if view.get(IAM, place) is not None:
            raise refuse(Cause.EXISTS, names.WORD[new.kind], new.name)
        rewrite(view, before, new)
        moved = view.get(IAM, before)
        assert moved is not None
        view.put(IAM, place, moved)
        view.delete(IAM, before)
    if new.name != old.name:
        view.put(IAM, keys.name_of(account, new.id), encode(NameRow(new.kind, new.name)))


def delete(view: View, arguments: bytes) -> bytes:
    """`DeleteEntity` to nothing; NO_SUCH, CONFLICT while it has anything."""
    args = unpack(DeleteEntity, arguments)
    account, kind = args.account, args.kind
    row = find_entity(view, account, kind, args.name)
    for what, prefix in (
        ("access keys", keys.keys_of(account, row.id)),
        ("policies", keys.inlines(account, row.id)),
        ("attached policies", keys.attached_to(account, row.id)),
        ("users", keys.members(account, row.id)),
        ("groups", keys.groups_of(account, row.id)),
    ):
        if view.first(IAM, prefix) is not None:
            raise refuse(Cause.CONFLICT, what)
    if row.boundary:
        change_boundary(view, account, row.id, row.boundary, "")
    view.delete(IAM, keys.entity(account, kind, row.name))
    view.delete(IAM, keys.name_of(account, row.id))
    view.delete(PRINCIPALS, keys.principal(account, row.id))
    field, most = _COUNTED[kind]
    count(view, account, field, -1, most)
    return DONE


# --- groups ---------------------------------------------------------------------------------------


def join(view: View, arguments: bytes) -> bytes:
    """`ChangeMember` to nothing, also where the user is in the group; NO_SUCH, LIMIT."""
    args = unpack(ChangeMember, arguments)
    account = args.account
    group = find_entity(view, account, EntityKind.GROUP, args.group)
    user = find_entity(view, account, EntityKind.USER, args.user)
    if view.get(IAM, keys.member(account, group.id, user.id)) is not None:
        return DONE
    if count_below(view, keys.groups_of(account, user.id)) >= IAM_GROUPS_OF_USER_MAX:
        raise refuse(Cause.LIMIT, "GroupsPerUser", str(IAM_GROUPS_OF_USER_MAX))
    count(view, account, "memberships", 1, IAM_MEMBERSHIPS_MAX)
    view.put(IAM, keys.member(account, group.id, user.id), b"")
    view.put(IAM, keys.group_of(account, user.id, group.id), b"")
    touch(view, account, (user.id,))
    return DONE


def leave(view: View, arguments: bytes) -> bytes:
    """`ChangeMember` to nothing; NO_SUCH, also where the user is not in the group."""
    args = unpack(ChangeMember, arguments)
    account = args.account
    group = find_entity(view, account, EntityKind.GROUP, args.group)
    user = find_entity(view, account, EntityKind.USER, args.user)
    if view.get(IAM, keys.member(account, group.id, user.id)) is None:
        raise refuse(Cause.NO_SUCH, "user", user.name)
    count(view, account, "memberships", -1, IAM_MEMBERSHIPS_MAX)
    view.delete(IAM, keys.member(account, group.id, user.id))
    view.delete(IAM, keys.group_of(account, user.id, group.id))
    touch(view, account, (user.id,))
    return DONE


def group_ids(view: View, account: str, user_id: str) -> tuple[str, ...]:
    """Of the groups that a user is in."""
    return tuple(found.decode() for found, _ in below(view, keys.groups_of(account, user_id)))
