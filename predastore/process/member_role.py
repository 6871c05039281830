"""The role of database members, with their REST API. A member that can not go on (its fsync failed)
ends the process: nothing after it could be trusted."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from predastore.auth.sigv4 import Verifier
from predastore.base.config import Db
from predastore.process import credentials, daemon
from predastore.process.common import Common
from predastore.process.program import PROCEDURES
from predastore.rpc import Endpoint
from predastore.s3db import rest, service
from predastore.s3db.client import Client
from predastore.s3db.member import Member
from predastore.s3db.opening import open_tables
from predastore.s3db.raft.messages import Address


class MemberRole:
    """`members`: those of this process."""

    def __init__(self, common: Common, endpoint: Endpoint) -> None:
        self._common = common
        self._endpoint = endpoint
        self.members: list[Member] = []

    async def open(self, stack: AsyncExitStack) -> None:
        for row in self._common.roles.members:
            await self._open(stack, row)

    async def _open(self, stack: AsyncExitStack, row: Db) -> None:
        common, endpoint, every = self._common, self._endpoint, self._common.settings.db
        store = open_tables(row.path, row.id, PROCEDURES)
        stack.callback(store.close)
        common.probes.append(lambda: asyncio.to_thread(store.get, "buckets", b"-"))
        member = await Member.open(
            path=row.path / "raft",
            member_id=row.id,
            members=[other.id for other in every],
            store=store,
            endpoint=endpoint,
            addresses=[
                Address(other.id, other.host, other.port, other.raft_port) for other in every
            ],
            cluster_id=credentials.cluster_id(common.settings),
        )
        stack.push_async_callback(member.close)
        self.members.append(member)
        member.failed.add_done_callback(common.fail)
        endpoint.serve(f"db/{row.id}", service.service(member, endpoint))
        with daemon.listening(row.listen_host, row.raft_port, f"[[db]] id {row.id}, raft_port"):
            await endpoint.listen(f"db/{row.id}", row.listen_host, row.raft_port)
        await self._open_rest(stack, row, member)

    async def _open_rest(self, stack: AsyncExitStack, row: Db, member: Member) -> None:
        common = self._common
        every = [other.id for other in common.settings.db]
        known = common.keyring.known_to(row)
        verifier = Verifier(known.find, region=common.settings.region, service="s3db")
        served = common.tls.served
        server = rest.server(
            Client(self._endpoint, every, prefer=row.id),
            member,
            verifier,
            host=row.listen_host,
            port=row.port,
            ssl_context=served.context if served is not None else None,
            bounds=common.shares.side,
        )
        await server.start()
        stack.push_async_callback(server.close)
