"""Raft messages to one other member, as rpc calls.

Several messages share a call; a bounded number of calls is in flight, and none waits for the one
before. What is to be said to a member whose call waits for it goes in the response (answers.py). A
failed call is a lost message, which Raft expects: nothing is sent again here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

import msgspec

from predastore.base.errors import PredastoreError
from predastore.base.limits import (
    RAFT_STEP_BYTES_MAX,
    RAFT_STEP_CALLS_MAX,
    RAFT_STEP_MESSAGES_MAX,
    RAFT_STEP_QUEUE_MAX,
    RAFT_STEP_TIMEOUT_MS,
)
from predastore.s3db.raft.answers import Answers
from predastore.s3db.raft.messages import (
    DECODER,
    ENCODER,
    Address,
    AppendEntries,
    Message,
    SnapshotChunk,
)

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=msgspec.Struct)

STEP = "raft.step"


class StepRequest(msgspec.Struct, frozen=True, array_like=True):
    """The payload is a msgpack array of messages.

    `address`: the sender's, for a member that has not got the configuration with it yet.
    """

    address: Address | None = None


class StepReply(msgspec.Struct, frozen=True, array_like=True):
    """The payload is a msgpack array of messages, or nothing."""


Outcome = tuple[StepReply, memoryview] | PredastoreError


class LinkCaller(Protocol):
    """As much of rpc.Endpoint as is used here."""

    def post(
        self,
        peer: str,
        method: str,
        request: msgspec.Struct,
        response_type: type[R],
        payload: Sequence[bytes] = (),
        *,
        timeout_ms: int,
        done: Callable[[tuple[R, memoryview] | PredastoreError], None],
    ) -> Callable[[], object]: ...


class Link:
    def __init__(
        self,
        caller: LinkCaller,
        peer: str,
        on_contact: Callable[[bool], None],
        request: StepRequest,
        received: Callable[[Sequence[Message]], None],
    ) -> None:
        """`on_contact` is told when the member begins or ceases to answer; `received` gets the
        messages of its responses."""
        self._received = received
        self.answers = Answers()
        self._request = request
        self._caller = caller
        self._peer = peer
        self._on_contact = on_contact
        self.is_connected = False
        self._queue: deque[Message] = deque(maxlen=RAFT_STEP_QUEUE_MAX)  # the oldest are lost
        self._calls: set[_Step] = set()
        self._idle: asyncio.Future[None] | None = None  # waited for

    def send(self, messages: Sequence[Message]) -> None:
        if sum(map(_size, messages)) <= RAFT_STEP_BYTES_MAX and self.answers.give(messages):
            return
        self._queue.extend(messages)
        self._pump()

    def _pump(self) -> None:
        while self._queue and len(self._calls) < RAFT_STEP_CALLS_MAX:
            step = _Step(self)
            self._calls.add(step)
            step.give_up = self._caller.post(
                self._peer,
                STEP,
                self._request,
                StepReply,
                [ENCODER.encode(self._batch())],
                timeout_ms=RAFT_STEP_TIMEOUT_MS,
                done=step.done,
            )

    def _batch(self) -> list[Message]:
        batch = [self._queue.popleft()]
        room = RAFT_STEP_BYTES_MAX - _size(batch[0])
        while self._queue and len(batch) < RAFT_STEP_MESSAGES_MAX:
            room -= _size(self._queue[0])
            if room < 0:
                break
            batch.append(self._queue.popleft())
        return batch

    def answered(
        self, step: _Step, outcome: tuple[StepReply, memoryview] | PredastoreError
    ) -> None:
        if step not in self._calls:
            return  # given up
        self._calls.discard(step)
        if self._idle is not None and not self._calls and not self._idle.done():
            self._idle.set_result(None)
        if isinstance(outcome, PredastoreError):
            self._contact(False, str(outcome))
        else:
            self._contact(True, "")
            if outcome[1]:
                self._received(DECODER.decode(outcome[1]))
        self._pump()

    def _contact(self, is_connected: bool, why: str) -> None:
        if is_connected is not self.is_connected:
            self.is_connected = is_connected
            what = "answers" if is_connected else "does not answer"
            logger.info("raft: a member %s", what, extra={"peer": self._peer, "error": why})
            self._on_contact(is_connected)

    async def finish(self) -> None:
        """Close once all that was to be sent has arrived, or is lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RAFT_STEP_TIMEOUT_MS / 1000):
                while self._calls:
                    self._idle = asyncio.get_running_loop().create_future()
                    await self._idle
        self.close()

    def close(self) -> None:
        self._queue.clear()
        self.answers.close()
        calls, self._calls = self._calls, set()
        for step in calls:
            step.give_up()


class _Step:
    """One call of a link's."""

    __slots__ = ("_link", "give_up")

    def __init__(self, link: Link) -> None:
        self._link = link
        self.give_up: Callable[[], object] = _nothing

    def done(self, outcome: Outcome) -> None:
        self._link.answered(self, outcome)


def _nothing() -> None:
    pass


def _size(message: Message) -> int:
    """About the bytes that a message takes on the wire; what is not data is small."""
    if isinstance(message, AppendEntries):
        return 64 + sum(48 + len(entry.data) for entry in message.entries)
    if isinstance(message, SnapshotChunk):
        return 128 + len(message.data)
    return 64
