"""What may be lost is what placement and majorities make of it, and is said so that it is read."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from predastore.base import config
from predastore.base.config import Layout, losses
from predastore.coding.placement import Ring, RingNode

CONFIG = Path(__file__).resolve().parents[2] / "config"


def layout(
    code: tuple[int, int],
    nodes: str,
    members: str,
    *,
    embedded: bool = False,
    write_shards: int = 0,
) -> Layout:
    """`nodes` and `members`: a letter each, that of its host."""
    return Layout(
        *code,
        tuple(enumerate(nodes, 1)),
        tuple(enumerate(members, 1)),
        embedded,
        write_shards,
    )


def survives(found: Layout, lost: tuple[str, ...]) -> bool:
    """By trying: no placement has over m shards on these hosts, and most members are elsewhere."""
    ring = Ring([RingNode(number, host) for number, host in found.nodes])
    hosts = dict(found.nodes)
    for key in range(300):
        chosen = Counter(hosts[node] for node in ring.place(b"%d" % key, found.k + found.m))
        if sum(chosen[host] for host in lost) > found.m:
            return False
    left = sum(host not in lost for _, host in found.members)
    return not found.members or left > len(found.members) // 2


@pytest.mark.parametrize(
    ("code", "nodes", "members"),
    [
        ((3, 2), "abcde", "abc"),
        ((3, 2), "abcde", "abcde"),
        ((3, 2), "aaaaa", "a"),
        ((3, 2), "aabbc", "abc"),
        ((3, 2), "aabbcc", "abc"),
        ((3, 2), "abcdefg", "aab"),
        ((2, 1), "abc", "abc"),
        ((2, 1), "aab", "abc"),
        ((4, 2), "aaabbbccc", "abc"),
        ((6, 3), "aabbccddee", "abcde"),
        ((3, 3), "aaaabc", "abcde"),
        ((2, 2), "aaab", "abcde"),
    ],
)
def test_so_many_hosts_may_be_lost_and_not_one_more(
    code: tuple[int, int], nodes: str, members: str
) -> None:
    found = layout(code, nodes, members)
    spared = losses.hosts_lost(found)
    assert all(survives(found, lost) for lost in combinations(found.hosts, spared))
    more = list(combinations(found.hosts, spared + 1))
    assert spared + 1 == len(found.hosts) or not all(survives(found, lost) for lost in more)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (layout((3, 2), "abcde", "abcde"), "any 2 nodes, any 2 members, any 2 hosts"),
        (layout((3, 2), "abcde", "abc"), "any 2 nodes, any 1 member, any 1 host"),
        (layout((2, 1), "abc", "abc"), "any 1 node, any 1 member, any 1 host"),
        (layout((3, 2), "aaaaa", "a"), "any 2 nodes, no member"),
        (layout((1, 0), "a", "a"), "no node, no member"),
    ],
)
def test_the_summary_is_english(found: Layout, said: str) -> None:
    assert losses.summary(found) == said


_WITHOUT_ONE = "they go on without any 1 node"


@pytest.mark.parametrize(
    ("found", "need", "said"),
    [
        (layout((3, 2), "abcde", "abcde"), "4 of 5 shards", f"{_WITHOUT_ONE}, any 1 host"),
        (layout((2, 1), "abc", "abc"), "2 of 3 shards", f"{_WITHOUT_ONE}, any 1 host"),
        (
            layout((3, 2), "abcdefg", "abc"),
            "4 of 5 shards",
            "they go on without any 3 nodes, any 1 host",
        ),
        (
            layout((3, 2), "aabbc", "abc"),
            "4 of 5 shards",
            f"{_WITHOUT_ONE}; a whole host is not spared",
        ),
        (layout((3, 2), "aaaaa", "a"), "4 of 5 shards", _WITHOUT_ONE),
        (
            layout((2, 1), "abc", "abc", write_shards=3),
            "3 of 3 shards",
            "none is done while a node is away",
        ),
        (layout((1, 0), "a", "a"), "1 of 1 shard", "none is done while a node is away"),
    ],
)
def test_what_writes_survive_is_said(found: Layout, need: str, said: str) -> None:
    assert losses.writes(found) == f"need {need}; {said}"


def test_writes_that_stop_with_the_first_node_are_warned_of() -> None:
    [said] = losses.warnings(layout((2, 1), "abc", "abc", write_shards=3))
    assert said == (
        "each write needs all 3 nodes, and is refused while one is away, though data stands the "
        "loss of 1 node: add [[nodes]], or write write_min = 2 in [rs]"
    )
    assert losses.warnings(layout((2, 1), "abcd", "abc", write_shards=3)) == []


def test_the_shipped_cluster_stands_the_loss_of_any_two_hosts() -> None:
    found = Layout.of(config.complete(config.load(CONFIG / "cluster.toml")))
    assert losses.summary(found) == "any 2 nodes, any 2 members, any 2 hosts"
    assert losses.warnings(found) == []


def test_too_few_members_are_named_with_what_to_write() -> None:
    [said] = losses.warnings(layout((3, 2), "abcde", "abc"))
    assert said == (
        "metadata stands the loss of 1 member, and data stands that of 2 nodes: write 5 [[db]], "
        'for example id = 4, host = "d"; id = 5, host = "e"; until then, keep backups by s3d db '
        "backup FILE"
    )


def test_an_embedded_database_is_a_single_place_to_lose_all() -> None:
    [said] = losses.warnings(layout((3, 2), "aaaaa", "a", embedded=True))
    assert said.startswith("the loss of the only database member loses every object")
    assert 'path = "db" for the one there is; id = 2, a host or disk of its own' in said


@pytest.mark.parametrize(("members", "said"), [("abcd", "of 4 members any 1 member"), ("abc", "")])
def test_an_even_number_of_members_is_named(members: str, said: str) -> None:
    found = losses.warnings(layout((2, 1), "abcd", members))
    assert [line for line in found if said not in line] == []
    assert bool(found) is bool(said)


def test_members_on_one_host_are_named() -> None:
    [said] = losses.warnings(layout((2, 1), "abc", "aab"))
    assert said.startswith("2 of 3 members are on a: without it nothing is read or written")
    assert said.endswith("move [[db]] to c")


@pytest.mark.parametrize(
    "found",
    [
        layout((2, 1), "abc", "abc"),
        layout((2, 1), "aaa", "aaa"),  # one host in all: neither stands its loss
        layout((10, 4), "abcdefghijklmn", "abcdefg"),  # there can be no more members
        layout((1, 0), "a", "a"),
        layout((3, 2), "abcde", ""),  # not known yet
    ],
)
def test_nothing_is_said_where_nothing_better_can_be_written(found: Layout) -> None:
    assert losses.warnings(found) == []
