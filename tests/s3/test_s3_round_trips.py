"""What requests cost over the wire: calls to a member of the metadata cluster, counted where every
call of a process passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.client import BaseClient

from predastore.catalog import permits
from predastore.catalog.keys import DUE
from predastore.rpc import Endpoint
from predastore.s3db.client import Client
from predastore.s3db.service import ASK, COMMIT
from support.s3raw import Raw
from support.s3server import S3Server, distributed_catalog, running

SMALL, LARGE = b"s" * 500, b"l" * 50_000
READ = ASK


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    with running(distributed_catalog, tmp_path) as started:
        yield started


@pytest.fixture
def s3(server: S3Server) -> Iterator[BaseClient]:
    client = server.client()
    yield client
    client.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods that members are called with, but for looks at what is due."""
    called: list[str] = []
    call, ask, commit = Endpoint.call, Client.ask, Client._commit

    async def counted(
        self: Endpoint, peer: str, method: str, request: msgspec.Struct, *more: Any, **options: Any
    ) -> Any:
        is_other = method not in (READ, COMMIT) and getattr(request, "table", "") != DUE
        if peer.startswith("db/") and is_other:
            called.append(method)
        return await call(self, peer, method, request, *more, **options)

    async def asked(self: Client, name: str, arguments: bytes, **options: Any) -> bytes:
        called.append(READ)  # whether by a call, or in the process
        return await ask(self, name, arguments, **options)

    async def committed(self: Client, *command: Any, **options: Any) -> Any:
        called.append(COMMIT)
        return await commit(self, *command, **options)

    monkeypatch.setattr(Endpoint, "call", counted)
    monkeypatch.setattr(Client, "ask", asked)
    monkeypatch.setattr(Client, "_commit", committed)
    return called


@pytest.mark.parametrize("is_versioned", [False, True])
def test_each_request_makes_as_few_calls_as_it_can(
    s3: BaseClient,
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_versioned: bool,
) -> None:
    monkeypatch.setattr(permits, "BACKEND_BUCKET_SEEN_MS", 3_600_000)
    s3.create_bucket(Bucket="bucket")
    if is_versioned:
        versioning = {"Status": "Enabled"}
        s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration=versioning)

    def cost(request: Callable[..., Any], **more: Any) -> list[str]:
        calls.clear()
        request(Bucket="bucket", **more)
        return [*calls]

    cost(s3.put_object, Key="first", Body=b"")
    for key, body in (("small", SMALL), ("large", LARGE)):
        for _ in range(2):  # new, then over itself
            assert cost(s3.put_object, Key=key, Body=body) == [COMMIT]
        assert cost(s3.get_object, Key=key) == [READ]
        assert cost(s3.head_object, Key=key) == [READ]
        assert cost(s3.copy_object, Key="copy", CopySource=f"bucket/{key}") == [READ, COMMIT]
        assert cost(s3.delete_object, Key=key) == [COMMIT]
    keys = [{"Key": f"k{number}"} for number in range(100)]
    assert cost(s3.delete_objects, Delete={"Objects": keys}) == [COMMIT]


def test_an_origin_costs_a_read_no_round_trip_once_the_rules_are_known(
    server: S3Server, s3: BaseClient, calls: list[str]
) -> None:
    s3.create_bucket(Bucket="bucket")
    rule = {"AllowedOrigins": ["http://a"], "AllowedMethods": ["GET", "PUT"]}
    s3.put_bucket_cors(Bucket="bucket", CORSConfiguration={"CORSRules": [rule]})
    for key, body in (("small", SMALL), ("large", LARGE)):
        s3.put_object(Bucket="bucket", Key=key, Body=body)

    def cost(method: str, path: str, body: bytes = b"") -> list[str]:
        calls.clear()
        answer = server.signer().send(Raw(method, path, body=body, headers={"origin": "http://a"}))
        assert answer.headers["access-control-allow-origin"] == "http://a"
        return [*calls]

    assert cost("GET", "/bucket/small") == [READ, READ]
    for key in ("small", "large", "absent"):
        assert cost("GET", f"/bucket/{key}") == [READ]
    cost("PUT", "/bucket/small", SMALL)
    assert cost("PUT", "/bucket/small", SMALL) == [COMMIT]
    s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    assert cost("GET", "/bucket/small") == [READ, READ]
    assert cost("GET", "/bucket/small") == [READ]
