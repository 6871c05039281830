"""Access keys, of users and of roots. A secret is told once, when it is made."""

from __future__ import annotations

from predastore.iam import keys, names, refusals
from predastore.iam.identities import KEY_PURPOSE
from predastore.iam.keys import ACCESS_KEYS, IAM
from predastore.iam.procedures.arguments import ChangeKey, CreateKey, DeleteKey
from predastore.iam.query.actions import entities
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Content, Result, stamp
from predastore.iam.rows import AccessKeyRow, EntityKind
from predastore.storage.formats import decode

_ACTIVE, _INACTIVE = "Active", "Inactive"


async def create(call: QueryCall) -> Result | None:
    user = await call.own_user()
    owner = await _owner(call, user)
    made = await new_key(call, call.account, owner)
    await call.change(
        "iam.key.create",
        CreateKey(user, made.access_key_id, made.row),
        checks=(call.services.sealing.check,),
    )
    return {
        "AccessKey": {
            "UserName": user or None,
            "AccessKeyId": made.access_key_id,
            "Status": _ACTIVE,
            "SecretAccessKey": made.secret,
            "CreateDate": stamp(call.now_ms),
        }
    }


class MadeKey:
    """An access key that is not stored yet."""

    def __init__(self, access_key_id: str, secret: str, row: AccessKeyRow) -> None:
        self.access_key_id = access_key_id
        self.secret = secret
        self.row = row


async def new_key(call: QueryCall, account: str, principal_id: str) -> MadeKey:
    """With its secret sealed; whoever stores it checks the sealing key (SealingKeys.check)."""
    sealing = call.services.sealing
    await sealing.refresh()
    access_key_id, secret = names.access_key_id(), names.secret()
    sealed = sealing.seal(KEY_PURPOSE, secret.encode(), bound_to=access_key_id.encode())
    row = AccessKeyRow(account, principal_id, sealed, call.now_ms)
    return MadeKey(access_key_id, secret, row)


async def update(call: QueryCall) -> Result | None:
    user = await call.own_user()
    status = call.form.choice("Status", (_ACTIVE, _INACTIVE))
    key_id = call.form.name("AccessKeyId")
    await call.change("iam.key.change", ChangeKey(call.account, user, key_id, status == _ACTIVE))
    return None


async def delete(call: QueryCall) -> Result | None:
    user = await call.own_user()
    key_id = call.form.name("AccessKeyId")
    await call.change("iam.key.delete", DeleteKey(call.account, user, key_id))
    return None


async def list_(call: QueryCall) -> Result | None:
    user = await call.own_user()
    prefix = keys.keys_of(call.account, await _owner(call, user))
    state = call.services.state
    ids = [key[len(prefix) :] for key in await state.list_keys(IAM, prefix, 100)]
    rows = await state.read([(ACCESS_KEYS, one) for one in ids]) if ids else []
    shown: list[Content] = []
    for key_id, stored in zip(ids, rows, strict=True):
        if stored is not None:
            row = decode(AccessKeyRow, stored)
            shown.append(
                {
                    "UserName": user or None,
                    "AccessKeyId": key_id.decode(),
                    "Status": _ACTIVE if row.is_active else _INACTIVE,
                    "CreateDate": stamp(row.created_ms),
                }
            )
    return {"AccessKeyMetadata": shown, "IsTruncated": False}


async def last_used(call: QueryCall) -> Result | None:
    """Of a key of the account; of any other it is as if it were not there."""
    key_id = call.form.name("AccessKeyId")
    stored = await call.services.state.get(ACCESS_KEYS, keys.access_key(key_id))
    row = None if stored is None else decode(AccessKeyRow, stored)
    name, path = "", "/"
    if row is not None and row.account == call.account and row.principal_id != call.account:
        for user in await entities.entities_of(call, [row.principal_id]):
            name, path = user.name, user.path
    await call.permit(names.entity_arn(call.account, EntityKind.USER, path, name or "*"))
    if row is None or row.account != call.account:
        raise refusals.no_such("access key", key_id)
    used = await call.services.used.read(key_id)
    told: dict[str, Content] = {"ServiceName": "N/A", "Region": "N/A"}
    if used is not None:
        told = {
            "LastUsedDate": stamp(used.used_ms),
            "ServiceName": used.service,
            "Region": used.region,
        }
    return {"UserName": name or None, "AccessKeyLastUsed": told}


async def _owner(call: QueryCall, user: str) -> str:
    """The principal id of a user, or of the root."""
    if not user:
        return call.account
    row = await call.find(EntityKind.USER, user)
    if row is None:
        raise refusals.no_such("user", user)
    return row.id
