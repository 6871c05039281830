"""Exit codes: each error of a start leads to one, and the table says which."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl

import pytest

from predastore.base.errors import (
    ConfigError,
    CorruptData,
    InUse,
    NoLeader,
    NoRoom,
    NotPermitted,
    PeerUnreachable,
    PredastoreError,
    RemoteFailure,
    StartupError,
)
from predastore.process import cli, commands, host


def ended_by(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command that raises `error`."""

    def failing(*_: object) -> int:
        raise error

    monkeypatch.setattr(commands, "find", lambda _: commands.Command("x", "", failing))
    return cli.main(["x"])


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EADDRINUSE, InUse),
        (errno.EACCES, NotPermitted),
        (errno.EROFS, NotPermitted),
        (errno.ENOSPC, NoRoom),
        (errno.EIO, StartupError),
    ],
)
def test_the_errno_picks_the_kind(number: int, kind: type[StartupError]) -> None:
    made = StartupError.because(OSError(number, "no"), "what to do")
    assert type(made) is kind
    assert str(made) == "what to do"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(["one", "two"]), 2),
        (InUse("text"), 69),
        (NoRoom("text"), 73),
        (NotPermitted("text"), 77),
        (StartupError("text"), 1),
        (CorruptData("text"), 1),
        (PeerUnreachable("text"), 75),
        (NoLeader("text"), 75),
        (RemoteFailure("text"), 1),
    ],
)
def test_an_error_is_lines_and_an_exit_code(
    error: PredastoreError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended_by(error, monkeypatch) == code
    said = capsys.readouterr().err.splitlines()
    assert said == (["s3d: one", "s3d: two"] if code == 2 else ["s3d: text"])


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, 73), (errno.EACCES, 77), (errno.EIO, 1), (errno.ENOENT, 1)]
)
def test_what_the_system_refuses_is_a_line_too(
    number: int,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended_by(OSError(number, os.strerror(number), "a/file"), monkeypatch) == code
    assert capsys.readouterr().err == f"s3d: a/file: {os.strerror(number)}\n"
    assert ended_by(OSError(number, os.strerror(number)), monkeypatch) == code
    assert capsys.readouterr().err == f"s3d: {os.strerror(number)}\n"


@pytest.mark.parametrize(
    "error",
    [ssl.SSLError(1, "no"), socket.gaierror(1, "no"), socket.herror(1, "no"), OSError(0, "no")],
)
def test_the_codes_of_libraries_are_not_those_of_the_system(error: OSError) -> None:
    assert type(StartupError.because(error, "what to do")) is StartupError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), "TimeoutError"),
        (ConnectionResetError(), "ConnectionResetError"),
        (OSError("text"), "text"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    ],
)
def test_it_never_says_nothing(
    error: OSError,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended_by(error, monkeypatch) == 1
    assert capsys.readouterr().err == f"s3d: {text}\n"


def test_what_ends_the_server_unforeseen_is_logged_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = OSError(errno.EIO, "bad")

    def failing(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr(host, "run", failing)
    assert cli.main([]) == 1
    assert "s3d: bad\n" in capsys.readouterr().err
    [record] = [each for each in caplog.records if each.name == "predastore.process.cli"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_ctrl_c_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended_by(KeyboardInterrupt(), monkeypatch) == 130
    assert capsys.readouterr() == ("", "")
