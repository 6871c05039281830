"""How procedures and questions find rows, count them, and touch the principals of a change.

A change concerns a principal where it changes what that may do, or who it is. Its row then has
another generation, in the commit of the change: so whoever has decided something on an older one
finds out with the read, or at the commit, that the decision is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from predastore.base.limits import IAM_TAGS_MAX
from predastore.iam import keys, names
from predastore.iam.keys import IAM, PRINCIPALS
from predastore.iam.procedures.arguments import Cause, refuse
from predastore.iam.rows import CountsRow, EntityKind, EntityRow, PolicyRow, PrincipalRow, Tags
from predastore.s3db.procedures import Rows, View
from predastore.storage.formats import decode, encode, rewritten

S = TypeVar("S", bound=msgspec.Struct)


def below(view: Rows, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The rows of the table `iam` whose keys begin with `prefix`: the rest of the key, the row."""
    start = prefix
    while (found := view.first(IAM, prefix, start)) is not None:
        yield found[0][len(prefix) :], found[1]
        start = found[0] + b"\0"


def count_below(view: Rows, prefix: bytes) -> int:
    return sum(1 for _ in below(view, prefix))


def find_entity(view: Rows, account: str, kind: EntityKind, name: str) -> EntityRow:
    """NO_SUCH."""
    stored = view.get(IAM, keys.entity(account, kind, name))
    if stored is None:
        raise refuse(Cause.NO_SUCH, names.WORD[kind], name)
    return decode(EntityRow, stored)


def find_policy(view: Rows, account: str, name: str) -> PolicyRow:
    """NO_SUCH."""
    stored = view.get(IAM, keys.policy(account, name))
    if stored is None:
        raise refuse(Cause.NO_SUCH, "policy", name)
    return decode(PolicyRow, stored)


def rewrite(view: View, key: bytes, row: msgspec.Struct, table: str = IAM) -> None:
    """`row` in the place of what is stored there; what a newer program added stays."""
    stored = view.get(table, key)
    assert stored is not None
    view.put(table, key, rewritten(stored, row))


def count(view: View, account: str, field: str, by: int, most: int) -> None:
    """One more, or less, of what an account has; LIMIT where that is over `most`."""
    key = keys.counts(account)
    stored = view.get(IAM, key)
    row = CountsRow() if stored is None else decode(CountsRow, stored)
    new = getattr(row, field) + by
    if by > 0 and new > most:
        raise refuse(Cause.LIMIT, f"{field.capitalize()}PerAccount", str(most))
    changed = msgspec.structs.replace(row, **{field: new})
    view.put(IAM, key, encode(changed) if stored is None else rewritten(stored, changed))


def touch(view: View, account: str, principal_ids: Iterable[str]) -> None:
    """A new generation for each of them, once."""
    for principal_id in dict.fromkeys(principal_ids):
        key = keys.principal(account, principal_id)
        stored = view.get(PRINCIPALS, key)
        if stored is None:
            view.put(PRINCIPALS, key, encode(PrincipalRow(1)))
            continue
        row = PrincipalRow(decode(PrincipalRow, stored).generation + 1)
        view.put(PRINCIPALS, key, rewritten(stored, row))


def concerned(view: Rows, account: str, entity_id: str) -> Iterator[str]:
    """The principals that a change of an entity's policies concerns: it, or a group's members."""
    if entity_id.startswith("AGPA"):
        for user_id, _ in below(view, keys.members(account, entity_id)):
            yield user_id.decode()
    else:
        yield entity_id


def concerned_by_policy(view: Rows, account: str, arn: str) -> Iterator[str]:
    """The same of a change of a managed policy."""
    for prefix in (keys.attachments(account, arn), keys.boundaries(account, arn)):
        for entity_id, _ in below(view, prefix):
            yield from concerned(view, account, entity_id.decode())


def amended(tags: Tags, new: Tags, gone: tuple[str, ...]) -> Tags:
    """`tags` with others added, or in their place, and without some; LIMIT. A tag's name is one
    whatever its case."""
    kept = {key.lower(): (key, value) for key, value in tags}
    kept |= {key.lower(): (key, value) for key, value in new}
    for key in gone:
        kept.pop(key.lower(), None)
    if len(kept) > IAM_TAGS_MAX:
        raise refuse(Cause.LIMIT, "TagsPerResource", str(IAM_TAGS_MAX))
    return tuple(kept.values())
