"""What is asked about a principal: all that decides what it may do, of one moment."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from predastore.catalog.procedures.arguments import Arguments
from predastore.iam import keys, names
from predastore.iam.keys import ACCESS_KEYS, ACCOUNTS, IAM, PRINCIPALS
from predastore.iam.procedures.arguments import done
from predastore.iam.procedures.reading import below
from predastore.iam.rows import (
    AccessKeyRow,
    AccountRow,
    EntityKind,
    EntityRow,
    InlineRow,
    NameRow,
    PolicyRow,
    PolicyVersionRow,
)
from predastore.s3db.procedures import ReadView, Rows
from predastore.storage.formats import decode, unpack


class FindIdentity(Arguments, frozen=True):
    """`iam.identity`: of an access key; or of a principal of an account, by its id."""

    access_key_id: str = ""
    account: str = ""
    principal_id: str = ""


class NamedPolicy(msgspec.Struct, frozen=True, array_like=True):
    """`name`: whose it is and how it is called. `document`: "" for one that AWS manages."""

    name: str
    document: str
    arn: str = ""


class FoundKey(msgspec.Struct, frozen=True, array_like=True):
    """An access key of the principal."""

    access_key_id: str
    sealed: bytes
    is_active: bool


class FoundIdentity(msgspec.Struct, frozen=True, array_like=True):
    """Its answer. `row`: the PrincipalRow as it is stored, b"" where there is no such principal.
    `entity`: the EntityRow as it is stored; b"" of a root. `account_name`: "" where the account is
    one of the configuration."""

    account: str = ""
    principal_id: str = ""
    row: bytes = b""
    entity: bytes = b""
    keys: tuple[FoundKey, ...] = ()
    policies: tuple[NamedPolicy, ...] = ()
    boundary: NamedPolicy | None = None
    account_name: str = ""


def find(view: ReadView, arguments: bytes) -> bytes:
    """`FindIdentity` to `FoundIdentity`."""
    args = unpack(FindIdentity, arguments)
    account, principal_id = args.account, args.principal_id
    if args.access_key_id:
        stored = view.get(ACCESS_KEYS, keys.access_key(args.access_key_id))
        if stored is None:
            return done(FoundIdentity())
        key = decode(AccessKeyRow, stored)
        account, principal_id = key.account, key.principal_id
    row = view.get(PRINCIPALS, keys.principal(account, principal_id))
    if row is None:
        return done(FoundIdentity())
    found = FoundIdentity(
        *(account, principal_id, row),
        keys=tuple(_keys(view, account, principal_id)),
        account_name=_account_name(view, account),
    )
    if principal_id == account:
        return done(found)
    entity = _entity(view, account, principal_id)
    boundary = decode(EntityRow, entity).boundary
    return done(
        msgspec.structs.replace(
            found,
            entity=entity,
            policies=tuple(_policies(view, account, principal_id)),
            boundary=_managed(view, account, boundary) if boundary else None,
        )
    )


def _account_name(view: Rows, account: str) -> str:
    stored = view.get(ACCOUNTS, keys.account(account))
    return "" if stored is None else decode(AccountRow, stored).name


def _keys(view: Rows, account: str, principal_id: str) -> Iterator[FoundKey]:
    for found, _ in below(view, keys.keys_of(account, principal_id)):
        stored = view.get(ACCESS_KEYS, found)
        if stored is not None:
            row = decode(AccessKeyRow, stored)
            yield FoundKey(found.decode(), row.sealed, row.is_active)


def _entity(view: Rows, account: str, entity_id: str) -> bytes:
    """The row of an entity that is there, as it is stored."""
    name = view.get(IAM, keys.name_of(account, entity_id))
    assert name is not None
    which = decode(NameRow, name)
    entity = view.get(IAM, keys.entity(account, which.kind, which.name))
    assert entity is not None
    return entity


def _policies(view: Rows, account: str, principal_id: str) -> Iterator[NamedPolicy]:
    """Its own, and those of its groups."""
    yield from _of_entity(view, account, principal_id)
    for group_id, _ in below(view, keys.groups_of(account, principal_id)):
        yield from _of_entity(view, account, group_id.decode())


def _of_entity(view: Rows, account: str, entity_id: str) -> Iterator[NamedPolicy]:
    row = decode(EntityRow, _entity(view, account, entity_id))
    whose = f"{names.WORD[row.kind]}/{row.name}"
    for _, stored in below(view, keys.inlines(account, entity_id)):
        inline = decode(InlineRow, stored)
        yield NamedPolicy(f"{whose} {inline.name}", inline.document)
    for arn, _ in below(view, keys.attached_to(account, entity_id)):
        managed = _managed(view, account, arn.decode())
        through = "" if row.kind is not EntityKind.GROUP else f" through {whose}"
        yield msgspec.structs.replace(managed, name=managed.name + through)


def _managed(view: Rows, account: str, arn: str) -> NamedPolicy:
    """The version in force of a managed policy."""
    parsed = names.parse_arn(arn)
    assert parsed is not None
    if parsed.account == names.AWS_ACCOUNT:
        return NamedPolicy(arn, "", arn)
    stored = view.get(IAM, keys.policy(account, parsed.name))
    assert stored is not None
    number = decode(PolicyRow, stored).default
    version = view.get(IAM, keys.policy_version(account, parsed.name, number))
    assert version is not None
    return NamedPolicy(arn, decode(PolicyVersionRow, version).document, arn)
