"""The policies of users, groups and roles: inline ones, and managed ones that are attached.

Each action is there three times, once for each kind, with the same body: `Attached(kind)` has them.
"""

from __future__ import annotations

from typing import Final

from predastore.base.limits import (
    IAM_GROUP_INLINE_CHARS_MAX,
    IAM_ROLE_INLINE_CHARS_MAX,
    IAM_USER_INLINE_CHARS_MAX,
)
from predastore.iam import documents, keys, names, refusals
from predastore.iam.keys import IAM
from predastore.iam.procedures.arguments import ChangeAttached, DeleteInline, PutInline
from predastore.iam.query.actions import shown
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Content, Result
from predastore.iam.rows import EntityKind, InlineRow
from predastore.policy import PolicyKind
from predastore.storage.formats import decode

_INLINE_CHARS_MAX: Final = {
    EntityKind.USER: IAM_USER_INLINE_CHARS_MAX,
    EntityKind.GROUP: IAM_GROUP_INLINE_CHARS_MAX,
    EntityKind.ROLE: IAM_ROLE_INLINE_CHARS_MAX,
}


class Attached:
    """The actions of one kind."""

    def __init__(self, kind: EntityKind) -> None:
        self._kind = kind
        self._word = names.WORD[kind].capitalize()

    # --- inline

    async def put(self, call: QueryCall) -> Result | None:
        row = await call.entity(self._kind)
        name, text = call.form.name("PolicyName"), call.form.required("PolicyDocument")
        most, quota = _INLINE_CHARS_MAX[self._kind], f"{self._word}PolicySize"
        documents.checked(text, PolicyKind.IDENTITY, chars_max=most, quota=quota)
        await call.change(
            "iam.inline.put", PutInline(call.account, self._kind, row.name, name, text)
        )
        return None

    async def get(self, call: QueryCall) -> Result | None:
        row = await call.entity(self._kind)
        name = call.form.name("PolicyName")
        stored = await call.services.state.get(IAM, keys.inline(call.account, row.id, name))
        if stored is None:
            raise refusals.no_such(f"{self._word.lower()} policy", name)
        inline = decode(InlineRow, stored)
        return {
            f"{self._word}Name": row.name,
            "PolicyName": inline.name,
            "PolicyDocument": shown.document(inline.document),
        }

    async def delete(self, call: QueryCall) -> Result | None:
        row = await call.entity(self._kind)
        name = call.form.name("PolicyName")
        await call.change(
            "iam.inline.delete", DeleteInline(call.account, self._kind, row.name, name)
        )
        return None

    async def list(self, call: QueryCall) -> Result | None:
        row = await call.entity(self._kind)

        def name(_: bytes, stored: bytes) -> Content:
            return decode(InlineRow, stored).name

        found, page = await call.page(keys.inlines(call.account, row.id), name)
        return {"PolicyNames": found, **page}

    # --- managed

    async def attach(self, call: QueryCall) -> Result | None:
        arn = call.form.required("PolicyArn")
        row = await call.entity(self._kind, {"iam:PolicyARN": (arn,)})
        if await call.find_policy(arn) is None:
            raise refusals.no_such("policy", arn)
        await call.change(
            "iam.policy.attach", ChangeAttached(call.account, self._kind, row.name, arn)
        )
        return None

    async def detach(self, call: QueryCall) -> Result | None:
        arn = call.form.required("PolicyArn")
        row = await call.entity(self._kind, {"iam:PolicyARN": (arn,)})
        await call.change(
            "iam.policy.detach", ChangeAttached(call.account, self._kind, row.name, arn)
        )
        return None

    async def list_attached(self, call: QueryCall) -> Result | None:
        row = await call.entity(self._kind)
        below = call.form.path_prefix()

        def policy(rest: bytes, _: bytes) -> Content:
            arn = rest.decode()
            parsed = names.parse_arn(arn)
            if parsed is None or not parsed.path.startswith(below):
                return None
            return {"PolicyName": parsed.name, "PolicyArn": arn}

        found, page = await call.page(keys.attached_to(call.account, row.id), policy)
        return {"AttachedPolicies": found, **page}
