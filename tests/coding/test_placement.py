"""The ring: distinct nodes and hosts, even and bounded load, and little moved when nodes change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.base.limits import RING_LOAD_RATIO_MAX, RING_WEIGHT_MAX, RING_WEIGHT_MIN
from predastore.coding.placement import Ring, RingNode

KEYS = [b"bucket/key %d" % number for number in range(6000)]


def ring(nodes: int, per_host: int = 1, weight: Callable[[int], float] = lambda node: 1.0) -> Ring:
    return Ring([RingNode(i, f"host-{i // per_host}", weight(i)) for i in range(nodes)])


def load(on: Ring, count: int) -> Counter[int]:
    return Counter(node for key in KEYS for node in on.place(key, count))


def moved_share(before: Ring, after: Ring, count: int) -> float:
    """Shards that must move, of all: nodes of the new placement that the old one lacks."""
    moved = sum(len(set(after.place(k, count)) - set(before.place(k, count))) for k in KEYS)
    return moved / (len(KEYS) * count)


# --- who is chosen ----------------------------------------------------------------------------


@given(
    hosts=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    key=st.binary(max_size=40),
    data=st.data(),
)
@settings(max_examples=25, deadline=None)
def test_nodes_are_distinct_and_hosts_as_even_as_can_be(
    hosts: list[int], key: bytes, data: st.DataObject
) -> None:
    host_of = [host for host, nodes in enumerate(hosts) for _ in range(nodes)]
    on = Ring([RingNode(node, str(host)) for node, host in enumerate(host_of)])
    count = data.draw(st.integers(1, len(host_of)), label="count")
    placed = on.place(key, count)
    assert len(placed) == len(set(placed)) == count
    used = Counter(host_of[node] for node in placed)
    assert all(used[host] <= nodes for host, nodes in enumerate(hosts))
    free = [host for host, nodes in enumerate(hosts) if used[host] < nodes]
    assert max(used.values()) <= min((used[host] for host in free), default=count) + 1
    assert sorted([*placed, *on.spares(key, placed)]) == list(range(len(host_of)))
    assert sorted(on.walk(key)) == list(range(len(host_of)))


def test_hosts_are_distinct_where_there_are_enough() -> None:
    on = ring(12, per_host=2)
    assert all(len({node // 2 for node in on.place(key, 6)}) == 6 for key in KEYS[:500])


def test_hosts_are_shared_evenly_where_there_are_too_few() -> None:
    on = ring(9, per_host=3)
    for key in KEYS[:500]:
        assert sorted(Counter(n // 3 for n in on.place(key, 5)).values()) == [1, 2, 2]


def test_spares_come_from_unused_hosts_first() -> None:
    on = ring(8, per_host=2)
    for key in KEYS[:200]:
        chosen = on.place(key, 3)
        used = {node // 2 for node in chosen}
        on_used_host = [node // 2 in used for node in on.spares(key, chosen)]
        assert on_used_host == [False, False, True, True, True]


def test_spares_and_walk_agree_on_the_order() -> None:
    on = ring(10)
    for key in KEYS[:50]:
        walk = list(on.walk(key))
        chosen = on.place(key, 4)
        assert on.spares(key, chosen) == [node for node in walk if node not in chosen]


# --- load -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nodes", "count"), [(8, 5), (9, 3), (20, 14), (40, 5)])
def test_load_is_even(nodes: int, count: int) -> None:
    fair = len(KEYS) * count / nodes
    loads = load(ring(nodes), count)
    assert min(loads[node] for node in range(nodes)) > 0.8 * fair
    assert max(loads.values()) < 1.25 * fair


def test_load_follows_weight() -> None:
    on = ring(12, weight=lambda node: 2.0 if node < 3 else 1.0)
    loads = load(on, 3)
    heavy = sum(loads[node] for node in range(3)) / 3
    light = sum(loads[node] for node in range(3, 12)) / 9
    assert 1.7 < heavy / light < 2.3


def test_load_is_bounded_where_chance_would_break_the_bound() -> None:
    # Three points a node: shares on the bare ring differ by several times.
    on = ring(10, weight=lambda node: 0.02)
    first = Counter(next(on.walk(key)) for key in KEYS)
    fair = len(KEYS) / 10
    assert max(first.values()) > 1.5 * fair
    loads = load(on, 1)
    assert max(loads.values()) < RING_LOAD_RATIO_MAX * fair * 1.1  # 6,000 keys are a sample


def test_a_heavy_node_gets_a_shard_of_every_object_and_the_rest_share_what_is_left() -> None:
    on = ring(9, weight=lambda node: 64.0 if node == 0 else 1.0)
    loads = load(on, 3)
    fair = len(KEYS) * 2 / 8
    assert loads[0] > 0.9 * len(KEYS)
    assert all(0.75 * fair < loads[node] < 1.35 * fair for node in range(1, 9))


# --- change -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("nodes", "count"), [(8, 5), (8, 3), (20, 5), (20, 14)])
def test_a_node_that_joins_takes_its_share_and_nothing_else_moves(nodes: int, count: int) -> None:
    before, after = ring(nodes), ring(nodes + 1)
    ideal = 1 / (nodes + 1)  # 8 to 9 nodes: 11.1% of the shards
    moved = moved_share(before, after, count)
    to_new = load(after, count)[nodes] / (len(KEYS) * count)
    assert 0.8 * ideal < moved < 1.2 * ideal
    assert moved - to_new < 0.01


def test_a_node_that_leaves_moves_only_its_own_shards() -> None:
    nodes = [RingNode(i, f"host-{i}") for i in range(9)]
    before, after = Ring(nodes), Ring(nodes[:4] + nodes[5:])
    assert moved_share(before, after, 5) < 1.2 / 9
    kept = [key for key in KEYS if 4 not in before.place(key, 5)]
    same = sum(before.place(key, 5) == after.place(key, 5) for key in kept)
    assert same > 0.98 * len(kept)


def test_placement_depends_on_nothing_but_the_nodes() -> None:
    nodes = [RingNode(i, f"host-{i % 4}", 1.0 + i % 3) for i in range(8)]
    one, other = Ring(nodes), Ring(nodes[::-1])
    other.place(b"", 3)  # another shard count, built first
    assert all(one.place(key, 5) == other.place(key, 5) for key in KEYS[:500])
    assert all(list(one.walk(key)) == list(other.walk(key)) for key in KEYS[:50])


def test_placement_is_pinned_because_every_gateway_must_agree_across_versions() -> None:
    on = ring(8)
    assert [on.place(key, 5) for key in (b"", b"a", b"bucket/key")] == [
        [7, 2, 6, 0, 5],
        [5, 3, 4, 6, 2],
        [4, 2, 7, 5, 1],
    ]


# --- refusals ---------------------------------------------------------------------------------


def test_what_can_not_be_placed_is_refused() -> None:
    with pytest.raises(ValueError, match="6 shards need as many nodes; the ring has 5"):
        ring(5).place(b"key", 6)
    with pytest.raises(ValueError, match="0 shards"):
        ring(5).place(b"key", 0)
    with pytest.raises(ValueError, match="the ring has 0"):
        Ring([]).place(b"key", 1)
    with pytest.raises(ValueError, match="same id"):
        Ring([RingNode(1, "a"), RingNode(1, "b")])
    for weight in (0.0, RING_WEIGHT_MIN / 2, RING_WEIGHT_MAX * 2, float("nan")):
        with pytest.raises(ValueError, match="weight"):
            RingNode(1, "a", weight)
