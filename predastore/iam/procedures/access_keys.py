"""The procedures about access keys. Each change concerns the principal whose key it is."""

from __future__ import annotations

import msgspec

from predastore.base.limits import IAM_ACCESS_KEYS_MAX
from predastore.iam import keys
from predastore.iam.keys import ACCESS_KEYS, IAM, USED
from predastore.iam.procedures.arguments import (
    DONE,
    Cause,
    ChangeKey,
    CreateKey,
    DeleteKey,
    SealKey,
    refuse,
)
from predastore.iam.procedures.reading import count_below, find_entity, rewrite, touch
from predastore.iam.rows import AccessKeyRow, EntityKind
from predastore.s3db.procedures import View
from predastore.storage.formats import decode, encode, unpack


def create(view: View, arguments: bytes) -> bytes:
    """`CreateKey` to nothing; NO_SUCH, LIMIT, EXISTS, CHANGED."""
    args = unpack(CreateKey, arguments)
    account = args.row.account
    owner = _owner(view, account, args.user)
    if owner != args.row.principal_id:
        raise refuse(Cause.CHANGED, "user", args.user)
    if count_below(view, keys.keys_of(account, owner)) >= IAM_ACCESS_KEYS_MAX:
        raise refuse(Cause.LIMIT, "AccessKeysPerUser", str(IAM_ACCESS_KEYS_MAX))
    place = keys.access_key(args.access_key_id)
    if view.get(ACCESS_KEYS, place) is not None:
        raise refuse(Cause.EXISTS, "access key", args.access_key_id)
    view.put(ACCESS_KEYS, place, encode(args.row))
    view.put(IAM, keys.key_of(account, owner, args.access_key_id), b"")
    touch(view, account, (owner,))
    return DONE


def change(view: View, arguments: bytes) -> bytes:
    """`ChangeKey` to nothing; NO_SUCH."""
    args = unpack(ChangeKey, arguments)
    row = _find(view, args.account, args.user, args.access_key_id)
    new = msgspec.structs.replace(row, is_active=args.is_active)
    rewrite(view, keys.access_key(args.access_key_id), new, ACCESS_KEYS)
    touch(view, args.account, (row.principal_id,))
    return DONE


def delete(view: View, arguments: bytes) -> bytes:
    """`DeleteKey` to nothing; NO_SUCH."""
    args = unpack(DeleteKey, arguments)
    row = _find(view, args.account, args.user, args.access_key_id)
    view.delete(ACCESS_KEYS, keys.access_key(args.access_key_id))
    view.delete(USED, keys.access_key(args.access_key_id))
    view.delete(IAM, keys.key_of(args.account, row.principal_id, args.access_key_id))
    touch(view, args.account, (row.principal_id,))
    return DONE


def seal(view: View, arguments: bytes) -> bytes:
    """`SealKey` to nothing; NO_SUCH, CHANGED. It concerns nobody: the secret is the same."""
    args = unpack(SealKey, arguments)
    place = keys.access_key(args.access_key_id)
    stored = view.get(ACCESS_KEYS, place)
    if stored is None:
        raise refuse(Cause.NO_SUCH, "access key", args.access_key_id)
    row = decode(AccessKeyRow, stored)
    if row.sealed != args.before:
        raise refuse(Cause.CHANGED, "access key", args.access_key_id)
    rewrite(view, place, msgspec.structs.replace(row, sealed=args.sealed), ACCESS_KEYS)
    return DONE


def _owner(view: View, account: str, user: str) -> str:
    """The principal id of a user, or of the root; NO_SUCH."""
    return find_entity(view, account, EntityKind.USER, user).id if user else account


def _find(view: View, account: str, user: str, access_key_id: str) -> AccessKeyRow:
    """NO_SUCH, where it is not a key of that user."""
    owner = _owner(view, account, user)
    stored = view.get(ACCESS_KEYS, keys.access_key(access_key_id))
    row = None if stored is None else decode(AccessKeyRow, stored)
    if row is None or (row.account, row.principal_id) != (account, owner):
        raise refuse(Cause.NO_SUCH, "access key", access_key_id)
    return row
