"""What a credential may do of what its account may, as `check_policy` asks for it.

A key of the configuration has a list of rules, or none. Any other has the policies of its identity
(iam/identity.py): for these, the request's own bucket and key are known, and no other key, so what
is done to another object is denied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from predastore.auth.sigv4 import Credential
from predastore.iam.identity import Identified, Identity
from predastore.policy import AccessRequest, decide
from predastore.policy.actions import ACTIONS, Level

_ARN: Final = "arn:aws:s3:::"


class Rights(Protocol):
    """Which actions of its account's a credential may do."""

    def allows(self, action: str, bucket: str) -> bool:
        """Whether it allows the action in the bucket."""
        ...

    def allows_somewhere(self, action: str) -> bool:
        """Whether it allows an action that is of no bucket."""
        ...


@dataclass(frozen=True, slots=True)
class IdentityRights:
    """Of an identity that asks for this bucket and key."""

    identity: Identity
    bucket: str
    key: str

    def allows(self, action: str, bucket: str) -> bool:
        resource = _ARN + bucket
        if ACTIONS.get(action.lower(), Level.OBJECT) is Level.OBJECT:
            if bucket != self.bucket or not self.key:
                return False
            resource += f"/{self.key}"
        return self._allows(action, resource)

    def allows_somewhere(self, action: str) -> bool:
        return self._allows(action, f"{_ARN}*")

    def _allows(self, action: str, resource: str) -> bool:
        identity = self.identity
        request = AccessRequest(action, resource, identity.principal, identity.account)
        return decide(request, identity.policies).allowed


def policy_of(credential: Credential, bucket: str, key: str) -> Rights | None:
    """None: it may do all that its account may."""
    if not isinstance(credential, Identified) or credential.policy is not None:
        return credential.policy
    identity = credential.identity
    if identity.is_root and identity.policies.session is None:
        return None
    return IdentityRights(identity, bucket, key)


def is_limited(credential: Credential) -> bool:
    """Whether there is something that the account may do, and this credential may not."""
    return credential.is_limited or (
        credential.policy is None and policy_of(credential, "", "") is not None
    )
