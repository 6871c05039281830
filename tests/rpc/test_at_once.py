"""Calls without a task at either end: handlers that answer at once or later, callers that post."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Callable
from typing import Any

import pytest
from rpc_world import WORLDS, Answer, Ask, expect, quic_world, run

from predastore.base.errors import (
    DeadlineExceeded,
    NotLeader,
    PeerRefused,
    PeerUnreachable,
    PredastoreError,
    RemoteFailure,
)
from predastore.base.limits import RPC_PAYLOAD_BYTES_MAX
from predastore.rpc import CallContext, Later, Method, Reply, Service
from predastore.rpc.service import in_task
from support.waiting import eventually_async

Outcome = tuple[Answer, memoryview] | PredastoreError


class AtOnce:
    """What the server of these tests offers besides the usual."""

    def __init__(self) -> None:
        self.left: list[Later] = []
        self.asked = 0

    def echo(self, ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        return Reply(Answer(ask.number + 1, context.peer), [bytes(payload)])

    def fail(self, ask: Ask, payload: memoryview, context: CallContext) -> Reply:
        if ask.number:
            raise ZeroDivisionError("by accident")
        raise NotLeader("ask another", leader=7)

    def later(self, ask: Ask, payload: memoryview, context: CallContext) -> Later:
        later = Later()
        if ask.number:
            later.give(Reply(Answer(ask.number)))
        self.left.append(later)
        return later

    def pass_on(self, ask: Ask, payload: memoryview, context: CallContext) -> None:
        self.asked += 1

    def service(self) -> Service:
        largest = RPC_PAYLOAD_BYTES_MAX
        return {
            "once.echo": Method(Ask, Answer, in_task(self.echo), largest, self.echo),
            "once.fail": Method(Ask, Answer, in_task(self.fail), 0, self.fail),
            "once.later": Method(Ask, Answer, in_task(self.later), largest, self.later),
            "once.task": Method(Ask, Answer, in_task(self.echo), largest, self.pass_on),
        }


def posted(world: Any, *args: Any, peer: str = "node/1", timeout_ms: int = 20_000) -> Any:
    """The future outcome of a call that was posted, and what gives it up."""
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    give_up = world.caller.post(
        peer, args[0], args[1], Answer, *args[2:], timeout_ms=timeout_ms, done=future.set_result
    )
    return future, give_up


def in_world(test: Callable[[Any, AtOnce], Any], transport: str = "quic") -> None:
    async def inside() -> None:
        async with WORLDS[transport]() as world:
            at_once = AtOnce()
            world.server.serve("node/1", at_once.service())
            await world.ask("test.echo")
            await test(world, at_once)
            await world.ask("test.echo")  # the connection is as good as before

    run(inside())


both = pytest.mark.parametrize("transport", sorted(WORLDS))


@both
@pytest.mark.parametrize("method", ["once.echo", "once.task"])
@pytest.mark.parametrize("size", [0, 1000, 32 * 1024, 1_000_001])
def test_answers_are_those_of_a_task(transport: str, method: str, size: int) -> None:
    async def test(world: Any, at_once: AtOnce) -> None:
        data = os.urandom(size)
        for _ in range(3):
            answer, payload = await world.ask(method, Ask(41), [data])
            assert (answer.number, payload) == (42, data)
        many = await asyncio.gather(*(world.ask(method, Ask(n), [data[:99]]) for n in range(200)))
        assert [answer.number for answer, _ in many] == list(range(1, 201))
        if transport == "quic":
            assert at_once.asked == (203 if method == "once.task" else 0)

    in_world(test, transport)


@both
def test_errors_cross_as_themselves(transport: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: Any, at_once: AtOnce) -> None:
        error = await expect(NotLeader, world.ask("once.fail"))
        assert isinstance(error, NotLeader)
        assert error.leader == 7
        assert not caplog.records
        assert "ZeroDivisionError" in str(
            await expect(RemoteFailure, world.ask("once.fail", Ask(1)))
        )
        await expect(PeerRefused, world.ask("once.fail", Ask(), [b"no payload is taken"]))

    with caplog.at_level(logging.ERROR):
        in_world(test, transport)
    assert "ZeroDivisionError: by accident" in caplog.text


@both
def test_a_reply_is_given_before_or_after_the_handler_has_returned(transport: str) -> None:
    async def test(world: Any, at_once: AtOnce) -> None:
        answer, _ = await world.ask("once.later", Ask(5))
        assert answer.number == 5
        calls = [
            asyncio.ensure_future(world.ask("once.later", Ask(), [bytes(size)]))
            for size in (0, 100_000, 5)
        ]
        await eventually_async(lambda: len(at_once.left) == 4)
        for number, later in enumerate(at_once.left[1:]):
            later.give(Reply(Answer(number), [b"x" * 70_000 * number]))
        found = [await call for call in calls]
        assert {(answer.number, len(data)) for answer, data in found} == {
            (0, 0),
            (1, 70_000),
            (2, 140_000),
        }

    in_world(test, transport)


def test_who_is_cancelled_as_the_reply_is_given_harms_nobody() -> None:
    async def test() -> None:
        later = Later()
        task = asyncio.ensure_future(later.given())
        await asyncio.sleep(0)
        task.cancel()
        later.give(Reply(Answer(1)))
        await asyncio.wait((task,))
        assert task.cancelled()
        assert later.is_dropped

    run(test())


@both
def test_a_reply_that_nobody_gives_is_dropped_at_the_deadline(transport: str) -> None:
    async def test(world: Any, at_once: AtOnce) -> None:
        await expect(DeadlineExceeded, world.ask("once.later", timeout_ms=30))
        await eventually_async(lambda: at_once.left[0].is_dropped)
        call = asyncio.ensure_future(world.ask("once.later"))
        await eventually_async(lambda: len(at_once.left) == 2)
        call.cancel()
        await expect(asyncio.CancelledError, call)
        await eventually_async(lambda: at_once.left[1].is_dropped)
        if transport == "quic":
            at_once.left[1].give(Reply(Answer(1)))  # which nobody hears

    in_world(test, transport)


def test_a_reply_is_dropped_with_its_connection() -> None:
    async def test() -> None:
        async with quic_world() as world:
            at_once = AtOnce()
            world.server.serve("node/1", at_once.service())
            call = asyncio.ensure_future(world.ask("once.later"))
            await eventually_async(lambda: len(at_once.left) == 1)
            await world.caller.close()
            await expect(PeerUnreachable, call)
            await eventually_async(lambda: at_once.left[0].is_dropped)
            at_once.left[0].give(Reply(Answer(1)))

    run(test())


@both
@pytest.mark.parametrize("size", [0, 1000, 1_000_001])
def test_what_is_posted_has_the_outcome_of_a_call(transport: str, size: int) -> None:
    async def test(world: Any, at_once: AtOnce) -> None:
        data = os.urandom(size)
        outcome = await posted(world, "once.echo", Ask(1), [data])[0]
        assert outcome[0].number == 2
        assert outcome[1] == data
        calls = [posted(world, "test.echo", Ask(n))[0] for n in range(300)]  # over the bound
        assert [(await call)[0].number for call in calls] == list(range(1, 301))
        assert isinstance(await posted(world, "once.fail", Ask())[0], NotLeader)
        late = await posted(world, "once.later", Ask(), timeout_ms=30)[0]
        assert isinstance(late, DeadlineExceeded)
        assert isinstance(await posted(world, "no.method", Ask())[0], PeerRefused)
        assert isinstance(
            await posted(world, "test.echo", Ask(), peer="node/9")[0], PeerUnreachable
        )

    in_world(test, transport)


def test_the_first_call_to_a_peer_may_be_posted() -> None:
    async def test() -> None:
        async with quic_world() as world:
            outcome = await posted(world, "test.echo", Ask(1))[0]
            assert outcome[0].number == 2
            left = posted(world, "test.wait", Ask(1))[0]
            await eventually_async(lambda: world.handlers.waiting == 1)
            await world.caller.close()
            assert isinstance(await left, PeerUnreachable)
            assert isinstance(await posted(world, "test.echo", Ask(1))[0], PeerUnreachable)

    run(test())


@both
def test_what_was_given_up_ends_at_the_peer_too(transport: str) -> None:
    async def test(world: Any, at_once: AtOnce) -> None:
        _, give_up = posted(world, "test.wait", Ask(1))
        await eventually_async(lambda: world.handlers.waiting == 1)
        give_up()
        await eventually_async(lambda: world.handlers.cancelled == 1)
        give_up()

    in_world(test, transport)


@both
def test_what_is_given_up_at_once_was_never_begun(transport: str) -> None:
    async def test(world: Any, at_once: AtOnce) -> None:
        large = [bytes(1_000_000)]  # too much to be sent without a task
        calls = world.handlers.calls
        for _ in range(3):
            _, give_up = posted(world, "test.echo", Ask(1), large)
            give_up()
        await asyncio.sleep(0)
        gc.collect()
        assert world.handlers.calls == calls

    in_world(test, transport)


def test_who_takes_an_answer_badly_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: Any, at_once: AtOnce) -> None:
        def done(outcome: object) -> None:
            raise ZeroDivisionError("by accident")

        for _ in range(3):
            world.caller.post("node/1", "test.echo", Ask(), Answer, timeout_ms=1000, done=done)
        await eventually_async(lambda: caplog.text.count("ZeroDivisionError: by accident") == 3)

    with caplog.at_level(logging.ERROR):
        in_world(test)
