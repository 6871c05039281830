"""One member's part of the protocol. Sans-IO: time comes in, calls to make come out.

Every GOSSIP_PROBE_MS the next member of a shuffled round is pinged. No answer: GOSSIP_RELAYS others
are asked to ping it. None of them reaches it: it is a suspect, and everybody hears of it. A suspect
that hears so contradicts with a higher incarnation, and all ping it so that it may; one that does
not within the time of suspicion is dead. Every GOSSIP_SYNC_MS views are compared with one other:
usually a member that is here, now and then one that is dead or a seed, so that the halves of a
cluster that was cut in two meet again.

A member that `yields` contradicts neither what it hears of another life under its own name, nor
that it is dead: another may have taken its place. It is `doubted`, until it is told to insist.

A member that was stopped for a while (SIGSTOP, a frozen virtual machine) finds all its deadlines
passed at once. That says nothing of the others: a turn that comes GOSSIP_GAP_MS late moves every
deadline by the gap, and drops the probes under way.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from predastore.base.limits import (
    GOSSIP_GAP_MS,
    GOSSIP_PING_TIMEOUT_MS,
    GOSSIP_PROBE_MS,
    GOSSIP_RELAY_TIMEOUT_MS,
    GOSSIP_RELAYS,
    GOSSIP_SUSPICION_MS,
    GOSSIP_SYNC_MS,
    GOSSIP_SYNC_TIMEOUT_MS,
)
from predastore.gossip.messages import (
    Facts,
    GossipStatus,
    Ping,
    Pong,
    Record,
    Relay,
    Relayed,
    Reply,
    Request,
    Sync,
    Synced,
)
from predastore.gossip.news import News
from predastore.gossip.roster import Roster

_DOUBT_MAX: Final = 4


@dataclass(frozen=True)
class GossipCall:
    """A request to be made of the peer `to`; its outcome goes to `answered` or `failed`."""

    number: int
    to: str
    request: Request
    timeout_ms: int


@dataclass
class _Probe:
    """Of one member: the ping, or the relays still out after it failed."""

    target: Record
    relays_out: int = 0
    reached: bool = False


class GossipCore:
    """`seeds`: rpc names by which others may be found first. `heard(old, new)` is called with each
    change of the view; `old` is `new` where nothing was known."""

    def __init__(
        self,
        own: Record,
        seeds: Sequence[str],
        *,
        now: float,
        draw: random.Random,
        heard: Callable[[Record, Record], None] = lambda old, new: None,
        yields: bool = False,
    ) -> None:
        self.roster = Roster(own)
        self._yields = yields
        self.doubted: Record | None = None  # what was heard of this process, and not contradicted
        self.news = News()
        self._seeds = list(seeds)
        self._draw = draw
        self._heard = heard
        self.rival: Record | None = None  # another process that goes by the name of this one
        self._numbers = 0
        self._probes: dict[int, _Probe] = {}
        self._syncs: set[int] = set()
        self._round: list[str] = []
        self._suspected: dict[str, float] = {}  # name: since when
        self._doubt = 0  # of this process's own line: failed pings less answered ones
        self._probe_at = now + self._draw.uniform(0, GOSSIP_PROBE_MS / 1000)
        self._sync_at = now
        self._turn_at = now
        self.news.add(own)

    # --- what this process says of itself -----------------------------------------------------

    def say(self, facts: Facts) -> None:
        """New facts of this process."""
        own = self.roster.own
        self.roster.say(Record(own.name, own.incarnation + 1, own.status, facts))
        self.news.add(self.roster.own)

    def insist(self) -> None:
        """Contradicts what this process was doubted by."""
        doubted, self.doubted = self.doubted, None
        if doubted is not None and self.roster.contradict(doubted):
            self.news.add(self.roster.own)

    def leave(self) -> list[GossipCall]:
        """Says good-bye; the last calls to make."""
        own = self.roster.own
        self.roster.say(Record(own.name, own.incarnation + 1, GossipStatus.LEFT, own.facts))
        self.news.add(self.roster.own)
        others = [record.name for record in self.roster.others() if record.is_here]
        return [self._ping(name) for name in self._some(others, GOSSIP_RELAYS)]

    # --- time ---------------------------------------------------------------------------------

    def turn(self, now: float) -> list[GossipCall]:
        """To be called several times a second."""
        gap = now - self._turn_at
        self._turn_at = now
        if gap > GOSSIP_GAP_MS / 1000:
            self._probes.clear()
            self._probe_at += gap
            self._suspected = {name: since + gap for name, since in self._suspected.items()}
        self._bury(now)
        calls: list[GossipCall] = []
        if now >= self._probe_at:
            self._probe_at = now + GOSSIP_PROBE_MS / 1000
            self.roster.forget(now)
            calls += [*self._probe_next(), *self._warn_suspect()]
        if now >= self._sync_at:
            # A member that knows nobody asks more often.
            alone = len(self.roster) == 1
            self._sync_at = now + (GOSSIP_PROBE_MS if alone else GOSSIP_SYNC_MS) / 1000
            calls += self._sync_next(alone)
        return calls

    def _bury(self, now: float) -> None:
        """A member whose own pings fail everywhere gives its suspects up to three times as long."""
        stretch = max(1.0, math.log10(len(self.roster))) * (1 + self._doubt / _DOUBT_MAX * 2)
        limit_s = stretch * GOSSIP_SUSPICION_MS / 1000
        for name in [name for name, since in self._suspected.items() if now - since >= limit_s]:
            del self._suspected[name]
            self._mark(name, GossipStatus.DEAD, now)

    def _mark(self, name: str, status: GossipStatus, now: float) -> None:
        old = self.roster.get(name)
        new = self.roster.mark(name, status, now)
        if old is not None and new is not None:
            self._changed(old, new, now)

    # --- probing ------------------------------------------------------------------------------

    def _probe_next(self) -> list[GossipCall]:
        while self._round:
            target = self.roster.get(self._round.pop())
            if target is not None and target.is_here:
                return [self._ping(target.name)]
        self._round = [record.name for record in self.roster.others() if record.is_here]
        self._draw.shuffle(self._round)
        if not self._round:
            return []
        return [self._ping(self._round.pop())]

    def _warn_suspect(self) -> list[GossipCall]:
        """A ping more for one that is suspected: everybody gives it the chance to contradict."""
        return [self._ping(name) for name in self._some(list(self._suspected), 1)]

    def _ping(self, name: str) -> GossipCall:
        target = self.roster.get(name)
        assert target is not None
        number = self._number()
        self._probes[number] = _Probe(target)
        return GossipCall(number, name, self.ping(name), GOSSIP_PING_TIMEOUT_MS)

    def ping(self, name: str) -> Ping:
        """A ping that tells its receiver when it is suspected."""
        target = self.roster.get(name)
        first = target if target is not None and target.status is not GossipStatus.ALIVE else None
        return Ping(self.roster.own, self.news.take(len(self.roster), first=first))

    def _ask_others(self, probe: _Probe) -> list[GossipCall]:
        name = probe.target.name
        others = [
            record.name
            for record in self.roster.others()
            if record.status is GossipStatus.ALIVE and record.name != name
        ]
        calls = []
        for other in self._some(others, GOSSIP_RELAYS):
            number = self._number()
            self._probes[number] = probe
            request = Relay(self.roster.own, name, self.news.take(len(self.roster)))
            calls.append(GossipCall(number, other, request, GOSSIP_RELAY_TIMEOUT_MS))
        probe.relays_out = len(calls)
        return calls

    def _suspect(self, probe: _Probe, now: float) -> None:
        have = self.roster.get(probe.target.name)
        if have is not None and have.incarnation == probe.target.incarnation:
            self._mark(have.name, GossipStatus.SUSPECT, now)

    # --- comparing views ----------------------------------------------------------------------

    def _sync_next(self, alone: bool) -> list[GossipCall]:
        others = self.roster.others()
        here = [record.name for record in others if record.is_here]
        away = [record.name for record in others if not record.is_here]
        pools = [here, [*away, *self._seeds]]
        # Every fourth time somebody who does not seem to be here, in case that it is.
        if alone or (pools[1] and self._draw.random() < 0.25):
            pools.reverse()
        for pool in pools:
            if pool:
                number = self._number()
                self._syncs.add(number)
                request = Sync(self.roster.own, self.roster.seen())
                return [
                    GossipCall(number, self._draw.choice(pool), request, GOSSIP_SYNC_TIMEOUT_MS)
                ]
        return []

    # --- outcomes of calls --------------------------------------------------------------------

    def answered(self, call: GossipCall, reply: Reply, now: float) -> list[GossipCall]:
        self._hear([reply.sender, *reply.news], now)
        self._syncs.discard(call.number)
        probe = self._probes.pop(call.number, None)
        if isinstance(reply, Synced):
            for name in reply.wanted:
                record = self.roster.get(name)
                if record is not None:
                    self.news.add(record)
        elif probe is not None and isinstance(reply, Pong):
            probe.reached = True
            self._doubt = max(0, self._doubt - 1)
        elif probe is not None and isinstance(reply, Relayed):
            probe.reached |= reply.reached
            return self._relay_over(probe, now)
        return []

    def failed(self, call: GossipCall, now: float) -> list[GossipCall]:
        self._syncs.discard(call.number)
        probe = self._probes.pop(call.number, None)
        if probe is None or self.roster.own.status is GossipStatus.LEFT:
            return []
        if isinstance(call.request, Ping):
            if call.to in self._suspected:
                return []
            self._doubt = min(_DOUBT_MAX, self._doubt + 1)
            calls = self._ask_others(probe)
            if not calls:
                self._suspect(probe, now)
            return calls
        return self._relay_over(probe, now)

    def _relay_over(self, probe: _Probe, now: float) -> list[GossipCall]:
        probe.relays_out -= 1
        if probe.relays_out == 0 and not probe.reached:
            self._suspect(probe, now)
        return []

    # --- requests of others -------------------------------------------------------------------

    def received(self, request: Ping | Sync, now: float) -> Reply:
        if isinstance(request, Ping):
            self._hear([request.sender, *request.news], now)
            return Pong(self.roster.own, self.news.take(len(self.roster)))
        self._hear([request.sender], now)
        # A suspicion of the asker itself is among what is newer here, and so is answered to.
        newer, wanted = self.roster.compare(request.seen)
        return Synced(self.roster.own, newer, wanted)

    def relay(self, request: Relay, now: float) -> Ping | None:
        """The ping to send on behalf of another; None if the target is not known here."""
        self._hear([request.sender, *request.news], now)
        if self.roster.get(request.target) is None:
            return None
        return self.ping(request.target)

    def relayed(self, pong: Pong | None, now: float) -> Relayed:
        """The answer to the one that asked; `pong`: what the target said, if it did."""
        if pong is not None:
            self._hear([pong.sender, *pong.news], now)
        return Relayed(self.roster.own, pong is not None, self.news.take(len(self.roster)))

    # --- hearing ------------------------------------------------------------------------------

    def _hear(self, records: Iterable[Record], now: float) -> None:
        for record in records:
            if record.name == self.roster.own.name:
                self._hear_of_self(record)
                continue
            old = self.roster.hear(record, now)
            if old is not None:
                self._changed(old, record, now)

    def _hear_of_self(self, record: Record) -> None:
        own = self.roster.own
        if not self.roster.is_wrong(record):
            return
        is_rival = record.facts.life != own.facts.life
        if self._yields and (is_rival or record.status is GossipStatus.DEAD):
            self.doubted = record
            return
        if is_rival:
            self.rival = record
        self.roster.contradict(record)
        self.news.add(self.roster.own)

    def _changed(self, old: Record, new: Record, now: float) -> None:
        self.news.add(new)
        if new.status is GossipStatus.SUSPECT:
            self._suspected[new.name] = now
        else:
            self._suspected.pop(new.name, None)
        self._heard(old, new)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _some(self, names: list[str], count: int) -> list[str]:
        return self._draw.sample(names, min(count, len(names)))
