"""A process whose files were cut short or damaged starts without what is of no use, or says so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.processes import S3d, development, fresh_network, s3d_command

pytestmark = pytest.mark.e2e

BODY = os.urandom(3 << 20)


def halved(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*s3d_command(), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        check=False,
    )


@pytest.mark.parametrize("kill", [False, True])
def test_nodes_and_tables_that_are_damaged_end_nobody(tmp_path: Path, kill: bool) -> None:
    with development(tmp_path) as server:
        client = server.client()
        client.create_bucket(Bucket="kept")
        for n in range(5):
            client.put_object(Bucket="kept", Key=f"{n}", Body=BODY[n:])
        server.kill() if kill else server.stop()
        nodes = server.base_path / "nodes"
        for n in (1, 3, 4):
            halved(nodes / f"node-{n}" / "index" / "data.mdb")
        (nodes / "node-2" / "node.id").write_bytes(b"\0" * 100)
        halved(server.base_path / "db" / "db-1" / "store" / "store.mdb")
        server.start()
        client = server.client()
        for n in range(5):
            assert client.get_object(Bucket="kept", Key=f"{n}")["Body"].read() == BODY[n:]
        client.put_object(Bucket="kept", Key="new", Body=BODY)
        said = command(
            tmp_path, *("cluster", "status", "-config", "dev.toml"),
            *("-base-path", str(server.base_path)),
        )  # fmt: skip
        assert said.returncode == 1
        assert "node 2: it can not be opened" in said.stdout
        assert "node.id can not be read" in said.stdout
        assert server.stop() == 0
        errors = (tmp_path / "s3d.stderr").read_text()
        assert errors.count("index is built again") == 3
        assert errors.count("node can not be opened") == 1
        assert "Traceback" not in errors


def test_records_of_plain_files_that_are_damaged_are_one_clear_line(tmp_path: Path) -> None:
    server = S3d(tmp_path / "data", f"{fresh_network()}.1", [])
    try:
        client = server.start().client()
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="key", Body=BODY)
        assert server.stop() == 0
        file = server.base_path / ".predastore" / "state" / "store.mdb"
        before = file.read_bytes()
        halved(file)
        done = command(tmp_path, "-host", server.host, "-base-path", str(server.base_path))
        assert done.returncode == 1
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("s3d: ")]
        assert "cut short" in line
        assert str(file) in line
        assert "put it back from a copy" in line
        file.write_bytes(before)
        assert server.start().client().get_object(Bucket="kept", Key="key")["Body"].read() == BODY
    finally:
        server.end()
