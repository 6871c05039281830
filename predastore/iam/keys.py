"""The tables of identities, and the keys of their rows.

    table           key                                             row
    iam_accounts    <account>                                       AccountRow
    iam_keys        <access key id>                                 AccessKeyRow
    iam_principals  <account> \\0 <principal id>                     PrincipalRow
    iam_used        <access key id>                                 UsedRow
    iam_sealing     keys                                            SealingRow
    iam             <account> \\0 counts                             CountsRow
    iam             <account> \\0 user/<name>  group/  role/         EntityRow
    iam             <account> \\0 id/<id>                            NameRow
    iam             <account> \\0 policy/<name>                      PolicyRow
    iam             <account> \\0 version/<name>/<4-byte number>     PolicyVersionRow
    iam             <account> \\0 inline/<id>/<name>                 InlineRow
    iam             <account> \\0 attached/<id>/<policy ARN>         nothing
    iam             <account> \\0 attachment/<policy ARN> \\0 <id>    nothing: the other way round
    iam             <account> \\0 bounding/<policy ARN> \\0 <id>      nothing: it is its boundary
    iam             <account> \\0 member/<group id>/<user id>        nothing
    iam             <account> \\0 group-of/<user id>/<group id>      nothing: the other way round
    iam             <account> \\0 key/<principal id>/<access key id> nothing

Names in keys are in lower case, as they are one whatever their case. A principal id is the unique
id of a user or a role, or the account's own for its root. No name, id or account has a NUL. Rows of
one account lie together, so that accounts could lie in Raft groups of their own.
"""

from __future__ import annotations

from typing import Final

from predastore.iam.rows import EntityKind

IAM: Final = "iam"
ACCOUNTS: Final = "iam_accounts"
ACCESS_KEYS: Final = "iam_keys"
PRINCIPALS: Final = "iam_principals"
USED: Final = "iam_used"
SEALING: Final = "iam_sealing"
SEALING_KEYS: Final = b"keys"

_OF_KIND: Final = {EntityKind.USER: "user", EntityKind.GROUP: "group", EntityKind.ROLE: "role"}


def _below(account: str, rest: str) -> bytes:
    return f"{account}\0{rest}".encode()


def account(account_id: str) -> bytes:
    return account_id.encode()


def access_key(access_key_id: str) -> bytes:
    return access_key_id.encode()


def principal(account_id: str, principal_id: str) -> bytes:
    return _below(account_id, principal_id)


def counts(account_id: str) -> bytes:
    return _below(account_id, "counts")


def entities(account_id: str, kind: EntityKind) -> bytes:
    """What the keys of all of a kind begin with."""
    return _below(account_id, f"{_OF_KIND[kind]}/")


def entity(account_id: str, kind: EntityKind, name: str) -> bytes:
    return entities(account_id, kind) + name.lower().encode()


def name_of(account_id: str, entity_id: str) -> bytes:
    return _below(account_id, f"id/{entity_id}")


def policies(account_id: str) -> bytes:
    return _below(account_id, "policy/")


def policy(account_id: str, name: str) -> bytes:
    return policies(account_id) + name.lower().encode()


def policy_versions(account_id: str, name: str) -> bytes:
    return _below(account_id, f"version/{name.lower()}/")


def policy_version(account_id: str, name: str, number: int) -> bytes:
    return policy_versions(account_id, name) + number.to_bytes(4, "big")


def version_number(key: bytes) -> int:
    """Of a `policy_version`."""
    return int.from_bytes(key[-4:], "big")


def inlines(account_id: str, entity_id: str) -> bytes:
    return _below(account_id, f"inline/{entity_id}/")


def inline(account_id: str, entity_id: str, name: str) -> bytes:
    return inlines(account_id, entity_id) + name.lower().encode()


def attached_to(account_id: str, entity_id: str) -> bytes:
    return _below(account_id, f"attached/{entity_id}/")


def attached(account_id: str, entity_id: str, arn: str) -> bytes:
    return attached_to(account_id, entity_id) + arn.encode()


def attachments(account_id: str, arn: str) -> bytes:
    return _below(account_id, f"attachment/{arn}\0")


def attachment(account_id: str, arn: str, entity_id: str) -> bytes:
    return attachments(account_id, arn) + entity_id.encode()


def boundaries(account_id: str, arn: str) -> bytes:
    return _below(account_id, f"bounding/{arn}\0")


def boundary(account_id: str, arn: str, entity_id: str) -> bytes:
    return boundaries(account_id, arn) + entity_id.encode()


def members(account_id: str, group_id: str) -> bytes:
    return _below(account_id, f"member/{group_id}/")


def member(account_id: str, group_id: str, user_id: str) -> bytes:
    return members(account_id, group_id) + user_id.encode()


def groups_of(account_id: str, user_id: str) -> bytes:
    return _below(account_id, f"group-of/{user_id}/")


def group_of(account_id: str, user_id: str, group_id: str) -> bytes:
    return groups_of(account_id, user_id) + group_id.encode()


def keys_of(account_id: str, principal_id: str) -> bytes:
    return _below(account_id, f"key/{principal_id}/")


def key_of(account_id: str, principal_id: str, access_key_id: str) -> bytes:
    return keys_of(account_id, principal_id) + access_key_id.encode()
