"""What the procedures of identities are called with, and what they answer.

Arguments are a msgpack array of the struct's fields; they are in journals, so a procedure with
other arguments gets another name. An answer is a byte, a `Cause`, and what belongs to it: of DONE
a struct, of any other a map of texts. Ids, random bytes, sealed secrets and times come from the
caller. Documents are judged by the caller; here they are texts.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from predastore.catalog.procedures.arguments import Arguments
from predastore.iam.rows import AccessKeyRow, AccountRow, EntityKind, EntityRow, PolicyRow, Tags
from predastore.s3db.procedures import Refusal
from predastore.storage.formats import pack


class Cause(enum.IntEnum):
    """Why a procedure did nothing. The details: `what` kind of thing, its `name`; of LIMIT and
    CONFLICT what they are about."""

    DONE = 0
    NO_SUCH = 1
    EXISTS = 2
    CONFLICT = 3  # something else has to go first
    LIMIT = 4
    CHANGED = 5  # it is not any more what the caller has read


class CreateAccount(Arguments, frozen=True):
    """`iam.account.create`: with its root's access key."""

    row: AccountRow
    access_key_id: str
    key: AccessKeyRow


class RenameAccount(Arguments, frozen=True):
    """`iam.account.rename`."""

    account: str
    name: str


class CreateEntity(Arguments, frozen=True):
    """`iam.entity.create`."""

    account: str
    row: EntityRow


class ChangeEntity(Arguments, frozen=True):
    """`iam.entity.change`: what is not None takes the place of what the entity has. `boundary`: ""
    for none. `tags`, `untagged`: what is added, or has another value now; what goes."""

    account: str
    kind: EntityKind
    name: str
    new_name: str | None = None
    path: str | None = None
    boundary: str | None = None
    void_before_ms: int | None = None
    trust: str | None = None
    description: str | None = None
    max_session_s: int | None = None
    tags: Tags = ()
    untagged: tuple[str, ...] = ()


class DeleteEntity(Arguments, frozen=True):
    """`iam.entity.delete`."""

    account: str
    kind: EntityKind
    name: str


class CreateKey(Arguments, frozen=True):
    """`iam.key.create`, of the user of this name, or of the root where it is "". `row.principal_id`
    is what the caller has read; CHANGED where it is another's by now."""

    user: str
    access_key_id: str
    row: AccessKeyRow


class ChangeKey(Arguments, frozen=True):
    """`iam.key.change`, of the user of this name, or of the root where it is ""."""

    account: str
    user: str
    access_key_id: str
    is_active: bool


class DeleteKey(Arguments, frozen=True):
    """`iam.key.delete`, likewise."""

    account: str
    user: str
    access_key_id: str


class SealKey(Arguments, frozen=True):
    """`iam.key.seal`: the same secret, sealed anew; CHANGED where `before` is not what is there."""

    access_key_id: str
    before: bytes
    sealed: bytes


class ChangeMember(Arguments, frozen=True):
    """`iam.group.join` and `iam.group.leave`."""

    account: str
    group: str
    user: str


class PutInline(Arguments, frozen=True):
    """`iam.inline.put`."""

    account: str
    kind: EntityKind
    name: str
    policy: str
    document: str


class DeleteInline(Arguments, frozen=True):
    """`iam.inline.delete`."""

    account: str
    kind: EntityKind
    name: str
    policy: str


class ChangeAttached(Arguments, frozen=True):
    """`iam.policy.attach` and `iam.policy.detach`. `arn` names a policy of the account, or one that
    AWS manages."""

    account: str
    kind: EntityKind
    name: str
    arn: str


class CreatePolicy(Arguments, frozen=True):
    """`iam.policy.create`."""

    account: str
    row: PolicyRow
    document: str


class AddVersion(Arguments, frozen=True):
    """`iam.policy.add-version`."""

    account: str
    name: str
    document: str
    is_default: bool
    now_ms: int


class ChooseVersion(Arguments, frozen=True):
    """`iam.policy.choose-version` and `iam.policy.delete-version`."""

    account: str
    name: str
    number: int
    now_ms: int


class ChangePolicy(Arguments, frozen=True):
    """`iam.policy.change`: its tags."""

    account: str
    name: str
    tags: Tags = ()
    untagged: tuple[str, ...] = ()


class DeletePolicy(Arguments, frozen=True):
    """`iam.policy.delete`."""

    account: str
    name: str


class MadeVersion(msgspec.Struct, frozen=True, array_like=True):
    """The answer of `iam.policy.add-version`."""

    number: int


class NoAnswer(msgspec.Struct, frozen=True, array_like=True):
    """The answer of what has nothing to tell."""


def done(answer: msgspec.Struct) -> bytes:
    return bytes([Cause.DONE]) + pack(answer)


DONE: Final = done(NoAnswer())


def refuse(cause: Cause, what: str, name: str = "", **details: str) -> Refusal:
    """To be raised."""
    return Refusal(bytes([cause]) + pack({"what": what, "name": name, **details}))
