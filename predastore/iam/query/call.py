"""One request of the Query API on its way: who asks, what for, what it may do, what it changes.

An action is `async def run(call: QueryCall) -> Result | None`. It asks `call` for what it is about,
which is where access is decided, and changes something through `call.change`: nothing is changed
that was not permitted. The commit checks that the caller's rights are still those that it was
permitted on; where they are not, they are read anew, and each permit is decided again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from predastore.base.errors import PreconditionFailed
from predastore.base.limits import IAM_TRIES_MAX
from predastore.catalog.procedures.arguments import Arguments
from predastore.httpd.message import Request
from predastore.iam import keys, names, refusals
from predastore.iam.errors import ConcurrentChange, InvalidInput, NotAllowed
from predastore.iam.identities import Identities
from predastore.iam.identity import Identified, Identity
from predastore.iam.keys import IAM
from predastore.iam.managed import CREATED_MS, MANAGED, policy_id
from predastore.iam.oidc import OidcProviders
from predastore.iam.query import conditions
from predastore.iam.query.document import Content
from predastore.iam.query.form import QueryForm, invalid
from predastore.iam.rows import EntityKind, EntityRow, PolicyRow
from predastore.iam.sealing import SealingKeys
from predastore.iam.sessions import SessionTokens
from predastore.iam.used import LastUsed
from predastore.policy import AccessRequest, Decision, Why, decide
from predastore.s3db.commands import Check
from predastore.s3db.global_state import GlobalState
from predastore.storage.formats import decode

_PAGE_ROWS: Final = 1_000
_PARAMETER: Final = {
    EntityKind.USER: "UserName",
    EntityKind.GROUP: "GroupName",
    EntityKind.ROLE: "RoleName",
}


@dataclass(frozen=True, slots=True)
class IamServices:
    """What actions share. `operator`: the account that may make others. `is_taken`: whether an
    account id is one of the configuration's."""

    state: GlobalState
    identities: Identities
    sealing: SealingKeys
    tokens: SessionTokens
    used: LastUsed
    oidc: OidcProviders
    operator: Callable[[], str]
    is_taken: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class _Permitted:
    """What was asked for, to be decided again."""

    action: str
    resource: str
    values: Mapping[str, tuple[str, ...]]


@dataclass(slots=True)
class QueryCall:
    """`who`: None for an action that needs no signature. `region`: of its signature. `decision`:
    the last that was made. `target`: what it is about, for the audit."""

    services: IamServices
    request: Request
    service: str
    action: str
    form: QueryForm
    who: Identified | None
    region: str
    token: str = ""
    decision: Decision | None = None
    target: str = ""
    now_ms: int = field(default_factory=conditions.now_ms)
    _permitted: list[_Permitted] = field(default_factory=list)

    # --- who asks -------------------------------------------------------------------------

    @property
    def caller(self) -> Identified:
        """Who has signed."""
        if self.who is None:
            raise NotAllowed(
                "Request is missing Authentication Token", "MissingAuthenticationToken"
            )
        return self.who

    @property
    def identity(self) -> Identity:
        return self.caller.identity

    @property
    def account(self) -> str:
        return self.identity.account

    async def renew(self) -> None:
        """Reads the caller's rights anew. NotAllowed where it is none any more."""
        renewed = await self.services.identities.renewed(self.caller, self.token)
        if renewed is None:
            raise gone()
        self.who = renewed

    # --- permits --------------------------------------------------------------------------

    async def permit(
        self, resource: str, *values: Mapping[str, tuple[str, ...]], action: str = ""
    ) -> None:
        """NotAllowed, unless the caller may do this, or another action, to a resource."""
        merged = {key: value for one in values for key, value in one.items()}
        asked = _Permitted(action or f"{self.service}:{self.action}", resource, merged)
        self.target = self.target or resource
        if not self._decide(asked).allowed:
            await self.renew()
            decision = self._decide(asked)
            if not decision.allowed:
                raise refused(self.identity, asked.action, resource, decision)
        self._permitted.append(asked)

    def lookup_values(self) -> tuple[Mapping[str, tuple[str, ...]], ...]:
        """The condition keys of the request itself."""
        return (
            conditions.of_principal(self.identity),
            conditions.of_request(self.request, self.region, self.now_ms),
        )

    def _decide(self, asked: _Permitted) -> Decision:
        identity = self.identity
        lookup = conditions.lookup(asked.values, *self.lookup_values())
        request = AccessRequest(
            asked.action, asked.resource, identity.principal, self.account, lookup
        )
        self.decision = decide(request, identity.policies)
        return self.decision

    def _decide_again(self) -> None:
        for asked in self._permitted:
            decision = self._decide(asked)
            if not decision.allowed:
                raise refused(self.identity, asked.action, asked.resource, decision)

    # --- changes --------------------------------------------------------------------------

    async def change(
        self, procedure: str, arguments: Arguments, checks: tuple[Check, ...] = ()
    ) -> bytes:
        """Calls a procedure, if all that was permitted still is at its commit; its answer. What it
        refuses is raised. `checks`: of what else must be so; ConcurrentChange where it is not."""
        assert self._permitted, f"{self.action}: nothing was permitted"
        for _ in range(IAM_TRIES_MAX):
            ground = self.identity.ground
            own = () if ground is None else (ground.check,)
            try:
                applied = await self.services.state.call(
                    procedure, arguments.encode(), (*own, *checks)
                )
                refusals.check(applied.answer)
                return applied.answer
            except PreconditionFailed as failure:
                if failure.check >= len(own):
                    break
            await self.renew()
            self._decide_again()
        raise ConcurrentChange("It was changed meanwhile; try again.")

    # --- what it is about -----------------------------------------------------------------

    async def find(self, kind: EntityKind, name: str) -> EntityRow | None:
        stored = await self.services.state.get(IAM, keys.entity(self.account, kind, name))
        return None if stored is None else decode(EntityRow, stored)

    async def entity(
        self,
        kind: EntityKind,
        *values: Mapping[str, tuple[str, ...]],
        name: str = "",
        action: str = "",
    ) -> EntityRow:
        """The user, group or role that the request names, if its action, or another, may be done to
        it. NoSuchEntity, for whoever may."""
        wanted = name or self.form.name(_PARAMETER[kind])
        row = await self.find(kind, wanted)
        path, known, tags = ("/", wanted, ()) if row is None else (row.path, row.name, row.tags)
        arn = names.entity_arn(self.account, kind, path, known)
        bounding = {}
        if row is not None and row.boundary:
            bounding = {"iam:PermissionsBoundary": (row.boundary,)}
        await self.permit(arn, conditions.of_target(tags), bounding, *values, action=action)
        if row is None:
            raise refusals.no_such(names.WORD[kind], wanted)
        return row

    async def own_user(self) -> str:
        """The name of the user that the request is about, "" for the root: of the caller, where it
        names none."""
        name = self.form.name("UserName", default="")
        if name:
            return (await self.entity(EntityKind.USER, name=name)).name
        identity = self.identity
        if identity.session is not None and identity.session.name:
            raise InvalidInput("Must specify userName when calling with non-User credentials")
        await self.permit(identity.principal.arn)
        if identity.ground is None and not identity.is_root:
            raise NotAllowed("The keys of the configuration's file are changed there.")
        return identity.principal.name

    async def policy(self, *values: Mapping[str, tuple[str, ...]]) -> tuple[str, PolicyRow]:
        """The managed policy that the request names, with its ARN; as `entity`."""
        arn = self.form.required("PolicyArn")
        row = await self.find_policy(arn)
        tags = () if row is None else row.tags
        await self.permit(arn, conditions.of_target(tags), *values)
        if row is None:
            raise refusals.no_such("policy", arn)
        return arn, row

    async def own_policy(self, *values: Mapping[str, tuple[str, ...]]) -> tuple[str, PolicyRow]:
        """The same of one that can be changed: NotAllowed for one that AWS manages."""
        arn, row = await self.policy(*values)
        if arn in MANAGED:
            raise NotAllowed(f"{arn} is managed by AWS, and can not be changed.")
        return arn, row

    async def find_policy(self, arn: str, account: str = "") -> PolicyRow | None:
        """Of the caller's account, or another; or one that AWS manages. InvalidInput for what is no
        ARN."""
        parsed = names.parse_arn(arn)
        if parsed is None or parsed.word != "policy":
            raise InvalidInput(f"ARN {arn[:256]} is not valid.", "InvalidInput")
        if arn in MANAGED:
            return PolicyRow(policy_id(arn), parsed.name, "/", "", CREATED_MS, CREATED_MS)
        account = account or self.account
        if parsed.account != account:
            return None
        stored = await self.services.state.get(IAM, keys.policy(account, parsed.name))
        row = None if stored is None else decode(PolicyRow, stored)
        if row is None or names.policy_arn(account, row.path, row.name) != arn:
            return None
        return row

    # --- pages ----------------------------------------------------------------------------

    async def page(
        self, prefix: bytes, wanted: Callable[[bytes, bytes], Content], table: str = IAM
    ) -> tuple[list[Content], dict[str, Content]]:
        """Of the rows whose keys begin with `prefix` a page, and what is said of it. `wanted`: of
        the rest of a key and its row what is shown, or None for nothing."""
        limit = self.form.page_items()
        after = prefix + self._marker() if "Marker" in self.form else prefix
        shown: list[Content] = []
        while True:
            rows = await self.services.state.scan(table, prefix, after, _PAGE_ROWS)
            for key, value in rows:
                content = wanted(key[len(prefix) :], value)
                if content is None:
                    continue
                if len(shown) == limit:
                    marker = base64.urlsafe_b64encode(after[len(prefix) :]).decode()
                    return shown, {"IsTruncated": True, "Marker": marker}
                shown.append(content)
                after = key
            if len(rows) < _PAGE_ROWS:
                return shown, {"IsTruncated": False}
            after = rows[-1][0]

    def _marker(self) -> bytes:
        text = self.form.text("Marker", 1024)
        try:
            return base64.b64decode(text, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise invalid("Marker", text, "Member must be what a page has said") from None


def gone() -> NotAllowed:
    """The caller's key is none any more."""
    return NotAllowed(
        "The security token included in the request is invalid.", "InvalidClientTokenId"
    )


def refused(identity: Identity, action: str, resource: str, decision: Decision) -> NotAllowed:
    """In AWS's words."""
    what = f"User: {identity.principal.arn} is not authorized to perform: {action}"
    if decision.why is Why.EXPLICIT_DENY:
        return NotAllowed(f"{what} on resource: {resource} with an explicit deny in a policy")
    return NotAllowed(
        f"{what} on resource: {resource} because no policy allows the {action} action"
    )
