"""The role of shard nodes. One that can not be opened is tried again (node.running): the others
carry on."""

from __future__ import annotations

from contextlib import AsyncExitStack

from predastore.base.config import Node
from predastore.base.errors import InUse, OtherVersion
from predastore.node import server
from predastore.node.running import RunningNode
from predastore.process import credentials, daemon
from predastore.process.common import Common
from predastore.rpc import Endpoint


class NodeRole:
    """`nodes`: those of this process."""

    def __init__(self, common: Common, endpoint: Endpoint) -> None:
        self._common = common
        self._endpoint = endpoint
        self.nodes: list[RunningNode] = []

    async def open(self, stack: AsyncExitStack) -> None:
        for row in self._common.roles.nodes:
            await self._open(stack, row)
        for kind in (InUse, OtherVersion):  # started twice; the wrong program
            errors = [node.error for node in self.nodes if isinstance(node.error, kind)]
            if errors and len(errors) == len(self.nodes):
                raise errors[0]

    async def _open(self, stack: AsyncExitStack, row: Node) -> None:
        settings = self._common.settings
        node = RunningNode(
            row.path,
            node_id=row.id,
            cluster_id=credentials.cluster_id(settings),
            scrub_days=settings.cluster.scrub_days,
            open_segments_max=self._common.shares.segments,
        )
        stack.push_async_callback(node.close)
        await node.start()
        self.nodes.append(node)  # not served before this process owns the node
        with daemon.listening(row.listen_host, row.port, f"[[nodes]] id {row.id}, port"):
            await self._endpoint.listen(f"node/{row.id}", row.listen_host, row.port)

    def serve(self) -> None:
        """This process owns the nodes: they may be asked."""
        for node in self.nodes:
            self._endpoint.serve(f"node/{node.node_id}", server.service_of(node.opened))
