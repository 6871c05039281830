"""Users, groups and roles: create, get, update, delete, list; memberships; boundaries."""

from __future__ import annotations

from predastore.base.limits import (
    IAM_ROLE_SESSION_S_MAX,
    IAM_TRUST_CHARS_MAX,
)
from predastore.iam import documents, keys, names, refusals
from predastore.iam.errors import InvalidInput
from predastore.iam.keys import IAM
from predastore.iam.procedures.arguments import (
    ChangeEntity,
    ChangeMember,
    CreateEntity,
    DeleteEntity,
)
from predastore.iam.query import conditions
from predastore.iam.query.actions import shown
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Content, Result
from predastore.iam.rows import EntityKind, EntityRow, NameRow
from predastore.policy import PolicyKind
from predastore.storage.formats import decode

USER, GROUP, ROLE = EntityKind.USER, EntityKind.GROUP, EntityKind.ROLE
_SESSION_S_LEAST = 3_600
_DESCRIPTION_CHARS_MAX = 1_000


# --- users ----------------------------------------------------------------------------------------


async def create_user(call: QueryCall) -> Result | None:
    row = await _made(call, USER, call.form.name("UserName", names.NAME_CHARS_MAX[USER]))
    return {"User": shown.entity(call.account, row)}


async def get_user(call: QueryCall) -> Result | None:
    if "UserName" not in call.form and call.identity.is_root:
        await call.permit(call.identity.principal.arn)
        arn = call.identity.principal.arn
        return {"User": {"Path": "/", "UserId": call.account, "Arn": arn}}
    name = "" if "UserName" in call.form else call.identity.principal.name
    row = await call.entity(USER, name=name)
    return {"User": shown.entity(call.account, row)}


async def update_user(call: QueryCall) -> Result | None:
    await _rename(call, USER, "NewUserName")
    return None


async def delete_user(call: QueryCall) -> Result | None:
    return await _delete(call, USER)


async def list_users(call: QueryCall) -> Result | None:
    return await _list(call, USER, "Users")


# --- groups ---------------------------------------------------------------------------------------


async def create_group(call: QueryCall) -> Result | None:
    row = await _made(call, GROUP, call.form.name("GroupName", names.NAME_CHARS_MAX[GROUP]))
    return {"Group": shown.entity(call.account, row)}


async def get_group(call: QueryCall) -> Result | None:
    group = await call.entity(GROUP)
    found: list[str] = []

    def user_id(rest: bytes, _: bytes) -> Content:
        found.append(rest.decode())
        return found[-1]

    _, page = await call.page(keys.members(call.account, group.id), user_id)
    users = await entities_of(call, found[: call.form.page_items()])
    return {
        "Group": shown.entity(call.account, group),
        "Users": [shown.entity(call.account, row, in_full=False) for row in users],
        **page,
    }


async def update_group(call: QueryCall) -> Result | None:
    await _rename(call, GROUP, "NewGroupName")
    return None


async def delete_group(call: QueryCall) -> Result | None:
    return await _delete(call, GROUP)


async def list_groups(call: QueryCall) -> Result | None:
    return await _list(call, GROUP, "Groups")


async def list_groups_for_user(call: QueryCall) -> Result | None:
    user = await call.entity(USER)
    prefix = keys.groups_of(call.account, user.id)
    found = await call.services.state.list_keys(IAM, prefix, 1_000)
    groups = await entities_of(call, [key[len(prefix) :].decode() for key in found])
    shown_groups = [shown.entity(call.account, row, in_full=False) for row in groups]
    return {"Groups": shown_groups, "IsTruncated": False}


async def add_user_to_group(call: QueryCall) -> Result | None:
    return await _membership(call, "iam.group.join")


async def remove_user_from_group(call: QueryCall) -> Result | None:
    return await _membership(call, "iam.group.leave")


async def _membership(call: QueryCall, procedure: str) -> Result | None:
    group = await call.entity(GROUP)
    user = call.form.name("UserName")
    await call.change(procedure, ChangeMember(call.account, group.name, user))
    return None


# --- roles ----------------------------------------------------------------------------------------


async def create_role(call: QueryCall) -> Result | None:
    name = call.form.name("RoleName", names.NAME_CHARS_MAX[ROLE])
    return {"Role": shown.entity(call.account, await _made(call, ROLE, name))}


async def get_role(call: QueryCall) -> Result | None:
    return {"Role": shown.entity(call.account, await call.entity(ROLE))}


async def update_role(call: QueryCall) -> Result | None:
    role = await call.entity(ROLE)
    form, description, duration = call.form, None, None
    if "Description" in form:
        description = form.text("Description", _DESCRIPTION_CHARS_MAX, default="")
    if "MaxSessionDuration" in form:
        duration = _session_s(call)
    await call.change(
        "iam.entity.change",
        ChangeEntity(
            call.account, ROLE, role.name, description=description, max_session_s=duration
        ),
    )
    return {}


async def update_role_description(call: QueryCall) -> Result | None:
    role = await call.entity(ROLE)
    text = call.form.text("Description", _DESCRIPTION_CHARS_MAX, default="")
    await call.change(
        "iam.entity.change", ChangeEntity(call.account, ROLE, role.name, description=text)
    )
    changed = await call.find(ROLE, role.name)
    return {"Role": None if changed is None else shown.entity(call.account, changed)}


async def update_assume_role_policy(call: QueryCall) -> Result | None:
    role = await call.entity(ROLE)
    await call.change(
        "iam.entity.change",
        ChangeEntity(call.account, ROLE, role.name, trust=_trust(call, "PolicyDocument")),
    )
    return None


async def delete_role(call: QueryCall) -> Result | None:
    return await _delete(call, ROLE)


async def list_roles(call: QueryCall) -> Result | None:
    return await _list(call, ROLE, "Roles")


async def list_instance_profiles_for_role(call: QueryCall) -> Result | None:
    """There are no instances."""
    await call.entity(ROLE)
    return {"InstanceProfiles": [], "IsTruncated": False}


def _session_s(call: QueryCall) -> int:
    return call.form.number(
        "MaxSessionDuration", _SESSION_S_LEAST, _SESSION_S_LEAST, IAM_ROLE_SESSION_S_MAX
    )


def _trust(call: QueryCall, parameter: str) -> str:
    text = call.form.required(parameter)
    quota = "ACLSizePerRole"
    documents.checked(text, PolicyKind.TRUST, chars_max=IAM_TRUST_CHARS_MAX, quota=quota)
    return text


# --- boundaries -----------------------------------------------------------------------------------


async def put_user_boundary(call: QueryCall) -> Result | None:
    return await _bound(call, USER)


async def put_role_boundary(call: QueryCall) -> Result | None:
    return await _bound(call, ROLE)


async def delete_user_boundary(call: QueryCall) -> Result | None:
    return await _unbound(call, USER)


async def delete_role_boundary(call: QueryCall) -> Result | None:
    return await _unbound(call, ROLE)


async def _bound(call: QueryCall, kind: EntityKind) -> Result | None:
    arn = await _boundary(call)
    row = await call.entity(kind, {"iam:PermissionsBoundary": (arn,)})
    await call.change("iam.entity.change", ChangeEntity(call.account, kind, row.name, boundary=arn))
    return None


async def _unbound(call: QueryCall, kind: EntityKind) -> Result | None:
    row = await call.entity(kind)
    if not row.boundary:
        raise refusals.no_such("permissions boundary", row.name)
    await call.change("iam.entity.change", ChangeEntity(call.account, kind, row.name, boundary=""))
    return None


async def _boundary(call: QueryCall) -> str:
    """The ARN that the request gives; whether there is such a policy is decided at the commit."""
    arn = call.form.required("PermissionsBoundary")
    parsed = names.parse_arn(arn)
    if parsed is None or parsed.word != "policy":
        raise InvalidInput(f"ARN {arn[:256]} is not valid.", "InvalidInput")
    if parsed.account == names.AWS_ACCOUNT and await call.find_policy(arn) is None:
        raise refusals.no_such("policy", arn)
    return arn


# --- sessions -------------------------------------------------------------------------------------


async def revoke_sessions(call: QueryCall) -> Result | None:
    """Ours: all sessions of a user or a role that have begun are void. AWS has an inline policy
    for it, with a condition on aws:TokenIssueTime, which works here, too: who may put one, may do
    this."""
    kind = ROLE if "RoleName" in call.form else USER
    row = await call.entity(kind, action=f"iam:Put{names.WORD[kind].capitalize()}Policy")
    await call.change(
        "iam.entity.change",
        ChangeEntity(call.account, kind, row.name, void_before_ms=call.now_ms + 1),
    )
    return None


# --- what they share ------------------------------------------------------------------------------


async def entities_of(call: QueryCall, ids: list[str]) -> list[EntityRow]:
    """The rows of entities by their ids, without those that are gone."""
    state, account = call.services.state, call.account
    if not ids:
        return []
    named = await state.read([(IAM, keys.name_of(account, one)) for one in ids])
    which = [decode(NameRow, stored) for stored in named if stored is not None]
    if not which:
        return []
    rows = await state.read([(IAM, keys.entity(account, one.kind, one.name)) for one in which])
    return [decode(EntityRow, stored) for stored in rows if stored is not None]


async def _made(call: QueryCall, kind: EntityKind, name: str) -> EntityRow:
    form, account = call.form, call.account
    tags = form.tags() if kind is not GROUP else ()
    boundary = await _boundary(call) if "PermissionsBoundary" in form and kind is not GROUP else ""
    row = EntityRow(
        *(kind, names.entity_id(kind), name, form.path(), call.now_ms, tags, boundary),
        trust=_trust(call, "AssumeRolePolicyDocument") if kind is ROLE else "",
        description=form.text("Description", _DESCRIPTION_CHARS_MAX, default="")
        if kind is ROLE
        else "",
        max_session_s=_session_s(call) if kind is ROLE else _SESSION_S_LEAST,
    )
    bounding = {"iam:PermissionsBoundary": (boundary,)} if boundary else {}
    arn = names.entity_arn(account, kind, row.path, name)
    await call.permit(arn, conditions.of_tags(tags), bounding)
    await call.change("iam.entity.create", CreateEntity(account, row))
    return row


async def _rename(call: QueryCall, kind: EntityKind, parameter: str) -> None:
    row, form, account = await call.entity(kind), call.form, call.account
    new_name = new_path = None
    if parameter in form:
        new_name = form.name(parameter, names.NAME_CHARS_MAX[kind])
    if "NewPath" in form:
        new_path = form.path("NewPath")
    await call.permit(names.entity_arn(account, kind, new_path or row.path, new_name or row.name))
    await call.change(
        "iam.entity.change",
        ChangeEntity(account, kind, row.name, new_name=new_name, path=new_path),
    )


async def _delete(call: QueryCall, kind: EntityKind) -> Result | None:
    row = await call.entity(kind)
    await call.change("iam.entity.delete", DeleteEntity(call.account, kind, row.name))
    return None


async def _list(call: QueryCall, kind: EntityKind, called: str) -> Result:
    account, below = call.account, call.form.path_prefix()
    await call.permit(names.entity_arn(account, kind, below, "*"))

    def wanted(_: bytes, stored: bytes) -> Content:
        row = decode(EntityRow, stored)
        shows = row.path.startswith(below)
        return shown.entity(account, row, in_full=False) if shows else None

    found, page = await call.page(keys.entities(account, kind), wanted)
    return {called: found, **page}
