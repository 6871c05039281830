"""Agents over real connections: a seed is enough, and the cluster key is asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
import uvloop

from predastore.base.errors import PeerRefused, PredastoreError
from predastore.gossip import Agent, Facts, GossipStatus, Record
from predastore.gossip.agent import VIEW
from predastore.gossip.messages import GossipView, Viewed
from predastore.rpc import Endpoint, self_signed
from support.waiting import eventually_async

KEY = b"the cluster key of these tests.."
HOST = "127.0.0.1"


def run(test: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(test, 60))


@contextlib.asynccontextmanager
async def member(
    name: str, *seeds: tuple[str, int], key: bytes = KEY
) -> AsyncIterator[tuple[Agent, int, Endpoint]]:
    """An agent that listens; what it hears of others it can call."""
    endpoint = Endpoint(cluster_key=key, certificate=self_signed(), name=name)

    def heard(record: Record) -> None:
        endpoint.add_peer(record.name, record.facts.host, record.facts.port)

    port = await endpoint.listen(name, HOST, 0)
    names = [endpoint.add_seed(*seed) for seed in seeds]
    agent = Agent(endpoint, name, Facts(HOST, port, 1), names, heard=heard)
    endpoint.serve(name, agent.service())
    agent.start()
    try:
        yield agent, port, endpoint
    finally:
        await agent.close()
        await endpoint.close()


def alive(agent: Agent) -> set[str]:
    return {one.name for one in agent.records if one.status is GossipStatus.ALIVE}


def test_three_find_each_other_by_one_seed_and_miss_the_one_that_leaves() -> None:
    async def test() -> None:
        everybody = {"node/1", "node/2", "db/1"}
        async with member("node/1") as (one, port, _), member("node/2", (HOST, port)) as (two, *_):
            async with member("db/1", (HOST, port)) as (three, *_):
                for agent in (one, two, three):
                    await eventually_async(
                        lambda agent=agent: alive(agent) == everybody, within_s=20, what="view"
                    )
                two.say(Facts(HOST, two.core.roster.own.facts.port, 1, ring_version=4))
                await eventually_async(
                    lambda: three.core.roster.get("node/2").facts.ring_version == 4, within_s=20
                )
            for agent in (one, two):
                await eventually_async(
                    lambda agent=agent: alive(agent) == {"node/1", "node/2"}, within_s=20
                )
            left = one.core.roster.get("db/1")
            assert left is not None
            assert left.status is GossipStatus.LEFT

    run(test())


def test_a_tool_sees_the_view_with_the_key_alone() -> None:
    async def test() -> None:
        async with member("node/1") as (_, port, __):
            tool = Endpoint(cluster_key=KEY, certificate=self_signed(), name="tool")
            seed = tool.add_seed(HOST, port)
            found, _ = await tool.call(seed, VIEW, GossipView(), Viewed, timeout_ms=10_000)
            assert [record.name for record in found.records] == ["node/1"]
            assert found.sender.name == "node/1"
            await tool.close()

    run(test())


def test_who_has_not_the_key_learns_nothing() -> None:
    async def test() -> None:
        async with member("node/1") as (one, port, _):
            stranger = Endpoint(cluster_key=bytes(32), certificate=self_signed(), name="stranger")
            seed = stranger.add_seed(HOST, port)
            with pytest.raises(PredastoreError) as caught:
                await stranger.call(seed, VIEW, GossipView(), Viewed, timeout_ms=10_000)
            assert isinstance(caught.value, PeerRefused)
            await stranger.close()
            assert alive(one) == {"node/1"}

    run(test())


def test_a_member_of_another_name_at_an_address_is_refused() -> None:
    """An address that passed to another process: a call for node/2 does not reach node/1."""

    async def test() -> None:
        async with member("node/1") as (_, port, __), member("node/3") as (___, ____, endpoint):
            endpoint.add_peer("node/2", HOST, port)
            with pytest.raises(PeerRefused, match="node/2"):
                await endpoint.call("node/2", VIEW, GossipView(), Viewed, timeout_ms=10_000)

    run(test())


def test_another_process_of_the_same_name_is_warned_of_and_gossip_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with member("node/1") as (one, *_):
            own = one.core.roster.own
            rival = own.__class__(own.name, own.incarnation + 1, own.status, Facts("h", 1, 99))
            for _ in range(2):
                one.core.rival = rival
                await eventually_async(lambda: "goes by the name of this one" in caplog.text)
                rival = own.__class__(own.name, 9 + own.incarnation, own.status, Facts("i", 2, 98))
                caplog.clear()
            async with member("node/2", (HOST, one.core.roster.own.facts.port)):
                await eventually_async(
                    lambda: alive(one) == {"node/1", "node/2"}, within_s=20, what="view"
                )

    run(test())
