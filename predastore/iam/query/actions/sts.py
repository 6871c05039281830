"""STS: who am I; temporary credentials for oneself, and for who takes on a role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from predastore.base.limits import (
    IAM_CHAINED_SESSION_S_MAX,
    IAM_MANAGED_CHARS_MAX,
    IAM_ROLE_SESSION_S_MAX,
    IAM_ROOT_SESSION_S_MAX,
    IAM_SESSION_POLICY_CHARS_MAX,
    IAM_SESSION_S_MIN,
    IAM_TOKEN_CHARS_MAX,
    IAM_USER_SESSION_S_MAX,
)
from predastore.iam import documents, keys, names, refusals
from predastore.iam.errors import InvalidInput, NotAllowed, Unsupported
from predastore.iam.identities import session_owner
from predastore.iam.keys import ACCESS_KEYS, IAM
from predastore.iam.managed import MANAGED
from predastore.iam.query import conditions
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Content, Result, stamp
from predastore.iam.query.form import invalid
from predastore.iam.rows import AccessKeyRow, EntityKind, EntityRow, PolicyVersionRow
from predastore.iam.sessions import Session
from predastore.policy import (
    AccessRequest,
    Policies,
    PolicyKind,
    Principal,
    PrincipalKind,
    Why,
    decide,
)
from predastore.storage.formats import decode

_USER_SESSION_S: Final = 43_200
_ROLE_SESSION_S: Final = 3_600
_SESSION_POLICIES_MAX: Final = 10
_TOKEN_ROOM_CHARS: Final = 8_192  # what a token with policies may have


async def caller_identity(call: QueryCall) -> Result | None:
    """Needs no permission."""
    principal = call.identity.principal
    call.target = principal.arn
    return {"Arn": principal.arn, "UserId": principal.user_id, "Account": principal.account}


async def access_key_info(call: QueryCall) -> Result | None:
    """The account of an access key, for who may ask."""
    await call.permit("*")
    key_id = call.form.name("AccessKeyId")
    known = await call.services.identities.find(key_id)
    account = "" if known is None else known.account_id
    stored = await call.services.state.get(ACCESS_KEYS, keys.access_key(key_id))
    if stored is not None:
        account = decode(AccessKeyRow, stored).account
    if not account:
        raise refusals.no_such("access key", key_id)
    return {"Account": account}


# --- for oneself ----------------------------------------------------------------------------------


async def session_token(call: QueryCall) -> Result | None:
    """Needs no permission."""
    identity = call.identity
    if identity.session is not None:
        raise NotAllowed("Cannot call GetSessionToken with session credentials")
    if call.form.optional("SerialNumber") or call.form.optional("TokenCode"):
        raise NotAllowed("MultiFactorAuthentication failed: there are no MFA devices here")
    most = IAM_ROOT_SESSION_S_MAX if identity.is_root else IAM_USER_SESSION_S_MAX
    default = min(most, _USER_SESSION_S)
    duration_s = call.form.number(
        "DurationSeconds", default, IAM_SESSION_S_MIN, IAM_USER_SESSION_S_MAX
    )
    session = Session(
        *(names.session_key_id(), names.secret(), identity.account, session_owner(call.caller)),
        *(call.now_ms, call.now_ms + 1000 * min(duration_s, most)),
    )
    call.target = identity.principal.arn
    return {"Credentials": await _credentials(call, session)}


async def _credentials(call: QueryCall, session: Session) -> Result:
    token = await call.services.tokens.token(session)
    if len(token) > min(_TOKEN_ROOM_CHARS, IAM_TOKEN_CHARS_MAX):
        raise InvalidInput("The session policies are too large.", "PackedPolicyTooLarge")
    return {
        "AccessKeyId": session.access_key_id,
        "SecretAccessKey": session.secret,
        "SessionToken": token,
        "Expiration": stamp(session.ends_ms),
    }


# --- a role ---------------------------------------------------------------------------------------


async def assume_role(call: QueryCall) -> Result | None:
    identity, form = call.identity, call.form
    arn, name = form.required("RoleArn"), session_name(call)
    call.target = arn
    if identity.is_root:
        raise NotAllowed("Roles may not be assumed by root accounts.")
    values = {"sts:RoleSessionName": (name,)}
    if external := form.optional("ExternalId"):
        values["sts:ExternalId"] = (external,)
    is_chained = identity.session is not None and bool(identity.session.name)
    role = await trusting(call, arn, identity.principal, identity.policies, values)
    most = min(role.max_session_s, IAM_CHAINED_SESSION_S_MAX if is_chained else 2**31)
    return await begin(call, role, name, most_s=most)


class Trusted:
    """A role that the caller may take on."""

    def __init__(self, account: str, row: EntityRow) -> None:
        self.account = account
        self.row = row
        self.max_session_s = row.max_session_s


async def trusting(
    call: QueryCall,
    arn: str,
    principal: Principal,
    policies: Policies,
    values: Mapping[str, tuple[str, ...]],
) -> Trusted:
    """The role, if its trust policy, and the policies of who asks, have it so. NotAllowed is said
    of a role that is not there, too."""
    action = f"{call.service}:{call.action}"
    parsed = names.parse_arn(arn)
    row = None
    if parsed is not None and parsed.word == "role":
        row = await _role(call, parsed)
    if row is not None and parsed is not None:
        trust = documents.compiled(row.trust, PolicyKind.TRUST, f"trust policy of {arn}")
        own: tuple[Mapping[str, tuple[str, ...]], ...] = (
            conditions.of_request(call.request, call.region, call.now_ms),
        )
        if principal.kind is not PrincipalKind.FEDERATED:
            own = (conditions.of_principal(call.identity), *own)
        lookup = conditions.lookup(values, conditions.of_target(row.tags), *own)
        request = AccessRequest(action, arn, principal, parsed.account, lookup)
        decided = Policies(policies.identity, policies.boundary, policies.session, trust)
        call.decision = decide(request, decided)
        if call.decision.allowed:
            return Trusted(parsed.account, row)
    who = principal.arn or principal.provider
    end = ""
    if call.decision is not None and call.decision.why is Why.EXPLICIT_DENY:
        end = " with an explicit deny"
    raise NotAllowed(
        f"User: {who} is not authorized to perform: {action} on resource: {arn[:2048]}{end}"
    )


async def _role(call: QueryCall, parsed: names.ParsedArn) -> EntityRow | None:
    key = keys.entity(parsed.account, EntityKind.ROLE, parsed.name)
    stored = await call.services.state.get(IAM, key)
    row = None if stored is None else decode(EntityRow, stored)
    return row if row is not None and (row.path, row.name) == (parsed.path, parsed.name) else None


async def begin(
    call: QueryCall,
    role: Trusted,
    name: str,
    *,
    most_s: int,
    subject: str = "",
    audience: str = "",
    provider: str = "",
) -> dict[str, Content]:
    """A session of a role: its credentials, and who that is."""
    policies = await _session_policies(call, role.account)
    duration_s = call.form.number(
        "DurationSeconds", min(_ROLE_SESSION_S, most_s), IAM_SESSION_S_MIN, IAM_ROLE_SESSION_S_MAX
    )
    if duration_s > most_s:
        raise InvalidInput(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    session = Session(
        *(names.session_key_id(), names.secret(), role.account, role.row.id),
        *(call.now_ms, call.now_ms + 1000 * duration_s, name, policies),
        *(subject, audience, provider),
    )
    credentials = await _credentials(call, session)
    return {
        "Credentials": credentials,
        "AssumedRoleUser": {
            "AssumedRoleId": f"{role.row.id}:{name}",
            "Arn": names.session_arn(role.account, role.row.name, name),
        },
        "PackedPolicySize": None
        if policies is None
        else 100 * len(str(credentials["SessionToken"])) // _TOKEN_ROOM_CHARS,
    }


def session_name(call: QueryCall) -> str:
    name = call.form.name("RoleSessionName", 64)
    if len(name) < 2:
        raise invalid("RoleSessionName", name, "Member must have length greater than or equal to 2")
    return name


async def _session_policies(call: QueryCall, account: str) -> tuple[str, ...] | None:
    """That of the request, and the managed ones that it names, as they are now."""
    form = call.form
    texts: list[str] = []
    inline = form.optional("Policy")
    if inline:
        most, quota = IAM_SESSION_POLICY_CHARS_MAX, "SessionPolicySize"
        documents.checked(inline, PolicyKind.SESSION, chars_max=most, quota=quota)
        texts.append(inline)
    number = 1
    while (arn := form.optional(f"PolicyArns.member.{number}.arn")) and (
        number <= _SESSION_POLICIES_MAX
    ):
        text = await _managed(call, account, arn)
        most, quota = IAM_MANAGED_CHARS_MAX, "SessionPolicySize"
        documents.checked(text, PolicyKind.SESSION, chars_max=most, quota=quota)
        texts.append(text)
        number += 1
    if number > _SESSION_POLICIES_MAX:
        raise invalid("PolicyArns", "", f"Member must have at most {_SESSION_POLICIES_MAX}")
    return tuple(texts) or None


async def _managed(call: QueryCall, account: str, arn: str) -> str:
    if arn in MANAGED:
        return MANAGED[arn]
    row = await call.find_policy(arn, account)
    if row is None:
        raise InvalidInput(f"Policy {arn[:256]} does not exist.", "InvalidInput")
    key = keys.policy_version(account, row.name, row.default)
    stored = await call.services.state.get(IAM, key)
    if stored is None:
        raise InvalidInput(f"Policy {arn[:256]} was changed meanwhile; try again.", "InvalidInput")
    return decode(PolicyVersionRow, stored).document


async def unsupported(call: QueryCall) -> Result | None:
    """Of what is known, and is not here."""
    raise Unsupported(f"{call.action} is not implemented.")
