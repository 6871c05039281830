"""What is stored about healing, in the table `healing`; encoded by `storage.formats`.

key                                                        value
lease                                                      LeaseRecord
beat                                                       16 bytes, new with each heartbeat
horizon                                                    HorizonRecord (catalog/fence.py)
ring                                                       RingRecord
progress                                                   ProgressRecord
restored                                                   16 bytes, new when s3db was restored
node/<5 digits>                                            NodeRecord
moved/<shard hash> <write id> <2-byte index> <4-byte node>  MovedRecord
"""

from __future__ import annotations

from typing import Final

import msgspec

LEASE_KEY: Final = b"lease"
BEAT_KEY: Final = b"beat"
RING_KEY: Final = b"ring"
PROGRESS_KEY: Final = b"progress"
RESTORED_KEY: Final = b"restored"
NODE_PREFIX: Final = b"node/"
MOVED_PREFIX: Final = b"moved/"


class LeaseRecord(msgspec.Struct, frozen=True, array_like=True):
    """Who heals. `holder`: drawn anew each time the lease is taken; `process`: its name in logs."""

    holder: bytes
    process: str
    since_ms: int


class NodeRecord(msgspec.Struct, frozen=True, array_like=True):
    """`store_id`: of the node's directory, as it was when all that it should hold was looked
    for. Another one has other contents. LEFT: it had been removed for a while, and whatever still
    named it was looked for. `restored`: what was stored under that key then: records of another
    backup may name what is gone."""

    store_id: str
    checked_ms: int
    restored: bytes = b""


class MovedRecord(msgspec.Struct, frozen=True, array_like=True):
    """A shard that a record named until `moved_ms` and that `node` may let go of after the
    readers' grace time; 0: it is being told to."""

    shard_hash: bytes
    write_id: bytes
    index: int
    node: int
    moved_ms: int


class RingRecord(msgspec.Struct, frozen=True, array_like=True):
    """How far the shards have been brought to where the ring of this `digest` wants them: the
    walk is behind `after` in `table`; `settled`: it has come to its end. `left_count`: extents that
    had to be left where they were, for a later walk. `moved_*`: since `begun_ms`."""

    digest: bytes
    table: str
    after: bytes
    settled: bool
    left_count: int
    moved_shards: int
    moved_bytes: int
    begun_ms: int


LEFT: Final = "left"

GOOD: Final = 0
SILENT: Final = 1  # it does not answer
FAILED: Final = 2  # it says that its disk has failed


class SeenNode(msgspec.Struct, frozen=True, array_like=True):
    """`shards`, `live_bytes`: what it held when it last said. `lost_in_s`: until it is given up, if
    it does not get well; -1: it is well. `named_*`: what records name there, counted since it is
    not well; -1: not yet."""

    node: int
    shards: int
    live_bytes: int
    state: int
    lost_in_s: int
    named_shards: int = -1
    named_bytes: int = -1


class UnnamedBad(msgspec.Struct, frozen=True, array_like=True):
    """The bad shards of a node that no record names, as a walk has found; `digest`: of them
    (scrubbed.digest)."""

    node: int
    digest: bytes


class ProgressRecord(msgspec.Struct, frozen=True, array_like=True):
    """What the process that heals says of itself, for whoever asks.

    `*_left`: of the repair table. `stuck_shards`: of these, such as can not be rebuilt now.
    `rate_bytes_s`: of late. `seconds_left`: at that rate; -1: unknown. `repaired_*`, `moved_*`,
    `orphans_*`: since this process heals. `walk`: "" or what is being walked over, with
    `walk_percent` of it done. `last_pass_ms`: the end of the last comparison of all nodes with all
    records, or 0. `lost_nodes`: given up, as they have not been well for long. `noted_nodes`: of
    these, such whose shards are on the repair table, but for the `homeless_*`, which no other node
    can take. `ring`: the digest of the one that `ring_settled` is about. `endangered_extents`: of
    the repair table, such as the loss of one more shard would destroy, or has.
    """

    process: str
    at_ms: int
    objects_left: int = 0
    shards_left: int = 0
    bytes_left: int = 0
    stuck_shards: int = 0
    rate_bytes_s: int = 0
    seconds_left: int = -1
    repaired_shards: int = 0
    repaired_bytes: int = 0
    moved_shards: int = 0
    moved_bytes: int = 0
    moves_left: int = 0
    orphans_shards: int = 0
    orphans_bytes: int = 0
    walk: str = ""
    walk_percent: int = 0
    last_pass_ms: int = 0
    ring_settled: bool = False
    lost_nodes: tuple[int, ...] = ()
    down_nodes: tuple[int, ...] = ()
    noted_nodes: tuple[int, ...] = ()
    homeless_shards: int = 0
    homeless_bytes: int = 0
    seen: tuple[SeenNode, ...] = ()
    ring: bytes = b""
    endangered_extents: int = 0
    unnamed_bad: tuple[UnnamedBad, ...] = ()


def node_key(node: int) -> bytes:
    return b"%s%05d" % (NODE_PREFIX, node)


def moved_key(shard_hash: bytes, write_id: bytes, index: int, node: int) -> bytes:
    return MOVED_PREFIX + shard_hash + write_id + index.to_bytes(2, "big") + node.to_bytes(4, "big")
