"""SIGKILL of everything in the middle of writes: acknowledged is kept, the rest absent or whole."""

from __future__ import annotations

import hashlib
import random
import threading
from pathlib import Path

import pytest
from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError

from support.processes import S3d, development, production
from support.waiting import eventually

pytestmark = pytest.mark.e2e
WRITERS = 4
KEYS = 12


class Writer(threading.Thread):
    """Overwrites its own keys without pause. Each body says which write it is, and its digest."""

    def __init__(self, client: BaseClient, number: int) -> None:
        super().__init__(name=f"writer-{number}")
        self.client = client
        self.number = number
        self.acknowledged: dict[str, int] = {}  # key -> number of the last acknowledged write
        self.sent: dict[str, int] = {}
        self.draw = random.Random(number)
        self.stopping = threading.Event()

    def run(self) -> None:
        count = 0
        while not self.stopping.is_set():
            count += 1
            key = f"w{self.number}-{count % KEYS}"
            self.sent[key] = count
            size = self.draw.choice((10, 5_000, 300_000, 4_000_000))
            try:
                self.client.put_object(Bucket="crash", Key=key, Body=body_of(key, count, size))
            except (ClientError, BotoCoreError):
                return
            self.acknowledged[key] = count


def body_of(key: str, count: int, size: int) -> bytes:
    filler = random.Random(f"{key}{count}").randbytes(size)
    head = f"{key} {count} {hashlib.sha256(filler).hexdigest()}\n".encode()
    return head + filler


def check(client: BaseClient, writers: list[Writer]) -> int:
    """Every key holds its last acknowledged write or a later one, and is whole; how many."""
    seen = 0
    for writer in writers:
        for key, last_sent in writer.sent.items():
            last_acknowledged = writer.acknowledged.get(key, 0)
            try:
                body = client.get_object(Bucket="crash", Key=key)["Body"].read()
            except ClientError as error:
                assert error.response["Error"]["Code"] == "NoSuchKey", error
                assert last_acknowledged == 0, f"{key} is lost"
                continue
            head, _, filler = body.partition(b"\n")
            name, count, digest = head.decode().split()
            assert name == key
            assert hashlib.sha256(filler).hexdigest() == digest, f"{key} is not whole"
            assert last_acknowledged <= int(count) <= last_sent, f"{key} went back in time"
            seen += 1
    return seen


def crash(servers: list[S3d]) -> None:
    servers[0].client().create_bucket(Bucket="crash")
    gateways = [server.client(timeout_s=20) for server in servers]
    writers = [Writer(gateways[n % len(gateways)], n) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    eventually(
        lambda: all(len(writer.acknowledged) >= KEYS for writer in writers),
        within_s=120,
        what="some rounds of writes",
    )
    for server in servers:
        server.kill()
    for writer in writers:
        writer.stopping.set()
        writer.join(60)
    for server in servers:
        server.start(ready=False)
    for server in servers:
        server.wait_ready()
    assert check(servers[-1].client(attempts=3), writers) >= WRITERS * KEYS
    # And the cluster takes writes again.
    servers[0].client(attempts=3).put_object(Bucket="crash", Key="after", Body=b"crash")


def test_one_process_killed_in_the_middle_of_writes(tmp_path: Path) -> None:
    with development(tmp_path) as server:
        crash([server])


def test_a_whole_cluster_killed_in_the_middle_of_writes(tmp_path: Path) -> None:
    with production(tmp_path) as servers:
        crash(servers)


def test_the_filesystem_backend_killed_in_the_middle_of_writes(tmp_path: Path) -> None:
    from support.processes import fresh_network

    server = S3d(tmp_path / "data", f"{fresh_network()}.1", ["-backend", "filesystem"])
    try:
        server.start()
        crash([server])
    finally:
        server.end()
