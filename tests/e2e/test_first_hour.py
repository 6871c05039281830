"""An operator's first hour with RS(2,1) on three hosts: a node that was removed stays so, writes go
on while a host is away, and nobody runs a node twice."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.operators import Operator
from support.processes import S3d, production, s3d_command
from support.waiting import eventually

pytestmark = pytest.mark.e2e
SECRET = '[cluster]\nsecret = "a secret of the cluster"\n'


def test_three_hosts_and_one_that_was_removed(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    with production(tmp_path, count=4, members=3, extra=SECRET, code=(2, 1)) as servers:
        a_node_that_was_removed_stays_so(operator, servers[3])
        client = servers[0].client(attempts=3)
        client.create_bucket(Bucket="shelf")
        writes_go_on_without_a_host(operator, servers)
        a_second_process_of_a_node_is_refused(tmp_path, servers[0], 3)
        a_copy_of_a_directory_is_refused(tmp_path, servers[0])
        a_wrong_secret_says_the_mend_at_both_ends(tmp_path, servers)
        settings_that_differ_are_shown(tmp_path, operator, servers[3])
        it_is_taken_back(operator, servers[3])
        assert client.get_object(Bucket="shelf", Key="k")["Body"].read() == b"x" * 100_000


def a_node_that_was_removed_stays_so(operator: Operator, fourth: S3d) -> None:
    assert "done: node 4 is leaving" in operator.run("cluster", "remove", "4")
    eventually(
        lambda: [one["id"] for one in operator.status()["removed"]] == [4],
        within_s=60,
        what="node 4 removed",
    )
    fourth.kill()
    fourth.start()
    assert "node 4 was removed from the cluster and takes no part" in fourth.output
    assert sorted(operator.nodes()) == [1, 2, 3]
    told = f"node 4 was removed, and its process runs at {fourth.host}:9991: stop it"
    eventually(lambda: told in operator.run("cluster", "status", code=None), what=told)
    assert "it was removed" in operator.run("cluster", "drain", "4", code=2)


def writes_go_on_without_a_host(operator: Operator, servers: list[S3d]) -> None:
    servers[2].kill()
    client = servers[0].client(attempts=3)
    client.put_object(Bucket="shelf", Key="k", Body=b"x" * 100_000)
    assert servers[0].healthy("ready?writes")
    text = operator.run("cluster", "status", code=1)
    assert "writes need 2 of 3 shards; they go on without any 1 node, any 1 host" in text
    servers[1].pause()
    try:
        eventually(lambda: not servers[0].healthy("ready?writes"), within_s=30, what="no writes")
    finally:
        servers[1].resume()
    servers[2].start()
    eventually(lambda: servers[0].healthy("ready?writes"), within_s=30, what="writes again")


def refused(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        [*s3d_command(), *command],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 69, done.stdout + done.stderr
    return done.stderr


def a_second_process_of_a_node_is_refused(folder: Path, first: S3d, node: int) -> None:
    """Its own directory, on another host."""
    network = first.host.rpartition(".")[0]
    text = (folder / "cluster.toml").read_text()
    moved = text.replace(
        f'id = {node}\nhost = "{network}.{node}"', f'id = {node}\nhost = "{network}.9"', 1
    )
    key_id, secret = first.credentials()
    auth = f'[[auth]]\naccess_key_id = "{key_id}"\nsecret_access_key = "{secret}"\n'
    other = folder / "other.toml"
    other.write_text(moved + auth)
    command = ["-config", str(other), "-node", str(node), "-base-path", str(folder / "other")]
    told = refused([*command, "-host", f"{network}.9"], folder)
    assert f"node {node} runs in another process, at {network}.{node}:9991 (it answers" in told
    assert not (folder / "other" / "nodes").exists(), "nothing was opened"


def a_copy_of_a_directory_is_refused(folder: Path, first: S3d) -> None:
    """With the member in it, on another host."""
    network = first.host.rpartition(".")[0]
    copy = folder / "copy"
    shutil.copytree(folder / "data" / "nodes" / "node-1", copy / "nodes" / "node-1")
    shutil.copytree(folder / "data" / "db" / "db-1", copy / "db" / "db-1")
    text = (folder / "other.toml").read_text().replace(f'"{network}.1"', f'"{network}.8"')
    (folder / "copy.toml").write_text(text)
    command = ["-config", str(folder / "copy.toml"), "-base-path", str(copy)]
    told = refused([*command, "-node", "1", "-db-node", "1", "-host", f"{network}.8"], folder)
    assert "runs in another process, at " in told
    told = refused([*command, "-db", "-db-node", "1"], folder)
    assert f"database member 1 runs in another process, at {network}.1:7660" in told


def a_wrong_secret_says_the_mend_at_both_ends(folder: Path, servers: list[S3d]) -> None:
    fourth = servers[3]
    fourth.kill()
    file = folder / "wrong.toml"
    file.write_text((folder / "cluster.toml").read_text().replace("a secret", "another secret"))
    wrong = S3d(fourth.base_path, fourth.host, ["-config", str(file), "-node", "4"], name="wrong")
    wrong.start(ready=False)
    try:
        mend = "give both the same [cluster] name and secret"
        eventually(
            lambda: mend in wrong.output, within_s=60, what="the mend in the log of the stranger"
        )
        eventually(lambda: "not ready yet: " in wrong.output, within_s=30, what="why it waits")
        eventually(
            lambda: any("its file the same [cluster] name" in one.output for one in servers[:3]),
            within_s=30,
            what="the mend in the log of those that it called",
        )
    finally:
        wrong.end()


def settings_that_differ_are_shown(folder: Path, operator: Operator, fourth: S3d) -> None:
    """A host whose file asks for another block size."""
    file = folder / "other-blocks.toml"
    text = (folder / "cluster.toml").read_text()
    file.write_text(text.replace("[rs]\n", '[rs]\nblock_size = "64KiB"\n'))
    odd = S3d(fourth.base_path, fourth.host, ["-config", str(file), "-node", "4"], name="odd")
    odd.start()
    try:
        told = "settings: [rs] of node/4 is not as the other 3 processes have it"
        eventually(
            lambda: told in operator.run("cluster", "status", code=None), within_s=30, what=told
        )
        eventually(lambda: "settings differ from those of another" in odd.output, what="a line")
    finally:
        odd.end()


def it_is_taken_back(operator: Operator, fourth: S3d) -> None:
    fourth.kill()
    assert "start its process, then activate it" in operator.run(
        "cluster", "activate", "4", code=75
    )
    fourth.start()
    assert "done: node 4 is active" in operator.run("cluster", "activate", "4")
    assert operator.nodes()[4]["state"] == "active"
