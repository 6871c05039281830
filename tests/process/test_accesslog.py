"""The access log: a line for each request, no secret in any, and never without a bound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from predastore import accesslog
from predastore.accesslog import AccessLog, query_without_secrets
from predastore.config import Config
from predastore.errors import StartupError
from predastore.httpd.message import BytesBody, Headers, Request
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
