"""The client: whom it asks, when it tries again, and what it says when it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from predastore.base.errors import (
    DeadlineExceeded,
    LevelTooLow,
    NodeFull,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    PeerUnreachable,
    PreconditionFailed,
    PredastoreError,
    ProcedureFailed,
    TooLarge,
    anew,
)
from predastore.base.limits import DB_VALUE_BYTES_MAX, LIST_BYTES_MAX
from predastore.s3db import client as client_module
from predastore.s3db import commands, global_state, service
from predastore.s3db.client import Client
from predastore.s3db.commands import Absent, Applied, Page, Put
from predastore.s3db.global_state import DistributedState
from support.databases import database
from support.garbage import Garbage, fails

Script = Callable[[int, str], Any]


class Scripted:
    """An endpoint whose members answer as `script` says; it notes who was asked what."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[int] = []
        self.payloads: list[bytes] = []

    async def call(
        self,
        peer: str,
        method: str,
        request: msgspec.Struct,
        response_type: type[msgspec.Struct],
        payload: Sequence[bytes] = (),
        *,
        timeout_ms: int,
    ) -> tuple[msgspec.Struct, memoryview]:
        member = int(peer.removeprefix("db/"))
        self.asked.append(member)
        self.payloads += payload
        answer = self.script(member, method)
        if isinstance(answer, PredastoreError):
            raise anew(answer)
        return service.Answered(7), memoryview(msgspec.msgpack.encode(answer))


def batch() -> commands.Batch:
    return commands.batch(Put("t", b"k", b"v"))


def client_of(script: Script, prefer: int | None) -> tuple[Client, Scripted]:
    endpoint = Scripted(script)
    return Client(endpoint, [1, 2, 7], prefer), endpoint


def test_a_hint_is_followed_at_once_and_remembered_for_commits() -> None:
    def script(member: int, method: str) -> Any:
        if method == service.COMMIT:
            return Applied() if member == 7 else NotLeader("ask 7", 7)
        return [b"v"]

    async def scenario() -> None:
        client, endpoint = client_of(script, prefer=2)
        await client.commit(batch())
        assert endpoint.asked == [2, 7]
        await client.commit(batch())
        assert await client.get("t", b"k") == b"v"
        assert endpoint.asked == [2, 7, 7, 2]

    asyncio.run(scenario())


def test_nobody_is_sent_back_to_a_member_that_has_just_not_answered() -> None:
    """Followers name a dead leader until they notice."""
    answers: dict[int, Any] = {1: DeadlineExceeded("late"), 2: NotLeader("ask 1", 1), 7: [b"v"]}

    async def scenario() -> None:
        client, endpoint = client_of(lambda member, _: answers[member], prefer=1)
        assert await client.get("t", b"k") == b"v"
        assert endpoint.asked == [1, 2, 7]

    asyncio.run(scenario())


def test_no_call_waits_for_a_silent_member_twice_until_it_has_answered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    up = {2, 7}

    def script(member: int, _: str) -> Any:
        return [b"v"] if member in up else PeerUnreachable("down")

    async def scenario() -> None:
        client, endpoint = client_of(script, prefer=1)
        for _ in range(3):
            await client.get("t", b"k")
        assert endpoint.asked == [1, 2, 2, 2]
        up.clear()
        up.add(1)
        await client.get("t", b"k")
        assert endpoint.asked[4:] == [2, 7, 1], "where nobody else answers, it is asked"
        await client.get("t", b"k")
        assert endpoint.asked[7:] == [1]
        monkeypatch.setattr(client_module, "MEMBER_SILENT_MS", 0)
        up.clear()
        up.add(2)
        await client.get("t", b"k")
        await client.get("t", b"k")
        assert endpoint.asked[8:] == [1, 2, 1, 2], "after a while it is asked first again"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "lost", [PeerUnreachable("broke"), DeadlineExceeded("late"), OutcomeUnknown("stepped down")]
)
def test_a_commit_of_unknown_outcome_is_sent_again_the_same(lost: PredastoreError) -> None:
    answers = [lost, NoLeader("election"), Applied()]

    async def scenario() -> None:
        client, endpoint = client_of(lambda *_: answers.pop(0), prefer=1)
        assert await client.commit(batch()) == Applied()
        assert endpoint.asked == [1, 2, 7]
        assert len(set(endpoint.payloads)) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (NoLeader("no majority"), NoLeader),
        (NotLeader("who knows"), NoLeader),
        (NotLeader("my neighbour", 2), NoLeader),
        (NotLeader("I am not, I am", 1), NoLeader),
        (PeerUnreachable("gone"), OutcomeUnknown),
        (OutcomeUnknown("stepped down"), OutcomeUnknown),
    ],
)
def test_at_the_deadline_it_says_what_is_known(
    error: PredastoreError, raised: type[PredastoreError]
) -> None:
    async def scenario() -> None:
        client, endpoint = client_of(lambda *_: error, prefer=1)
        with pytest.raises(raised):
            await client.commit(batch(), timeout_ms=150)
        assert set(endpoint.asked) == {1, 2, 7}
        assert len(endpoint.asked) < 30

    asyncio.run(scenario())


def test_a_read_goes_on_to_other_members_and_gives_up_with_no_leader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "READ_TIMEOUT_MS", 150)
    up: set[int] = {7}

    def script(member: int, _: str) -> Any:
        return [b"v"] if member in up else PeerUnreachable("down")

    async def scenario() -> None:
        client, endpoint = client_of(script, prefer=1)
        assert await client.get("t", b"k") == b"v"
        assert endpoint.asked == [1, 2, 7]
        up.clear()
        with pytest.raises(NoLeader, match="down"):
            await client.get("t", b"k")

    asyncio.run(scenario())


@pytest.mark.parametrize("refusal", [NodeFull("full"), LevelTooLow("member 3 is too old")])
def test_a_member_that_refuses_says_nothing_of_an_earlier_try(refusal: PredastoreError) -> None:
    """What the first member appended may be committed yet: what it names must not be deleted."""
    answers: list[Any] = [refusal, DeadlineExceeded("late"), refusal, Applied()]

    async def scenario() -> None:
        client, _ = client_of(lambda *_: answers.pop(0), prefer=1)
        with pytest.raises(type(refusal)):
            await client.commit(batch())
        assert await client.commit(batch()) == Applied()
        answers.extend([DeadlineExceeded("late"), *[refusal] * 99])
        with pytest.raises(OutcomeUnknown):
            await client.commit(batch(), timeout_ms=150)

    asyncio.run(scenario())


def test_a_call_of_unknown_outcome_is_sent_again_the_same() -> None:
    answers = [DeadlineExceeded("late"), NoLeader("election"), Applied((), b"answer")]

    async def scenario() -> None:
        client, endpoint = client_of(lambda *_: answers.pop(0), prefer=1)
        assert await client.call("test.count", b"a") == Applied((), b"answer")
        assert endpoint.asked == [1, 2, 7]
        (sent,) = set(endpoint.payloads)
        assert commands.procedure_of(sent) == "test.count"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "error",
    [
        PreconditionFailed("check 0", 0),
        TooLarge("too large"),
        NodeFull("full"),
        ProcedureFailed("test.count: KeyError"),
        LevelTooLow("an older program"),
    ],
)
def test_a_refusal_is_final(error: PredastoreError) -> None:
    async def scenario() -> None:
        client, endpoint = client_of(lambda *_: error, prefer=1)
        with pytest.raises(type(error)):
            await client.commit(batch())
        assert endpoint.asked == [1]

    asyncio.run(scenario())


def test_what_is_too_large_is_not_sent() -> None:
    async def scenario() -> None:
        client, endpoint = client_of(lambda *_: Applied(), prefer=1)
        with pytest.raises(TooLarge):
            await client.commit(commands.batch(Put("t", b"k", bytes(DB_VALUE_BYTES_MAX + 1))))
        assert endpoint.asked == []

    asyncio.run(scenario())


def test_scans_go_on_over_pages_cut_by_bytes() -> None:
    rows = [(b"%02d" % number, b"v") for number in range(10)]

    async def scenario() -> None:
        pages = [Page(rows[:4], [], True, b"03"), Page(rows[4:5], [], True, b"04")]
        pages.append(Page(rows[5:], [], False, b"09"))
        client, _ = client_of(lambda *_: pages.pop(0), prefer=1)
        assert await client.scan("t", b"", b"", 100) == rows

        pages[:] = [Page(rows[:4], [], True, b"03"), Page(rows[4:6], [], True, b"05")]
        client, _ = client_of(lambda *_: pages.pop(0), prefer=1)
        assert await client.list_keys("t", b"", 6) == [key for key, _ in rows[:6]]

    asyncio.run(scenario())


def test_against_real_members_every_call_does_what_it_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with database(tmp_path, 3) as base:
            leader = await base.leader()
            follower = next(member for member in base.ids if member != leader)
            for client in (base.client(), base.client(prefer=follower)):
                puts = [Put("t", key, b"v" * 10) for key in (b"a/1", b"a/2", b"b", b"z" * 1100)]
                assert await client.commit(commands.batch(*puts)) == Applied()
                assert await client.exists("t", b"b")
                assert not await client.exists("t", b"c")
                assert await client.read([("t", b"b"), ("u", b"b")]) == [b"v" * 10, None]
                page = await client.list("t", b"", b"/", b"", 2)
                assert page == Page([(b"b", b"v" * 10)], [b"a/"], True, b"b")
                assert await client.list_keys("t", b"", 3) == [b"a/1", b"a/2", b"b"]
                assert [key for key, _ in await client.scan("t", b"", b"a/2", 9)] == [
                    b"b",
                    b"z" * 1100,
                ]
                with pytest.raises(PreconditionFailed):
                    await client.commit(commands.batch(checks=(Absent("t", b"b"),)))
                assert (await client.status(leader))["role"] == "leader"
                assert (await client.status())["leader"] == leader
            large = [Put("u", b"%d" % number, bytes(LIST_BYTES_MAX // 2)) for number in range(5)]
            for put in large:
                await client.commit(commands.batch(put))
            assert len(await client.scan("u", b"", b"", 10)) == 5

    asyncio.run(scenario())


def test_writes_go_on_when_the_leader_stops_and_none_is_lost_or_done_twice(
    tmp_path: Path,
) -> None:
    async def write(client: Client, name: bytes, until: asyncio.Event) -> int:
        """Commits name/0, name/1, ..., each only where it is not there yet."""
        count = 0
        while not until.is_set():
            key = name + b"/%06d" % count
            await client.commit(commands.batch(Put("t", key, b"v"), checks=(Absent("t", key),)))
            count += 1
        return count

    async def scenario() -> None:
        async with database(tmp_path, 3) as base:
            leader = await base.leader()
            follower = next(member for member in base.ids if member != leader)
            until = asyncio.Event()
            clients = {b"gateway": base.client(), b"member": base.client(prefer=follower)}
            writers = [
                asyncio.create_task(write(client, name, until)) for name, client in clients.items()
            ]
            await clients[b"gateway"].commit(commands.batch(Put("u", b"before", b"")))
            await base.stop(leader)
            await base.leader()
            for _ in range(5):
                await clients[b"member"].commit(commands.batch(Put("u", b"after", b"")))
            await base.start(leader)
            until.set()
            counts = await asyncio.gather(*writers)
            for name, count in zip(clients, counts, strict=True):
                keys = await clients[b"member"].list_keys("t", name + b"/", 100_000)
                assert len(keys) == count > 0

    asyncio.run(scenario())


def test_a_member_that_fails_leaves_nothing_for_a_collection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "READ_TIMEOUT_MS", 50)
    answers: dict[int, Any] = {1: NotLeader("ask 2", 2), 2: PeerUnreachable("down"), 7: [b"v"]}

    async def scenario() -> None:
        client, _ = client_of(lambda member, _: answers[member], prefer=1)
        silent, _ = client_of(lambda *_: PeerUnreachable("down"), prefer=1)
        full, _ = client_of(lambda *_: NodeFull("full"), prefer=1)
        with Garbage() as garbage:
            for _ in range(2):
                await client.get("t", b"k")
                await fails(NoLeader, asyncio.ensure_future(silent.get("t", b"k")))
                await fails(NodeFull, asyncio.ensure_future(full.commit(batch())))
            assert not garbage.left()

    asyncio.run(scenario())


def test_members_of_a_new_cluster_are_given_time_to_say_their_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        refusals = [LevelTooLow("not said yet"), LevelTooLow("not said yet")]
        client, endpoint = client_of(
            lambda *_: refusals.pop() if refusals else Applied((), b"done"), prefer=1
        )
        assert (await DistributedState(client).call("test.count", b"a")).answer == b"done"
        assert endpoint.asked == [1, 1, 1]

        monkeypatch.setattr(global_state, "LEVELS_TOLD_MS", -1)
        refusals.append(LevelTooLow("an older program"))
        with pytest.raises(LevelTooLow):
            await DistributedState(client).call("test.count", b"a")

    asyncio.run(scenario())
