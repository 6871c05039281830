"""One authority for a cluster: founded once, the same on every host, and it stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from predastore.base.errors import CorruptData
from predastore.process import authority, certificates, cluster_tls
from predastore.process.certificates import Held, TlsFiles
from predastore.process.cluster_tls import (
    AUTHORITY_KEY,
    CLUSTER,
    Authorities,
    AuthorityRecord,
    Keeper,
)
from predastore.s3db.global_state import LocalState
from predastore.storage.formats import decode, encode
from support.loops import on_a_loop
from support.waiting import eventually_async

KEY, OTHER_KEY = b"k" * 32, b"another key of the cluster......."
FORMATS = Path(__file__).parent.parent / "formats"


@asynccontextmanager
async def state_at(path: Path) -> AsyncIterator[LocalState]:
    state = LocalState(path)
    try:
        yield state
    finally:
        await state.close()


class Host:
    """One with a tls/ folder, and what its servers were told to use."""

    def __init__(self, folder: Path, state: LocalState, key: bytes = KEY) -> None:
        self.folder = folder
        self.authorities = Authorities(state, lambda: (key,), "c")
        self.used: list[TlsFiles] = []
        self.keeper = Keeper(self.authorities, folder, "c", lambda: ["localhost"], self.used.append)

    async def look(self) -> Held:
        await self.keeper.look()
        assert self.keeper.current is not None
        return self.keeper.current

    @property
    def trusted(self) -> bytes:
        return (self.folder / "ca.pem").read_bytes()

    def is_signed_by(self, held: Held) -> bool:
        server = x509.load_pem_x509_certificate((self.folder / "server.pem").read_bytes())
        return held.authority.has_signed(server)


@on_a_loop
async def test_of_hosts_that_start_at_once_one_founds_it_and_all_have_it(tmp_path: Path) -> None:
    async with state_at(tmp_path / "db") as state:
        hosts = [Host(tmp_path / f"host-{n}", state) for n in range(5)]
        held = await asyncio.gather(*(host.look() for host in hosts))
        assert len({one.authority.fingerprint for one in held}) == 1
        assert len({host.trusted for host in hosts}) == 1
        for host in hosts:
            assert host.is_signed_by(held[0])
            assert host.keeper.agreed.is_set()
            assert len(host.used) == 1
            await host.look()
            assert len(host.used) == 1, "nothing changed"


@on_a_loop
async def test_what_a_host_had_of_its_own_becomes_that_of_the_cluster(tmp_path: Path) -> None:
    """Clients need no other file."""
    async with state_at(tmp_path / "db") as state:
        first, second = Host(tmp_path / "a", state), Host(tmp_path / "b", state)
        for host in (first, second):
            certificates.ensure(host.folder, ["localhost"])
        before = first.trusted
        await first.look()
        await second.look()
        assert first.trusted == second.trusted == before


@on_a_loop
async def test_a_new_base_path_gets_the_same(tmp_path: Path) -> None:
    async with state_at(tmp_path / "db") as state:
        held = await Host(tmp_path / "a", state).look()
        again = Host(tmp_path / "new", state)
        assert (await again.look()).authority.fingerprint == held.authority.fingerprint


@on_a_loop
async def test_it_stays_under_another_cluster_key_where_a_host_holds_it(tmp_path: Path) -> None:
    async with state_at(tmp_path / "db") as state:
        held = await Host(tmp_path / "a", state).look()
        stranger = Host(tmp_path / "new", state, OTHER_KEY)
        with pytest.raises(CorruptData, match="another cluster key"):
            await stranger.look()
        assert not stranger.keeper.agreed.is_set()
        holder = Host(tmp_path / "a", state, OTHER_KEY)
        assert (await holder.look()).authority.fingerprint == held.authority.fingerprint
        assert (await stranger.look()).authority.fingerprint == held.authority.fingerprint
        with pytest.raises(CorruptData):
            await Host(tmp_path / "old", state, KEY).look()


@on_a_loop
async def test_who_knows_the_cluster_key_before_seals_it_anew_once(tmp_path: Path) -> None:
    async with state_at(tmp_path / "db") as state:
        held = await Host(tmp_path / "a", state).look()
        behind = Authorities(state, lambda: (KEY, OTHER_KEY), "c")
        ahead = Authorities(state, lambda: (OTHER_KEY, KEY), "c")
        for each in (behind, ahead, behind, ahead):
            assert (await each.agree(None)).authority.fingerprint == held.authority.fingerprint
        after = await Authorities(state, lambda: (OTHER_KEY,), "c").agree(None)
        assert after.authority.fingerprint == held.authority.fingerprint
        with pytest.raises(CorruptData):
            await Authorities(state, lambda: (KEY,), "c").agree(None)


@on_a_loop
async def test_another_takes_its_place_on_every_host(tmp_path: Path) -> None:
    async with state_at(tmp_path / "db") as state:
        hosts = [Host(tmp_path / f"host-{n}", state) for n in range(2)]
        before, _ = [await host.look() for host in hosts]
        new = await hosts[0].authorities.replace(authority.made("new"), at_once=False)
        assert new.generation == 2
        for host in hosts:
            assert (await host.look()).authority.fingerprint == new.authority.fingerprint
            assert host.is_signed_by(new)
            assert len(host.used) == 2
            assert before.authority.certificate in x509.load_pem_x509_certificates(host.trusted)
        kept = certificates.load(hosts[1].folder, "c")
        assert kept is not None
        assert (kept.generation, kept.previous, kept.cross) == (2, new.previous, new.cross)


@on_a_loop
async def test_at_once_another_takes_the_place_of_one_that_nobody_can_open(tmp_path: Path) -> None:
    async with state_at(tmp_path / "db") as state:
        await Host(tmp_path / "a", state).look()
        lost = Host(tmp_path / "new", state, OTHER_KEY)
        with pytest.raises(CorruptData):
            await lost.authorities.replace(authority.made("new"), at_once=False)
        new = await lost.authorities.replace(authority.made("new"), at_once=True)
        assert (new.generation, new.previous) == (2, ())
        assert (await lost.look()).authority.fingerprint == new.authority.fingerprint


@on_a_loop
async def test_what_hosts_hold_outlives_metadata_that_is_lost_or_restored(tmp_path: Path) -> None:
    async with state_at(tmp_path / "db") as state:
        host = Host(tmp_path / "a", state)
        await host.look()
        backup = await state.get(CLUSTER, AUTHORITY_KEY)
        assert backup is not None
        new = await host.authorities.replace(authority.made("new"), at_once=False)
        await host.look()
        await state.set(CLUSTER, AUTHORITY_KEY, backup)
        assert (await host.look()).authority.fingerprint == new.authority.fingerprint
        found = await Host(tmp_path / "b", state).look()
        assert (found.authority.fingerprint, found.generation) == (new.authority.fingerprint, 2)
        await state.delete(CLUSTER, AUTHORITY_KEY)
        assert (await host.look()).authority.fingerprint == new.authority.fingerprint
        assert (await Host(tmp_path / "c", state).look()).cross == new.cross


@on_a_loop
async def test_a_process_that_is_late_takes_nothing_back(tmp_path: Path) -> None:
    """Two of one host: who read the record before it was replaced writes its files last."""
    async with state_at(tmp_path / "db") as state:
        first = await Host(tmp_path / "a", state).look()
        host = Host(tmp_path / "a", state)
        new = await host.authorities.replace(authority.made("new"), at_once=False)
        await host.look()
        trusted = host.trusted
        certificates.ensure(tmp_path / "a", ["localhost"], first)
        assert host.trusted == trusted
        assert host.is_signed_by(new)


@on_a_loop
async def test_a_host_that_was_off_for_years_gets_the_one_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with state_at(tmp_path / "db") as state:
        with monkeypatch.context() as patch:
            patch.setattr(authority, "CA_DAYS", 0)
            ended = authority.made("ended")
        held = Held(ended, cluster="c", generation=1)
        await Authorities(state, lambda: (KEY,), "c").agree(held)
        (tmp_path / "a").mkdir()
        certificates._put(tmp_path / "a", held)
        certificates.ensure(tmp_path / "a", ["localhost"])  # until it knows better
        host = Host(tmp_path / "a", state)
        found = await host.look()
        assert authority.is_fresh(found.authority.certificate)
        assert host.is_signed_by(found)


@on_a_loop
async def test_a_record_of_a_later_program_is_replaced_as_it_is(tmp_path: Path) -> None:
    """It may have fields at its end that this one does not know."""
    async with state_at(tmp_path / "db") as state:
        host = Host(tmp_path / "a", state)
        await host.look()
        stored = await state.get(CLUSTER, AUTHORITY_KEY)
        assert stored is not None
        fields = msgspec.msgpack.decode(stored[1:])
        longer = stored[:1] + msgspec.msgpack.encode([*fields, "more"])
        await state.set(CLUSTER, AUTHORITY_KEY, longer)
        assert (await host.authorities.replace(authority.made("n"), at_once=False)).generation == 2


@on_a_loop
async def test_the_files_of_another_cluster_are_none_of_this_one(tmp_path: Path) -> None:
    async with state_at(tmp_path / "db") as state:
        other = Held(authority.made("other"), cluster="other", generation=9)
        certificates.ensure(tmp_path / "a", ["localhost"], other)
        held = await Host(tmp_path / "a", state).look()
        assert held.authority.fingerprint != other.authority.fingerprint
        assert (held.cluster, held.generation) == ("c", 1)


@on_a_loop
async def test_near_its_end_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with state_at(tmp_path / "db") as state:
        with monkeypatch.context() as patch:
            patch.setattr(authority, "CA_DAYS", 20)
            short = authority.made("short")
        first = Held(short, cluster="c", generation=1)
        certificates.ensure(tmp_path / "a", ["localhost"], first)
        await Host(tmp_path / "a", state).authorities.agree(first)
        hosts = [Host(tmp_path / name, state) for name in ("a", "b", "c")]
        held = await asyncio.gather(*(host.look() for host in hosts))
        assert authority.is_fresh(held[0].authority.certificate)
        assert [one.generation for one in held] == [2, 2, 2], "once"
        assert len({host.trusted for host in hosts}) == 1


@on_a_loop
async def test_a_keeper_goes_on_after_errors_and_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_tls, "TLS_LOOK_MS", 10)
    monkeypatch.setattr(cluster_tls, "TLS_RETRY_MS", 10)
    async with state_at(tmp_path / "db") as state:
        await Host(tmp_path / "a", state).look()
        host = Host(tmp_path / "b", state, OTHER_KEY)
        wanted = False
        task = asyncio.ensure_future(host.keeper.run(lambda: wanted))
        await asyncio.sleep(0)
        assert not host.folder.exists(), "not while another certificate is given"
        wanted = True
        await eventually_async(lambda: "another cluster key" in host.keeper.problem, what="why")
        await Host(tmp_path / "a", state, OTHER_KEY).look()
        await eventually_async(host.keeper.agreed.is_set, what="the authority taken")
        await host.authorities.replace(authority.made("new"), at_once=False)
        await eventually_async(lambda: len(host.used) == 2, what="the new one taken")
        assert host.keeper.problem == ""
        task.cancel()
        await asyncio.wait((task,))


def test_version_1_is_read_and_written_as_ever() -> None:
    record = AuthorityRecord(3, (b"own", b"upper"), b"sealed", (b"before",), (b"cross",), 1_700_000)
    stored = bytes.fromhex((FORMATS / "cluster_authority_v2.hex").read_text())
    assert decode(AuthorityRecord, stored) == record
    assert encode(record) == stored
