"""Who a credential is of, and what decides what it may do: as it was in one moment.

A decision is made on an `Identity`. It holds as long as the identity's ground does: a row of the
metadata, which every change that concerns the principal changes. So a request takes the ground
along: the read that it makes anyway returns that row as of the same snapshot, and the commit that
it makes checks it. Where it is another one, or gone, the identity is looked up anew, and the
decision is made again (identities.py). No identity is trusted for a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from predastore.auth.sigv4 import Credential
from predastore.iam.rows import Tags
from predastore.iam.sessions import Session
from predastore.policy import Policies, Principal, PrincipalKind
from predastore.s3db.commands import Check, Equals


@dataclass(frozen=True, slots=True)
class Ground:
    """A row that a decision rests on, as it is stored."""

    table: str
    key: bytes
    value: bytes

    @property
    def check(self) -> Check:
        """For the commit."""
        return Equals(self.table, self.key, self.value)

    def holds(self, stored: bytes | None) -> bool:
        """Whether a row that was read is still the one."""
        return stored == self.value


@dataclass(frozen=True, slots=True)
class Identity:
    """`principal_id`: of the user or role, the account's own of a root, "" of a key of the
    configuration that is none. `ground`: None, where the configuration's file says it all.
    `session`: of temporary credentials. `policies`: without those of the resource."""

    principal: Principal
    principal_id: str = ""
    policies: Policies = field(default_factory=Policies)
    ground: Ground | None = None
    session: Session | None = None
    tags: Tags = ()

    @property
    def account(self) -> str:
        return self.principal.account

    @property
    def has_all_rights(self) -> bool:
        """Whether it may do all that its account may."""
        return self.is_root and self.session is None

    @property
    def is_root(self) -> bool:
        return self.principal.kind is PrincipalKind.ROOT


@dataclass(frozen=True, slots=True)
class Identified(Credential):
    """A credential, and whose it is."""

    identity: Identity = field(kw_only=True)
