"""Traces by OTLP: one from a request of S3 to every node's fdatasync. And none unasked."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.processes import development, production
from support.waiting import eventually

pytestmark = pytest.mark.e2e


@dataclass
class Receiver:
    """What came to a collector: (the process that sent it, span)."""

    endpoint: str = ""
    spans: list[tuple[str, Span]] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        for part in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {one.key: one.value.string_value for one in part.resource.attributes}
            for scope in part.scope_spans:
                self.spans += [(about["service.instance.id"], span) for span in scope.spans]

    def named(self, name: str) -> list[tuple[str, Span]]:
        return [row for row in list(self.spans) if row[1].name == name]


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            made.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif("S3D" in os.environ, reason="the binary is built without the extra")
def test_one_trace_leads_from_a_request_to_every_nodes_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with production(tmp_path, count=5, members=1) as servers:
            client = servers[0].client()
            client.create_bucket(Bucket="traced")
            client.put_object(Bucket="traced", Key="a", Body=bytes(40_000))
            eventually(lambda: len(received.named("shard.put")) == 5, what="five nodes' spans")
            [(gateway, root)] = eventually(lambda: received.named("S3 PutObject"), what="the root")
            eventually(lambda: len(received.named("fdatasync")) >= 5, what="five syncs")
        puts, syncs = received.named("shard.put"), received.named("fdatasync")
        assert not root.parent_span_id
        assert {span.trace_id for _, span in puts + syncs} == {root.trace_id}
        assert {span.parent_span_id for _, span in puts} == {root.span_id}
        assert {span.parent_span_id for _, span in syncs} == {span.span_id for _, span in puts}
        assert len({process for process, _ in puts}) == 5
        assert gateway in {process for process, _ in puts}
        for process, sync in syncs:
            [put] = [one for where, one in puts if where == process]
            assert sync.parent_span_id == put.span_id
            assert put.start_time_unix_nano <= sync.start_time_unix_nano
            assert sync.end_time_unix_nano <= put.end_time_unix_nano
        about = {one.key: one.value for one in root.attributes}
        assert about["aws.s3.key"].string_value == "a"
        assert about["http.response.status_code"].int_value == 200


@pytest.mark.skipif("S3D" not in os.environ, reason="with the source, the extra is there")
def test_a_binary_says_that_it_can_not_trace_and_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    with development(tmp_path) as server:
        server.client().create_bucket(Bucket="untraced")
        assert "predastore[otel]" in server.output
