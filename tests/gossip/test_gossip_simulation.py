"""Gossip in virtual time: who is found, who is missed, who is buried alive, how much is said."""

from __future__ import annotations

import pytest
from gossip_world import World, cluster, facts

from predastore.base.limits import (
    GOSSIP_NEWS_BYTES_MAX,
    GOSSIP_RECORD_BYTES_MAX,
    GOSSIP_SYNC_BYTES_MAX,
)
from predastore.gossip.messages import Facts, GossipStatus, NodeFacts

SEEDS = range(8)


@pytest.mark.parametrize("count", [2, 6, 24])
def test_one_seed_is_enough_to_find_everybody(count: int) -> None:
    for seed in SEEDS:
        world = World(seed, loss=0.1)
        world.start("node/1")
        for number in range(2, count + 1):
            world.start(f"node/{number}", ("node/1",))
        took = world.run(60, world.agree)
        assert took < 40, f"seed {seed}: {took} s"
        assert not world.deaths


def test_members_that_start_before_their_seed_find_it() -> None:
    world = World(3)
    for number in range(2, 6):
        world.start(f"node/{number}", ("node/1",))
    world.run(20)
    world.start("node/1")
    assert world.run(30, world.agree) < 20


@pytest.mark.parametrize("lost", [1, 2])
def test_the_dead_are_found_out_and_nobody_else(lost: int) -> None:
    for seed in SEEDS:
        world = cluster(6, seed, loss=0.05)
        for number in range(1, lost + 1):
            world.kill(f"node/{number}")
        took = world.run(60, world.agree)
        assert took < 25, f"seed {seed}: {took} s"
        assert {of for _, _, of in world.deaths} == {f"node/{n}" for n in range(1, lost + 1)}


@pytest.mark.parametrize("loss", [0.2, 0.3])
def test_nobody_is_buried_alive_on_a_bad_network(loss: float) -> None:
    """Each message of a call is lost this often: a third of all calls fail at 0.2, half at 0.3."""
    for seed in range(2):
        world = cluster(10, seed, loss=loss)
        world.run(600)
        assert not world.deaths, f"seed {seed}: {world.deaths[:3]}"


def test_two_members_with_a_bad_line_do_not_bury_others() -> None:
    for seed in SEEDS:
        world = cluster(6, seed)
        world.lossy = {"node/5": 0.5, "node/6": 0.5}
        world.run(600)
        assert {of for _, _, of in world.deaths} <= {"node/5", "node/6"}
        world.lossy = {}
        assert world.run(60, world.agree) < 40


def test_a_member_that_was_stopped_blames_nobody_and_comes_back() -> None:
    for seed in SEEDS:
        world = cluster(6, seed)
        world.paused.add("node/3")
        world.run(90)
        assert all("node/3" not in world.here(name) for name in world.members if name != "node/3")
        world.paused.clear()
        took = world.run(60, world.agree)
        assert took < 20, f"seed {seed}: {took} s"
        assert {of for _, _, of in world.deaths} == {"node/3"}


def test_a_short_stop_is_forgiven() -> None:
    for seed in SEEDS:
        world = cluster(6, seed)
        world.paused.add("node/3")
        world.run(3)
        world.paused.clear()
        world.run(60)
        assert world.agree()
        assert not world.deaths, f"seed {seed}"


def test_two_halves_bury_each_other_and_meet_again() -> None:
    for seed in SEEDS:
        world = cluster(8, seed)
        world.side = {f"node/{n}": n % 2 for n in range(1, 9)}
        world.run(60)
        for name in world.members:
            assert world.here(name) == {
                n for n in world.members if world.side[n] == world.side[name]
            }
        world.side = {}
        took = world.run(300, world.agree)
        assert took < 90, f"seed {seed}: {took} s"


def test_a_member_that_can_not_reach_another_alone_suspects_nobody_for_long() -> None:
    """Others reach it: the relays answer, and nobody is suspected."""
    world = cluster(6, 5)
    arrives = world._arrives

    def cut_between_one_and_two(one: str, other: str) -> bool:
        return {one, other} != {"node/1", "node/2"} and arrives(one, other)

    world._arrives = cut_between_one_and_two
    world.run(600)
    assert not world.deaths
    assert world.here("node/1") == set(world.members) == world.here("node/2")


def test_who_says_good_bye_is_not_waited_for() -> None:
    for seed in SEEDS:
        world = cluster(6, seed)
        world.leave("node/4")
        took = world.run(60, world.agree)
        assert took < 8, f"seed {seed}: {took} s"
        assert not world.deaths
        world.start("node/4", ("node/2",))
        assert world.run(60, world.agree) < 20


def test_a_member_comes_back_after_its_death_even_if_its_clock_went_back() -> None:
    world = cluster(5, 1)
    world.kill("node/2")
    world.run(60)
    world.start("node/2", ("node/1",), incarnation=1)
    assert world.run(60, world.agree) < 30


def test_facts_reach_everybody() -> None:
    for seed in SEEDS:
        world = cluster(12, seed, loss=0.1)
        world.members["node/7"].say(facts(7, ring_version=9))
        took = world.run(30, world.agree)
        assert took < 15, f"seed {seed}: {took} s"
        assert world.members["node/1"].roster.get("node/7").facts.ring_version == 9


def test_members_come_and_go_and_the_view_stays_right() -> None:
    for seed in range(2):
        world = cluster(8, seed, loss=0.05)
        for _ in range(40):
            number = world.draw.randrange(2, 9)
            name = f"node/{number}"
            if name not in world.members:
                world.start(name, ("node/1",))
            elif world.draw.random() < 0.5:
                world.kill(name)
            else:
                world.leave(name)
            world.run(60)
        assert world.run(120, world.agree) < 60, f"seed {seed}"


def test_messages_stay_small_and_few() -> None:
    world = World(2)
    world.start("node/1")
    for number in range(2, 101):
        core = world.start(f"node/{number}", ("node/1",))
        rows = tuple(NodeFacts(10 * number + n, f"10.0.0.{number}", 9991 + n) for n in range(10))
        core.say(facts(number, nodes=rows))
    world.run(120, world.agree)
    assert world.agree()
    # A comparison carries a bounded number of bytes and a digest, all else the news alone.
    digest = 100 * 40
    assert world.largest_bytes <= GOSSIP_SYNC_BYTES_MAX + GOSSIP_RECORD_BYTES_MAX + digest
    world.largest_bytes = world.messages = 0
    world.run(60)
    assert world.largest_bytes <= max(digest, GOSSIP_NEWS_BYTES_MAX) + 2048
    # A ping and its answer a second, and a comparison every five, with 100 members as with two.
    assert world.messages / 60 / 100 < 2 + 2 / 5 + 0.2


def test_a_record_over_the_bound_is_not_taken_in() -> None:
    world = cluster(2, 0)
    rows = tuple(NodeFacts(n, "h" * 60, 1) for n in range(1000))
    world.members["node/2"].say(Facts("10.0.0.2", 9991, 2, nodes=rows))
    world.run(30)
    assert world.members["node/1"].roster.get("node/2").facts.nodes == ()


def test_another_process_of_the_same_name_is_noticed() -> None:
    world = cluster(3, 0)
    core = world.members["node/2"]
    assert core.rival is None
    other = core.roster.own
    world.members["node/1"].roster.hear(
        type(other)("node/2", other.incarnation + 5, GossipStatus.ALIVE, facts(2, life=77)),
        world.now,
    )
    world.run(30)
    assert core.rival is not None
    assert core.rival.facts.life == 77
    assert core.roster.own.incarnation > other.incarnation + 5
