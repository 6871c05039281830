"""Programs of two levels in one cluster: upgrades, members that stay behind, and ways back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from predastore.base.errors import LevelTooLow, MemberFailed, PredastoreError, UnsupportedFormat
from predastore.base.limits import MIB
from predastore.s3db import commands, levels
from predastore.s3db.client import Client
from predastore.s3db.commands import Applied, Put
from predastore.s3db.levels import Levels
from predastore.s3db.procedures import Procedure, Procedures
from predastore.s3db.raft.membership import MemberChange, Membership, changed
from predastore.s3db.raft.messages import (
    BASE_LEVEL,
    COMMAND,
    CONFIGURATION,
    UNKNOWN_LEVEL,
    Address,
    Configuration,
    Entry,
)
from predastore.s3db.raft.state import Timing
from predastore.s3db.store import Store
from support.databases import Database, database
from support.procedures import NEWER, PROCEDURES, count
from support.waiting import eventually_async

FAST = Timing(heartbeat_s=0.03, election_s=0.3)
NEW = "test.count-by-ten"


def at(member: int, level: int) -> Address:
    return Address(member, "h", 1, 2, level)


# --- what the cluster can do ------------------------------------------------------------------


def test_a_cluster_can_do_what_its_oldest_member_can_learners_too() -> None:
    membership = Membership(0, Configuration((1, 2), (), (at(1, 3), at(2, 3))))
    known = Levels(membership, NEWER)
    assert known.look() == 3
    assert known.refusal_of(NEW) is None

    learner = Configuration((1, 2), (3,), (at(1, 3), at(2, 3)))  # has not spoken
    membership.rebase(5, learner)
    assert levels.of_members(learner) == {1: 3, 2: 3, 3: 2}
    assert known.look() == 2
    refusal = known.refusal_of(NEW)
    assert isinstance(refusal, LevelTooLow)
    assert "on the members 3 (level 2)" in str(refusal)
    assert known.refusal_of("test.count") is None
    assert "does not have" in str(known.refusal_of("test.other"))

    gone = changed(learner, MemberChange.REMOVE, 3)
    assert gone is not None
    membership.rebase(6, gone)
    assert known.look() == 3


def test_only_calls_are_refused_for_their_level() -> None:
    known = Levels(Membership(0, Configuration((1,))), NEWER)
    batch = commands.encode(commands.batch(Put("t", b"k", b"v")))
    old, new = (commands.encode(commands.call(name, b"")) for name in ("test.count", NEW))
    told: list[tuple[object, int]] = []
    proposals = [
        (command, lambda outcome, reason: told.append((outcome, reason)))
        for command in (batch, old, new, b"")
    ]
    assert [command for command, _ in known.permitted(list(proposals))] == [batch, old, b""]
    ((refusal, reason),) = told
    assert isinstance(refusal, LevelTooLow)
    assert reason == 0


def test_levels_travel_with_addresses_and_older_ones_have_the_first() -> None:
    configuration = Configuration((1, 2), (), (at(1, 3),))
    assert CONFIGURATION.decode(configuration.pack()) == configuration
    older = b"\x93\x91\x01\x90\x91\x94\x01\xa1h\x01\x02"
    assert CONFIGURATION.decode(older) == Configuration((1,), (), (at(1, 2),))


# --- what was done to a state -----------------------------------------------------------------


def open_store(path: Path, procedures: Procedures) -> Store:
    return Store(path, durable=False, map_bytes_initial=16 * MIB, procedures=procedures)


def apply(store: Store, command: commands.Command) -> object:
    return store.apply([(store.applied_index + 1, commands.encode(command))])[0]


def test_a_state_remembers_the_highest_level_and_older_programs_are_told(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a", NEWER)
    assert apply(store, commands.call("test.count", b"a")) == Applied((), b"1")
    assert store.level == 2
    store.close()
    open_store(tmp_path / "a", PROCEDURES).close()  # back again: nothing of level 3 was done

    store = open_store(tmp_path / "a", NEWER)
    before = store.digest()
    assert apply(store, commands.call(NEW, b"a")) == Applied((), b"11")
    assert apply(store, commands.call("test.count", b"a")) == Applied((), b"12")
    assert store.level == 3
    snapshot = tmp_path / "snapshot"
    store.snapshot_to(snapshot)
    assert store.digest() != before
    store.close()
    with pytest.raises(UnsupportedFormat, match=r"level 3 were done.*has level 2: install"):
        open_store(tmp_path / "a", PROCEDURES)
    store = open_store(tmp_path / "a", NEWER)
    assert store.level == 3
    store.close()

    behind = open_store(tmp_path / "b", PROCEDURES)
    with pytest.raises(MemberFailed, match=r"snapshot.*level 3 were done.*has level 2: install"):
        behind.replace_from(snapshot)
    assert apply(behind, commands.call("test.count", b"a")) == Applied((), b"1")
    behind.close()


# --- clusters ---------------------------------------------------------------------------------


def run(
    tmp_path: Path,
    count: int,
    test: Callable[[Database], Awaitable[None]],
    procedures: Procedures = PROCEDURES,
) -> None:
    async def main() -> None:
        async with database(tmp_path, count, procedures, FAST) as base:
            await asyncio.wait_for(test(base), 60)

    asyncio.run(main())


async def replace_program(base: Database, member: int, procedures: Procedures) -> None:
    await base.stop(member)
    await base.start(member, procedures)


async def has_level(client: Client, level: int) -> None:
    await client.exists("t", b"-")
    while client.level != level:
        await client.exists("t", b"-")


async def states_agree(base: Database) -> bytes:
    for site in base.sites.values():
        await site.member.read_barrier(timeout_ms=5_000)

    def agreed() -> bytes | None:
        found = {site.store.digest() for site in base.sites.values()}
        return found.pop() if len(found) == 1 else None

    digest = await eventually_async(agreed, what="one state")
    assert digest is not None
    return digest


class Load:
    """Calls of both levels, one after the other, the newer where the client says that it may."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._until = asyncio.Event()
        self.old = self.new = self.refused = 0
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._until.is_set():
            try:
                if self._client.level >= 3:
                    await self._client.call(NEW, b"load")
                    self.new += 1
                else:
                    await self._client.call("test.count", b"load")
                    self.old += 1
            except LevelTooLow:
                self.refused += 1

    async def end(self) -> int:
        """What the counter must be."""
        self._until.set()
        await self.task
        return self.old + 10 * self.new


def test_a_cluster_is_upgraded_member_by_member_under_load(tmp_path: Path) -> None:
    async def test(base: Database) -> None:
        load, other = Load(base.client()), base.client()
        for member in base.ids:
            with pytest.raises(LevelTooLow):
                await other.call(NEW, b"other")
            assert load.new == 0
            await replace_program(base, member, NEWER)
            await base.leader()
            await other.call("test.count", b"other")
        await has_level(other, 3)
        await eventually_async(lambda: load.new > 20, what="calls of the new level")
        assert load.old > 0
        assert (await other.call(NEW, b"other")).answer == b"13"
        wanted = await load.end()
        assert await other.get("counters", b"load") == b"%d" % wanted
        assert load.refused == 0
        await states_agree(base)
        assert [site.store.level for site in base.sites.values()] == [3, 3, 3]

    run(tmp_path, 3, test)


def test_a_new_cluster_takes_calls_at_once_with_a_founder_that_never_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has said its level yet, and one never will."""
    monkeypatch.setattr("predastore.s3db.formation.RAFT_FORM_GRACE_MS", 300)
    program = Procedures([Procedure("test.now", BASE_LEVEL, count)])

    async def main() -> None:
        base = Database(tmp_path, 3, program, FAST)
        try:
            for member in base.ids:
                await base.listen(member)
            for member in base.ids[:2]:
                await base.start(member)
            assert (await base.client().call("test.now", b"a")).answer == b"1"
        finally:
            await base.close()

    asyncio.run(main())


def test_while_one_member_stays_behind_nothing_newer_is_done(tmp_path: Path) -> None:
    async def test(base: Database) -> None:
        behind = await base.leader()
        for member in base.ids:
            if member != behind:
                await replace_program(base, member, NEWER)
        client = base.client()
        said = {str(member): 2 if member == behind else 3 for member in base.ids}
        while (await client.status(behind))["levels"] != said:
            with pytest.raises(LevelTooLow, match="level 2"):
                await client.call(NEW, b"a")
        while await base.leader() == behind:  # a new program names who holds the cluster back
            await client.step_down()
        with pytest.raises(LevelTooLow, match=rf"on the members {behind} \(level 2\): upgrade"):
            await client.call(NEW, b"a")
        assert (await client.status(behind))["level"] == 2

        await client.leave(behind)
        assert (await client.call(NEW, b"a")).answer == b"10"

    run(tmp_path, 3, test)


def test_a_member_that_goes_back_takes_the_cluster_back_until_something_newer_was_done(
    tmp_path: Path,
) -> None:
    async def test(base: Database) -> None:
        client = base.client()
        await client.call("test.count", b"a")
        await has_level(client, 3)
        await replace_program(base, 3, PROCEDURES)
        await has_level(client, 2)
        with pytest.raises(LevelTooLow, match=r"the members 3 \(level 2\)"):
            await client.call(NEW, b"a")
        await client.call("test.count", b"a")
        await replace_program(base, 3, NEWER)
        await has_level(client, 3)
        assert (await client.call(NEW, b"a")).answer == b"12"
        await states_agree(base)

        await base.stop(3)
        with pytest.raises(UnsupportedFormat, match="level 3 were done"):
            await base.start(3, PROCEDURES)
        await base.start(3, NEWER)
        await states_agree(base)

    run(tmp_path, 3, test, NEWER)


def test_an_older_program_that_meets_a_newer_command_stops_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(base: Database) -> None:
        client = base.client()
        for member in base.ids:
            if member != 2:
                await replace_program(base, member, NEWER)
        while await base.leader() == 2:
            await client.step_down()
        monkeypatch.setattr(Levels, "refusal", lambda *_: None)
        behind = base.sites[2].member
        assert (await client.call(NEW, b"a")).answer == b"10"
        failure = await asyncio.wait_for(asyncio.shield(behind.failed), 10)
        assert f'needs the procedure "{NEW}", and this program (level 2)' in str(failure)
        assert base.sites[2].store.get("counters", b"a") is None
        monkeypatch.undo()

        await base.stop(2)
        again = await base.start(2, PROCEDURES)  # a restart does not help
        await asyncio.wait_for(asyncio.shield(again.member.failed), 10)
        assert (await client.call("test.count", b"a")).answer == b"11"
        await replace_program(base, 2, NEWER)
        await states_agree(base)

    run(tmp_path, 3, test)


def test_a_member_that_is_too_old_is_not_taken_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(base: Database) -> None:
        client = base.client()
        await has_level(client, 3)
        await client.call(NEW, b"a")
        unknown = Address(9, "127.0.0.1", 1, 2, UNKNOWN_LEVEL)  # as an operator names it
        with pytest.raises(LevelTooLow, match="member 9"):
            await client.join(9, unknown, is_new=False)
        site = await base.start(4, PROCEDURES)
        await eventually_async(
            lambda: (
                "member 4 runs a program of level 2, as far as it has said; comm" in caplog.text
            ),
            what="a line that says why",
        )
        assert "4" not in (await client.status())["levels"]
        with pytest.raises(LevelTooLow):
            await client.join(4, base.addresses[4], is_new=False)
        assert site.member.applied_index == 0

        await base.stop(4)
        await base.start(4, NEWER)
        await eventually_async(
            lambda: 4 in base.sites[1].member._core.membership.current.voters, what="a new voter"
        )
        await states_agree(base)

    run(tmp_path, 3, test, NEWER)


def test_a_learner_of_an_older_program_counts(tmp_path: Path) -> None:
    async def test(base: Database) -> None:
        client = base.client()
        await has_level(client, 3)
        await base.start(4, PROCEDURES)
        await has_level(client, 2)
        with pytest.raises(LevelTooLow, match=r"the members 4 \(level 2\)"):
            await client.call(NEW, b"a")
        await base.stop(4)
        await client.leave(4)
        await has_level(client, 3)
        await client.call(NEW, b"a")

    run(tmp_path, 3, test, NEWER)


def test_who_is_moved_by_an_operator_keeps_its_level(tmp_path: Path) -> None:
    async def test(base: Database) -> None:
        client = base.client()
        await has_level(client, 3)
        moved = Address(2, "127.0.0.1", 77, base.addresses[2].raft_port, UNKNOWN_LEVEL)
        configuration = await client.join(2, moved, is_new=False)
        (found,) = [known for known in configuration.addresses if known.member == 2]
        assert (found.port, found.level) == (77, 3)
        await client.call(NEW, b"a")

    run(tmp_path, 3, test, NEWER)


def test_a_member_says_where_its_file_puts_it_when_it_starts(tmp_path: Path) -> None:
    async def test(base: Database) -> None:
        client = base.client()
        await client.call("test.count", b"a")
        base.addresses[2] = Address(2, "127.0.0.1", 78, base.addresses[2].raft_port)
        await replace_program(base, 2, PROCEDURES)

        def told() -> bool:
            members = base.sites[1].member._core.membership.current.addresses
            return base.addresses[2] in members

        await eventually_async(told, what="the new address")

    run(tmp_path, 3, test)


def test_a_removed_member_does_not_bring_itself_back(tmp_path: Path) -> None:
    async def test(base: Database) -> None:
        client = base.client()
        leader = await base.leader()
        gone = next(member for member in base.ids if member != leader)
        await base.stop(gone)
        await client.leave(gone)
        await base.start(gone, NEWER)
        said = Address(gone, "127.0.0.1", 1, base.addresses[gone].raft_port, 3)
        with pytest.raises(PredastoreError, match="does not belong to the cluster"):
            await base.sites[leader].member.changes.announce(said)
        for _ in range(20):
            await client.call("test.count", b"a")
        assert gone not in base.sites[leader].member._core.membership.current.members()

    run(tmp_path, 3, test)


def test_what_stands_in_the_log_and_is_not_applied_yet_counts_for_who_joins() -> None:
    known = Levels(Membership(0, Configuration((1,))), NEWER)
    newer = Entry(2, 1, COMMAND, commands.encode(commands.call("test.count-by-ten", b"")))
    older = Entry(1, 1, COMMAND, commands.encode(commands.batch(Put("t", b"k", b"v"))))
    assert known.highest([], BASE_LEVEL) == BASE_LEVEL
    assert known.highest([older], BASE_LEVEL) == BASE_LEVEL
    assert known.highest([older, newer], BASE_LEVEL) == NEWER.level
