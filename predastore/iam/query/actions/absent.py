"""What no user has here: passwords, MFA devices, certificates, keys of SSH and of other services.

Who removes a user with all that belongs to it (Terraform's force_destroy) asks for each first. The
answers are AWS's for a user without any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from predastore.iam.errors import NoSuchEntity
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Result
from predastore.iam.rows import EntityKind

Run: TypeAlias = Callable[[QueryCall], Awaitable[Result | None]]


def of_user(listed: str) -> Run:
    """The action that lists nothing of a user, as `listed`."""

    async def run(call: QueryCall) -> Result | None:
        name = "" if "UserName" in call.form else call.identity.principal.name
        await call.entity(EntityKind.USER, name=name)
        return {listed: [], "IsTruncated": False}

    return run


async def list_virtual_devices(call: QueryCall) -> Result | None:
    await call.permit("*")
    return {"VirtualMFADevices": [], "IsTruncated": False}


async def no_login_profile(call: QueryCall) -> Result | None:
    """For what asks for a user's password, or removes it."""
    row = await call.entity(EntityKind.USER)
    raise NoSuchEntity(f"Login Profile for User {row.name} cannot be found.")
