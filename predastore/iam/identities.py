"""Whose an access key is: the keys of the configuration's file, those of users and roots, sessions.

What was found of a principal is kept, with its ground (identity.py), and used again without a round
trip: it is exact, because each request checks the ground with the read or the commit that it makes
anyway. What was kept can only let a request go on: before anything is refused on it, or where the
ground does not hold, `renewed` reads all of it anew, in one snapshot.

A principal of the file has no ground: the file is read at a start and at SIGHUP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from predastore.auth.sigv4 import Credential
from predastore.base.errors import FormatError, LevelTooLow
from predastore.base.limits import IAM_PRINCIPALS_CACHED_BYTES_MAX, IAM_PRINCIPALS_CACHED_MAX
from predastore.iam import names, refusals
from predastore.iam.documents import compiled
from predastore.iam.errors import Unavailable
from predastore.iam.identity import Ground, Identified, Identity
from predastore.iam.keys import ACCOUNTS, PRINCIPALS, principal
from predastore.iam.keys import account as account_key
from predastore.iam.managed import MANAGED
from predastore.iam.procedures.questions import FindIdentity, FoundIdentity, NamedPolicy
from predastore.iam.rows import EntityKind, EntityRow
from predastore.iam.sealing import SealingKeys
from predastore.iam.sessions import Session, SessionTokens, expired_token, invalid_token
from predastore.policy import (
    Policies,
    PolicyDocument,
    PolicyKind,
    Principal,
    PrincipalKind,
    from_rules,
)
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import now_ms
from predastore.storage.formats import decode

KEY_PURPOSE: Final = "access key"
_SESSION_PREFIX: Final = "ASIA"
_OF_FILE: Final = "file:"  # before the access key id, in a session of a key of the file
_COSTS_LEAST: Final = 2_048  # bytes of what is kept of a principal without documents


@dataclass(frozen=True, slots=True)
class _Kept:
    """Of one principal. `secrets`: of its active access keys."""

    identity: Identity
    secrets: dict[str, str]
    void_before_ms: int
    cost_bytes: int


class Identities:
    """`of_file`: finds a credential of the configuration."""

    def __init__(
        self,
        state: GlobalState,
        sealing: SealingKeys,
        of_file: Callable[[str], Credential | None],
        now: Callable[[], int] = now_ms,
    ) -> None:
        self._state = state
        self._sealing = sealing
        self._tokens = SessionTokens(sealing)
        self._of_file = of_file
        self._now = now
        self._kept: dict[tuple[str, str], _Kept] = {}  # the one used last stands last
        self._kept_bytes = 0
        self._owners: dict[str, tuple[str, str]] = {}  # access key id -> whose it is
        self._known: dict[str, Identified] = {}  # of the file

    # --- finding --------------------------------------------------------------------------

    async def find(self, access_key_id: str, token: str = "") -> Identified | None:
        """Whose a key is, with its secret; None: there is no such key, or it is not active.
        SignatureError InvalidToken, ExpiredToken. Unavailable."""
        credential = self._of_file(access_key_id)
        if credential is not None:
            if token:
                raise invalid_token()
            return self._identified(credential)
        if access_key_id.startswith(_SESSION_PREFIX):
            return await self._of_session(access_key_id, token) if token else None
        if token:
            raise invalid_token()
        whose = self._owners.get(access_key_id)
        kept = None if whose is None else self._used(whose)
        if kept is None or access_key_id not in kept.secrets:
            kept = await self._load(FindIdentity(access_key_id))
        if kept is None or access_key_id not in kept.secrets:
            return None
        identity = kept.identity
        return Identified(
            access_key_id, kept.secrets[access_key_id], identity.account, identity=identity
        )

    async def renewed(self, identified: Identified, token: str = "") -> Identified | None:
        """The same, read anew."""
        identity = identified.identity
        self._forget((identity.account, identity.principal_id))
        return await self.find(identified.access_key_id, token)

    async def current(self, identified: Identified, token: str = "") -> Identified | None:
        """The same, as it is now; one read, where nothing has changed."""
        ground = identified.identity.ground
        if ground is None or ground.holds(await self._state.get(ground.table, ground.key)):
            return identified
        return await self.renewed(identified, token)

    async def identity(self, account: str, principal_id: str) -> Identity | None:
        """Of a user, a role or a root by its id, read anew. What a role may do, whoever takes it
        on."""
        kept = await self._load(FindIdentity(account=account, principal_id=principal_id))
        return None if kept is None else kept.identity

    async def has_account(self, account: str) -> bool:
        """Whether the operator's API has made an account of that id."""
        return await self._state.get(ACCOUNTS, account_key(account)) is not None

    # --- of the file ----------------------------------------------------------------------

    def _identified(self, credential: Credential) -> Identified:
        known = self._known.get(credential.access_key_id)
        if (
            known is not None
            and known.secret_access_key == credential.secret_access_key
            and known.account_id == credential.account_id
            and known.policy is credential.policy
        ):
            return known
        made = self._known[credential.access_key_id] = Identified(
            credential.access_key_id,
            credential.secret_access_key,
            credential.account_id,
            credential.policy,
            identity=of_file(credential),
        )
        return made

    # --- sessions -------------------------------------------------------------------------

    async def _of_session(self, access_key_id: str, token: str) -> Identified | None:
        session = await self._tokens.session(access_key_id, token)
        if session.ends_ms <= self._now():
            raise expired_token()
        base = await self._base(session)
        if base is None:
            raise invalid_token()
        identity = _of_session(base, session)
        return Identified(access_key_id, session.secret, session.account, identity=identity)

    async def _base(self, session: Session) -> Identity | None:
        """Who has begun the session; None where that is gone, or has it that it is void."""
        if session.principal_id.startswith(_OF_FILE):
            credential = self._of_file(session.principal_id.removeprefix(_OF_FILE))
            if credential is None or credential.account_id != session.account:
                return None
            return self._identified(credential).identity
        whose = session.account, session.principal_id
        kept = self._used(whose)
        if kept is None or session.began_ms < kept.void_before_ms:
            kept = await self._load(FindIdentity("", *whose))
        if kept is None or session.began_ms < kept.void_before_ms:
            return None
        return kept.identity

    # --- what is kept ---------------------------------------------------------------------

    def _used(self, whose: tuple[str, str]) -> _Kept | None:
        kept = self._kept.pop(whose, None)
        if kept is not None:
            self._kept[whose] = kept
        return kept

    def _forget(self, whose: tuple[str, str]) -> None:
        kept = self._kept.pop(whose, None)
        if kept is not None:
            self._kept_bytes -= kept.cost_bytes
            for access_key_id in kept.secrets:
                self._owners.pop(access_key_id, None)

    async def _load(self, asked: FindIdentity) -> _Kept | None:
        """Reads a principal anew, and keeps what was found."""
        try:
            answer = await self._state.ask("iam.identity", asked.encode())
        except LevelTooLow:
            return None  # members of before identities: there can not be any
        found = refusals.read(FoundIdentity, answer)
        if not found.row:
            self._forget((asked.account, asked.principal_id))
            return None
        whose = found.account, found.principal_id
        kept = await self._made(found)
        self._forget(whose)
        self._kept[whose] = kept
        self._kept_bytes += kept.cost_bytes
        self._owners |= dict.fromkeys(kept.secrets, whose)
        while (
            len(self._kept) > IAM_PRINCIPALS_CACHED_MAX
            or self._kept_bytes > IAM_PRINCIPALS_CACHED_BYTES_MAX
        ) and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))
        return kept

    async def _made(self, found: FoundIdentity) -> _Kept:
        account, principal_id = found.account, found.principal_id
        entity = decode(EntityRow, found.entity) if found.entity else None
        policies = Policies(
            identity=tuple(map(_parsed, found.policies)),
            boundary=None if found.boundary is None else _parsed(found.boundary),
        )
        ground = Ground(PRINCIPALS, principal(account, principal_id), found.row)
        who = _root(account) if entity is None else _principal(account, entity)
        tags = entity.tags if entity is not None else ()
        identity = Identity(who, principal_id, policies, ground, tags=tags)
        secrets = {
            one.access_key_id: await self._unsealed(one.access_key_id, one.sealed)
            for one in found.keys
            if one.is_active
        }
        return _Kept(
            identity,
            secrets,
            0 if entity is None else entity.void_before_ms,
            _COSTS_LEAST + 4 * sum(len(one.document) for one in found.policies),
        )

    async def _unsealed(self, access_key_id: str, sealed: bytes) -> str:
        try:
            secret = await self._sealing.unseal(
                KEY_PURPOSE, sealed, bound_to=access_key_id.encode()
            )
        except FormatError as error:
            raise Unavailable(f"The secret of {access_key_id} can not be read: {error}") from None
        return secret.decode()


# --- who it is ------------------------------------------------------------------------------------


def session_owner(identified: Identified) -> str:
    """The `principal_id` of a session that a key begins for its own principal."""
    identity = identified.identity
    return identity.principal_id or _OF_FILE + identified.access_key_id


def _root(account: str) -> Principal:
    return Principal(
        PrincipalKind.ROOT,
        account=account,
        arn=names.root_arn(account),
        user_id=account,
        canonical_id=names.canonical_id(account),
    )


def _principal(account: str, entity: EntityRow) -> Principal:
    """A user; a role, as it is before anybody has taken it on."""
    arn = names.entity_arn(account, entity.kind, entity.path, entity.name)
    is_role = entity.kind is EntityKind.ROLE
    return Principal(
        PrincipalKind.ROLE if is_role else PrincipalKind.USER,
        account=account,
        arn=arn,
        role_arn=arn if is_role else "",
        user_id=entity.id,
        name=entity.name,
        canonical_id=names.canonical_id(account),
    )


def identity_of(credential: Credential) -> Identity:
    """Whose a credential is that a verifier found."""
    return credential.identity if isinstance(credential, Identified) else of_file(credential)


def of_file(credential: Credential) -> Identity:
    """A root; a user, where the key has a policy."""
    account = credential.account_id
    if credential.policy is None or credential.policy.is_everything:
        return Identity(_root(account))
    name = credential.access_key_id
    who = Principal(
        PrincipalKind.USER,
        account=account,
        arn=names.entity_arn(account, EntityKind.USER, "/", name),
        user_id=name,
        name=name,
        canonical_id=names.canonical_id(account),
    )
    document = from_rules(credential.policy, name=f"[[auth]] {name}")
    # Exactly these rights, whatever else would allow more: so they are a boundary, too.
    return Identity(who, policies=Policies(identity=(document,), boundary=document))


def _of_session(base: Identity, session: Session) -> Identity:
    who = base.principal
    if session.name:
        who = Principal(
            PrincipalKind.ROLE,
            account=who.account,
            arn=names.session_arn(who.account, who.name, session.name),
            role_arn=who.role_arn,
            user_id=f"{who.user_id}:{session.name}",
            canonical_id=who.canonical_id,
        )
    policies = base.policies
    if session.policies is not None:
        documents = tuple(
            compiled(text, PolicyKind.SESSION, "session policy") for text in session.policies
        )
        policies = Policies(policies.identity, policies.boundary, documents)
    return replace(base, principal=who, policies=policies, session=session)


def _parsed(policy: NamedPolicy) -> PolicyDocument:
    text = policy.document or MANAGED.get(policy.arn, "")
    return compiled(text, PolicyKind.IDENTITY, policy.name)
