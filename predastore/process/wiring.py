"""The one place where roles are wired together: what a process runs, opened and closed.

Everything is opened in the order of the layer table onto one stack, and closed in reverse: locks,
cluster endpoint, shard nodes, database members, gateway, S3. Each role has a builder of its own
(`node_role`, `member_role`, `gateway_role`).
"""

from __future__ import annotations

import os
import socket
from contextlib import AsyncExitStack

from predastore.base.config import Config
from predastore.process import daemon, rivals, roles
from predastore.process.cluster_tls import Authorities
from predastore.process.common import Common
from predastore.process.discovery import Discovery
from predastore.process.edited import EditedFile
from predastore.process.gateway_role import GatewayRole
from predastore.process.keyring import Keyring
from predastore.process.member_role import MemberRole
from predastore.process.node_role import NodeRole
from predastore.rpc import Endpoint, self_signed
from predastore.s3db.client import Client
from predastore.s3db.global_state import DistributedState
from predastore.s3db.near import Near


class Process:
    """What one process runs. `nodes`, `members`, `discovery`, `endpoint`: None where objects are
    plain files."""

    def __init__(self, settings: Config, chosen: roles.Roles) -> None:
        self.discovery: Discovery | None = None
        self.common = Common(settings, chosen, Keyring(settings, chosen, self._is_alone))
        self.gateway = GatewayRole(self.common)
        self.nodes: NodeRole | None = None
        self.members: MemberRole | None = None
        self.endpoint: Endpoint | None = None
        self.edited: EditedFile | None = None  # set by predastore.process.host

    def _is_alone(self) -> bool:
        return self.discovery is None or self.discovery.is_alone

    async def open(self, stack: AsyncExitStack) -> None:
        """Opens every role; on an error what was opened is closed by `stack`."""
        common = self.common
        is_plain = common.settings.backend == "filesystem"
        if is_plain:
            stack.enter_context(daemon.held(common.settings.base_path))
        for member in common.roles.members:
            stack.enter_context(daemon.held(member.path))
        common.keyring.open()
        common.tls.begin()
        if is_plain:
            await self.gateway.open_filesystem(stack)
        else:
            await self._open_cluster(stack)
        common.reloader.add(("auth", "cluster"), common.keyring.prepare)
        common.reloader.add(("tls_cert", "tls_key"), common.tls.prepare)

    async def open_s3(self, stack: AsyncExitStack) -> None:
        """Begins with S3, if that is to be served, once there is a certificate to show."""
        if self.common.roles.s3:
            await self.gateway.open_s3(stack, await self.common.tls.ready())

    async def _open_cluster(self, stack: AsyncExitStack) -> None:
        common = self.common
        settings, chosen, keyring = common.settings, common.roles, common.keyring
        self.endpoint = endpoint = self._endpoint(stack)
        await rivals.check(settings, chosen, keyring.keys.cluster)
        self.nodes = nodes = NodeRole(common, endpoint)
        await nodes.open(stack)
        self.members = MemberRole(common, endpoint)
        await self.members.open(stack)
        self.discovery = discovery = Discovery(
            *(endpoint, settings, chosen, nodes.nodes),
            in_force=lambda: common.reloader.in_force,
            authority=lambda: common.tls.authority,
        )
        local = chosen.members[0].id if chosen.members else None
        near = Near(self.members.members[0]) if self.members.members else None
        client = Client(endpoint, [row.id for row in settings.db], prefer=local, near=near)
        state = DistributedState(client)
        stack.push_async_callback(state.close)
        if chosen.s3:
            await self.gateway.open_distributed(stack, endpoint, discovery, state, nodes.serve)
        else:
            discovery.start()
        stack.push_async_callback(discovery.close)
        common.tls.follow(Authorities(state, keyring.cluster_keys, settings.cluster.name))
        stack.push_async_callback(common.tls.close)

    def _endpoint(self, stack: AsyncExitStack) -> Endpoint:
        """The way to all nodes and members of the file."""
        settings, chosen, keyring = self.common.settings, self.common.roles, self.common.keyring
        name = f"s3d/{socket.gethostname()}/{os.getpid()}"
        key, *accepted = keyring.cluster_keys()
        certificate = self_signed()
        endpoint = Endpoint(cluster_key=key, certificate=certificate, name=name, accepted=accepted)
        keyring.follow(lambda keys: endpoint.use_keys(keys.cluster, keys.accepted))
        stack.push_async_callback(endpoint.close)
        for row in settings.nodes:
            if row not in chosen.nodes:
                endpoint.add_peer(f"node/{row.id}", row.host, row.port)
        for peer in settings.db:
            if peer not in chosen.members:
                endpoint.add_peer(f"db/{peer.id}", peer.host, peer.raft_port)
        return endpoint
