"""Which certificate S3 begins with: one of the cluster's authority, which it waits for.

Several processes of one base path share its tls/ folder: what one finds there may be of another.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from predastore.base.config import Cluster, Config, Db, Node
from predastore.base.errors import CorruptData
from predastore.process import authority, certificates, cluster_tls
from predastore.process.certificates import Held
from predastore.process.cluster_tls import Authorities, Keeper
from predastore.process.roles import Roles
from predastore.process.tls import Tls
from predastore.s3db.global_state import LocalState
from support.loops import on_a_loop
from support.tls import certificate_shown

KEY, CLUSTER = b"k" * 32, "c"
NODE = Node(1, "127.0.0.1", 9991, Path("node"))
MEMBER = Db(1, "127.0.0.1", 6660, 7660, Path("db"))
NODE_ALONE, WITH_MEMBER = Roles(True, (NODE,), ()), Roles(True, (NODE,), (MEMBER,))


def begun(folder: Path, roles: Roles) -> Tls:
    settings = Config(
        backend="distributed",
        base_path=folder,
        cluster=Cluster(name=CLUSTER),
        nodes=(NODE,),
        db=(MEMBER,),
    )
    made = Tls(settings, roles)
    made.begin()
    return made


class Unreachable(Authorities):
    """Metadata that does not answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def agree(self, local: Held | None) -> Held:
        self.asked.set()
        raise CorruptData("metadata does not answer")


def is_shown(context: ssl.SSLContext | None, held: Held) -> bool:
    assert context is not None, "S3 is never served without TLS unasked"
    return held.authority.has_signed(certificate_shown(context))


@pytest.mark.parametrize("roles", [NODE_ALONE, WITH_MEMBER], ids=["node", "node and member"])
@on_a_loop
async def test_s3_waits_though_another_process_of_the_host_has_the_authority_already(
    tmp_path: Path, roles: Roles
) -> None:
    state = LocalState(tmp_path / "state")
    starting = begun(tmp_path, roles)
    authorities = Authorities(state, lambda: (KEY,), CLUSTER)
    held = await authorities.agree(Held(authority.made("of another host")))
    certificates.ensure(tmp_path / "tls", ["localhost"], held)  # the other process
    waiting = asyncio.ensure_future(starting.ready())
    starting.follow(authorities)
    assert is_shown(await waiting, held)
    await starting.close()
    await state.close()


@on_a_loop
async def test_s3_waits_for_an_authority_that_nobody_has_founded(tmp_path: Path) -> None:
    starting, unreachable = begun(tmp_path, NODE_ALONE), Unreachable()
    starting.follow(unreachable)
    waiting = asyncio.ensure_future(starting.ready())
    await unreachable.asked.wait()
    assert not waiting.done()
    assert starting.served is None
    waiting.cancel()
    await starting.close()


@pytest.mark.parametrize("roles", [NODE_ALONE, WITH_MEMBER], ids=["node", "node and member"])
@on_a_loop
async def test_a_host_that_has_had_the_authority_begins_while_metadata_does_not_answer(
    tmp_path: Path, roles: Roles
) -> None:
    held = Held(authority.made("of the cluster"), cluster=CLUSTER, generation=1)
    certificates.ensure(tmp_path / "tls", ["localhost"], held)
    starting, unreachable = begun(tmp_path, roles), Unreachable()
    starting.follow(unreachable)
    await unreachable.asked.wait()
    assert is_shown(await starting.ready(), held)
    await starting.close()


@on_a_loop
async def test_a_certificate_is_renewed_while_metadata_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(authority.made("of the cluster"), cluster=CLUSTER, generation=1)
    with monkeypatch.context() as patch:
        patch.setattr(authority, "SERVER_DAYS", 20)  # near its end
        files = certificates.ensure(tmp_path, ["localhost"], held)
    before = files.cert.read_bytes()
    used: list[certificates.TlsFiles] = []
    keeper = Keeper(Unreachable(), tmp_path, CLUSTER, lambda: ["localhost"], used.append)
    for _ in range(2):
        with pytest.raises(CorruptData):
            await keeper.look()
    assert used == [files]
    assert files.cert.read_bytes() != before
    assert not keeper.agreed.is_set()


@on_a_loop
async def test_an_authority_of_a_host_alone_is_shown_to_no_client_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_tls, "TLS_RETRY_MS", 1)
    starting, unreachable = begun(tmp_path, WITH_MEMBER), Unreachable()
    assert starting.served is not None, "its member's REST API shows one"
    starting.follow(unreachable)
    waiting = asyncio.ensure_future(starting.ready())
    for _ in range(3):
        await unreachable.asked.wait()
        unreachable.asked.clear()
    assert not waiting.done()
    waiting.cancel()
    await starting.close()
