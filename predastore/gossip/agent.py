"""Gossip on the event loop: the core's calls over rpc, and others' requests to the core.

The methods are served under every name that the process listens by, so gossip needs no port. A
process that listens nowhere (a gateway alone, port 0) takes part as well: it can not be probed, so
it goes as one that left, whom nobody takes in, and only asks.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence

from predastore.base.errors import PeerRefused, PredastoreError
from predastore.base.limits import GOSSIP_MEMBERS_MAX, GOSSIP_PING_TIMEOUT_MS, GOSSIP_TURN_MS
from predastore.gossip.core import GossipCall, GossipCore
from predastore.gossip.messages import (
    Facts,
    GossipStatus,
    GossipView,
    Ping,
    Pong,
    Record,
    Relay,
    Relayed,
    Reply,
    Sync,
    Synced,
    Viewed,
)
from predastore.rpc import CallContext, Endpoint, Method, Service
from predastore.rpc import Reply as RpcReply

logger = logging.getLogger(__name__)

PING, RELAY, SYNC, VIEW = "gossip.ping", "gossip.relay", "gossip.sync", "gossip.view"


class Agent:
    """`seeds`: rpc names by which others may be found first. `heard(record)` is called with each
    change of another's record, before any call to it. `doubted()`, where it is given: called when
    others take this process for dead, or another for it; it is not contradicted before `insist`."""

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        facts: Facts,
        seeds: Sequence[str] = (),
        *,
        heard: Callable[[Record], None] = lambda record: None,
        doubted: Callable[[], None] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._listener = heard
        status = GossipStatus.ALIVE if facts.port else GossipStatus.LEFT
        own = Record(name, int(time.time() * 1000), status, facts)
        self._doubted = doubted
        self.core = GossipCore(
            own,
            seeds,
            now=self._loop.time(),
            draw=random.Random(),
            heard=self._changed,
            yields=doubted is not None,
        )
        self._calls: set[asyncio.Task[None]] = set()
        self._turns: asyncio.Task[None] | None = None
        self._warned_of: Record | None = None
        self._refusals: dict[str, str] = {}  # by peer: why it refused this process

    @property
    def records(self) -> list[Record]:
        """Everybody that is known, this process among them."""
        return self.core.roster.all()

    def say(self, facts: Facts) -> None:
        """New facts of this process, if they are new."""
        if facts != self.core.roster.own.facts:
            self.core.say(facts)

    def insist(self) -> None:
        """Nobody has taken the place of this process."""
        self.core.insist()

    def start(self) -> None:
        self._turns = self._loop.create_task(self._run())

    async def close(self) -> None:
        """Says good-bye, and takes no further part."""
        if self._turns is not None:
            self._turns.cancel()
            await asyncio.wait([self._turns])
            self._make(self.core.leave())
            if self._calls:
                await asyncio.wait(self._calls, timeout=GOSSIP_PING_TIMEOUT_MS / 1000)
        for call in list(self._calls):
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    async def _run(self) -> None:
        while True:
            try:
                self._turn()
            except Exception:
                logger.exception("gossip failed; it goes on")
            await asyncio.sleep(GOSSIP_TURN_MS / 1000)

    def _turn(self) -> None:
        self._make(self.core.turn(self._loop.time()))
        if self.core.doubted is not None and self._doubted is not None:
            self._doubted()
        rival = self.core.rival
        if rival is not None and rival.facts != (self._warned_of and self._warned_of.facts):
            self._warned_of = rival
            logger.warning(
                "another process goes by the name of this one, or did before it was started "
                "here; if it still runs, stop one of the two",
                extra={"rival": rival.name, "host": rival.facts.host, "port": rival.facts.port},
            )

    # --- calls to others ----------------------------------------------------------------------

    def _make(self, calls: Sequence[GossipCall]) -> None:
        for call in calls:
            task = self._loop.create_task(self._one(call))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def _one(self, call: GossipCall) -> None:
        request = call.request
        try:
            reply: Reply
            if isinstance(request, Ping):
                reply = await self._ping(call.to, request, call.timeout_ms)
            elif isinstance(request, Relay):
                reply, _ = await self._endpoint.call(
                    call.to, RELAY, request, Relayed, timeout_ms=call.timeout_ms
                )
            else:
                reply, _ = await self._endpoint.call(
                    call.to, SYNC, request, Synced, timeout_ms=call.timeout_ms
                )
        except PredastoreError as error:
            self._note_silence(call.to, error)
            self._make(self.core.failed(call, self._loop.time()))
        else:
            self._make(self.core.answered(call, reply, self._loop.time()))

    def _note_silence(self, peer: str, error: PredastoreError) -> None:
        """One that refuses this process is warned of, once for each reason."""
        reason = str(error)
        if isinstance(error, PeerRefused) and self._refusals.get(peer) != reason:
            while len(self._refusals) >= GOSSIP_MEMBERS_MAX:
                del self._refusals[next(iter(self._refusals))]
            self._refusals[peer] = reason
            logger.warning("gossip: refused", extra={"peer": peer, "reason": reason})
        else:
            logger.debug("gossip: no answer", extra={"peer": peer, "error": reason})

    async def _ping(self, name: str, request: Ping, timeout_ms: int) -> Pong:
        pong, _ = await self._endpoint.call(name, PING, request, Pong, timeout_ms=timeout_ms)
        return pong

    # --- calls of others ----------------------------------------------------------------------

    def service(self) -> Service:
        """To be served under each name that this process listens by."""
        return {
            PING: Method(Ping, Pong, self._on_ping, 0),
            RELAY: Method(Relay, Relayed, self._on_relay, 0),
            SYNC: Method(Sync, Synced, self._on_sync, 0),
            VIEW: Method(GossipView, Viewed, self._on_view, 0),
        }

    async def _on_ping(self, request: Ping, _: memoryview, __: CallContext) -> RpcReply:
        return RpcReply(self.core.received(request, self._loop.time()))

    async def _on_sync(self, request: Sync, _: memoryview, __: CallContext) -> RpcReply:
        return RpcReply(self.core.received(request, self._loop.time()))

    async def _on_relay(self, request: Relay, _: memoryview, __: CallContext) -> RpcReply:
        ping = self.core.relay(request, self._loop.time())
        pong: Pong | None = None
        if ping is not None:
            try:
                pong = await self._ping(request.target, ping, GOSSIP_PING_TIMEOUT_MS)
            except PredastoreError as error:
                logger.debug(
                    "gossip: no answer", extra={"peer": request.target, "error": str(error)}
                )
        return RpcReply(self.core.relayed(pong, self._loop.time()))

    async def _on_view(self, _: GossipView, __: memoryview, ___: CallContext) -> RpcReply:
        return RpcReply(Viewed(self.core.roster.own, tuple(self.records)))

    # --- news ---------------------------------------------------------------------------------

    def _changed(self, old: Record, new: Record) -> None:
        if old is new or old.status is not new.status:
            logger.info(
                "gossip: %s is %s",
                new.name,
                "here" if new.status is GossipStatus.ALIVE else new.status.name.lower(),
                extra={"host": new.facts.host, "port": new.facts.port},
            )
        self._listener(new)
