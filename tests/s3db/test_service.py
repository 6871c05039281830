"""What members do for gateways: forwarding, linearizable reads, bounded answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from predastore.base.errors import (
    FormatError,
    LevelTooLow,
    NoLeader,
    NotLeader,
    PreconditionFailed,
    TooLarge,
)
from predastore.base.limits import DB_VALUE_BYTES_MAX, LIST_BYTES_MAX, READ_KEYS_MAX
from predastore.s3db import commands, service
from predastore.s3db.commands import Absent, Applied, Keep, Page, Put
from support.databases import Database, database
from support.procedures import PROCEDURES


async def ask(
    base: Database,
    member: int,
    method: str,
    request: msgspec.Struct,
    payload: bytes = b"",
    *,
    timeout_ms: int = 5_000,
) -> Any:
    """One call to one member, with no help from a client."""
    endpoint = base.sites[member].endpoint
    _, answer = await endpoint.call(
        f"db/{member}", method, request, service.Answered, [payload], timeout_ms=timeout_ms
    )
    return msgspec.msgpack.decode(answer)


async def commit(base: Database, member: int, *ops: commands.Op, forwarded: bool = False) -> Any:
    encoded = commands.encode(commands.batch(*ops))
    request = service.CommitRequest(forwarded=forwarded)
    return await ask(base, member, service.COMMIT, request, encoded)


def test_any_member_commits_and_reads_what_was_committed_anywhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with database(tmp_path, 3) as base:
            leader = await base.leader()
            first, second = (member for member in base.ids if member != leader)
            for number in range(20):
                value = b"%d" % number
                await commit(base, first, Put("t", b"k", value))
                read = service.ReadRequest([("t", b"k"), ("t", b"none")])
                assert await ask(base, second, service.READ, read) == [value, None]

            kept = await commit(base, second, Keep("t", b"k", b"old"), Put("t", b"k", b"new"))
            assert msgspec.convert(kept, Applied) == Applied(((b"old", b"19"),))
            refused = commands.encode(commands.batch(checks=(Absent("t", b"k"),)))
            with pytest.raises(PreconditionFailed) as failure:
                await ask(base, first, service.COMMIT, service.CommitRequest(), refused)
            assert failure.value.check == 0

            with pytest.raises(NotLeader) as hint:
                await commit(base, first, Put("t", b"k", b"x"), forwarded=True)
            assert hint.value.leader == leader

            told = await ask(base, first, service.STATUS, service.StatusRequest())
            assert (told["id"], told["role"], told["leader"]) == (first, "follower", leader)
            assert told["store"]["table_count"] == 1

    asyncio.run(scenario())


def test_a_member_alone_answers_stale_reads_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with database(tmp_path, 3) as base:
            leader = await base.leader()
            await commit(base, leader, Put("t", b"k", b"v"))
            for member in base.ids:
                assert await ask(
                    base, member, service.READ, service.ReadRequest([("t", b"k")])
                ) == [b"v"]
            alone, *others = (member for member in base.ids if member != leader)
            for member in (leader, *others):
                await base.stop(member)
            stale = service.ReadRequest([("t", b"k")], stale=True)
            assert await ask(base, alone, service.READ, stale) == [b"v"]
            for request, method in (
                (service.ReadRequest([("t", b"k")]), service.READ),
                (service.ListRequest("t", b"", b"", b"", 10), service.LIST),
                (service.ScanRequest("t", b"", b"", 10), service.SCAN),
            ):
                with pytest.raises(NoLeader):
                    await ask(base, alone, method, request, timeout_ms=700)

    asyncio.run(scenario())


def test_answers_and_requests_are_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with database(tmp_path, 1) as base:
            half = DB_VALUE_BYTES_MAX // 2
            for number in range(4):
                await commit(base, 1, Put("t", b"%d" % number, bytes(half)))

            request = service.ListRequest("t", b"", b"", b"", 10)
            page = msgspec.convert(await ask(base, 1, service.LIST, request), Page)
            assert page.truncated
            assert sum(len(value) for _, value in page.entries) <= LIST_BYTES_MAX
            assert page.next == page.entries[-1][0]

            keys = service.ScanRequest("t", b"", b"", 10, keys_only=True)
            page = msgspec.convert(await ask(base, 1, service.SCAN, keys), Page)
            assert page.entries == [(b"%d" % number, b"") for number in range(4)]

            every = [("t", b"%d" % number) for number in range(4)]
            with pytest.raises(TooLarge, match="bytes in one read"):
                await ask(base, 1, service.READ, service.ReadRequest(every))
            many = service.ReadRequest([("t", b"0")] * (READ_KEYS_MAX + 1))
            with pytest.raises(TooLarge, match="keys in one read"):
                await ask(base, 1, service.READ, many)
            largest = Put("t", b"0", bytes(DB_VALUE_BYTES_MAX))
            await commit(base, 1, largest)
            assert await ask(base, 1, service.READ, service.ReadRequest(every[:1])) == [
                bytes(DB_VALUE_BYTES_MAX)
            ]

    asyncio.run(scenario())


def test_what_is_no_command_and_what_nobody_can_do_gets_into_no_journal(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with database(tmp_path, 1) as base:
            before = base.sites[1].member.status()["last_index"]
            for junk in (b"", b"junk", b"\x02" + commands.encode(commands.batch())[1:]):
                with pytest.raises(FormatError):
                    await ask(base, 1, service.COMMIT, service.CommitRequest(), junk)
            unknown = commands.encode(commands.call("catalog.new", b""))
            with pytest.raises(LevelTooLow, match=r"catalog\.new"):
                await ask(base, 1, service.COMMIT, service.CommitRequest(), unknown)
            assert base.sites[1].member.status()["last_index"] == before

    asyncio.run(scenario())


def test_any_member_calls_procedures_and_answers_questions(tmp_path: Path) -> None:
    async def total(base: Database, member: int, name: str, *, stale: bool = False) -> bytes:
        endpoint, request = base.sites[member].endpoint, service.AskRequest(name, stale)
        _, answer = await endpoint.call(
            f"db/{member}", service.ASK, request, service.Answered, timeout_ms=5_000
        )
        return bytes(answer)

    async def scenario() -> None:
        async with database(tmp_path, 3, PROCEDURES) as base:
            for number, member in enumerate([*base.ids] * 3, 1):
                call = commands.encode(commands.call("test.count", b"a"))
                done = await ask(base, member, service.COMMIT, service.CommitRequest(), call)
                assert msgspec.convert(done, Applied) == Applied((), b"%d" % number)
                for other in base.ids:
                    assert await total(base, other, "test.total") == b"%d" % number
                    assert await total(base, other, "test.slow-total") == b"%d" % number
            for name in ("test.total", "test.slow-total"):
                assert await total(base, 1, name, stale=True) == b"9"
            with pytest.raises(LevelTooLow, match=r"test\.other"):
                await total(base, 1, "test.other")
            digests = {site.store.digest() for site in base.sites.values()}
            assert len(digests) == 1

    asyncio.run(scenario())
