"""What a user or a role may do, and which statement says so: SimulatePrincipalPolicy, and
SimulateCustomPolicy for policies that are nobody's."""

from __future__ import annotations

from predastore.base.limits import IAM_MANAGED_CHARS_MAX
from predastore.iam import documents, names, refusals
from predastore.iam.errors import InvalidInput
from predastore.iam.identity import Identity
from predastore.iam.query import conditions
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Content, Result
from predastore.iam.rows import EntityKind
from predastore.policy import (
    AccessRequest,
    Decision,
    Policies,
    PolicyDocument,
    PolicyKind,
    Principal,
    PrincipalKind,
    Why,
    decide,
)

_QUESTIONS_MAX = 1_000  # actions times resources
_SAID = {
    Why.ALLOWED: "allowed",
    Why.EXPLICIT_DENY: "explicitDeny",
    Why.IMPLICIT_DENY: "implicitDeny",
}


async def of_principal(call: QueryCall) -> Result | None:
    """With the policies that the request adds."""
    arn = call.form.required("PolicySourceArn")
    parsed = names.parse_arn(arn)
    kinds = {names.WORD[kind]: kind for kind in (EntityKind.USER, EntityKind.ROLE)}
    if parsed is None or parsed.word not in kinds or parsed.account != call.account:
        raise InvalidInput(f"{arn[:256]} is no user and no role of the account.", "InvalidInput")
    await call.permit(arn)
    row = await call.find(kinds[parsed.word], parsed.name)
    found = None
    if row is not None:
        found = await call.services.identities.identity(call.account, row.id)
    if found is None or found.principal.arn != arn:
        raise refusals.no_such(parsed.word, parsed.name)
    own = found.policies
    policies = Policies((*own.identity, *_given(call)), own.boundary)
    return _simulated(call, found, policies)


async def of_policies(call: QueryCall) -> Result | None:
    """Of the policies that the request gives, and no others."""
    await call.permit("*")
    arn = names.entity_arn(call.account, EntityKind.USER, "/", "simulated")
    nobody = Identity(Principal(PrincipalKind.USER, call.account, arn))
    return _simulated(call, nobody, Policies(tuple(_given(call))))


def _given(call: QueryCall) -> list[PolicyDocument]:
    return [
        documents.checked(
            *(text, PolicyKind.IDENTITY),
            chars_max=IAM_MANAGED_CHARS_MAX,
            quota="PolicySize",
            name=f"PolicyInputList.{number}",
        )
        for number, text in enumerate(call.form.members("PolicyInputList"), 1)
    ]


def _simulated(call: QueryCall, who: Identity, policies: Policies) -> Result:
    actions = call.form.members("ActionNames")
    resources = call.form.members("ResourceArns") or ("*",)
    if not actions or len(actions) * len(resources) > _QUESTIONS_MAX:
        raise InvalidInput(
            f"Give at least one action, and at most {_QUESTIONS_MAX} times resources.",
            "InvalidInput",
        )
    lookup = conditions.lookup(
        _context(call),
        conditions.of_principal(who),
        conditions.of_request(call.request, call.region, call.now_ms),
    )
    account = call.form.optional("ResourceOwner") or who.account
    results: list[Content] = []
    for action in actions:
        for resource in resources:
            request = AccessRequest(action, resource, who.principal, account, lookup)
            results.append(_shown(action, resource, decide(request, policies)))
    return {"EvaluationResults": results, "IsTruncated": False}


def _context(call: QueryCall) -> dict[str, tuple[str, ...]]:
    """ContextEntries.member.N: what conditions are judged by."""
    found: dict[str, tuple[str, ...]] = {}
    number = 1
    while name := call.form.optional(f"ContextEntries.member.{number}.ContextKeyName"):
        place = f"ContextEntries.member.{number}.ContextKeyValues"
        found[name] = call.form.members(place)
        number += 1
    return found


def _shown(action: str, resource: str, decision: Decision) -> Result:
    matched: list[Content] = []
    if decision.statement or (decision.document and decision.allowed):
        matched.append(
            {
                "SourcePolicyId": decision.document,
                "SourcePolicyType": "IAM Policy",
                "Sid": decision.statement or None,
            }
        )
    return {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "EvalDecision": _SAID[decision.why],
        "MatchedStatements": matched,
        "MissingContextValues": [],
    }
