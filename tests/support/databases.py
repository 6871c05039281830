"""A database of real members in one process, each behind an endpoint of its own over QUIC."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from predastore.base.limits import MIB
from predastore.rpc import Endpoint, self_signed
from predastore.s3db import service
from predastore.s3db.client import Client
from predastore.s3db.clock import Clocks
from predastore.s3db.member import Member
from predastore.s3db.procedures import NO_PROCEDURES, Procedures
from predastore.s3db.raft.messages import Address
from predastore.s3db.raft.state import Timing
from predastore.s3db.store import Store
from support.waiting import eventually_async

KEY = b"k" * 32
PRODUCT_TIMING = Timing()


@dataclass
class Site:
    """One member with what it stands on."""

    endpoint: Endpoint
    store: Store
    member: Member

    async def stop(self) -> None:
        await self.member.close()
        await self.endpoint.close()
        self.store.close()


class Database:
    """Members by id; `start` and `stop` them one by one."""

    def __init__(self, folder: Path, count: int, procedures: Procedures, timing: Timing) -> None:
        self.folder = folder
        self.clocks: dict[int, Clocks] = {}  # of members whose clocks are not this machine's
        self.procedures = procedures
        self.timing = timing
        self.ids = list(range(1, count + 1))
        self.sites: dict[int, Site] = {}
        self.addresses: dict[int, Address] = {}
        self._endpoints: dict[int, Endpoint] = {}
        self._gateways: list[Endpoint] = []

    async def listen(self, member_id: int) -> None:
        """Have an endpoint for a member, on the port of the one before, if there was one."""
        endpoint = Endpoint(cluster_key=KEY, certificate=self_signed(), name=f"host/{member_id}")
        known = self.addresses.get(member_id)
        port = await endpoint.listen(
            f"db/{member_id}", "127.0.0.1", 0 if known is None else known.raft_port
        )
        self._endpoints[member_id] = endpoint
        self.addresses[member_id] = Address(member_id, "127.0.0.1", 1, port)
        there = {other: site.endpoint for other, site in self.sites.items()}
        for other, reached in {**there, **self._endpoints}.items():
            if other != member_id:
                reached.add_peer(f"db/{member_id}", "127.0.0.1", port)
                endpoint.add_peer(f"db/{other}", "127.0.0.1", self.addresses[other].raft_port)

    async def start(self, member_id: int, procedures: Procedures | None = None) -> Site:
        """`procedures`: of this member's program, where they are others."""
        if member_id not in self._endpoints:
            await self.listen(member_id)
        endpoint = self._endpoints.pop(member_id)
        path = self.folder / str(member_id)
        try:
            store = Store(
                path / "store",
                durable=False,
                map_bytes_initial=16 * MIB,
                procedures=procedures or self.procedures,
            )
        except BaseException:
            await endpoint.close()
            raise
        member = await Member.open(
            path=path / "raft",
            member_id=member_id,
            members=sorted({*self.ids, member_id}),
            store=store,
            endpoint=endpoint,
            timing=self.timing,
            addresses=[self.addresses[known] for known in sorted({*self.ids, member_id})],
            clocks=self.clocks.get(member_id),
        )
        endpoint.serve(f"db/{member_id}", service.service(member, endpoint))
        self.sites[member_id] = Site(endpoint, store, member)
        return self.sites[member_id]

    async def stop(self, member_id: int) -> None:
        await self.sites.pop(member_id).stop()

    def forget(self, member_id: int) -> None:
        """The disk of a member that was stopped is lost."""
        shutil.rmtree(self.folder / str(member_id))

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
        for member_id, address in self.addresses.items():
            endpoint.add_peer(f"db/{member_id}", "127.0.0.1", address.raft_port)
        return Client(endpoint, self.ids, None)

    async def close(self) -> None:
        for endpoint in (*self._gateways, *self._endpoints.values()):
            await endpoint.close()
        for member_id in list(self.sites):
            await self.stop(member_id)


@asynccontextmanager
async def database(
    folder: Path,
    count: int,
    procedures: Procedures = NO_PROCEDURES,
    timing: Timing = PRODUCT_TIMING,
    clocks: Mapping[int, Clocks] | None = None,
) -> AsyncIterator[Database]:
    """`count` members with a leader."""
    made = Database(folder, count, procedures, timing)
    made.clocks.update(clocks or {})
    try:
        for member_id in made.ids:
            await made.listen(member_id)
        for member_id in made.ids:
            await made.start(member_id)
        await made.leader()
        yield made
    finally:
        await made.close()
