"""A server on a real socket, and a client that sends exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from predastore.httpd.message import Handler, Request, Response
from predastore.httpd.server import Server


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    informational: list[int] = field(default_factory=list)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self, *, to_head: bool = False) -> Reply:
        """The next response; IncompleteReadError where the connection ends in it."""
        informational = []
        while True:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *fields = head.split("\r\n")[:-2]
            version, status, _ = line.split(" ", 2)
            assert version == "HTTP/1.1"
            if status != "100":
                break
            informational.append(100)
        headers = {n.lower(): v for n, _, v in (f.partition(": ") for f in fields)}
        assert len(headers) == len(fields), "a header is repeated"
        body = b""
        if not to_head and status not in ("204", "304"):
            body = await self._body(headers)
        return Reply(int(status), headers, body, informational)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
            return body
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()

    async def exchange(self, data: bytes, *, to_head: bool = False) -> Reply:
        self.send(data)
        return await self.reply(to_head=to_head)

    async def closed(self) -> bytes:
        """What comes until the server closes (or resets) the connection."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Harness:
    """`seen`: the requests that reached the handler, with their bodies where `echo` read them."""

    def __init__(self) -> None:
        self.seen: list[tuple[Request, bytes]] = []
        self.server: Server
        self._clients: list[Client] = []

    async def echo(self, request: Request) -> Response:
        body = await request.body.read(1 << 30)
        self.seen.append((request, body))
        return Response(200, [("X-Path", request.raw_path.decode("latin-1"))], body)

    async def ignore(self, request: Request) -> Response:
        """Answers without a look at the body."""
        self.seen.append((request, b""))
        return Response(200, [], b"ignored")

    async def connect(self, **options: Any) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.server.port, **options))
        self._clients.append(client)
        return client

    def run(
        self,
        scenario: Callable[[], Awaitable[None]],
        handler: Handler | None = None,
        **options: Any,
    ) -> None:
        """Runs `scenario` against a server on `handler` (default: `echo`)."""

        async def main() -> None:
            self.server = Server(handler or self.echo, host="127.0.0.1", port=0, **options)
            await self.server.start()
            try:
                async with asyncio.timeout(30):
                    await scenario()
            finally:
                async with asyncio.timeout(10):
                    for client in self._clients:
                        await client.close()
                    await self.server.close()

        uvloop.run(main())


@pytest.fixture
def http() -> Harness:
    return Harness()
