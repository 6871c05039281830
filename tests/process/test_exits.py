"""Exit codes: each error of a start leads to one, and the table says which."""

from __future__ import annotations

import errno

import pytest

from predastore import cli, commands
from predastore.errors import (
    ConfigError,
    CorruptData,
    InUse,
    NoRoom,
    NotPermitted,
    PredastoreError,
    StartupError,
)


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
    ],
)
def test_an_error_is_lines_and_an_exit_code(
    error: PredastoreError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing(*_: object) -> int:
        raise error

    monkeypatch.setattr(commands, "find", lambda _: commands.Command("x", "", failing))
    assert cli.main(["x"]) == code
    said = capsys.readouterr().err.splitlines()
    assert said == (["s3d: one", "s3d: two"] if code == 2 else ["s3d: text"])
