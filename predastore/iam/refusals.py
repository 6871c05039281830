"""What a procedure answered, as a struct or as the error that it means, in IAM's words: the one
place for that."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from predastore.base.errors import CorruptData
from predastore.iam.errors import (
    ConcurrentChange,
    DeleteConflict,
    EntityExists,
    IamError,
    LimitExceeded,
    NoSuchEntity,
)
from predastore.iam.procedures.arguments import Cause
from predastore.storage.formats import unpack

S = TypeVar("S", bound=msgspec.Struct)

_DETAILS: Final = msgspec.msgpack.Decoder(dict[str, str])

_FIRST: Final = {
    "access keys": "must delete access keys first",
    "policies": "must delete policies first",
    "attached policies": "must detach all policies first",
    "users": "must remove users from group first",
    "groups": "must remove users from group first",
}


def cause_of(answer: bytes) -> Cause:
    """DONE, or why nothing was done; CorruptData."""
    try:
        return Cause(answer[0])
    except (IndexError, ValueError):
        raise CorruptData("an answer that this program does not know") from None


def read(kind: type[S], answer: bytes) -> S:
    """The answer of what was done; the error of what was refused."""
    check(answer)
    return unpack(kind, answer[1:])


def check(answer: bytes) -> None:
    """Raises the error of what was refused."""
    cause = cause_of(answer)
    if cause:
        raise error_of(cause, _DETAILS.decode(answer[1:]))


def error_of(cause: Cause, details: dict[str, str]) -> IamError:
    """What a cause means; of one that is not DONE."""
    what, name = details["what"], details["name"]
    if cause is Cause.NO_SUCH:
        return no_such(what, name)
    if cause is Cause.EXISTS:
        if what == "policy":
            return EntityExists(
                f"A policy called {name} already exists. Duplicate names are not allowed."
            )
        return EntityExists(f"{what.capitalize()} with name {name} already exists.")
    if cause is Cause.CONFLICT:
        return DeleteConflict(_conflict(what))
    if cause is Cause.LIMIT:
        return LimitExceeded(_limit(what, name))
    return ConcurrentChange(f"The {what} {name} was changed meanwhile; try again.")


def no_such(what: str, name: str) -> NoSuchEntity:
    """That there is no such thing."""
    if what == "policy" and name.startswith("arn:"):
        return NoSuchEntity(f"Policy {name} does not exist or is not attachable.")
    if what == "attached policy":
        return NoSuchEntity(f"Policy {name} was not found.")
    if what == "policy version":
        return NoSuchEntity(f"Policy version {name} does not exist.")
    if what == "access key":
        return NoSuchEntity(f"The Access Key with id {name} cannot be found.")
    return NoSuchEntity(f"The {what} with name {name} cannot be found.")


def _conflict(what: str) -> str:
    if what == "default version":
        return "Cannot delete the default version of a policy."
    if what == "versions":
        return (
            "This policy has more than one version. Before you delete a policy, you must delete "
            "the policy's versions. The default version is deleted with the policy."
        )
    if what == "attachments":
        return "Cannot delete a policy attached to entities."
    return f"Cannot delete entity, {_FIRST[what]}."


def _limit(what: str, most: str) -> str:
    if what.startswith("inline of "):
        _, _, kind, name = what.split(" ", 3)
        return f"Maximum policy size of {most} bytes exceeded for {kind} {name}"
    if what == "versions of a policy":
        return (
            f"A managed policy can have up to {most} versions. Before you create a new version, "
            "you must delete an existing version."
        )
    return f"Cannot exceed quota for {what}: {most}"
