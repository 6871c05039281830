"""A cluster as an operator sees and changes it: status, verify, locate, scrub; a node that joins by
one seed; [[nodes]] taken in on SIGHUP; a node that is removed."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from support.operators import Operator
from support.processes import S3d, production
from support.waiting import eventually

pytestmark = pytest.mark.e2e
SECRET = '[cluster]\nsecret = "a secret of the cluster"\n'


def fill(server: S3d, first: int, count: int) -> dict[str, bytes]:
    client = server.client(attempts=3)
    bodies = {f"k{n}": random.Random(n).randbytes(10_000 * n) for n in range(first, first + count)}
    for key, body in bodies.items():
        client.put_object(Bucket="shelf", Key=key, Body=body)
    return bodies


def test_an_operator_sees_grows_and_shrinks_the_cluster(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    with production(tmp_path, count=6, members=3, extra=SECRET) as servers:
        servers[0].client().create_bucket(Bucket="shelf")
        bodies = fill(servers[0], 0, 12)
        looks_right(operator, bodies)
        a_damaged_block_is_found(operator, servers)
        what_is_on_a_node_that_is_down_counts_as_missing(operator, servers[5])
        network = servers[0].host.rpartition(".")[0]
        joining = tmp_path / "joining.toml"
        joining.write_text(
            f'backend = "distributed"\n{SECRET}join = "{network}.2:9991"\n'
            f'[[nodes]]\nid = 7\nhost = "{network}.7"\nport = 9991\nweight = 2\n'
        )
        arguments = ["-config", str(joining), "-node", "7"]
        seventh = S3d(tmp_path / "data", f"{network}.7", arguments, name="s3d-7").start()
        try:
            it_joined(operator, Operator(tmp_path, "joining.toml"), seventh, bodies)
            a_reload_drains(operator, tmp_path, servers)
            a_reload_weighs_and_removes(operator, tmp_path, servers[2])
            a_removed_node_goes(operator, bodies, servers)
        finally:
            seventh.end()


def looks_right(operator: Operator, bodies: dict[str, bytes]) -> None:
    def whole() -> dict[str, Any] | None:
        found = operator.status()
        everybody = len(found["processes"]) == 6
        return found if everybody and (found["missing"] or {}).get("whole") else None

    found = eventually(whole, within_s=60, what="a cluster that is whole")
    assert [node["health"] for node in found["nodes"]] == ["good"] * 6
    assert {one["name"] for one in found["processes"]} == {f"node/{n}" for n in range(1, 7)}
    assert {one["status"] for one in found["processes"]} == {"alive"}
    text = operator.run("cluster", "status")
    assert "RS(3,2), 6 nodes (version 1), processes here: 6" in text
    assert "no shard is known to be missing" in text
    assert "may be lost: any 2 nodes, any 1 member, any 1 host\n" in text
    assert "warning: metadata stands the loss of 1 member, and data stands that of 2 nodes" in text
    rows = operator.shards("k11")
    assert [row["health"] for row in rows] == ["good"] * 5
    assert len({row["node"] for row in rows}) == 5
    assert sum(row["bytes"] for row in rows) >= len(bodies["k11"]) * 5 // 3
    assert "there is no such object" in operator.run("object", "locate", "s3://shelf/x", code=2)
    done = json.loads(operator.run("cluster", "verify", "--json"))
    assert (done["objects"], done["degraded"]) == (len(bodies) - 1, 0), "one has no bytes"
    assert done["data_bytes"] == sum(map(len, bodies.values()))


def a_damaged_block_is_found(operator: Operator, servers: list[S3d]) -> None:
    """Where `locate` says that a block is, a byte is changed: scrub finds it."""
    row = operator.shards("k9")[0]
    node = row["node"]
    segment = servers[0].base_path / "nodes" / f"node-{node}" / "segments"
    with (segment / f"{row['segment']:08}.seg").open("r+b") as file:
        file.seek(row["offset"] + 200)
        byte = file.read(1)
        file.seek(row["offset"] + 200)
        file.write(bytes([byte[0] ^ 1]))
    text = operator.run("node", "scrub", str(node), code=None)
    assert "blocks were found bad" in text
    # Healing may have been quicker than the look.
    eventually(
        lambda: all(one["health"] == "good" for one in operator.shards("k9", code=None)),
        within_s=60,
        what="the repair of a bad block",
    )
    assert f"\n{node} " in operator.run("node", "status")


def what_is_on_a_node_that_is_down_counts_as_missing(operator: Operator, sixth: S3d) -> None:
    held = operator.nodes()[6]["shards"]
    assert held
    sixth.kill()

    def told() -> dict[str, Any] | None:
        found: dict[str, Any] = operator.status()["missing"]
        rows = [(row["node"], row["why"], row["shards"]) for row in found["unreachable"]]
        return found if rows == [(6, "does not answer", held)] else None

    found = eventually(told, within_s=60, what="node 6 and its shards missing")
    assert found["shards"] >= held
    assert found["bytes"] > 0
    assert found["seconds_left"] >= found["unreachable"][0]["given_up_in_s"] > 0
    text = operator.run("cluster", "status", code=1)
    assert f"{held} of them" in text
    assert "on node 6, which does not answer" in text
    with operator.watching("cluster", "status") as screen:
        eventually(lambda: screen.count() >= 3, within_s=60, what="a screen that is drawn again")
        assert "redundancy: " in screen.last()
        sixth.start()
        assert screen.ends() == 0, screen.last()
        assert "no shard is known to be missing" in screen.last()


def it_joined(operator: Operator, joined: Operator, seventh: S3d, bodies: dict[str, bytes]) -> None:
    client = seventh.client(attempts=3)
    for key, body in bodies.items():
        assert client.get_object(Bucket="shelf", Key=key)["Body"].read() == body
    for look in (operator, joined):  # by the file of the cluster, and by the seed alone
        node = look.nodes()[7]
        assert (node["state"], node["weight"], node["health"]) == ("active", 2.0, "good")
    eventually(lambda: operator.nodes()[7]["shards"], within_s=60, what="shards moved to it")


def they_moved_off(operator: Operator, node: int) -> None:
    """What a node has is kept for a while for readers that had begun, but no record names it."""

    def are_elsewhere() -> bool:
        return all(
            node not in {row["node"] for row in operator.shards(key, code=None)}
            for key in ("k3", "k7", "k11")
        )

    eventually(are_elsewhere, within_s=90, what=f"shards moved off node {node}")
    eventually(
        lambda: (told := operator.status()["healing"]) and told["ring_settled"],
        within_s=90,
        what="a ring that is settled",
    )


def a_reload_drains(operator: Operator, folder: Path, servers: list[S3d]) -> None:
    file = folder / "cluster.toml"
    text = file.read_text().replace("id = 4\n", 'id = 4\nstate = "draining"\n', 1)
    file.write_text(text)
    assert servers[2].process is not None
    servers[2].process.send_signal(signal.SIGHUP)
    eventually(
        lambda: operator.nodes()[4]["state"] == "draining", within_s=30, what="node 4 draining"
    )
    assert operator.nodes()[3]["state"] == "active"
    new = fill(servers[2], 20, 6)  # by the gateway that was told
    for key in list(new)[:3]:
        assert 4 not in {row["node"] for row in operator.shards(key)}
    they_moved_off(operator, 4)


def a_reload_weighs_and_removes(operator: Operator, folder: Path, third: S3d) -> None:
    """Weights are taken in, and a row that went makes its node leave; shards that have just moved
    from there are taken back when it is active again."""
    file = folder / "cluster.toml"
    whole = file.read_text()
    before, sixth = whole.split("[[nodes]]\nid = 6\n")
    row, _, rest = sixth.partition("[[")
    assert "port" in row
    changed = before.replace("id = 5\n", "id = 5\nweight = 1.5\n", 1)
    changed = changed.replace('state = "draining"\n', "")  # five have to stay
    assert third.process is not None
    file.write_text(changed + (f"[[{rest}" if rest else ""))
    third.process.send_signal(signal.SIGHUP)

    def taken_in() -> bool:
        nodes = operator.nodes()
        return (nodes[5]["weight"], nodes[6]["state"]) == (1.5, "leaving")

    eventually(taken_in, within_s=30, what="a weight changed, and a row removed")
    they_moved_off(operator, 6)  # also to node 4, which is active again
    assert "done: node 6 is active" in operator.run("cluster", "activate", "6")
    file.write_text(whole)
    third.process.send_signal(signal.SIGHUP)
    eventually(
        lambda: operator.nodes()[5]["weight"] == 1.0, within_s=30, what="the old weight again"
    )
    assert operator.nodes()[6]["state"] == "active"


def a_removed_node_goes(operator: Operator, bodies: dict[str, bytes], servers: list[S3d]) -> None:
    assert "done: node 4 is leaving" in operator.run("cluster", "remove", "4")
    # Not at once "whole" by what the one who heals said of the nodes before.
    operator.run("cluster", "status", code=1)
    assert "done: node 1 is leaving" in operator.run("cluster", "remove", "1")
    assert "4 active nodes would be left" in operator.run("cluster", "remove", "2", code=1)
    operator.run("cluster", "activate", "1")
    they_moved_off(operator, 4)
    servers[3].kill()
    assert "node 4: " in operator.run("node", "rebuild-index", "4")
    assert "shards, " not in operator.run("node", "rebuild-index", "5", code=None), "it runs"
    client = servers[4].client(attempts=3)
    for key, body in bodies.items():
        assert client.get_object(Bucket="shelf", Key=key)["Body"].read() == body
