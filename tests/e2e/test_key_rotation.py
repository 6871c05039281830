"""The cluster key and the sealing key are changed under requests, host by host: none fails."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.client import BaseClient
from test_iam_clients import Person

from support.processes import S3d, production
from support.waiting import eventually

pytestmark = pytest.mark.e2e
OLD, NEW = "a secret that was", "a secret that will be"
SEALED = "secrets are sealed under the cluster key that is in force"


def told(secret: str, *accepted: str) -> str:
    names = ", ".join(f'"{one}"' for one in accepted)
    return f'[cluster]\nsecret = "{secret}"\nsecrets_accepted = [{names}]\n'


class Traffic:
    """Requests of a user and of a session, through every host in turn. `failures`: what failed."""

    def __init__(self, clients: list[BaseClient]) -> None:
        self._clients = clients
        self.count = 0
        self.failures: list[str] = []
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.is_set():
            for client in self._clients:
                key = f"k{self.count % 50}"
                try:
                    client.put_object(Bucket="shelf", Key=key, Body=b"x" * 30_000)
                    client.get_object(Bucket="shelf", Key=key)["Body"].read()
                    page = client.list_objects_v2(Bucket="shelf", MaxKeys=1)
                    if token := page.get("NextContinuationToken"):
                        following = self._clients[self.count % len(self._clients)]
                        following.list_objects_v2(Bucket="shelf", ContinuationToken=token)
                except Exception as error:
                    self.failures.append(repr(error))
                self.count += 1

    def end(self) -> None:
        self._is_over.set()


@contextmanager
def under(clients: list[BaseClient]) -> Iterator[Traffic]:
    traffic = Traffic(clients)
    thread = threading.Thread(target=traffic.run)
    thread.start()
    try:
        yield traffic
    finally:
        traffic.end()
        thread.join(60)


def client_of(server: S3d, keys: dict[str, str]) -> BaseClient:
    return server.clients.make(
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        verify=str(server.ca),
    )


def reloaded(servers: list[S3d], file: Path, before: str, after: str) -> None:
    """Host by host, as an operator does it."""
    file.write_text(file.read_text().replace(before, after))
    for server in servers:
        taken_in = server.output.count("configuration reloaded")
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        eventually(
            lambda one=server, count=taken_in: one.output.count("configuration reloaded") > count,
            within_s=30,
            what="the file is taken in",
        )


def test_both_keys_are_changed_and_no_request_fails(tmp_path: Path) -> None:
    steps = [told(OLD), told(OLD, NEW), told(NEW, OLD), told(NEW)]
    with production(tmp_path, count=3, members=3, extra=steps[0], code=(2, 1)) as servers:
        operator = Person(servers[0])
        operator.s3d("user", "add", "alice")
        operator.s3d("policy", "attach", "user/alice", "AmazonS3FullAccess")
        keys = operator.with_key("alice").keys
        clients = [client_of(server, keys) for server in servers]
        clients[0].create_bucket(Bucket="shelf")
        file = tmp_path / "cluster.toml"
        with under(clients) as traffic:
            reloaded(servers, file, steps[0], steps[1])
            reloaded(servers, file, steps[1], steps[2])
            for server in servers:
                eventually(lambda one=server: SEALED in one.output, within_s=30, what="sealed")
            assert "sealed anew" in operator.s3d("rotate-sealing-key")
            reloaded(servers, file, steps[2], steps[3])
            seen = traffic.count
            eventually(lambda: traffic.count > seen + 30, within_s=30, what="requests go on")
        assert traffic.failures == []
        assert traffic.count > 50
        for server in servers:  # each alone, with nothing but the new secret
            server.stop()
            server.start()
        clients[1].get_object(Bucket="shelf", Key="k1")
        assert "alice" in operator.s3d("user", "list")
