"""The rows of identities: what is stored of accounts, users, groups, roles, policies and keys.

Their stored form is that of storage/formats.py: fields are only appended, each with a default.
`keys.py` says under which key each lies. Times are Unix milliseconds. Documents are stored as they
were given. Nothing that is secret stands here in clear: `sealed` is what sealing.py makes.
"""

from __future__ import annotations

import enum

import msgspec

Tags = tuple[tuple[str, str], ...]


class EntityKind(enum.IntEnum):
    """What a policy can be attached to."""

    USER = 1
    GROUP = 2
    ROLE = 3


class AccountRow(msgspec.Struct, frozen=True, array_like=True):
    """An account that was made by the operator's API. `id`: 12 digits. `canonical_id`: 64 hex
    digits, by which ACLs name it."""

    id: str
    canonical_id: str
    name: str
    created_ms: int


class CountsRow(msgspec.Struct, frozen=True, array_like=True):
    """How many an account has."""

    users: int = 0
    groups: int = 0
    roles: int = 0
    policies: int = 0
    memberships: int = 0


class EntityRow(msgspec.Struct, frozen=True, array_like=True):
    """A user, a group or a role. `id`: unique for ever (AIDA..., AGPA..., AROA...). `boundary`:
    the ARN of its permissions boundary, or "". `void_before_ms`: sessions that began before are
    none any more. Of a role: `trust`, who may assume it; `description`; `max_session_s`."""

    kind: EntityKind
    id: str
    name: str
    path: str
    created_ms: int
    tags: Tags = ()
    boundary: str = ""
    void_before_ms: int = 0
    trust: str = ""
    description: str = ""
    max_session_s: int = 3600


class NameRow(msgspec.Struct, frozen=True, array_like=True):
    """Which entity has an id."""

    kind: EntityKind
    name: str


class PolicyRow(msgspec.Struct, frozen=True, array_like=True):
    """A managed policy. `default`: the number of the version in force; `latest`: of the last one
    that was made. `attached`, `bounding`: to how many it is attached, or is their boundary."""

    id: str
    name: str
    path: str
    description: str
    created_ms: int
    updated_ms: int
    default: int = 1
    latest: int = 1
    attached: int = 0
    bounding: int = 0
    tags: Tags = ()


class PolicyVersionRow(msgspec.Struct, frozen=True, array_like=True):
    """One version of a managed policy."""

    document: str
    created_ms: int


class InlineRow(msgspec.Struct, frozen=True, array_like=True):
    """A policy that is a user's, a group's or a role's own."""

    name: str
    document: str


class AccessKeyRow(msgspec.Struct, frozen=True, array_like=True):
    """A long-term access key. `principal_id`: of a user, or the account's own id for its root.
    `sealed`: the secret, bound to the access key id."""

    account: str
    principal_id: str
    sealed: bytes
    created_ms: int
    is_active: bool = True


class PrincipalRow(msgspec.Struct, frozen=True, array_like=True):
    """Of a user, a role or a root: raised by each change that concerns what it may do, or who it
    is. It goes with its principal, whose id is never another's."""

    generation: int


class SealingKey(msgspec.Struct, frozen=True, array_like=True):
    """`sealed`: 32 bytes, sealed under the cluster key, bound to the number."""

    number: int
    sealed: bytes
    created_ms: int


class SealingRow(msgspec.Struct, frozen=True, array_like=True):
    """The versions of the sealing key that can be read; the last one seals."""

    keys: tuple[SealingKey, ...]


class UsedRow(msgspec.Struct, frozen=True, array_like=True):
    """When an access key was last used, and for what."""

    used_ms: int
    service: str
    region: str
