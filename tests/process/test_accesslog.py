"""The access log: a line for each request, no secret in any, and never without a bound."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from predastore.base.config import Config
from predastore.base.errors import NotPermitted, StartupError
from predastore.base.limits import ACCESS_LOG_TEXT_CHARACTERS_MAX
from predastore.httpd.message import BytesBody, Headers, Request, Response
from predastore.httpd.server import Server
from predastore.process import accesslog
from predastore.process.accesslog import AccessLog, query_without_secrets
from support.loops import on_a_loop

REQUEST = Request(
    "GET",
    b"/b/a%20b",
    b"versionId=null&X-Amz-Signature=feed&X-Amz-Expires=60",
    Headers.of([("User-Agent", 'tool "1"')]),
    BytesBody(),
    remote="192.0.2.7",
    id="0123456789ABCDEF",
    operation="GetObject",
    account="42",
    names=("b", "a b"),
)


@on_a_loop
async def test_a_line_tells_what_was_asked_and_answered(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    log.note(REQUEST, 200, 300, 4000, 0.25)
    await log.close()
    line = (tmp_path / "log").read_text()
    assert line.endswith("\n")
    stamp, rest = line.rstrip("\n").split(" ", 1)
    assert stamp.startswith("time=20")
    assert rest == (
        "id=0123456789ABCDEF remote=192.0.2.7 account=42 operation=GetObject method=GET bucket=b "
        'key="a b" query="versionId=null&X-Amz-Expires=60" status=200 received=300 sent=4000 '
        'seconds=0.250000 agent="tool \\"1\\""'
    )


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"", ""),
        (b"list-type=2&prefix=a%26b", "list-type=2&prefix=a%26b"),
        (b"X-Amz-Signature=s&x=1&X-Amz-Credential=K/2&X-Amz-Security-Token=t", "x=1"),
        (b"x-amz-signature=s&AWSAccessKeyId=K&Signature=s&Expires=9", "Expires=9"),
        (b"X%2dAmz%2DSignature=s&a", "a"),
    ],
)
def test_what_signs_a_query_is_left_away(query: bytes, shown: str) -> None:
    assert query_without_secrets(query) == shown


@pytest.mark.parametrize(
    "query", [b"&" * 16_000, b"a=&" * 5_000, b"%41=b&" * 2_600, b"%53ignature&" * 1_300]
)
def test_of_a_long_query_only_the_beginning_is_looked_at(
    query: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    real = accesslog._is_secret
    monkeypatch.setattr(
        accesslog, "_is_secret", lambda name: (looked_at.append(name), real(name))[1]
    )
    shown = query_without_secrets(query)
    assert len(looked_at) <= 2 * ACCESS_LOG_TEXT_CHARACTERS_MAX + 1
    assert sum(map(len, looked_at)) <= 3 * ACCESS_LOG_TEXT_CHARACTERS_MAX
    assert query.decode().startswith(shown) or shown == ""


def test_only_a_name_with_encoded_characters_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    real = accesslog.unquote_plus
    monkeypatch.setattr(
        accesslog, "unquote_plus", lambda name: (decoded.append(name), real(name))[1]
    )
    encoded = "".join(f"%{ord(letter):02x}" for letter in "X-Amz-Security-Token")
    query = f"a=%41&Signature=s&%53ignature=s&{encoded}=s&" + "%41" * 5_000
    assert query_without_secrets(query.encode()).startswith("a=%41&%41%41")
    assert decoded == ["%53ignature", encoded]


def test_bytes_that_are_no_text_stay_on_their_line() -> None:
    assert "\n" not in query_without_secrets(b"a=\xff%0a")


@on_a_loop
async def test_what_can_not_wait_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accesslog, "ACCESS_LOG_WAITING_MAX", 3)
    log = AccessLog(str(tmp_path / "log"))
    before = accesslog._LOST.value
    for _ in range(5):
        log.note(REQUEST, 200, 1, 1, 0.1)
    await log.close()
    assert (tmp_path / "log").read_text().count("\n") == 3
    assert accesslog._LOST.value == before + 2


@on_a_loop
async def test_a_reload_opens_the_file_anew(tmp_path: Path) -> None:
    settings = replace(Config(), access_log=str(tmp_path / "log"))
    log = AccessLog(settings.access_log)
    log.note(REQUEST, 200, 1, 1, 0.1)
    log._flush()
    (tmp_path / "log").rename(tmp_path / "log.1")
    log.prepare(settings)()
    log.note(REQUEST, 404, 1, 1, 0.1)
    await log.close()
    assert "status=200" in (tmp_path / "log.1").read_text()
    assert "status=404" in (tmp_path / "log").read_text()


@on_a_loop
async def test_a_file_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no/log can not be written"):
        AccessLog(str(tmp_path / "no" / "log"))


@on_a_loop
async def test_a_file_that_may_not_be_written_is_told_from_others() -> None:
    with pytest.raises(NotPermitted, match="can not be written"):
        AccessLog("/sys/kernel/log")  # not even root may make one there


@on_a_loop
async def test_what_waits_is_short_whatever_a_client_sends(tmp_path: Path) -> None:
    signature = b"X-Amz-Signature=" + b"s" * 5_000
    endless = replace(
        REQUEST,
        names=("b" * 10_000, "k" * 10_000),
        raw_query=signature + b"&versionId=null&x=" + b"y" * 10_000,
        headers=Headers.of([("User-Agent", "a" * 60_000)]),
    )
    log = AccessLog(str(tmp_path / "log"))
    log.note(endless, 400, 1, 1, 0.1)
    [noted] = log._waiting
    texts = (*noted.names, noted.raw_query, noted.agent)
    assert [len(text) for text in texts] == [ACCESS_LOG_TEXT_CHARACTERS_MAX] * 4
    await log.close()
    line = (tmp_path / "log").read_text()
    assert 'query="versionId=null&x=yyy' in line
    assert "sss" not in line


def test_seconds_are_finer_than_the_clock_of_the_loop() -> None:
    seconds: list[float] = []

    async def handle(_: Request) -> Response:
        return Response(200, [], b"")

    async def ask_ten_times() -> None:
        server = Server(
            handle, host="127.0.0.1", port=0, on_done=lambda *done: seconds.append(done[-1])
        )
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(10):
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask_ten_times())
    assert len(seconds) == 10
    assert all(0 < each < 10 for each in seconds)
