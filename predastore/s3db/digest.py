"""The digest of a state: SHA-256 over all that members must agree on. Reads everything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from predastore.s3db import keys

if TYPE_CHECKING:
    import lmdb

    from predastore.s3db.environment import Environment


def of(
    opened: Environment, tables: Mapping[str, keys.Table], txn: lmdb.Transaction[bytes]
) -> bytes:
    """Of all tables, the remembered answers, level and time; equal states, equal digests."""
    digest = hashlib.sha256()

    def update(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)

    update(b"level %d" % opened.level_of(txn))
    update(opened.time_of(txn).pack())
    for name, table in sorted(tables.items()):
        update(b"table")
        update(name.encode())
        walk = keys.Walk(txn, table)
        more = walk.seek(b"")
        while more:
            update(walk.key)
            update(walk.value())
            more = walk.next()
    for index, request_id in txn.cursor(db=opened.window):
        update(index)
        update(request_id)
        update(txn.get(request_id, b"", db=opened.requests))
    return digest.digest()
