"""What watches a process asks here: metrics and health, over plain HTTP on a port of its own.

    GET /metrics        Prometheus' text format
    GET /health/live    200: the process answers
    GET /health/ready   200 or 503: it can serve requests; with `?writes`, also writes

Nothing is signed here, so the listener is off unless `metrics_port` is given, and then listens on
127.0.0.1 unless `metrics_host` says otherwise. On the port of S3, where names of buckets are
free for clients to choose, the same is below `/-/`, which can be none; health for everybody,
metrics for the account of the first credential.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from predastore.base import metrics
from predastore.httpd.bounds import Bounds
from predastore.httpd.message import Request, Response
from predastore.httpd.server import Server
from predastore.s3.server import asks_for_writes

_PLAIN: Final = ("Content-Type", "text/plain; charset=utf-8")


def server(
    host: str,
    port: int,
    is_ready: Callable[[], bool],
    write_obstacle: Callable[[], Awaitable[str]],
    bounds: Bounds | None = None,
) -> Server:
    """The listener, not yet started. `write_obstacle`: why nothing could be written now, or ""."""

    async def handle(request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response(405, [_PLAIN, ("Allow", "GET, HEAD")], b"use GET\n")
        if request.raw_path == b"/metrics":
            text = await metrics.text()
            return Response(200, [("Content-Type", metrics.CONTENT_TYPE)], text.encode())
        if request.raw_path == b"/health/live":
            return Response(200, [_PLAIN], b"ok\n")
        if request.raw_path == b"/health/ready":
            said = "" if is_ready() else "not ready"
            if not said and asks_for_writes(request.raw_query):
                said = await write_obstacle()
            return Response(503 if said else 200, [_PLAIN], f"{said or 'ok'}\n".encode())
        return Response(404, [_PLAIN], b"there are /metrics, /health/live and /health/ready\n")

    return Server(handle, host=host, port=port, bounds=bounds)
