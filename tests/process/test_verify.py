"""What operators read of objects: a report even where it ends early, and names that can not act on
their terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest

from predastore._fast.crc import crc32c
from predastore.base.config import Config
from predastore.base.errors import ConfigError, NoLeader
from predastore.catalog import keys
from predastore.catalog.keys import OBJECTS
from predastore.catalog.procedures.arguments import done
from predastore.catalog.procedures.questions import FindObject, FoundObject
from predastore.catalog.rows import Detail, Kind, PlacementRow, Summary, VersionRow
from predastore.process import cli
from predastore.process.commands import cluster, object, remote, verify
from predastore.process.commands.remote import Remote
from predastore.s3db.commands import Page
from predastore.storage.extents import MISSING, ShardExtent
from predastore.storage.formats import encode, pack, unpack

EVIL = "a\x1b]0;pwned\x07\n0 wrong\x1b[2J\u202eX"
SHOWN = '"s3://shelf/a\\x1b]0;pwned\\x07\\x0a0 wrong\\x1b[2J\\x202eX"'


ID = keys.version_id(5, bytes(8), is_null=False)


def layout_of(key: str) -> bytes:
    return keys.layout("shelf", key, bytes(16))


def lost(key: str) -> bytes:
    """The placement of an object that no node has a shard of."""
    extent = ShardExtent(bytes(32), bytes(16), 2, 1, 65536, 10, (MISSING,) * 3)
    return encode(PlacementRow("shelf", key, (extent,)))


def version_of(key: str, *, is_marker: bool) -> bytes:
    row = VersionRow(
        random=bytes(8),
        is_null=False,
        is_marker=is_marker,
        kind=Kind.PLACED,
        layout=layout_of(key),
        summary=Summary(10, "0-1", 0, "me"),
        detail=msgspec.Raw(pack(Detail(""))),
    )
    return encode(row)


class State:
    """Lists the given objects in one page; `cut`: there are more, which can not be had."""

    def __init__(self, *names: str, cut: bool = False) -> None:
        self._stored = {layout_of(key): lost(key) for key in names}
        self._cut = cut

    async def ask(self, question: str, arguments: bytes) -> bytes:
        asked = unpack(FindObject, arguments)
        assert question == "object.find"
        placement = self._stored.get(layout_of(asked.key), b"")
        if not placement or asked.version not in (None, bytes.fromhex(ID)):
            return done(FoundObject(b"a bucket"))
        version = version_of(asked.key, is_marker=asked.key == "gone")
        return done(FoundObject(b"a bucket", version, 5, True, placement))

    async def list(self, table: str, prefix: bytes, by: bytes, after: bytes, limit: int) -> Page:
        if after:
            for _ in range(20):  # what was listed is looked at meanwhile
                await asyncio.sleep(0)
            raise NoLeader("no leader answers")
        entries = list(self._stored.items()) if table == OBJECTS else []
        return Page(entries, [], self._cut and table == OBJECTS, b"next")

    async def get(self, table: str, key: bytes) -> bytes | None:
        return self._stored.get(key)


class Inline(State):
    """Bodies in the metadata."""

    def __init__(self, *bodies: bytes) -> None:
        super().__init__()
        self._bodies = bodies

    async def list(self, table: str, prefix: bytes, by: bytes, after: bytes, limit: int) -> Page:
        number = int(after or b"0")
        if table != keys.INLINE:
            return Page([], [], False, b"")
        entry = (b"%032d" % number, crc32c(b"good").to_bytes(4, "big") + self._bodies[number])
        return Page([entry], [], number + 1 < len(self._bodies), b"%d" % (number + 1))


class To:
    """As much of a Remote as these commands ask."""

    def __init__(self, state: State) -> None:
        self.state = state

    def row(self, node: int) -> None:
        return None


def verified(state: State, *, as_json: bool = False) -> int:
    return asyncio.run(verify.run(cast(Remote, To(state)), as_json))


def test_what_was_read_before_the_metadata_was_gone_is_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(NoLeader, match="no leader answers"):
        verified(State("k", cut=True))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("UNREADABLE s3://shelf/k: ")
    assert lines[1].startswith("1 objects, ")
    assert lines[2].startswith("NOT COMPLETE: ")
    with pytest.raises(NoLeader):
        verified(State("k", cut=True), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["complete"], found["objects"], found["unreadable"]) == (False, 1, 1)


def test_a_report_of_all_says_no_such_thing(capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(State("k")) == 1
    assert "NOT COMPLETE" not in capsys.readouterr().out
    assert verified(State()) == 0
    capsys.readouterr()
    assert verified(State(), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["complete"]


def test_a_body_in_the_metadata_is_compared_with_its_crc(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert verified(Inline(b"good", b"good")) == 0
    assert capsys.readouterr().out.startswith("2 objects, ")
    assert verified(Inline(b"good", b"goof", b"good"), as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["objects"], found["wrong"], found["data_bytes"]) == (3, 1, 12)
    assert found["listed"] == [
        f"WRONG layout {(b'%032d' % 1).hex()} in the metadata: its CRC differs"
    ]


@pytest.mark.parametrize(
    ("key", "version_id", "said"),
    [
        ("other", "", "there is no such object"),
        ("k", "null", "there is no such version null"),
        ("k", "x" * 32, "no version ever has the id"),
        ("gone", "", "the object is a delete marker, which has no bytes"),
    ],
)
def test_what_is_not_there_is_not_located(key: str, version_id: str, said: str) -> None:
    to = cast(Remote, To(State("k", "gone")))
    with pytest.raises(ConfigError, match=said):
        asyncio.run(object._locate(to, "shelf", key, version_id, as_json=True))


def test_a_version_is_located_by_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    to = cast(Remote, To(State("k")))
    assert asyncio.run(object._locate(to, "shelf", "k", ID, as_json=True)) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["version_id"], found["layout"]) == (ID, layout_of("k").hex())
    assert [row["health"] for row in found["shards"]] == ["MISSING"] * 3


def test_a_key_is_shown_without_what_terminals_obey(capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(State(EVIL)) == 1
    assert capsys.readouterr().out.startswith(f"UNREADABLE {SHOWN}: ")
    to = cast(Remote, To(State(EVIL)))
    assert asyncio.run(object._locate(to, "shelf", EVIL, "", as_json=False)) == 1
    assert capsys.readouterr().out.startswith(f"{SHOWN}: 10 bytes, ")


def interrupted(monkeypatch: pytest.MonkeyPatch, *, in_a_terminal: bool) -> int:
    """`s3d cluster status`, at whose first look Ctrl-C is pressed."""

    @contextlib.asynccontextmanager
    async def connected(_: Config) -> AsyncIterator[Any]:
        yield To(State())

    async def look(_: Remote) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        raise AssertionError("it went on")

    monkeypatch.setattr(remote, "connected", connected)
    monkeypatch.setattr(cluster, "look", look)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: in_a_terminal)
    # Whoever begins this in the background may have had SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return cli.main(["cluster", "status"])
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("in_a_terminal", "code"), [(True, 1), (False, 130)])
def test_ctrl_c_ends_a_status_quietly(
    in_a_terminal: bool,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert interrupted(monkeypatch, in_a_terminal=in_a_terminal) == code
    assert capsys.readouterr() == ("", "")
