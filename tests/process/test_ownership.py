"""Recovery by root: nothing is written that the owner of a directory could not open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from predastore.base.errors import NotPermitted
from predastore.process import cli
from predastore.process.commands import ownership

FILE = """
backend = "distributed"
[[nodes]]
id = 1
host = "127.0.0.1"
port = 9991
[[db]]
id = 1
host = "127.0.0.1"
port = 6660
[rs]
data = 1
parity = 0
"""
NAMED, NAMELESS = 65534, 54321  # nobody, and a user that is in no passwd


@pytest.fixture(autouse=True)
def _as_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text(FILE)
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def of_somebody_else(path: Path, uid: int = NAMED) -> Path:
    """Any user but root will do: where root does not run the tests, it is who does."""
    path.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        os.chown(path, uid, -1)
    return path


def test_a_directory_of_somebody_else_is_refused_with_what_to_run(tmp_path: Path) -> None:
    theirs = of_somebody_else(tmp_path / "theirs")
    for directory in (theirs, theirs / "db" / "1"):
        with pytest.raises(NotPermitted) as caught:
            ownership.check("db restore", tmp_path / "data", [directory])
        assert str(caught.value).startswith(f"{theirs} belongs to ")
        assert "runuser -u " in str(caught.value)
        assert str(caught.value).endswith(" -- s3d db restore ...")
    assert list(theirs.iterdir()) == []


def test_the_base_path_tells_whose_a_directory_will_be(tmp_path: Path) -> None:
    base = of_somebody_else(tmp_path / "data")
    with pytest.raises(NotPermitted, match=f"^{base} belongs to"):
        ownership.check("db restore", base, [tmp_path / "fast" / "db"])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_an_owner_without_a_name_has_a_number(tmp_path: Path) -> None:
    theirs = of_somebody_else(tmp_path / "theirs", NAMELESS)
    with pytest.raises(NotPermitted, match=f"the user {NAMELESS}, .*setpriv --reuid={NAMELESS} "):
        ownership.check("x", tmp_path, [theirs])


@pytest.mark.skipif(os.getuid() != 0, reason="only root owns what root's tests make")
def test_what_is_all_of_root_is_used(tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    ownership.check("x", tmp_path / "data", [tmp_path / "node", tmp_path / "new" / "db"])


def test_others_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ownership.check("x", tmp_path, [of_somebody_else(tmp_path / "theirs")])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ("nodes/node-1/node.id", "nodes/node-1"),
        ("db/db-1/raft/member.id", "db/db-1"),
        ("db/db-1/.lock", "db/db-1"),
        (".lock", "db/db-1"),
        ("credentials.json", "nodes/node-2"),
    ],
)
def test_whose_server_it_is_is_told_by_the_files_that_it_made(
    made: str, asked: str, tmp_path: Path
) -> None:
    base = of_somebody_else(tmp_path / "data")  # a folder of a container's host
    file = base / made
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    ownership.check("x", base, [base / asked])
    os.chown(file, NAMED, -1)
    os.chown(base, 0, -1)
    with pytest.raises(NotPermitted, match=f"^{file} belongs to"):
        ownership.check("x", base, [base / asked])


@pytest.mark.parametrize(
    "line", [("node", "rebuild-index", "1"), ("db", "restore", "c.toml"), ("db", "check")]
)
def test_the_commands_ask_before_they_touch_anything(
    line: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = (Path("data/nodes/node-1"), Path("data/db/db-1"))
    for place in places:
        of_somebody_else(place)
    assert cli.main([*line, "-config", "c.toml"]) == 77
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].endswith(f"-- s3d {line[0]} {line[1]} ...")
    assert [list(place.iterdir()) for place in places] == [[], []]
