"""A member whose place another may have taken lets nobody doubt that before it knows better."""

from __future__ import annotations

import random

import pytest
from gossip_world import facts

from predastore.gossip.core import GossipCore
from predastore.gossip.messages import GossipStatus, Ping, Record

OWN = Record("node/1", 10, GossipStatus.ALIVE, facts(1))
OTHER = Record("node/2", 1, GossipStatus.ALIVE, facts(2))
RIVAL = Record("node/1", 20, GossipStatus.ALIVE, facts(9))
BURIED = Record("node/1", 10, GossipStatus.DEAD, facts(1))
SUSPECTED = Record("node/1", 10, GossipStatus.SUSPECT, facts(1))


def core(*, yields: bool) -> GossipCore:
    return GossipCore(OWN, (), now=0.0, draw=random.Random(1), yields=yields)


def hear(member: GossipCore, record: Record) -> Record:
    """What it says of itself after it has heard `record`."""
    member.received(Ping(OTHER, (record,)), 1.0)
    return member.roster.own


@pytest.mark.parametrize("heard", [RIVAL, BURIED])
def test_it_does_not_contradict_a_rival_or_its_own_death_before_it_is_told_to(
    heard: Record,
) -> None:
    member = core(yields=True)
    assert hear(member, heard) == OWN
    assert member.doubted == heard
    member.insist()
    assert member.roster.own == Record(
        "node/1", heard.incarnation + 1, GossipStatus.ALIVE, facts(1)
    )
    assert member.doubted is None
    assert member.roster.own in member.news.take(2)


def test_a_suspicion_is_contradicted_at_once() -> None:
    member = core(yields=True)
    assert hear(member, SUSPECTED).incarnation == 11
    assert member.doubted is None


def test_what_is_older_is_no_doubt() -> None:
    member = core(yields=True)
    assert hear(member, Record("node/1", 9, GossipStatus.ALIVE, facts(9))) == OWN
    assert member.doubted is None
    member.insist()
    assert member.roster.own == OWN


@pytest.mark.parametrize("heard", [RIVAL, BURIED])
def test_who_has_no_place_that_could_be_taken_contradicts_at_once(heard: Record) -> None:
    member = core(yields=False)
    assert hear(member, heard).incarnation == heard.incarnation + 1
