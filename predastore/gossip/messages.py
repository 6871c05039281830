"""What members tell each other: a record for each process, and four requests with replies.

A record's order is (incarnation, status): only the process itself raises its incarnation, with
every change of its facts and to contradict a suspicion; others raise the status. So of two
records of one process the newer is known without a clock.
"""

from __future__ import annotations

import enum

import msgspec

from predastore.base.limits import GOSSIP_TEXT_CHARS_MAX, INLINE_BYTES_DEFAULT


class GossipStatus(enum.IntEnum):
    """In the order in which one overrules the other within an incarnation."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3  # it said so itself, when it stopped


class NodeFacts(msgspec.Struct, frozen=True, array_like=True):
    """A shard node. `failure`: why it takes no writes, or empty."""

    id: int
    host: str
    port: int
    used_bytes: int = 0
    free_bytes: int = 0
    failure: str = ""


class DbFacts(msgspec.Struct, frozen=True, array_like=True):
    """A member of the metadata cluster: REST on `port`."""

    id: int
    host: str
    port: int
    raft_port: int


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """`host`, `port`: where the process takes calls under its name. `ring_version`: of the table of
    nodes that it uses, 0 when it has not read it yet. `life`: drawn at its start. `settings`: marks
    of what all hosts are to have alike (config.shared). `authority`: fingerprint of that of the
    cluster, if it has signed the certificate that the process shows."""

    host: str
    port: int
    life: int
    nodes: tuple[NodeFacts, ...] = ()
    members: tuple[DbFacts, ...] = ()
    ring_version: int = 0
    software: str = ""
    settings: dict[str, bytes] = {}
    authority: bytes = b""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """`name`: the rpc name of the process ("node/3")."""

    name: str
    incarnation: int
    status: GossipStatus
    facts: Facts

    @property
    def order(self) -> tuple[int, int]:
        return self.incarnation, self.status

    @property
    def is_here(self) -> bool:
        return self.status <= GossipStatus.SUSPECT


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """A record without its facts, for comparing views."""

    name: str
    incarnation: int
    status: GossipStatus


class Ping(msgspec.Struct, frozen=True, array_like=True):
    """gossip.ping: are you there? Answered with a Pong."""

    sender: Record
    news: tuple[Record, ...] = ()


class Pong(msgspec.Struct, frozen=True, array_like=True):
    sender: Record
    news: tuple[Record, ...] = ()


class Relay(msgspec.Struct, frozen=True, array_like=True):
    """gossip.relay: ping `target` for me. Answered with a Relayed."""

    sender: Record
    target: str
    news: tuple[Record, ...] = ()


class Relayed(msgspec.Struct, frozen=True, array_like=True):
    sender: Record
    reached: bool
    news: tuple[Record, ...] = ()


class Sync(msgspec.Struct, frozen=True, array_like=True):
    """gossip.sync: this is what I know; what do you know that is newer?"""

    sender: Record
    seen: tuple[Seen, ...]


class Synced(msgspec.Struct, frozen=True, array_like=True):
    """`wanted`: names of which the asker's record is the newer one."""

    sender: Record
    news: tuple[Record, ...]
    wanted: tuple[str, ...]


class GossipView(msgspec.Struct, frozen=True, array_like=True):
    """gossip.view: what an operator's tool asks for."""


class Viewed(msgspec.Struct, frozen=True, array_like=True):
    sender: Record
    records: tuple[Record, ...]


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """cluster.welcome: what does a process need to know that knows your address alone?"""


class Welcomed(msgspec.Struct, frozen=True, array_like=True):
    """The code of new objects, the members of the metadata cluster, and the nodes. `write_min`,
    `inline_max`: as the file has them."""

    data: int
    parity: int
    block_bytes: int
    members: tuple[DbFacts, ...]
    nodes: tuple[NodeFacts, ...]
    write_min: int = 0
    inline_max: int = INLINE_BYTES_DEFAULT


class Changed(msgspec.Struct, frozen=True, array_like=True):
    """cluster.changed: the table of nodes has this version now."""

    version: int


class Heeded(msgspec.Struct, frozen=True, array_like=True):
    """The version that is in use."""

    version: int


Request = Ping | Relay | Sync
Reply = Pong | Relayed | Synced

_encoder = msgspec.msgpack.Encoder()


def size_bytes(record: Record) -> int:
    """Of a record within a message."""
    return len(_encoder.encode(record))


def shortened(text: str) -> str:
    """A reason as it may stand in a record."""
    return text if len(text) <= GOSSIP_TEXT_CHARS_MAX else text[: GOSSIP_TEXT_CHARS_MAX - 1] + "…"
