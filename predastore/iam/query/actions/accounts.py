"""Accounts: what one has; and, for the operator's account alone, making others.

CreateAccount, GetAccount, ListAccounts and UpdateAccount are ours: AWS has them in Organizations.
"""

from __future__ import annotations

from predastore.base.limits import (
    IAM_ACCESS_KEYS_MAX,
    IAM_ATTACHED_MAX,
    IAM_GROUPS_MAX,
    IAM_GROUPS_OF_USER_MAX,
    IAM_MANAGED_CHARS_MAX,
    IAM_POLICIES_MAX,
    IAM_POLICY_VERSIONS_MAX,
    IAM_ROLES_MAX,
    IAM_TRUST_CHARS_MAX,
    IAM_USER_INLINE_CHARS_MAX,
    IAM_USERS_MAX,
)
from predastore.iam import keys, names, refusals, sealing_keys
from predastore.iam.errors import EntityExists, NotAllowed
from predastore.iam.keys import ACCOUNTS, IAM
from predastore.iam.procedures.arguments import CreateAccount, RenameAccount
from predastore.iam.query.actions import access_keys
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Content, Entries, Result, stamp
from predastore.iam.query.form import invalid
from predastore.iam.rows import AccountRow, CountsRow
from predastore.storage.formats import decode

_NAME_CHARS_MAX = 50


async def summary(call: QueryCall) -> Result | None:
    await call.permit("*")
    state, account = call.services.state, call.account
    stored = await state.get(IAM, keys.counts(account))
    row = CountsRow() if stored is None else decode(CountsRow, stored)
    root_keys = len(await state.list_keys(IAM, keys.keys_of(account, account), 10))
    counts = Entries(
        Users=row.users,
        UsersQuota=IAM_USERS_MAX,
        Groups=row.groups,
        GroupsQuota=IAM_GROUPS_MAX,
        Roles=row.roles,
        RolesQuota=IAM_ROLES_MAX,
        Policies=row.policies,
        PoliciesQuota=IAM_POLICIES_MAX,
        PolicySizeQuota=IAM_MANAGED_CHARS_MAX,
        UserPolicySizeQuota=IAM_USER_INLINE_CHARS_MAX,
        AssumeRolePolicySizeQuota=IAM_TRUST_CHARS_MAX,
        AccessKeysPerUserQuota=IAM_ACCESS_KEYS_MAX,
        GroupsPerUserQuota=IAM_GROUPS_OF_USER_MAX,
        AttachedPoliciesPerUserQuota=IAM_ATTACHED_MAX,
        VersionsPerPolicyQuota=IAM_POLICY_VERSIONS_MAX,
        AccountAccessKeysPresent=int(root_keys > 0 or call.identity.is_root),
        AccountMFAEnabled=0,
        MFADevices=0,
        InstanceProfiles=0,
        Providers=0,
    )
    return {"SummaryMap": counts}


# --- the operator's -------------------------------------------------------------------------------


async def create(call: QueryCall) -> Result | None:
    await _permit(call, "*")
    name = call.form.text("AccountName", _NAME_CHARS_MAX)
    account = call.form.optional("AccountId") or _free_id(call)
    if names.ACCOUNT_ID.fullmatch(account) is None:
        raise invalid("AccountId", account, "Member must have 12 digits")
    if call.services.is_taken(account):
        raise EntityExists(f"The account {account} is one of the configuration.")
    row = AccountRow(account, names.canonical_id(account), name, call.now_ms)
    made = await access_keys.new_key(call, account, account)
    await call.change(
        "iam.account.create",
        CreateAccount(row, made.access_key_id, made.row),
        checks=(call.services.sealing.check,),
    )
    return {
        "Account": _shown(row),
        "AccessKey": {
            "AccessKeyId": made.access_key_id,
            "Status": "Active",
            "SecretAccessKey": made.secret,
            "CreateDate": stamp(call.now_ms),
        },
    }


async def update(call: QueryCall) -> Result | None:
    account = call.form.text("AccountId", 64)
    await _permit(call, account)
    name = call.form.text("AccountName", _NAME_CHARS_MAX)
    await call.change("iam.account.rename", RenameAccount(account, name))
    return None


async def get(call: QueryCall) -> Result | None:
    account = call.form.text("AccountId", 64)
    await _permit(call, account)
    stored = await call.services.state.get(ACCOUNTS, keys.account(account))
    if stored is None:
        raise refusals.no_such("account", account)
    return {"Account": _shown(decode(AccountRow, stored))}


async def list_(call: QueryCall) -> Result | None:
    await _permit(call, "*")

    def account(_: bytes, stored: bytes) -> Content:
        return _shown(decode(AccountRow, stored))

    found, page = await call.page(b"", account, ACCOUNTS)
    return {"Accounts": found, **page}


async def rotate_sealing_key(call: QueryCall) -> Result | None:
    """Another version of the key that seals secrets; those of access keys are sealed anew under it.
    Sessions that have begun go on."""
    await _permit(call, "*")
    number, sealed = await sealing_keys.rotate(call.services.state, call.services.sealing)
    return {"SealingKey": number, "AccessKeysSealed": sealed}


async def _permit(call: QueryCall, account: str) -> None:
    if call.account != call.services.operator():
        raise NotAllowed(f"{call.action} is for the operator's account.")
    await call.permit(account if account == "*" else names.root_arn(account))


def _free_id(call: QueryCall) -> str:
    while call.services.is_taken(account := names.account_id()):
        pass
    return account


def _shown(row: AccountRow) -> Result:
    return {
        "AccountId": row.id,
        "AccountName": row.name,
        "CanonicalId": row.canonical_id,
        "Arn": names.root_arn(row.id),
        "CreateDate": stamp(row.created_ms),
    }
