"""What a leader sends to one follower, by what that has accepted."""

from __future__ import annotations

import asyncio

from predastore.s3db.raft.callers import AppliedWaiters
from predastore.s3db.raft.progress import FollowerProgress, Sending


def test_a_follower_that_takes_no_entries_is_only_probed() -> None:
    """As one whose disk is full: it accepts the place of an append, and nothing of it."""
    progress = FollowerProgress(101, 0.0)
    progress.match = 100
    progress.sent(150, 5000)
    progress.accepted(100)
    assert progress.sending is Sending.PROBE
    assert not progress.has_room(100, 1 << 20), "until the next heartbeat"
    progress.probe_sent = False  # a heartbeat
    progress.sent(150, 5000)
    assert progress.accepted(150)
    assert progress.sending is Sending.REPLICATE
    assert progress.next == 151


def test_a_follower_that_has_taken_some_is_sent_the_rest() -> None:
    progress = FollowerProgress(101, 0.0)
    progress.sent(150, 5000)
    assert progress.accepted(120)
    assert progress.sending is Sending.REPLICATE
    assert progress.next == 121


def test_a_heartbeat_to_one_that_has_everything_is_enough() -> None:
    progress = FollowerProgress(1, 0.0)
    progress.accepted(0)
    assert progress.sending is Sending.REPLICATE


def test_who_waits_no_longer_is_forgotten() -> None:
    async def main() -> None:
        waiters = AppliedWaiters()
        kept = waiters.wait(7)
        for _ in range(5000):
            waiters.wait(8).cancel()
        assert len(waiters._heap) < 3000
        waiters.applied(7)
        assert kept.done()

    asyncio.run(main())
