"""Traces by OpenTelemetry over OTLP, where the environment asks for them (the extra `otel`).

On with OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT (HTTP, protobuf); the
SDK reads these and its other variables (OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, ...) itself.
Spans wait for a thread in a bounded queue; what finds it full is dropped.

    S3 PutObject                       a request, until the last byte of its response
      commit, read, ...                calls of the metadata, where they are served
      shard.put                        a call at each node, in whatever process it is
        fdatasync                      the node's sync that made it durable
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from typing import TYPE_CHECKING, Final, NamedTuple

from predastore import __version__
from predastore.base import tracing
from predastore.httpd.message import Handler, Request, Response

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def traced(environment: Mapping[str, str] = os.environ) -> AsyncIterator[Telemetry | None]:
    """For the time of the block traces are taken, where the environment asks for them."""
    if not any(environment.get(name) for name in _VARIABLES):
        yield None
        return
    try:
        made = Telemetry()
    except ImportError as error:
        _log.warning(
            "no traces: OpenTelemetry is not installed (pip install 'predastore[otel]')",
            extra={"missing": error.name},
        )
        yield None
        return
    tracing.tracer = made
    try:
        yield made
    finally:
        tracing.tracer = None
        await asyncio.to_thread(made.close)


class _Begun(NamedTuple):
    """The trace of a request: its span, and what ends its being the current one."""

    span: Span
    token: Token[Context]


class Telemetry:
    """A Tracer that exports. ImportError where the extra is not installed."""

    def __init__(self) -> None:
        from opentelemetry import context, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        about = {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", "predastore"),
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}/{os.getpid()}",
        }
        self._context = context
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("predastore", __version__)

    def close(self) -> None:
        """Sends what waits."""
        self._provider.shutdown()

    # --- what layers use: tracing.Tracer ------------------------------------------------------

    @contextmanager
    def serving(self, method: str, trace: str) -> Iterator[None]:
        parent: Context | None = None
        if trace:
            parent = self._propagator.extract({"traceparent": trace})
        elif not self._trace.get_current_span().is_recording():
            yield
            return
        with self._tracer.start_as_current_span(method, parent, kind=self._trace.SpanKind.SERVER):
            yield

    def place(self) -> str:
        # A task that a request has begun may go on after it: its span does not record any more.
        if not self._trace.get_current_span().is_recording():
            return ""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get("traceparent", "")

    def record(self, name: str, begun_ns: int, ended_ns: int) -> None:
        if self._trace.get_current_span().is_recording():
            self._tracer.start_span(name, start_time=begun_ns).end(ended_ns)

    # --- requests of S3 -----------------------------------------------------------------------

    def handler(self, handler: Handler) -> Handler:
        """`handler`, with a trace begun for each request; `done` ends it."""

        async def handle(request: Request) -> Response:
            span = self._tracer.start_span("S3", kind=self._trace.SpanKind.SERVER)
            token = self._context.attach(
                self._trace.set_span_in_context(span, self._context.Context())
            )
            request.trace = _Begun(span, token)
            return await handler(request)

        return handle

    def done(self, request: Request, status: int, received: int, sent: int, _: float) -> None:
        """Ends the trace of `request`: a `Done` of httpd, called in the task that handled it."""
        begun = request.trace
        if not isinstance(begun, _Begun):
            return  # it was cut before it was handled
        bucket, key = request.names
        begun.span.update_name(f"S3 {request.operation or 'Unrouted'}")
        begun.span.set_attributes(
            {
                "http.request.method": request.method,
                "http.response.status_code": status,
                "http.request.size": received,
                "http.response.size": sent,
                "aws.request_id": request.id,
                "aws.s3.bucket": bucket,
                "aws.s3.key": key,
            }
        )
        if status >= 500:
            begun.span.set_status(self._trace.StatusCode.ERROR)
        begun.span.end(time.time_ns())
        self._context.detach(begun.token)
