"""A database of real members in one process, each behind an endpoint of its own over QUIC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from predastore.limits import MIB
from predastore.rpc import Endpoint, self_signed
from predastore.s3db import service
from predastore.s3db.client import Client
from predastore.s3db.member import Member
from predastore.s3db.procedures import NO_PROCEDURES, Procedures
from predastore.s3db.store import Store
from support.waiting import eventually_async

KEY = b"k" * 32


@dataclass
class Site:
    """One member with what it stands on."""

    endpoint: Endpoint
    store: Store
    member: Member
    port: int

    async def stop(self) -> None:
        await self.member.close()
        await self.endpoint.close()
        self.store.close()


class Database:
    """Members by id; `start` and `stop` them one by one."""

    def __init__(self, folder: Path, count: int, procedures: Procedures) -> None:
        self.folder = folder
        self.procedures = procedures
        self.ids = list(range(1, count + 1))
        self.sites: dict[int, Site] = {}
        self._ports: dict[int, int] = {}
        self._gateways: list[Endpoint] = []

    async def start(self, member_id: int) -> Site:
        endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name=f"host/{member_id}")
        port = await endpoint.listen(f"db/{member_id}", "127.0.0.1", self._ports.get(member_id, 0))
        self._ports[member_id] = port
        for other, site in self.sites.items():
            endpoint.add_peer(f"db/{other}", "127.0.0.1", site.port)
            site.endpoint.add_peer(f"db/{member_id}", "127.0.0.1", port)
        path = self.folder / str(member_id)
        store = Store(
            path / "store",
            durable=False,
            map_bytes_initial=16 * MIB,
            procedures=self.procedures,
        )
        member = await Member.open(
            path=path / "raft",
            member_id=member_id,
            members=self.ids,
            store=store,
            endpoint=endpoint,
        )
        endpoint.serve(f"db/{member_id}", service.service(member, endpoint))
        self.sites[member_id] = Site(endpoint, store, member, port)
        return self.sites[member_id]

    async def stop(self, member_id: int) -> None:
        await self.sites.pop(member_id).stop()

    async def leader(self) -> int:
        def agreed() -> int | None:
            named = {site.member.leader for site in self.sites.values()}
            leader = named.pop() if len(named) == 1 else None
            return leader if leader in self.sites else None

        found = await eventually_async(agreed, what="a leader that all know")
        assert found is not None
        return found

    def client(self, *, prefer: int | None = None) -> Client:
        """A client in the process of the member `prefer`, or in one without a member."""
        if prefer is not None:
            return Client(self.sites[prefer].endpoint, self.ids, prefer)
        endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name="gateway")
        self._gateways.append(endpoint)
        for member_id, port in self._ports.items():
            endpoint.add_peer(f"db/{member_id}", "127.0.0.1", port)
        return Client(endpoint, self.ids, None)

    async def close(self) -> None:
        for endpoint in self._gateways:
            await endpoint.close()
        for member_id in list(self.sites):
            await self.stop(member_id)


@asynccontextmanager
async def database(
    folder: Path, count: int, procedures: Procedures = NO_PROCEDURES
) -> AsyncIterator[Database]:
    """`count` members with a leader."""
    made = Database(folder, count, procedures)
    try:
        for member_id in made.ids:
            await made.start(member_id)
        await made.leader()
        yield made
    finally:
        await made.close()
