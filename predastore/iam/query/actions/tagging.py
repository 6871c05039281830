"""The tags of users, roles and policies."""

from __future__ import annotations

from predastore.iam.procedures.arguments import ChangeEntity, ChangePolicy
from predastore.iam.query import conditions
from predastore.iam.query.actions import shown
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Result
from predastore.iam.rows import EntityKind


class Tagging:
    """The actions of one kind of entity."""

    def __init__(self, kind: EntityKind) -> None:
        self._kind = kind

    async def tag(self, call: QueryCall) -> Result | None:
        tags = call.form.tags()
        row = await call.entity(self._kind, conditions.of_tags(tags))
        await call.change(
            "iam.entity.change", ChangeEntity(call.account, self._kind, row.name, tags=tags)
        )
        return None

    async def untag(self, call: QueryCall) -> Result | None:
        gone = call.form.members("TagKeys")
        row = await call.entity(self._kind, conditions.of_tags((), gone))
        await call.change(
            "iam.entity.change", ChangeEntity(call.account, self._kind, row.name, untagged=gone)
        )
        return None

    async def list(self, call: QueryCall) -> Result | None:
        row = await call.entity(self._kind)
        return {"Tags": shown.tags(row.tags), "IsTruncated": False}


async def tag_policy(call: QueryCall) -> Result | None:
    tags = call.form.tags()
    _, row = await call.own_policy(conditions.of_tags(tags))
    await call.change("iam.policy.change", ChangePolicy(call.account, row.name, tags=tags))
    return None


async def untag_policy(call: QueryCall) -> Result | None:
    gone = call.form.members("TagKeys")
    _, row = await call.own_policy(conditions.of_tags((), gone))
    await call.change("iam.policy.change", ChangePolicy(call.account, row.name, untagged=gone))
    return None


async def list_policy_tags(call: QueryCall) -> Result | None:
    _, row = await call.policy()
    return {"Tags": shown.tags(row.tags), "IsTruncated": False}
