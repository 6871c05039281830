"""A member that was away catches up under 15,000 commits of 8 KiB a second, in virtual time.

The same with real members, at the rate that the machine makes: test_inline_load.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from predastore.base.limits import (
    MIB,
    RAFT_APPEND_BYTES_IN_FLIGHT_MAX,
    RAFT_LOG_BYTES_MAX,
    RAFT_LOG_CUT_BYTES,
    RAFT_LOG_KEPT_BYTES,
    RAFT_STEP_BYTES_MAX,
)
from predastore.s3db.raft import upkeep
from s3db.simulator.flood import Flood, Found, drown
from s3db.simulator.hardware import Hardware

STATE_BYTES = 256 * MIB


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def check_load_and_memory(found: Found) -> None:
    assert found.refused == 0
    assert found.commits_s > 14_900
    assert found.p99_ms < 100
    assert found.leader_log_bytes < RAFT_LOG_KEPT_BYTES + RAFT_LOG_CUT_BYTES + 16 * MIB
    assert found.member_log_bytes < (
        RAFT_LOG_BYTES_MAX + RAFT_APPEND_BYTES_IN_FLIGHT_MAX + RAFT_STEP_BYTES_MAX
    )
    assert len(found.digests) == 1


def test_who_was_away_for_longer_than_the_log_is_kept_gets_entries_from_the_journal() -> None:
    found = drown(Flood(seed=1, away_s=1.0))
    assert found.caught_up_s is not None
    assert found.caught_up_s < 6
    assert found.archived_entries > 10_000
    assert found.copies_taken == 0
    check_load_and_memory(found)


def test_who_was_away_for_longer_than_the_journal_is_kept_gets_one_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it is made, sent and installed, more is committed than is kept for small tables."""
    kept_bytes = 96 * MIB
    monkeypatch.setattr(upkeep, "RAFT_LAGGING_S", 0.3)
    monkeypatch.setattr(upkeep, "RAFT_JOURNAL_KEPT_BYTES", kept_bytes)
    found = drown(
        Flood(seed=2, away_s=0.5, within_s=15, hardware=Hardware(state_bytes=STATE_BYTES))
    )
    assert found.caught_up_s is not None
    assert found.caught_up_s < 12
    assert (found.copies_made, found.copies_taken) == (1, 1)
    assert kept_bytes < found.journal_bytes < 2 * STATE_BYTES
    check_load_and_memory(found)


def test_a_seed_of_a_flood_replays_exactly() -> None:
    flood = Flood(seed=3, rate=1_000, away_s=0.3)
    first, second = drown(flood), drown(flood)
    assert first.caught_up_s is not None
    assert first == second
