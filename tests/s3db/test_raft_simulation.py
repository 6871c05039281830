"""The simulated cluster keeps its promises, and the simulation would notice if it did not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest

from predastore.catalog.procedures import PROCEDURES
from predastore.s3db.procedures import View
from predastore.s3db.raft import frames, journal
from predastore.s3db.raft.archive import JournalArchive
from predastore.s3db.raft.core import RaftCore
from predastore.s3db.raft.driver import Driver
from predastore.s3db.raft.messages import Entry
from s3db.simulator import machine
from s3db.simulator.catalog import CatalogClient
from s3db.simulator.checker import Operation, first_violation, is_linearizable
from s3db.simulator.faults import CASES, OTHERS, scenario_of
from s3db.simulator.procedures import STEP
from s3db.simulator.world import POWER_CUTS, Scenario, Violation, of_seed, simulate

SEEDS = 500
SHARE = 125  # seeds of one test: enough for a snapshot among them
BITE_SEEDS_MAX = 1000  # within so many seeds each fault is found; most within ten


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_histories_are_linearizable_and_members_agree(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived = 0
    batch = JournalArchive.batch

    def counted(self: JournalArchive, *args: int, **bounds: int) -> list[Entry]:
        nonlocal archived
        found = batch(self, *args, **bounds)
        archived += len(found)
        return found

    monkeypatch.setattr(JournalArchive, "batch", counted)
    operations = installs = changes = newer = ticks = catalog = 0
    for seed in range(first, first + SHARE):
        world = simulate(seed, of_seed(seed))
        operations += sum(operation.is_known for operation in world.history)
        installs += sum(member.installs for member in world.members.values())
        changes += world.membership_changes
        newer += sum(operation.kind == "move" for operation in world.history)
        ticks += len(world.proposed_ticks)
        catalog += sum(client.done for client in world.clients if isinstance(client, CatalogClient))
    assert operations > 60 * SHARE
    assert installs > 0
    assert archived > SHARE  # entries that a log had lost, and a journal still had
    assert changes > 20
    assert newer > SHARE  # calls of a level that not every program has
    assert ticks > SHARE
    assert catalog > 20 * SHARE  # calls of the catalog's procedures, which all members agree on


def test_a_seed_replays_exactly() -> None:
    first, second = simulate(7, of_seed(7)), simulate(7, of_seed(7))
    assert first.history == second.history
    assert first.applied == second.applied


def _is_noticed(scenario: Scenario, first: int = 0) -> bool:
    for seed in range(first, first + BITE_SEEDS_MAX):
        try:
            simulate(seed, scenario)
        except (Violation, AssertionError):
            return True
    return False


@pytest.mark.parametrize("fault", CASES, ids=lambda fault: fault.__name__)
def test_each_known_fault_is_caught(fault: type[RaftCore] | type[Driver]) -> None:
    assert _is_noticed(*scenario_of(fault))


@pytest.mark.parametrize("name", OTHERS)
def test_faults_around_the_core_are_caught(name: str) -> None:
    assert _is_noticed(OTHERS[name])


def test_a_procedure_that_is_not_pure_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count()

    def impure(view: View, arguments: bytes) -> bytes:
        answer = PROCEDURES["object.put"].run(view, arguments)
        return answer + b"%d" % next(calls)

    ours = {**PROCEDURES, "object.put": replace(PROCEDURES["object.put"], run=impure)}
    monkeypatch.setattr(machine, "PROCEDURES", ours)
    assert _is_noticed(Scenario(catalogs=2))


def test_records_without_a_crc_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """pysyncobj has none: what power loss has torn is taken for a record."""

    def believing(header: frames.JournalHeader, data: bytes, offset: int) -> memoryview | None:
        start = offset + frames.FRAME_BYTES
        length = int.from_bytes(data[offset + 4 : offset + 8], "little")
        return memoryview(data)[start : start + length] if start < len(data) else None

    monkeypatch.setattr(journal, "frame_at", believing)
    assert _is_noticed(Scenario(**POWER_CUTS))


# --- the checker ------------------------------------------------------------------------------


def put(value: int, invoked: float, returned: float) -> Operation:
    return Operation("k", "put", invoked, returned, value=value)


def lost(value: int, invoked: float) -> Operation:
    return Operation("k", "put", invoked, value=value)


def get(found: int | None, invoked: float, returned: float) -> Operation:
    return Operation("k", "get", invoked, returned, found=found)


def delete(invoked: float, returned: float) -> Operation:
    return Operation("k", "delete", invoked, returned)


def lost_delete(invoked: float) -> Operation:
    return Operation("k", "delete", invoked)


def scan(rows: dict[str, int], invoked: float, returned: float) -> Operation:
    return Operation("", "scan", invoked, returned, rows=rows)


def other(operation: Operation) -> Operation:
    """The same on another key."""
    return replace(operation, key="l")


def cas(
    expected: int | None, value: int, found: int | None, invoked: float, returned: float
) -> Operation:
    return Operation("k", "cas", invoked, returned, value=value, expected=expected, found=found)


def add(found: int | None, invoked: float, returned: float) -> Operation:
    return Operation("k", "add", invoked, returned, found=found)


def move(found: int | None, invoked: float, returned: float) -> Operation:
    """From k to l."""
    return Operation("k", "move", invoked, returned, found=found, target="l")


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
    "a deleted key is absent": [put(1, 0, 1), delete(2, 3), get(None, 4, 5)],
    "a lost delete may show late": [put(1, 0, 1), lost_delete(2), get(1, 3, 4), get(None, 5, 6)],
    "lost writes that need each other": [
        put(1, 0, 1),
        lost_delete(2),
        Operation("k", "cas", 2, value=2, expected=None),
        get(2, 4, 5),
    ],
    "a scan sees one moment": [put(1, 0, 1), other(put(2, 0, 9)), scan({"k": 1}, 2, 3)],
    "a scan explains lost writes of two keys": [
        lost(1, 0),
        other(lost(2, 0)),
        scan({"k": 1, "l": 2}, 2, 3),
    ],
    "a counter counts": [add(None, 0, 1), add(STEP, 2, 3), get(2 * STEP, 4, 5)],
    "a value is moved": [put(1, 0, 1), move(1, 2, 3), get(None, 4, 5), other(get(1, 4, 5))],
    "nothing is moved": [other(put(1, 0, 1)), move(None, 2, 3), other(get(1, 4, 5))],
    "a lost write is moved": [lost(1, 0), move(1, 1, 2), other(get(1, 3, 4))],
    "a lost write is counted on": [lost(1, 0), add(1, 1, 2), get(1 + STEP, 3, 4)],
}

BAD = {
    "a count is lost": [add(None, 0, 1), add(None, 2, 3)],
    "a count is done twice": [add(None, 0, 1), get(2 * STEP, 2, 3)],
    "a count without its answer": [put(1, 0, 1), add(None, 2, 3)],
    "a value is moved and stays": [put(1, 0, 1), move(1, 2, 3), get(1, 4, 5)],
    "a value is moved and gone": [put(1, 0, 1), move(1, 2, 3), other(get(None, 4, 5))],
    "two moves of one value": [put(1, 0, 1), move(1, 2, 3), move(1, 4, 5)],
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
    "a deleted value returns": [put(1, 0, 1), delete(2, 3), get(1, 4, 5)],
    "a lost delete is done twice": [
        put(1, 0, 1),
        lost_delete(2),
        get(None, 3, 4),
        put(2, 5, 6),
        get(None, 7, 8),
    ],
    "a lost delete is done before it began": [put(1, 0, 1), get(None, 2, 3), lost_delete(4)],
    "a scan without an acknowledged row": [put(1, 0, 1), other(put(2, 0, 1)), scan({"k": 1}, 2, 3)],
    "a scan with a deleted row": [put(1, 0, 1), delete(2, 3), scan({"k": 1}, 4, 5)],
    "a scan of two moments": [  # k was written before l, and the scan has l alone
        put(1, 2, 3),
        other(put(2, 4, 5)),
        scan({"l": 2}, 0, 9),
    ],
    "two scans disagree on the order": [
        put(1, 0, 9),
        other(put(2, 0, 9)),
        scan({"k": 1}, 1, 2),
        scan({"l": 2}, 3, 4),
    ],
    "a scan of what nobody wrote": [put(1, 0, 1), scan({"k": 1, "z": 5}, 2, 3)],
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


def test_keys_that_a_scan_binds_are_checked_together() -> None:
    prefixed = [replace(put(n, n, n + 0.5), key=f"p/{n}") for n in (1, 2)]
    good = Operation("p/", "scan", 0, 3, rows={"p/1": 1})
    assert first_violation([*prefixed, good, put(9, 0, 1)]) is None
    bad = Operation("p/", "scan", 0, 3, rows={"p/2": 2})
    assert first_violation([*prefixed, bad, put(9, 0, 1)]) == "p/"
