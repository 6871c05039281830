"""What a reload takes in, what it leaves for the next start, and that it changes all or nothing."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from predastore.base import config
from predastore.base.config import S3, Auth, Bucket, Cluster, Config, Db, Node, Oidc, Policy, Rs
from predastore.base.config.changes import KEYS, changes
from predastore.base.errors import ConfigError, StartupError
from predastore.base.limits import RELOAD_NAMED_MAX
from predastore.process import authority, certificates, credentials, roles, tls
from predastore.process.discovery import Discovery, rows_of
from predastore.process.edited import EditedFile
from predastore.process.reload import Apply, Reloader, phrase
from predastore.process.tls import Tls
from predastore.process.wiring import Process
from predastore.rpc import Endpoint, self_signed
from predastore.storage.ring_table import NodeRow, RingTable
from support.loops import on_a_loop
from support.waiting import eventually_async

OLD = Config(log_level="info", auth=(Auth("A", "a"),))
NEW = replace(OLD, log_level="debug", auth=(Auth("B", "b"),))


class Part:
    """Something with a setting."""

    def __init__(self, read: Callable[[Config], object]) -> None:
        self._read = read
        self.value = read(OLD)

    def prepare(self, settings: Config) -> Apply:
        value = self._read(settings)

        def apply() -> None:
            self.value = value

        return apply


def refusing(_: Config) -> Apply:
    raise StartupError("the key is no key")


@on_a_loop
async def test_every_hook_takes_in_what_it_prepared() -> None:
    reloader, level, auth = Reloader(OLD), Part(lambda c: c.log_level), Part(lambda c: c.auth)
    reloader.add(("log_level",), level.prepare)
    reloader.add(("auth",), auth.prepare)
    assert await reloader.reload(lambda: NEW)
    assert (level.value, auth.value) == ("debug", NEW.auth)
    assert reloader.settings is NEW


@on_a_loop
async def test_one_refusal_leaves_everything_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    reloader, level = Reloader(OLD), Part(lambda c: c.log_level)
    reloader.add(("log_level",), level.prepare)
    reloader.add(("tls_cert",), refusing)
    assert not await reloader.reload(lambda: NEW)
    assert level.value == "info"
    assert reloader.settings is OLD
    assert [record.__dict__["problem"] for record in caplog.records] == ["the key is no key"]


@on_a_loop
async def test_each_mistake_of_a_file_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def reread() -> Config:
        raise ConfigError(["c.toml:1: no", "c.toml:2: no"])

    assert not await Reloader(OLD).reload(reread)
    assert [record.__dict__["problem"] for record in caplog.records] == [
        "c.toml:1: no",
        "c.toml:2: no",
    ]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


@on_a_loop
async def test_what_nobody_answers_for_waits_for_the_next_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    reloader = Reloader(OLD)
    reloader.add(("log_level",), Part(lambda c: c.log_level).prepare)
    assert await reloader.reload(lambda: replace(NEW, port=9000))
    assert caplog.records[-1].__dict__["keys"] == (
        "port 8443 -> 9000; [[auth]] A removed; [[auth]] B added"
    )
    assert caplog.records[-2].__dict__["changed"] == (
        "port 8443 -> 9000; log_level info -> debug; [[auth]] A removed; [[auth]] B added"
    )


@on_a_loop
async def test_what_was_changed_back_waits_no_more(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reloader = Reloader(OLD)
    reloader.add(("log_level",), Part(lambda c: c.log_level).prepare)
    changed = replace(OLD, port=9000)
    await reloader.reload(lambda: changed)
    await reloader.reload(lambda: replace(changed, log_level="debug"))
    # It still waits, though it did not change this time; and what was taken in does not.
    assert caplog.records[-1].__dict__["keys"] == "port 8443 -> 9000"
    assert caplog.records[-2].__dict__["changed"] == "log_level info -> debug"
    caplog.clear()
    await reloader.reload(lambda: replace(OLD, log_level="debug"))
    assert [one.getMessage() for one in caplog.records] == [
        "configuration reloaded",
        "nothing waits for the next start any more",
    ]
    caplog.clear()
    await reloader.reload(lambda: replace(OLD, log_level="debug"))
    [said] = caplog.records
    assert said.__dict__["changed"] == "nothing"


@on_a_loop
async def test_where_a_node_is_waits_though_its_weight_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node(1, "h", 1, Path("p"))
    reloader = Reloader(replace(OLD, nodes=(node,)))
    reloader.add(("nodes",), Part(lambda c: c.nodes).prepare)
    moved = replace(node, host="other", weight=2.0)
    await reloader.reload(lambda: replace(OLD, nodes=(moved, replace(node, id=2))))
    assert caplog.records[-1].__dict__["keys"] == "[[nodes]] 1 host h -> other"


def test_no_secret_is_shown() -> None:
    old = replace(OLD, cluster=Cluster(secret="old-secret"))
    new = replace(
        OLD,
        cluster=Cluster(secret="new-secret"),
        auth=(Auth("A", "new-key", policy=Policy()), Auth("B", "other-key")),
        db=(Db(1, "h", 1, 2, Path("p"), "A", "db-key"),),
    )
    found = changes(old, new)
    assert found == [
        "[cluster] secret",
        "[[db]] 1 added",
        "[[auth]] B added",
        "[[auth]] A secret_access_key",
        "[[auth]] A policy",
    ]


def test_every_setting_has_its_words() -> None:
    other = Config(
        **{
            "region": "r", "host": "h", "port": 1, "domains": ("d",), "base_path": Path("b"),
            "umask": "0027",
            "backend": "distributed", "log_level": "error", "tls": False, "tls_cert": Path("c"),
            "tls_key": Path("k"), "access_log": "-", "metrics_host": "m", "metrics_port": 2,
            "rs": Rs(1, 0, 4096, 1), "s3": S3("BucketOwnerEnforced", True),
            "cluster": Cluster("n", "s", (("j", 1),), 1.0),
            "db": (Db(1, "h", 1, 2, Path("p")),), "nodes": (Node(1, "h", 1, Path("p")),),
            "auth": (Auth("A", "S"),), "buckets": (Bucket("abc"),),
            "oidc": (Oidc("https://i", ("a",)),),
        }
    )  # fmt: skip
    told = " ".join(changes(Config(), other))
    for key in KEYS:
        assert key in told
    assert changes(other, other) == []


def test_a_long_list_of_changes_is_cut() -> None:
    new = replace(OLD, buckets=tuple(Bucket(f"bucket-{n}") for n in range(100)))
    told = phrase(changes(OLD, new))
    assert told.count("added") == RELOAD_NAMED_MAX
    assert told.endswith("; and 70 more")


@on_a_loop
async def test_an_edited_file_is_told_of_until_it_is_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "c.toml"
    file.write_text('log_level = "info"\n')
    reloader = Reloader(config.load(file))
    reloader.add(("log_level",), Part(lambda c: c.log_level).prepare)
    edited = EditedFile(lambda: config.load(file), lambda: reloader.settings)
    await edited.look()
    assert (edited.differs, caplog.records) == (False, [])
    file.write_text('log_level = "debug"\nport = 9000\n')
    await edited.look()
    await edited.look()
    [said] = caplog.records
    assert said.levelno == logging.WARNING
    assert said.__dict__["differs"] == "port 8443 -> 9000; log_level info -> debug"
    file.write_text("prot = 9000\n")
    await edited.look()
    assert "did you mean port?" in caplog.records[-1].__dict__["differs"]
    assert edited.differs
    file.write_text('log_level = "error"\n')
    await reloader.reload(lambda: config.load(file))
    await edited.look()
    assert not edited.differs
    assert caplog.records[-1].getMessage() == "the configuration is in force"
    file.unlink()
    await edited.look()
    assert "can not be read" in caplog.records[-1].__dict__["differs"]


@on_a_loop
async def test_without_a_file_nothing_was_edited() -> None:
    edited = EditedFile(lambda: NEW, lambda: OLD)
    await edited.look()
    assert not edited.differs


def test_credentials_are_replaced_as_a_whole() -> None:
    known = credentials.Known([Auth("A", "a"), Auth("B", "b")])
    known.replace([Auth("B", "other")])
    assert known.find("A") is None
    found = known.find("B")
    assert found is not None
    assert found.secret_access_key == "other"


async def _names_served(served: certificates.Served, ca: Path) -> set[str]:
    """The names in the certificate that a new connection is shown."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=served.context)
    port = server.sockets[0].getsockname()[1]
    context = ssl.create_default_context(cafile=str(ca))
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("peercert")
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return {name for _, name in shown["subjectAltName"]}


@on_a_loop
async def test_handshakes_after_a_replacement_see_the_new_certificate(tmp_path: Path) -> None:
    served = certificates.Served(certificates.ensure(tmp_path, ["127.0.0.1"]))
    assert await _names_served(served, tmp_path / "ca.pem") == {"127.0.0.1"}
    replace_now = served.prepared(certificates.ensure(tmp_path, ["127.0.0.1", "new.example"]))
    assert await _names_served(served, tmp_path / "ca.pem") == {"127.0.0.1"}
    replace_now()
    assert await _names_served(served, tmp_path / "ca.pem") == {"127.0.0.1", "new.example"}


def test_a_certificate_that_is_none_is_refused_beforehand(tmp_path: Path) -> None:
    served = certificates.Served(certificates.ensure(tmp_path, ["127.0.0.1"]))
    (tmp_path / "half.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(StartupError, match=r"half\.pem"):
        served.prepared(certificates.TlsFiles(tmp_path / "half.pem", tmp_path / "server.key", None))


def _cluster(secret: str, hosts: list[str]) -> Config:
    nodes = tuple(Node(n, host, 9991, Path(f"n{n}")) for n, host in enumerate(hosts, 1))
    members = (Db(1, hosts[0], 6660, 7660, Path("db")),)
    return replace(
        OLD, backend="distributed", cluster=Cluster(secret=secret), nodes=nodes, db=members
    )


def _roles_of(settings: Config) -> roles.Roles:
    return roles.choose(
        settings, node=-1, db_only=False, db_node=-1, is_local=lambda host: host == "127.0.0.1"
    )


@pytest.mark.parametrize(
    ("secret", "hosts", "taken_in"),
    [
        ("", ["127.0.0.1"], True),
        ("", ["127.0.0.1", "192.0.2.1"], False),
        ("secret", ["127.0.0.1", "192.0.2.1"], True),
    ],
)
@on_a_loop
async def test_credentials_that_make_the_cluster_key_stay_while_others_have_it(
    secret: str, hosts: list[str], taken_in: bool
) -> None:
    settings = _cluster(secret, hosts)
    process = Process(settings, _roles_of(settings))
    reloader, keyring = process.common.reloader, process.common.keyring
    reloader.add(("auth",), keyring.prepare)
    assert await reloader.reload(lambda: replace(settings, auth=NEW.auth)) is taken_in
    assert keyring.auth == (NEW.auth if taken_in else OLD.auth)


@pytest.mark.parametrize(
    ("before", "after", "taken_in"),
    [
        (("old", ()), ("old", ("new",)), True),
        (("old", ("new",)), ("new", ("old",)), True),
        (("new", ("old",)), ("new", ()), True),
        (("old", ()), ("new", ()), False),  # the others do not know it
        (("old", ()), ("new", ("old",)), False),
        (("old", ("new",)), ("new", ()), False),  # the others may still use the old one
    ],
)
@on_a_loop
async def test_a_cluster_secret_is_changed_in_steps_that_leave_nobody_out(
    before: tuple[str, tuple[str, ...]],
    after: tuple[str, tuple[str, ...]],
    taken_in: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = replace(_cluster("", ["127.0.0.1", "192.0.2.1"]), cluster=Cluster("c", *before))
    process = Process(old, _roles_of(old))
    reloader, keyring = process.common.reloader, process.common.keyring
    keyring.open()
    reloader.add(("auth", "cluster"), keyring.prepare)
    told: list[bytes] = []
    keyring.follow(lambda keys: told.append(keys.cluster))
    key = keyring.keys.cluster
    new = replace(old, cluster=Cluster("c", *after))
    assert await reloader.reload(lambda: new) is taken_in
    assert len(keyring.cluster_keys()) == 1 + len((after if taken_in else before)[1])
    assert (keyring.keys.cluster == key) is (before[0] == after[0] or not taken_in)
    assert told == ([keyring.keys.cluster] if taken_in else [])
    said = " ".join(str(vars(one)) for one in caplog.records)
    assert taken_in or "secrets_accepted on every host" in said


@on_a_loop
async def test_what_else_the_table_of_the_cluster_says_waits_for_the_next_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = _cluster("secret", ["127.0.0.1"])
    process = Process(settings, _roles_of(settings))
    reloader, keyring = process.common.reloader, process.common.keyring
    keyring.open()
    reloader.add(("auth", "cluster"), keyring.prepare)
    changed = replace(settings, cluster=replace(settings.cluster, scrub_days=3.0))
    assert await reloader.reload(lambda: changed)
    waits = [vars(one).get("keys") for one in caplog.records if "next start" in one.getMessage()]
    assert waits == ["[cluster] scrub_days 14 -> 3"]


@on_a_loop
async def test_credentials_stay_where_others_have_joined(tmp_path: Path) -> None:
    """Of whom the file says nothing."""
    settings = _cluster("", ["127.0.0.1"])
    process = Process(settings, _roles_of(settings))
    reloader, keyring = process.common.reloader, process.common.keyring
    endpoint = Endpoint(cluster_key=bytes(32), certificate=self_signed(), name="one")
    process.discovery = Discovery(endpoint, settings, process.common.roles, [])
    reloader.add(("auth",), keyring.prepare)
    process.discovery.table = RingTable(2, (*rows_of(settings.nodes), NodeRow(9, "192.0.2.9", 9)))
    assert not await reloader.reload(lambda: replace(settings, auth=NEW.auth))
    process.discovery.table = RingTable(3, tuple(rows_of(settings.nodes)))
    assert await reloader.reload(lambda: replace(settings, auth=NEW.auth))
    await endpoint.close()


@on_a_loop
async def test_a_certificate_is_renewed_while_a_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "TLS_RENEW_MS", 10)
    settings = replace(OLD, base_path=tmp_path, backend="filesystem")
    shown = Tls(settings, roles.Roles(True, (), ()))
    shown.begin()
    assert shown.served is not None
    file = tmp_path / "tls" / "server.pem"
    with monkeypatch.context() as patch:
        patch.setattr(authority, "SERVER_DAYS", 20)  # near its end
        file.unlink()
        certificates.ensure(tmp_path / "tls", ["127.0.0.1"])
    before = file.read_bytes()
    shown.follow(None)
    await eventually_async(lambda: file.read_bytes() != before, what="another certificate")
    await shown.ready()
    names = await _names_served(shown.served, tmp_path / "tls" / "ca.pem")
    assert "localhost" in names
    await shown.close()


@on_a_loop
async def test_a_reload_takes_no_certificate_that_a_start_refuses(tmp_path: Path) -> None:
    files = certificates.ensure(tmp_path, ["127.0.0.1"])
    settings = replace(OLD, tls_cert=files.cert, tls_key=files.key)
    served = Tls(settings, _roles_of(settings))
    served.begin()
    assert served.prepare(settings)
    other = certificates.ensure(tmp_path / "other", ["127.0.0.1"])
    with pytest.raises(ConfigError, match="not the key of"):
        served.prepare(replace(settings, tls_key=other.key))
