"""Which process runs a node: a record in s3db, so that of two that begin at once one is told no.

    table    key                value
    nodes    owner/<5 digits>   OwnerRecord

A process takes a node over from one that runs no more; whether it does is not for this module to
say (predastore.process.rivals). Both commits are conditional: of two, one is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from predastore.base.errors import PreconditionFailed
from predastore.s3db.commands import Absent, Check, Equals, Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.formats import decode, encode
from predastore.storage.ring_table import NODES

OWNER_PREFIX: Final = b"owner/"


class OwnerRecord(msgspec.Struct, frozen=True, array_like=True, tag="w"):
    """`life`: drawn at the start of the process. `host`, `port`: where it takes calls to the node.
    `since_ms`: when it took the node."""

    life: int
    host: str
    port: int
    since_ms: int


class Owner(NamedTuple):
    """Of a node: the record, and as it is `stored`."""

    record: OwnerRecord
    stored: bytes


class Owners:
    def __init__(self, state: GlobalState) -> None:
        self._state = state

    async def read(self, nodes: Sequence[int]) -> list[Owner | None]:
        """Of each node; None: it has never had one."""
        stored = await self._state.read([(NODES, owner_key(node)) for node in nodes])
        return [None if one is None else Owner(decode(OwnerRecord, one), one) for one in stored]

    async def take(self, node: int, new: OwnerRecord, old: Owner | None) -> bool:
        """Puts `new` in the place of `old`. False: somebody was quicker."""
        key = owner_key(node)
        check: Check = Absent(NODES, key) if old is None else Equals(NODES, key, old.stored)
        try:
            put = Put(NODES, key, encode(new))
            await self._state.commit(batch(put, checks=(check,)))
        except PreconditionFailed:
            return False
        return True


def owner_key(node: int) -> bytes:
    return b"%s%05d" % (OWNER_PREFIX, node)
