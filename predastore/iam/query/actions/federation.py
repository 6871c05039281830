"""AssumeRoleWithWebIdentity: a session of a role for who shows a token of an identity provider.

The role's trust policy names the provider, as arn:aws:iam::<account>:oidc-provider/<host and path>
or, where the issuer has no port, as <host and path>. It may ask for claims of the token: <host and
path>:aud, :sub, or any other that is a text, a truth, a number or a list of texts, such as the
groups of the user; there the host stands without a port.
"""

from __future__ import annotations

from collections.abc import Iterator

from predastore.iam import names
from predastore.iam.errors import NotAllowed
from predastore.iam.oidc import TokenClaims
from predastore.iam.query.actions import sts
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Result
from predastore.policy import Policies, Principal, PrincipalKind

_VALUES_MAX = 1_000  # of one claim


async def assume_role(call: QueryCall) -> Result | None:
    form = call.form
    arn, name = form.required("RoleArn"), sts.session_name(call)
    call.target = arn
    claims = await call.services.oidc.claims(form.required("WebIdentityToken"))
    values = {"sts:RoleSessionName": (name,), **_claimed(claims)}
    role = await _trusting(call, arn, claims, values)
    session = await sts.begin(
        *(call, role, name),
        most_s=role.max_session_s,
        subject=claims.subject,
        audience=claims.audience,
        provider=claims.host,
    )
    return {
        **session,
        "SubjectFromWebIdentityToken": claims.subject,
        "Audience": claims.audience,
        "Provider": claims.issuer,
    }


async def _trusting(
    call: QueryCall, arn: str, claims: TokenClaims, values: dict[str, tuple[str, ...]]
) -> sts.Trusted:
    """The role, whose trust policy names the provider in either way."""
    parsed = names.parse_arn(arn)
    account = "" if parsed is None else parsed.account
    ways = [f"arn:aws:iam::{account}:oidc-provider/{claims.host}"]
    if claims.prefix == claims.host:
        ways.append(claims.host)
    for number, provider in enumerate(ways):
        principal = Principal(PrincipalKind.FEDERATED, provider=provider, user_id=claims.subject)
        try:
            return await sts.trusting(call, arn, principal, Policies(), values)
        except NotAllowed:
            if number == len(ways) - 1:
                raise
    raise AssertionError("one of the ways has answered")


def _claimed(claims: TokenClaims) -> dict[str, tuple[str, ...]]:
    """The condition keys that the claims are."""
    return {
        f"{claims.prefix}:{name}": values
        for name, value in claims.all.items()
        if (values := tuple(_texts(value)))
    } | {f"{claims.prefix}:aud": (claims.audience,), f"{claims.prefix}:sub": (claims.subject,)}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, str | int):
        yield str(value)
    elif isinstance(value, list):
        for one in value[:_VALUES_MAX]:
            if isinstance(one, str):
                yield one
