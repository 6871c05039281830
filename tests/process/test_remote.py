"""A command's way into a cluster that does not take it for one of its own."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from predastore.base.config import Auth, Config, Node
from predastore.base.config.model import Cluster
from predastore.base.errors import PeerRefused, PeerUnreachable
from predastore.process.commands import remote
from predastore.rpc import Endpoint, self_signed
from support.loops import on_a_loop


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(*ports: int) -> Config:
    return Config(
        backend="distributed",
        auth=(Auth("K", "s"),),
        cluster=Cluster(secret="wrong"),
        nodes=tuple(Node(n, "127.0.0.1", port, Path("x")) for n, port in enumerate(ports, 1)),
    )


@on_a_loop
async def test_a_wrong_secret_is_told_from_a_cluster_that_is_away() -> None:
    silent, refusing = free_port(), free_port()
    process = Endpoint(cluster_key=b"k" * 32, certificate=self_signed(), name="node/2")
    process.serve("node/2", {})
    await process.listen("node/2", "127.0.0.1", refusing)
    try:
        with pytest.raises(PeerRefused, match=r"give \[cluster\] name and secret") as caught:
            async with remote.connected(settings(silent, refusing)):
                pass
        assert len(str(caught.value).splitlines()) == 3, "both were asked"
        with pytest.raises(PeerUnreachable, match="no process of the cluster answers"):
            async with remote.connected(settings(silent)):
                pass
    finally:
        await process.close()
