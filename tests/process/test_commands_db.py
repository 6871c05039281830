"""`s3d db`: its usage, whom it asks, and the table that it prints."""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from predastore.auth.sigv4 import Credential
from predastore.base.config import Config
from predastore.base.errors import PeerRefused, PeerUnreachable
from predastore.process import certificates, cli, commands, daemon
from predastore.process.commands import db as commands_db
from predastore.s3db import backup, clock
from predastore.s3db import commands as s3db_commands
from predastore.s3db.api import Api
from predastore.s3db.store import Store

FILE = """
backend = "distributed"
[[auth]]
access_key_id = "SHARED"
secret_access_key = "shared secret"
[[db]]
id = 1
host = "192.0.2.1"
port = 6660
[[db]]
id = 2
host = "127.0.0.1"
port = 6660
access_key_id = "OWN"
secret_access_key = "own secret"
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text(FILE)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[commands_db.DbRequest]:
    """What the command line comes to, in place of doing it."""
    requests: list[commands_db.DbRequest] = []

    def run(settings: Config, request: commands_db.DbRequest) -> int:
        assert settings.db
        requests.append(request)
        return 0

    monkeypatch.setattr(commands_db, "run", run)
    return requests


@pytest.mark.parametrize("dashes", ["-", "--"])
def test_flags_stand_anywhere_and_have_one_dash_or_two(
    asked: list[commands_db.DbRequest], dashes: str
) -> None:
    wanted = commands_db.DbRequest("backup", "b.s3db", ca=Path("ca.pem"), db_node=2)
    flags = [f"{dashes}config", "c.toml", f"{dashes}db-node", "2", f"{dashes}ca", "ca.pem"]
    for line in (
        ["backup", "b.s3db", *flags],
        [*flags, "backup", "b.s3db"],
        ["backup", *flags, "b.s3db"],
    ):
        assert cli.main(["db", *line]) == 0
        assert asked.pop() == wanted
    assert cli.main(["db", "status", f"{dashes}json", f"{dashes}digest", *flags[:2]]) == 0
    assert asked == [commands_db.DbRequest("status", as_json=True, digest=True)]


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["nonsense"],
        ["backup"],
        ["status", "argument"],
        ["remove-member"],
        ["backup", "a", "b"],
        ["status", "--nonsense"],
    ],
)
def test_wrong_usage_exits_2(
    asked: list[commands_db.DbRequest], line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["db", *line])
    assert stop.value.code == 2
    assert "s3d db" in capsys.readouterr().err
    assert asked == []


@pytest.mark.parametrize("flag", ["-h", "-help", "--help"])
def test_help_names_every_command(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["db", flag])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for command in commands.OPERATIONS["db"]:
        assert f"{command.name} {command.argument}".strip() in text


def test_the_local_member_is_asked_first_each_with_its_credentials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[tuple[str, str]] = []

    def get(api: Api, path: str, query: str = "") -> dict[str, Any]:
        tried.append((api.host, api.credential.access_key_id))
        raise PeerUnreachable(f"{api.host}: nobody there")

    monkeypatch.setattr(Api, "get", get)
    assert cli.main(["db", "status", "-config", "c.toml"]) == 75
    assert tried == [("127.0.0.1", "OWN"), ("192.0.2.1", "SHARED")]
    assert "192.0.2.1: nobody there" in capsys.readouterr().err
    tried.clear()
    assert cli.main(["db", "status", "-config", "c.toml", "-db-node", "1"]) == 75
    assert tried == [("192.0.2.1", "SHARED")]


def test_a_member_that_can_not_be_verified_is_not_to_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def get(api: Api, path: str, query: str = "") -> dict[str, Any]:
        kind = PeerRefused if api.host == "127.0.0.1" else PeerUnreachable
        raise kind(f"{api.host}: no")

    monkeypatch.setattr(Api, "get", get)
    assert cli.main(["db", "status", "-config", "c.toml"]) == 1
    assert capsys.readouterr().err.splitlines()[1:] == ["  127.0.0.1: no", "  192.0.2.1: no"]


def test_a_certificate_of_another_authority_is_a_refusal(tmp_path: Path) -> None:
    server = certificates.context(certificates.ensure(tmp_path / "tls", ["127.0.0.1"]))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError), listener.accept()[0] as accepted:
                server.wrap_socket(accepted, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        api = Api("127.0.0.1", port, Credential("K", "s", "0"), "r", ssl.create_default_context())
        with pytest.raises(PeerRefused, match=r"can not be verified .*-ca"):
            api.get("/status")
        thread.join()


def test_a_failure_without_a_text_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def request(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(http.client.HTTPSConnection, "request", request)
    api = Api("127.0.0.1", 1, Credential("K", "s", "0"), "r", ssl.create_default_context())
    with pytest.raises(PeerUnreachable, match=r"^127\.0\.0\.1 port 1: TimeoutError$"):
        api.get("/status")


def test_without_credentials_it_says_where_they_should_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["db", "status", "-base-path", "nowhere"]) == 2
    assert "nowhere/credentials.json" in capsys.readouterr().err
    assert not Path("nowhere").exists()  # and none are made


def test_an_id_must_be_a_number_and_a_backup_overwrites_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["db", "remove-member", "two", "-config", "c.toml"]) == 2
    assert 'got "two"' in capsys.readouterr().err
    assert cli.main(["db", "backup", "c.toml", "-config", "c.toml"]) == 2
    assert "c.toml is there already" in capsys.readouterr().err
    assert Path("c.toml").read_text() == FILE


def refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of a command that can not be done, and the one line that it says."""
    code = cli.main(line)
    [told] = capsys.readouterr().err.splitlines()
    return code, told


def test_a_backup_without_a_directory_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = refused(["db", "backup", "no/such/x", "-config", "c.toml"], capsys)
    assert code == 1
    assert told.startswith("s3d: backup: no/such/x can not be written (No such file or directory)")


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 73), (errno.EACCES, 77)])
def test_a_backup_that_the_disk_refuses_is_a_line(
    number: int,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def receive(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(backup, "receive", receive)
    found, told = refused(["db", "backup", "x.s3db", "-config", "c.toml"], capsys)
    assert found == code
    assert told.startswith(f"s3d: backup: x.s3db can not be written ({os.strerror(number)}); name ")


@pytest.mark.parametrize("file", ["none.s3db", "c.toml"])
def test_a_restore_of_no_backup_touches_nothing(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["db", "restore", file, "-config", "c.toml", "-db-node", "2"]
    code, told = refused(line, capsys)
    assert code == 1
    assert file in told
    assert [found.name for found in Path().iterdir()] == ["c.toml"]


def test_a_restore_that_the_disk_refuses_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def restore(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(backup, "restore", restore)
    line = ["db", "restore", "x", "-config", "c.toml", "-db-node", "2"]
    code, told = refused(line, capsys)
    assert code == 73
    assert told.startswith("s3d: restore: data/db/db-2 can not be written (No space left on")


def test_credentials_that_may_not_be_read_are_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exists(path: Path) -> bool:
        if path.parts[0] == "d":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return os.path.exists(path)

    monkeypatch.setattr(Path, "exists", exists)
    code, told = refused(["db", "status", "-base-path", "d"], capsys)
    assert code == 77
    assert told.startswith("s3d: d/credentials.json can not be read (Permission denied); run it as")


def said(member: int, role: str, last: int, **more: Any) -> dict[str, Any]:
    return {
        "id": member,
        "role": role,
        "term": 3,
        "last_index": last,
        "commit_index": last,
        "applied_index": last,
        "journal_bytes": 3 << 20,
        "failed": None,
        "store": {"file_bytes": 1 << 19},
        **more,
    }


def test_the_table_has_a_line_for_each_member_with_its_lag() -> None:
    members = {
        "1": said(1, "follower", 90, disk_free_bytes=100 << 20),
        "2": said(2, "leader", 100, digest="abcd", digest_index=100),
        "10": said(10, "follower", 40),
        "3": {"id": 3, "error": "db/3: no answer in time"},
    }
    found = {**members["1"], "leader": 2, "learners": [10], "members": members}
    assert commands_db.table(json.loads(json.dumps(found))) == [
        "member  role       term  last  commit  applied  lag  journal  store",
        "1       follower   3     90    90      90       10   3.0 MiB  0.5 MiB",
        "2       leader     3     100   100     100      0    3.0 MiB  0.5 MiB",
        "3       no answer  -     -     -       -        -    -        -",
        "10      learner    3     40    40      40       60   3.0 MiB  0.5 MiB",
        "1: its disk is nearly full (100 MiB): make room",
        "2: digest abcd as of entry 100",
        "3: db/3: no answer in time",
    ]
    found["levels"] = {"1": 2, "2": 2, "3": 1, "10": 2}
    (behind,) = [line for line in commands_db.table(found) if "level" in line]
    assert behind.startswith("3: its program has level 1, that of others 2: install theirs")
    found["leader"] = None
    assert "no leader is known" in commands_db.table(found)[-1]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"leader": 1, "members": {"1": {"id": 1}, "2": {"id": 2, "failed": None}}}, 0),
        ({"leader": 1, "members": {"1": {"id": 1}, "2": {"id": 2, "error": "no answer"}}}, 1),
        ({"leader": 1, "members": {"1": {"id": 1}, "2": {"id": 2, "failed": "its disk"}}}, 1),
        ({"leader": None, "members": {"1": {"id": 1}, "2": {"id": 2}}}, 1),
    ],
)
def test_status_tells_by_its_exit_code_that_a_member_is_down(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: dict[str, Any],
    code: int,
) -> None:
    monkeypatch.setattr(Api, "get", lambda self, path, query="": found)
    for flags in ((), ("--digest",)):
        line = ["db", "status", "--json", *flags, "-config", "c.toml"]
        assert cli.main(line) == code
        assert json.loads(capsys.readouterr().out) == found


NOON = 1_790_000_000_000  # 2026-09-21T14:13:20Z


def timed(ahead_ms: int, **more: Any) -> dict[str, Any]:
    return {"cluster_ms": NOON, "wall_ms": NOON + ahead_ms, "warning": None, **more}


def test_the_table_tells_cluster_time_and_whose_clock_is_away() -> None:
    members = {
        "1": said(1, "leader", 9, time=timed(-200)),
        "2": said(2, "follower", 9, time=timed(10**7, warning="the wall clock here is ...")),
        "3": {"id": 3, "error": "no answer"},
    }
    found = {**members["1"], "leader": 1, "learners": [], "members": members}
    lines = commands_db.table(found)
    told = "cluster time: 2026-09-21T14:13:20Z; the leader's clock is 0.2 s behind"
    assert told in lines
    assert "2: the wall clock here is ..." in lines


@pytest.mark.parametrize("ahead_s", [4_000, -4_000])
def test_setting_the_time_says_what_it_would_do_until_it_is_confirmed(
    ahead_s: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    posted: list[tuple[str, dict[str, Any]]] = []

    def get(api: Api, path: str, query: str = "") -> dict[str, Any]:
        return {"leader": 1, "members": {"1": {"time": timed(ahead_s * 1000)}}}

    def post(api: Api, path: str, content: dict[str, Any]) -> dict[str, Any]:
        posted.append((path, content))
        return {"before_ms": NOON, "after_ms": NOON + ahead_s * 1000}

    monkeypatch.setattr(Api, "get", get)
    monkeypatch.setattr(Api, "post", post)
    command = ["db", "set-time", "-config", "c.toml"]
    assert cli.main(command) == 1
    told = capsys.readouterr().out
    assert posted == []
    assert f"it is 4000.0 s {'ahead' if ahead_s > 0 else 'behind'}" in told
    flags = ["--confirm"] if ahead_s > 0 else ["--confirm", "--backwards"]
    assert told.endswith(f"then: s3d db set-time {' '.join(flags)}\n")
    assert cli.main([*command, *flags]) == 0
    assert posted == [("/v1/set-time", {"confirm": True, "backwards": ahead_s < 0})]
    assert "done: cluster time was 2026-09-21T14:13:20Z, is 2026-09-21T1" in capsys.readouterr().out


def test_the_time_of_a_filesystem_backend_is_set_in_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    command = ["db", "set-time", "--filesystem", "-base-path", str(base)]
    assert cli.main(command) == 2
    assert "holds no state" in capsys.readouterr().err
    now_ms = clock.system().wall_ms()

    def state() -> Store:
        return Store(base / ".predastore" / "state", durable=True)

    store = state()
    at = clock.Moment(b"another boot", 0)
    for name, time_ms in ((clock.TICK, now_ms - 7_200_000), (clock.TICK, 0)):
        tick = s3db_commands.call(name, clock.pack(clock.Tick(0, time_ms, at)))
        store.apply([(store.applied_index + 1, s3db_commands.encode(tick))])
    store.close()
    assert cli.main(command) == 1
    assert "it is 7200." in capsys.readouterr().out
    with daemon.held(base):
        assert cli.main([*command, "--confirm"]) == 69
    assert cli.main([*command, "--confirm"]) == 0
    store = state()
    assert abs(store.time.time_ms - now_ms) < 60_000
    store.close()

    monkeypatch.setattr(time, "time_ns", lambda: (now_ms - 3_600_000) * 1_000_000)
    assert cli.main([*command, "--confirm"]) == 1
    assert "add --backwards" in capsys.readouterr().err
    assert cli.main([*command, "--confirm", "--backwards"]) == 0
    store = state()
    assert store.time.time_ms == now_ms - 3_600_000
    store.close()
