"""The actions of the Query API, on one page.

Who may do what is decided in the action, for `iam:<Action>` or `sts:<Action>` on what it is about.
`changes`: it changes something, and the log has a line of it. `unsigned`: it needs no signature.
`in_session`: what temporary credentials of a user may ask for, too; they may not ask IAM for
anything, as with AWS.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from predastore.iam.query.actions import (
    absent,
    access_keys,
    accounts,
    entities,
    federation,
    policies,
    simulation,
    sts,
    tagging,
)
from predastore.iam.query.actions.attached import Attached
from predastore.iam.query.actions.tagging import Tagging
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Result
from predastore.iam.rows import EntityKind

Run: TypeAlias = Callable[[QueryCall], Awaitable[Result | None]]


@dataclass(frozen=True, slots=True)
class QueryAction:
    run: Run
    changes: bool = False
    unsigned: bool = False
    in_session: bool = False


def _reads(run: Run) -> QueryAction:
    return QueryAction(run)


def _changes(run: Run) -> QueryAction:
    return QueryAction(run, changes=True)


_USERS, _GROUPS, _ROLES = (Attached(kind) for kind in EntityKind)
_USER_TAGS, _ROLE_TAGS = Tagging(EntityKind.USER), Tagging(EntityKind.ROLE)

_IAM: Final = {
    # --- users
    "CreateUser": _changes(entities.create_user),
    "GetUser": _reads(entities.get_user),
    "UpdateUser": _changes(entities.update_user),
    "DeleteUser": _changes(entities.delete_user),
    "ListUsers": _reads(entities.list_users),
    "TagUser": _changes(_USER_TAGS.tag),
    "UntagUser": _changes(_USER_TAGS.untag),
    "ListUserTags": _reads(_USER_TAGS.list),
    # --- access keys
    "CreateAccessKey": _changes(access_keys.create),
    "UpdateAccessKey": _changes(access_keys.update),
    "DeleteAccessKey": _changes(access_keys.delete),
    "ListAccessKeys": _reads(access_keys.list_),
    "GetAccessKeyLastUsed": _reads(access_keys.last_used),
    # --- groups
    "CreateGroup": _changes(entities.create_group),
    "GetGroup": _reads(entities.get_group),
    "UpdateGroup": _changes(entities.update_group),
    "DeleteGroup": _changes(entities.delete_group),
    "ListGroups": _reads(entities.list_groups),
    "ListGroupsForUser": _reads(entities.list_groups_for_user),
    "AddUserToGroup": _changes(entities.add_user_to_group),
    "RemoveUserFromGroup": _changes(entities.remove_user_from_group),
    # --- roles
    "CreateRole": _changes(entities.create_role),
    "GetRole": _reads(entities.get_role),
    "UpdateRole": _changes(entities.update_role),
    "UpdateRoleDescription": _changes(entities.update_role_description),
    "UpdateAssumeRolePolicy": _changes(entities.update_assume_role_policy),
    "DeleteRole": _changes(entities.delete_role),
    "ListRoles": _reads(entities.list_roles),
    "ListInstanceProfilesForRole": _reads(entities.list_instance_profiles_for_role),
    "TagRole": _changes(_ROLE_TAGS.tag),
    "UntagRole": _changes(_ROLE_TAGS.untag),
    "ListRoleTags": _reads(_ROLE_TAGS.list),
    # --- inline policies
    "PutUserPolicy": _changes(_USERS.put),
    "GetUserPolicy": _reads(_USERS.get),
    "DeleteUserPolicy": _changes(_USERS.delete),
    "ListUserPolicies": _reads(_USERS.list),
    "PutGroupPolicy": _changes(_GROUPS.put),
    "GetGroupPolicy": _reads(_GROUPS.get),
    "DeleteGroupPolicy": _changes(_GROUPS.delete),
    "ListGroupPolicies": _reads(_GROUPS.list),
    "PutRolePolicy": _changes(_ROLES.put),
    "GetRolePolicy": _reads(_ROLES.get),
    "DeleteRolePolicy": _changes(_ROLES.delete),
    "ListRolePolicies": _reads(_ROLES.list),
    # --- managed policies
    "CreatePolicy": _changes(policies.create),
    "GetPolicy": _reads(policies.get),
    "DeletePolicy": _changes(policies.delete),
    "ListPolicies": _reads(policies.list_),
    "CreatePolicyVersion": _changes(policies.create_version),
    "GetPolicyVersion": _reads(policies.get_version),
    "ListPolicyVersions": _reads(policies.list_versions),
    "SetDefaultPolicyVersion": _changes(policies.choose_version),
    "DeletePolicyVersion": _changes(policies.delete_version),
    "ListEntitiesForPolicy": _reads(policies.list_entities),
    "TagPolicy": _changes(tagging.tag_policy),
    "UntagPolicy": _changes(tagging.untag_policy),
    "ListPolicyTags": _reads(tagging.list_policy_tags),
    "AttachUserPolicy": _changes(_USERS.attach),
    "DetachUserPolicy": _changes(_USERS.detach),
    "ListAttachedUserPolicies": _reads(_USERS.list_attached),
    "AttachGroupPolicy": _changes(_GROUPS.attach),
    "DetachGroupPolicy": _changes(_GROUPS.detach),
    "ListAttachedGroupPolicies": _reads(_GROUPS.list_attached),
    "AttachRolePolicy": _changes(_ROLES.attach),
    "DetachRolePolicy": _changes(_ROLES.detach),
    "ListAttachedRolePolicies": _reads(_ROLES.list_attached),
    # --- boundaries
    "PutUserPermissionsBoundary": _changes(entities.put_user_boundary),
    "DeleteUserPermissionsBoundary": _changes(entities.delete_user_boundary),
    "PutRolePermissionsBoundary": _changes(entities.put_role_boundary),
    "DeleteRolePermissionsBoundary": _changes(entities.delete_role_boundary),
    # --- the account
    "GetAccountSummary": _reads(accounts.summary),
    "SimulatePrincipalPolicy": _reads(simulation.of_principal),
    "SimulateCustomPolicy": _reads(simulation.of_policies),
    # --- what is not here
    **{name: _reads(absent.listed) for name in absent.LISTS},
    **{name: _reads(absent.login) for name in absent.LOGINS},
    # --- ours
    "RevokeSessions": _changes(entities.revoke_sessions),
    "CreateAccount": _changes(accounts.create),
    "UpdateAccount": _changes(accounts.update),
    "GetAccount": _reads(accounts.get),
    "ListAccounts": _reads(accounts.list_),
    "RotateSealingKey": _changes(accounts.rotate_sealing_key),
}

_STS: Final = {
    "GetCallerIdentity": QueryAction(sts.caller_identity, in_session=True),
    "GetAccessKeyInfo": _reads(sts.access_key_info),
    "GetSessionToken": QueryAction(sts.session_token, in_session=True),
    "AssumeRole": QueryAction(sts.assume_role, in_session=True),
    "AssumeRoleWithWebIdentity": QueryAction(federation.assume_role, unsigned=True),
    "AssumeRoleWithSAML": QueryAction(sts.unsupported, unsigned=True),
    "GetFederationToken": QueryAction(sts.unsupported),
}

ACTIONS: Final[Mapping[str, Mapping[str, QueryAction]]] = {"iam": _IAM, "sts": _STS}
