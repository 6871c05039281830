"""Which nodes hold an object: a consistent hash ring with failure domains and bounded load.

The ring is the circle of 64-bit numbers. A node stands on it at RING_VIRTUAL_NODES_PER_WEIGHT x
weight points, the XXH3 of its id and the point's number: they depend on nothing else, so a node
that joins or leaves moves only its own share. The circle is divided into RING_PARTITIONS equal
arcs; a key belongs to the arc that the XXH3 of its bytes falls on. The walk of an arc meets all
nodes in the order of their points, clockwise from its start.

`place` takes nodes from that walk by three rules, the earlier before the later:

1. Distinct nodes.
2. Hosts evenly: no host gets a second shard while another that has a free node got none.
3. Load: a node that already has RING_LOAD_RATIO_MAX times its fair share of the arcs is passed
   over, where rule 2 leaves a choice. (After Mirrokni, Thorup, Zadimoghaddam: "Consistent Hashing
   with Bounded Loads", 2016, with arcs in place of keys, so that the answer for a key depends on
   the nodes alone, and every gateway gives the same.)

The fair share is in proportion to weight, but for what rule 1 forbids: no node can have more than
one shard of an object.

Everything is deterministic and depends on ids, hosts and weights only, not on their order. The
arcs' placements are computed once for each shard count, at its first use (some tens of
milliseconds: warm it at start), after which `place` is a hash and a look-up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec
from xxhash import xxh3_64_intdigest

from predastore.base.limits import (
    RING_LOAD_RATIO_MAX,
    RING_PARTITIONS,
    RING_VIRTUAL_NODES_PER_WEIGHT,
    RING_WEIGHT_MAX,
    RING_WEIGHT_MIN,
)

_ARC_LENGTH = 2**64 // RING_PARTITIONS


class RingNode(msgspec.Struct, frozen=True):
    """A shard node; nodes with the same `host` fail together."""

    id: int
    host: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not RING_WEIGHT_MIN <= self.weight <= RING_WEIGHT_MAX:
            raise ValueError(
                f"node {self.id}: weight {self.weight} is not from {RING_WEIGHT_MIN} to "
                f"{RING_WEIGHT_MAX}"
            )


class Ring:
    """Immutable, and so safe to share between threads; ValueError for nodes with the same id."""

    def __init__(self, nodes: Sequence[RingNode]) -> None:
        self.nodes = tuple(sorted(nodes, key=lambda node: node.id))
        self._host = {node.id: node.host for node in self.nodes}
        if len(self._host) != len(self.nodes):
            raise ValueError("two nodes have the same id")
        points = sorted((point, node.id) for node in self.nodes for point in _points(node))
        self._positions = [point for point, _ in points]
        self._owners = [owner for _, owner in points]
        self._tables: dict[int, list[tuple[int, ...]]] = {}

    def walk(self, key: bytes) -> Iterator[int]:
        """All node ids, each once, in the ring's order for the key."""
        return self._walk(_arc(key))

    def place(self, key: bytes, count: int) -> list[int]:
        """`count` distinct nodes for the key's shards; ValueError where there are fewer."""
        table = self._tables.get(count)
        if table is None:
            table = self._tables[count] = self._build(count)
        return list(table[_arc(key)])

    def spares(self, key: bytes, chosen: Iterable[int]) -> list[int]:
        """All other nodes, the best substitute first: hosts with few of `chosen`, then the walk."""
        taken = set(chosen)
        used = Counter(self._host[node] for node in taken if node in self._host)
        rest = [node for node in self.walk(key) if node not in taken]
        return sorted(rest, key=lambda node: used[self._host[node]])  # stable: walk order is kept

    def _walk(self, arc: int) -> Iterator[int]:
        start = bisect_left(self._positions, arc * _ARC_LENGTH)
        met: set[int] = set()
        for index in chain(range(start, len(self._owners)), range(start)):
            owner = self._owners[index]
            if owner not in met:
                met.add(owner)
                yield owner
                if len(met) == len(self.nodes):
                    return

    def _build(self, count: int) -> list[tuple[int, ...]]:
        if not 1 <= count <= len(self.nodes):
            raise ValueError(f"{count} shards need as many nodes; the ring has {len(self.nodes)}")
        fair = _fair_shares({node.id: node.weight for node in self.nodes}, count)
        room = {node: int(share * RING_LOAD_RATIO_MAX) + 1 for node, share in fair.items()}
        table = []
        for arc in range(RING_PARTITIONS):
            chosen = self._choose(arc, count, room)
            for node in chosen:
                room[node] -= 1
            table.append(tuple(chosen))
        return table

    def _choose(self, arc: int, count: int, room: dict[int, int]) -> list[int]:
        """Rule 2 is the loop over rounds, rule 3 the two passes of a round."""
        walk = _Replay(self._walk(arc))
        chosen: list[int] = []
        used: Counter[str] = Counter()
        for shards_per_host in range(count):
            for bounded in (True, False):
                for node in walk:
                    host = self._host[node]
                    if used[host] != shards_per_host or node in chosen:
                        continue
                    if bounded and room[node] <= 0:
                        continue
                    chosen.append(node)
                    used[host] += 1
                    if len(chosen) == count:
                        return chosen
        return chosen


class _Replay:
    """An iterator that can be iterated again, and is taken no further than anybody went."""

    def __init__(self, source: Iterator[int]) -> None:
        self._source = source
        self._seen: list[int] = []

    def __iter__(self) -> Iterator[int]:
        yield from self._seen
        for item in self._source:
            self._seen.append(item)
            yield item


def _arc(key: bytes) -> int:
    return xxh3_64_intdigest(key) // _ARC_LENGTH


def _points(node: RingNode) -> Iterator[int]:
    for number in range(max(1, round(node.weight * RING_VIRTUAL_NODES_PER_WEIGHT))):
        yield xxh3_64_intdigest(b"node %d point %d" % (node.id, number))


def _fair_shares(weights: dict[int, float], count: int) -> dict[int, float]:
    """Arcs due to each node, in proportion to weight; what one can not take, the others share."""
    shares: dict[int, float] = {}
    left, due = dict(weights), float(count * RING_PARTITIONS)
    while left:
        per_weight = due / sum(left.values())
        full = [node for node, weight in left.items() if weight * per_weight > RING_PARTITIONS]
        if not full:
            return shares | {node: weight * per_weight for node, weight in left.items()}
        for node in full:
            shares[node] = float(RING_PARTITIONS)
            due -= RING_PARTITIONS
            del left[node]
    return shares
