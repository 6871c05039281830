"""Stock pysyncobj as a yardstick: three members in a process each, nothing synced to any disk.

Commits of a small value into its replicated dictionary, by writers in the leader's process. As
members are pickles on TCP and memory, this is what its protocol costs without durability.
One commit is sent on its way at once (appendEntriesUseBatch off): with it on, and its ticks of
50 ms, a single writer waits 200 ms for each.

Run as a module, with JSON (member, ports) as the argument, it is one member, and does what the
lines of its standard input say, as s3db_member.py does.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from functools import partial
from typing import Any, Final

import msgspec
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.batteries import ReplDict

from benchmarks.s3db_member import ELECTED_S, HOST, VALUE_BYTES, Done, Site, Work


class _Writers:
    """Each sets a key again once the one before is committed; callbacks are pysyncobj's."""

    def __init__(self, table: Any, work: Work) -> None:
        self._table = table
        self._value = os.urandom(VALUE_BYTES)
        self._taken_s: list[float] = []
        self._start_s = time.perf_counter()
        self._stop_s = self._start_s + work.seconds
        self._left = work.writers
        self._all_done = threading.Event()
        for number in range(work.writers):
            self._next(number, 0)

    def _next(self, number: int, count: int) -> None:
        begun_s = time.perf_counter()
        if begun_s >= self._stop_s:
            self._left -= 1
            if self._left == 0:
                self._all_done.set()
            return
        done = partial(self._done, number, count + 1, begun_s)
        self._table.set(f"{number}/{count}", self._value, callback=done)

    def _done(self, number: int, count: int, begun_s: float, _: Any, reason: int) -> None:
        if reason == 0:
            self._taken_s.append(time.perf_counter() - begun_s)
        self._next(number, count)

    def wait(self) -> Done:
        if not self._all_done.wait(60):
            raise RuntimeError("pysyncobj has lost a callback")
        taken_s = time.perf_counter() - self._start_s
        return Done(len(self._taken_s), taken_s, statistics.median(self._taken_s) * 1e6)


# Elections only where a leader is really gone, also on a machine that is busy.
_CONF: Final = {
    "appendEntriesUseBatch": False,
    "dynamicMembershipChange": False,
    "raftMinTimeout": 2.0,
    "raftMaxTimeout": 4.0,
    "connectionTimeout": 5.0,
    "leaderFallbackTimeout": 60.0,
}


def main() -> None:
    site = msgspec.json.decode(sys.argv[1], type=Site)
    addresses = {member: f"{HOST}:{port}" for member, port in site.ports.items()}
    own = addresses.pop(site.local[0])
    table = ReplDict()
    node = SyncObj(own, list(addresses.values()), consumers=[table], conf=SyncObjConf(**_CONF))
    deadline_s = time.monotonic() + ELECTED_S
    while node._getLeader() is None or not node.isReady():
        if time.monotonic() > deadline_s:
            raise RuntimeError("pysyncobj has no leader")
        time.sleep(0.05)
    leader = str(node._getLeader())
    ids = {f"{HOST}:{port}": member for member, port in site.ports.items()}
    print(ids[leader], flush=True)
    for line in sys.stdin.buffer:
        work = msgspec.json.decode(line, type=Work)
        print(msgspec.json.encode(_Writers(table, work).wait()).decode(), flush=True)


if __name__ == "__main__":
    main()
