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

from predastore.errors import PredastoreError
from predastore.limits import (
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
    Append,
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


class Caller(Protocol):
    """As much of rpc.Endpoint as is used here."""

    async def call(
        self,
        peer: str,
        method: str,
        request: msgspec.Struct,
        response_type: type[R],
        payload: Sequence[bytes] = (),
        *,
        timeout_ms: int,
    ) -> tuple[R, memoryview]: ...


class Link:
    def __init__(
        self,
        caller: Caller,
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
        self._calls: set[asyncio.Task[None]] = set()

    def send(self, messages: Sequence[Message]) -> None:
        if sum(map(_size, messages)) <= RAFT_STEP_BYTES_MAX and self.answers.give(messages):
            return
        self._queue.extend(messages)
        self._pump()

    def _pump(self) -> None:
        while self._queue and len(self._calls) < RAFT_STEP_CALLS_MAX:
            task = asyncio.get_running_loop().create_task(self._call(self._batch()))
            self._calls.add(task)
            task.add_done_callback(self._done)

    def _batch(self) -> list[Message]:
        batch = [self._queue.popleft()]
        room = RAFT_STEP_BYTES_MAX - _size(batch[0])
        while self._queue and len(batch) < RAFT_STEP_MESSAGES_MAX:
            room -= _size(self._queue[0])
            if room < 0:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _call(self, batch: list[Message]) -> None:
        try:
            _, payload = await self._caller.call(
                self._peer,
                STEP,
                self._request,
                StepReply,
                [ENCODER.encode(batch)],
                timeout_ms=RAFT_STEP_TIMEOUT_MS,
            )
        except PredastoreError as error:
            self._contact(False, str(error))
        else:
            self._contact(True, "")
            if payload:
                self._received(DECODER.decode(payload))

    def _contact(self, is_connected: bool, why: str) -> None:
        if is_connected is not self.is_connected:
            self.is_connected = is_connected
            what = "answers" if is_connected else "does not answer"
            logger.info("raft: a member %s", what, extra={"peer": self._peer, "error": why})
            self._on_contact(is_connected)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                logger.error("raft: a call failed", exc_info=error, extra={"peer": self._peer})
            self._pump()

    async def finish(self) -> None:
        """Close once all that was to be sent has arrived, or is lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RAFT_STEP_TIMEOUT_MS / 1000):
                while self._calls:
                    await asyncio.wait(self._calls)
        await self.close()

    async def close(self) -> None:
        self._queue.clear()
        self.answers.close()
        calls = list(self._calls)
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


def _size(message: Message) -> int:
    """About the bytes that a message takes on the wire; what is not data is small."""
    if isinstance(message, Append):
        return 64 + sum(48 + len(entry.data) for entry in message.entries)
    if isinstance(message, SnapshotChunk):
        return 128 + len(message.data)
    return 64
