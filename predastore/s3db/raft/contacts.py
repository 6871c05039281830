"""The links of a member: one for each other member that it has something to say to.

A link is made when it is first needed, since a member may have to answer one that it does not
know yet (a leader whose configuration is on its way), and closed when its member leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from predastore.base.limits import RAFT_LINKS_MAX
from predastore.rpc import Later, Reply
from predastore.s3db.raft.links import Link, LinkCaller, StepReply, StepRequest
from predastore.s3db.raft.messages import ENCODER, Address, Message


def peer_name(member: int) -> str:
    return f"db/{member}"


class Contacts:
    def __init__(
        self,
        caller: LinkCaller,
        on_contact: Callable[[int, bool], None],
        received: Callable[[int, Sequence[Message]], None],
        own: Address | None,
    ) -> None:
        """`on_contact` is told which member begins or ceases to answer, `received` what a member
        has said in return. `own`: where this is."""
        self._received = received
        self._request = StepRequest(own)
        self._caller = caller
        self._on_contact = on_contact
        self._links: dict[int, Link] = {}
        self._finishing: set[Link] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def send(self, member: int, messages: Sequence[Message]) -> None:
        link = self._link(member)
        if link is not None:  # messages may get lost
            link.send(messages)

    def answer(self, member: int, messages: Sequence[Message]) -> Later:
        """The reply to a call of `member` that brings `messages`: what there will be to say."""
        later, link = Later(), self._link(member)

        def take(answer: Sequence[Message]) -> bool:
            if later.is_dropped:
                return False
            later.give(Reply(StepReply(), (ENCODER.encode(answer),) if answer else ()))
            return True

        if link is None:
            take(())
        else:
            link.answers.wait(messages, take)
        return later

    def _link(self, member: int) -> Link | None:
        """None: there are too many."""
        link = self._links.get(member)
        if link is None and len(self._links) < RAFT_LINKS_MAX:
            link = self._links[member] = Link(
                self._caller,
                peer_name(member),
                partial(self._on_contact, member),
                self._request,
                partial(self._received, member),
            )
        return link

    def retain(self, members: Iterable[int]) -> None:
        """Close the links to all others, once what is on its way has arrived."""
        for gone in self._links.keys() - set(members):
            link = self._links.pop(gone)
            self._finishing.add(link)
            task = asyncio.get_running_loop().create_task(link.finish())
            self._closing.add(task)
            task.add_done_callback(partial(self._closed, link))

    def _closed(self, link: Link, task: asyncio.Task[None]) -> None:
        self._finishing.discard(link)
        self._closing.discard(task)

    def connected(self) -> dict[int, bool]:
        return {member: link.is_connected for member, link in self._links.items()}

    async def close(self) -> None:
        links = [*self._links.values(), *self._finishing]
        self._links.clear()
        for link in links:
            link.close()
        if self._closing:
            await asyncio.wait(self._closing)
