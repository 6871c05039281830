"""The simulated cluster keeps its promises, and the simulation would notice if it did not."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from predastore.s3db.raft.core import Core
from predastore.s3db.raft.driver import Driver
from s3db.simulator.checker import Operation, first_violation, is_linearizable
from s3db.simulator.faults import CASES, scenario_of
from s3db.simulator.world import LOST_DISKS, Scenario, Violation, of_seed, simulate

SEEDS = 500
SHARE = 125  # seeds of one test: enough for a snapshot among them
BITE_SEEDS_MAX = 1000  # within so many seeds each fault is found; most within ten


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_histories_are_linearizable_and_members_agree(first: int) -> None:
    operations = installs = changes = 0
    for seed in range(first, first + SHARE):
        world = simulate(seed, of_seed(seed))
        operations += sum(operation.is_known for operation in world.history)
        installs += sum(member.installs for member in world.members.values())
        changes += world.membership_changes
    assert operations > 60 * SHARE
    assert installs > 0
    assert changes > 20


def test_a_seed_replays_exactly() -> None:
    first, second = simulate(7, of_seed(7)), simulate(7, of_seed(7))
    assert first.history == second.history
    assert first.applied == second.applied


def test_a_lost_disk_that_votes_again_is_caught() -> None:
    for seed in range(BITE_SEEDS_MAX):
        try:
            simulate(seed, Scenario(**LOST_DISKS, forgetful=True))
        except Violation:
            return
    raise AssertionError("nothing was noticed")


@pytest.mark.parametrize("fault", CASES, ids=lambda fault: fault.__name__)
def test_each_known_fault_is_caught(fault: type[Core] | type[Driver]) -> None:
    scenario, first = scenario_of(fault)
    for seed in range(first, first + BITE_SEEDS_MAX):
        try:
            simulate(seed, scenario)
        except (Violation, AssertionError):
            return
    pytest.fail(f"{fault.__name__} was not noticed in {BITE_SEEDS_MAX} seeds")


# --- the checker ------------------------------------------------------------------------------


def put(value: int, invoked: float, returned: float) -> Operation:
    return Operation("k", "put", invoked, returned, value=value)


def lost(value: int, invoked: float) -> Operation:
    return Operation("k", "put", invoked, value=value)


def get(found: int | None, invoked: float, returned: float) -> Operation:
    return Operation("k", "get", invoked, returned, found=found)


def cas(
    expected: int | None, value: int, found: int | None, invoked: float, returned: float
) -> Operation:
    return Operation("k", "cas", invoked, returned, value=value, expected=expected, found=found)


GOOD = {
    "nothing": [],
    "reads see the write before them": [put(1, 0, 1), get(1, 2, 3)],
    "concurrent reads may see either": [put(1, 0, 5), get(None, 1, 2), get(1, 3, 4)],
    "concurrent writes in either order": [put(1, 0, 5), put(2, 0, 5), get(2, 6, 7), get(2, 8, 9)],
    "a lost write may show late": [lost(1, 0), put(2, 1, 2), get(2, 3, 4), get(1, 5, 6)],
    "a lost write may never show": [lost(1, 0), put(2, 1, 2), get(2, 3, 4)],
    "cas from what is there": [put(1, 0, 1), cas(1, 2, 1, 2, 3), get(2, 4, 5)],
    "a failed cas changes nothing": [put(1, 0, 1), cas(7, 2, 1, 2, 3), get(1, 4, 5)],
    "a cas of unknown outcome was done": [
        put(1, 0, 1),
        Operation("k", "cas", 2, value=2, expected=1),
        get(2, 4, 5),
    ],
}

BAD = {
    "stale read": [put(1, 0, 1), put(2, 2, 3), get(1, 4, 5)],
    "lost acknowledged write": [put(1, 0, 1), get(None, 2, 3)],
    "value from nowhere": [get(9, 0, 1)],
    "value from the future": [get(1, 0, 1), put(1, 2, 3)],
    "reads go back": [put(1, 0, 9), get(1, 1, 2), get(None, 3, 4)],
    "two readers disagree on the order": [
        put(1, 0, 9),
        put(2, 0, 9),
        get(1, 10, 11),
        get(2, 12, 13),
    ],
    "a lost write shows and vanishes": [lost(1, 0), get(1, 1, 2), get(None, 3, 4)],
    "a lost write shows twice": [lost(1, 0), get(1, 1, 2), put(2, 3, 4), get(1, 5, 6)],
    "two cas from the same value": [put(1, 0, 1), cas(1, 2, 1, 2, 3), cas(1, 3, 1, 4, 5)],
    "a cas that saw an old value": [put(1, 0, 1), put(2, 2, 3), cas(1, 3, 1, 4, 5)],
    "a failed cas that was done": [put(1, 0, 1), cas(7, 2, 1, 2, 3), get(2, 4, 5)],
}


@pytest.mark.parametrize("name", GOOD)
def test_the_checker_accepts(name: str) -> None:
    assert is_linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_the_checker_rejects(name: str) -> None:
    assert not is_linearizable(BAD[name])


def test_the_checker_names_the_key() -> None:
    history = [put(1, 0, 1), Operation("other", "get", 0, 1, found=3)]
    assert first_violation(history) == "other"
