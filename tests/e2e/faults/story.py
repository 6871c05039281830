"""What is done to the hosts, and what the clients' requests must and may show of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from e2e.faults.load import Client, Load, Seen
from e2e.faults.world import World
from support.waiting import eventually

PARTS = ("before", "during", "after")


@dataclass
class Chapter:
    """One way of failing of one pair; the requests of before, during and after."""

    way: str
    who: str
    parts: dict[str, list[Seen]] = field(default_factory=dict)
    whole_after_s: float | None = None

    @classmethod
    def of_all(cls, chapters: Sequence[Chapter]) -> Chapter:
        """What all of them saw together."""
        parts = {part: [one for c in chapters for one in c.parts[part]] for part in PARTS}
        return cls(chapters[0].way, f"all {len(chapters)}", parts)

    def lines(self) -> list[str]:
        who = f"{self.way:9} {self.who:6}"
        found = [
            f"{who}  {kind}  " + "  ".join(self._figures(kind, part) for part in PARTS)
            for kind in ("GET", "PUT")
        ]
        if self.whole_after_s is not None:
            found.append(f"{who}  whole again {self.whole_after_s:.0f} s later")
        return found

    def _figures(self, kind: str, part: str) -> str:
        seen = [one for one in self.parts.get(part, ()) if one.kind == kind]
        good = sorted(one.took_s for one in seen if not one.wrong)
        wrong = sum(bool(one.wrong) for one in seen)
        if not good:
            return f"{part}: none of {len(seen)}"
        p99 = good[min(len(good) - 1, int(0.99 * len(good)))]
        return (
            f"{part}: {len(good):4} ok {wrong:2} failed p50 {1000 * good[len(good) // 2]:4.0f}"
            f" p99 {1000 * p99:5.0f} longest {1000 * good[-1]:5.0f} ms"
        )


class Story:
    """`repaired_within_s`: how long it may take until all is whole again; 0: nobody waits for that,
    and what was written while hosts were down is only read until the chapter ends."""

    def __init__(
        self,
        world: World,
        load: Load,
        *,
        calm_s: float,
        fault_s: float,
        repaired_within_s: float = 0.0,
    ) -> None:
        self._repaired_within_s = repaired_within_s
        self._world = world
        self._load = load
        self._calm_s = calm_s
        self._fault_s = fault_s
        self._pause = threading.Event()
        self._unrepaired: list[str] = []

    def tell(self, way: str, pair: tuple[int, int], *, repair: bool = True) -> Chapter:
        """`repair`: waits for it. Without it the next pair must not lose what this one lost."""
        world, load = self._world, self._load
        chapter = Chapter(way, f"{pair[0]}+{pair[1]}")
        began = self._go_on(self._calm_s)
        failing = time.monotonic()
        load.ledger.failing = True
        for number in pair:
            world.fail(way, number)
        self._go_on(self._fault_s)
        put = sum(one.kind == "PUT" and not one.wrong for one in self._between(failing))
        mended = time.monotonic()
        for number in pair:
            world.mend(way, number)
        world.settled(pair)
        load.ledger.failing = False
        self._go_on(self._calm_s)
        ended = time.monotonic()
        self._wait_for_answers(ended)
        chapter.parts = {
            "before": self._between(began, failing),
            "during": self._between(failing, mended),
            "after": self._between(mended, ended),
        }
        assert put, f"{way} {pair}: no PUT was acknowledged while it lasted"
        self._read(load.ledger.exposed)
        # Until they are repaired they could not stand the loss of another pair.
        self._unrepaired += load.ledger.exposed
        load.ledger.exposed = []
        if self._repaired_within_s and repair:
            self._await_repair(chapter)
            load.ledger.safe += self._unrepaired
            self._unrepaired = []
        return chapter

    def _await_repair(self, chapter: Chapter) -> None:
        began = time.monotonic()
        eventually(
            self._world.is_whole,
            within_s=self._repaired_within_s,
            what="every shard of every object",
        )
        chapter.whole_after_s = time.monotonic() - began

    def _go_on(self, for_s: float) -> float:
        """Lets the load run; when that began."""
        began = time.monotonic()
        self._pause.wait(for_s)
        return began

    def _between(self, since: float, until: float = float("inf")) -> list[Seen]:
        return [one for one in list(self._load.seen) if since <= one.due < until]

    def _wait_for_answers(self, until: float) -> None:
        """Requests that were due before are answered, so that none goes uncounted."""
        eventually(
            lambda: min(self._load.answered_up_to.values()) >= until,
            within_s=60,
            what="answers to all requests",
        )

    def read_all(self) -> int:
        """Every object that was acknowledged while all hosts were there; how many there are."""
        return self._read(self._load.ledger.safe)

    def _read(self, keys: list[str]) -> int:
        clients = [Client(address, patience_s=30.0) for address in self._world.gateways]
        for number, key in enumerate(keys):
            self._load.check(clients[number % len(clients)], key)
        for client in clients:
            client.close()
        return len(keys)
