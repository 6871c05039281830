"""What a member has to say goes in the response to the call that asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from predastore.s3db.raft.answers import Answers
from predastore.s3db.raft.messages import AppendEntries, AppendReply, Message, PreVote


def append(index: int) -> Message:
    return AppendEntries(1, 2, 1, index, 1, 0, 0, [])


def reply(index: int) -> Message:
    return AppendReply(2, 1, 1, True, index, 0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def waiting(answers: Answers, *messages: Message) -> asyncio.Future[Sequence[Message]]:
    told: asyncio.Future[Sequence[Message]] = asyncio.get_running_loop().create_future()

    def take(said: Sequence[Message]) -> bool:
        if told.done():
            return False
        told.set_result(said)
        return True

    answers.wait(messages, take)
    return told


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.s3db.raft.answers.RAFT_STEP_HOLD_MS", 60_000)


def test_the_oldest_call_takes_what_is_said() -> None:
    async def test() -> None:
        answers = Answers()
        first = waiting(answers, append(1))
        second = waiting(answers, PreVote(1, 2, 1, 0, 0))
        assert answers.give([reply(1)])
        assert await first == [reply(1)]
        assert not second.done()
        assert answers.give([reply(2)])
        assert await second == [reply(2)]
        assert not answers.give([reply(3)])

    run(test)


def test_calls_whose_questions_are_answered_together_wait_no_longer() -> None:
    async def test() -> None:
        answers = Answers()
        calls = [
            waiting(answers, append(1)),
            waiting(answers, append(2), append(3)),
            waiting(answers, append(4)),
        ]
        assert answers.give([reply(1), reply(2), reply(3)])
        assert [await call for call in calls[:2]] == [[reply(1), reply(2), reply(3)], ()]
        assert not calls[2].done()
        answers.close()
        assert await calls[2] == ()

    run(test)


def test_a_message_that_asks_for_nothing_does_not_wait() -> None:
    async def test() -> None:
        answers = Answers()
        assert await waiting(answers, reply(1)) == ()
        assert not answers.give([reply(2)])

    run(test)


def test_a_call_that_was_given_up_takes_nothing() -> None:
    async def test() -> None:
        answers = Answers()
        gone = waiting(answers, append(1))
        gone.cancel()
        left = waiting(answers, append(2))
        assert answers.give([reply(2)])
        assert await left == [reply(2)]

    run(test)


def test_what_does_not_come_soon_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.s3db.raft.answers.RAFT_STEP_HOLD_MS", 1)

    async def test() -> None:
        answers = Answers()
        assert await waiting(answers, append(1)) == ()
        assert not answers.give([reply(1)])

    run(test)
