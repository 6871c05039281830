"""Command line: a flag beats the environment, which beats the file; mistakes exit 2, untouched."""

from __future__ import annotations

from pathlib import Path

import pytest

from predastore.base.errors import ConfigError
from predastore.process import cli, flags, roles


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_a_file_development_defaults_hold() -> None:
    settings, options = cli.resolve([], {})
    assert (settings.backend, settings.host, settings.port) == ("filesystem", "0.0.0.0", 8443)
    assert settings.base_path == Path("data")
    assert options == flags.Options(node=-1, db_only=False, db_node=-1)


def test_the_default_file_is_read_where_it_is() -> None:
    Path("config").mkdir()
    Path("config/server.toml").write_text("port = 9443\n")
    assert cli.resolve([], {})[0].port == 9443


@pytest.mark.parametrize("dashes", ["-", "--"])
def test_flags_have_one_dash_or_two(dashes: str) -> None:
    settings, options = cli.resolve(
        [f"{dashes}backend", "distributed", f"{dashes}node", "2", f"{dashes}db-node", "1"], {}
    )
    assert settings.backend == "distributed"
    assert (options.node, options.db_node) == (2, 1)


def test_flag_beats_environment_beats_file() -> None:
    Path("c.toml").write_text('port = 1000\nhost = "127.0.0.1"\nregion = "r"\n')
    settings, _ = cli.resolve(
        ["-config", "c.toml", "-port", "3000"], {"PORT": "2000", "HOST": "127.0.0.2"}
    )
    assert (settings.port, settings.host, settings.region) == (3000, "127.0.0.2", "r")


def test_every_flag_has_its_environment_variable() -> None:
    Path("c.toml").write_text("")
    environment = {
        "CONFIG": "c.toml",
        "BACKEND": "distributed",
        "NODE": "3",
        "DB_ONLY": "true",
        "DB_NODE": "1",
        "TLS_CERT": "a.pem",
        "TLS_KEY": "b.pem",
        "HOST": "127.0.0.9",
        "PORT": "99",
        "BASE_PATH": "/d",
        "LOG_LEVEL": "debug",
        "ACCESS_LOG": "-",
        "METRICS_HOST": "127.0.0.8",
        "METRICS_PORT": "98",
    }
    assert set(environment) == {flag.env for flag in flags.FLAGS}
    settings, options = cli.resolve([], environment)
    assert options == flags.Options(node=3, db_only=True, db_node=1)
    assert (settings.backend, settings.log_level) == ("distributed", "debug")
    assert (settings.tls_cert, settings.tls_key) == (Path("a.pem"), Path("b.pem"))
    assert (settings.access_log, settings.metrics_port) == ("-", 98)
    assert settings.metrics_host == "127.0.0.8"
    assert settings.nodes[0].path == Path("/d/nodes/node-1")


def test_all_mistakes_of_flags_and_file_come_at_once() -> None:
    Path("c.toml").write_text("prot = 1\n")
    with pytest.raises(ConfigError) as caught:
        cli.resolve(["-config", "c.toml", "-port", "x", "-node", "one"], {"LOG_LEVEL": "loud"})
    text = str(caught.value)
    for part in ("prot", "-port: expected", "-node: expected", "environment variable LOG_LEVEL"):
        assert part in text


@pytest.mark.parametrize("text", ["²", "٣", "-1", "1" * 5_000, ""])
def test_a_port_is_decimal_digits(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^-port: "):
        cli.resolve(["-port", text], {})


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        (("-metrics-port", "8443"), "metrics_port: tcp port 8443 on 127.0.0.1 is taken by port"),
        (("-port", "28888"), "metrics_port: tcp port 28888 on 127.0.0.1 is taken by port"),
    ],
)
def test_flags_must_not_contradict_the_file(
    flag: tuple[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.toml").write_text("port = 8443\nmetrics_port = 28888\n")
    assert cli.main(["check-config", "c.toml", *flag]) == 2
    said = f"s3d: c.toml with flags and environment: {says}; write another\n"
    assert capsys.readouterr().err == said
    assert cli.main(["-config", "c.toml", *flag]) == 2
    assert capsys.readouterr().err == said


def test_flags_must_not_contradict_the_defaults() -> None:
    line = ["-backend", "distributed", "-metrics-port", "6660"]  # of the embedded database
    with pytest.raises(ConfigError, match=r"^flags and environment: .* taken by metrics_port"):
        cli.resolve(line, {})


def rows(table: str, *ids: int, port: int) -> str:
    return "".join(f'[[{table}]]\nid = {n}\nhost = "10.0.0.{n}"\nport = {port}\n' for n in ids)


CLUSTER = (
    'backend = "distributed"\n[rs]\ndata = 2\nparity = 1\n'
    + rows("db", 1, 2, 3, port=6660)
    + rows("nodes", 1, 2, 3, 4, port=9991)
)
DATABASES = "".join(
    f'[[db]]\nid = {n}\nhost = "127.0.0.1"\nport = {6660 + n}\nraft_port = {9990 + n}\n'
    for n in range(1, 6)
)
METRICS = ("-metrics-host", "0.0.0.0", "-metrics-port")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (DATABASES, ["-db"]),  # where [[nodes]] are filled in
        (CLUSTER, ["-db", "-db-node", "1", *METRICS, "8443"]),
        (CLUSTER, ["-node", "4", "-port", "6660"]),
        (CLUSTER, ["-node", "4", *METRICS, "6660"]),
        (CLUSTER, ["-backend", "filesystem", "-port", "6660"]),
    ],
)
def test_what_the_process_does_not_open_takes_no_port(text: str, line: list[str]) -> None:
    Path("c.toml").write_text(text)
    cli.resolve(["-config", "c.toml", *line], {})


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ([*METRICS, "6660"], 1),
        (["-db-node", "3", "-port", "6660"], 3),
        (["-node", "1", "-db-node", "2", "-port", "6660"], 2),
        (["-db", "-db-node", "2", *METRICS, "6660"], 2),
    ],
)
def test_what_it_does_open_takes_one(line: list[str], row: int) -> None:
    Path("c.toml").write_text(CLUSTER)
    with pytest.raises(ConfigError) as caught:
        cli.resolve(["-config", "c.toml", *line], {})
    assert (
        f"[[db]] number {row}, port: tcp port 6660 on 10.0.0.{row} is taken by"
        in (caught.value.problems[0])
    )


@pytest.mark.parametrize("backend", ["filesystem", "distributed"])
@pytest.mark.parametrize("node", [-1, 2])
@pytest.mark.parametrize("db_only", [False, True])
@pytest.mark.parametrize("db_node", [-1, 3])
def test_what_may_be_opened_is_what_the_roles_would_be(
    backend: str, node: int, db_only: bool, db_node: int
) -> None:
    Path("c.toml").write_text(CLUSTER.replace("distributed", backend))
    line = ["-config", "c.toml", "-node", f"{node}", "-db-node", f"{db_node}"]
    settings, options = cli.resolve([*line, *(["-db"] if db_only else [])], {})
    if settings.backend == "filesystem" and (node, db_node) != (-1, -1):
        return  # such roles are refused
    found = roles.choose(
        settings, node=node, db_only=db_only, db_node=db_node, is_local=lambda _: True
    )
    assert flags.listens(settings, options, "", -1) is found.s3
    for table, all_rows, chosen in (
        ("nodes", settings.nodes, found.nodes),
        ("db", settings.db, found.members),
    ):
        ids = [row.id for row in all_rows if flags.listens(settings, options, table, row.id)]
        assert ids == [row.id for row in chosen]


@pytest.mark.parametrize("command", ["check", "status"])
def test_a_command_listens_on_nothing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.toml").write_text("port = 6660\n")  # that of the embedded database
    cli.main(["db", command, "-config", "c.toml"])
    assert "is taken by" not in capsys.readouterr().err


def test_half_a_certificate_is_refused() -> None:
    with pytest.raises(ConfigError, match="go together"):
        cli.resolve(["-tls-cert", "a.pem"], {})


def test_mistakes_exit_2_and_touch_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-config", "nowhere.toml"]) == 2
    assert "nowhere.toml: can not be read" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_an_unknown_node_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-backend", "distributed", "-node", "77"]) == 2
    assert "-node 77: no [[nodes]] has this id; write one of 1, 2, 3, 4, 5" in (
        capsys.readouterr().err
    )
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("flag", ["-h", "-help", "--help"])
def test_help_names_every_flag_and_variable(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([flag])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for known in flags.FLAGS:
        assert f"-{known.name}" in text
        assert f"[{known.env}]" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("s3d ")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-confg c.toml", "s3d: error: -confg: no such flag; did you mean -config?"),
        ("--confg=c.toml", "s3d: error: --confg: no such flag; did you mean --config?"),
        ("-backend distributed -bse-path d", "-bse-path: no such flag; did you mean -base-path?"),
        ("-zzz", "s3d: error: -zzz: no such flag; see s3d -help"),
        ("cluser status", "s3d: error: cluser: no such command; did you mean cluster?"),
        ("frobnicate", "s3d: error: frobnicate: no such command; see s3d -help"),
        ("cluster stauts", "s3d cluster: error: argument COMMAND: invalid choice: 'stauts'"),
        ("db -confg c.toml status", "s3d db: error: -confg: no such flag; did you mean -config?"),
        ("node -confg c.toml scrub 1", "s3d node: error: -confg: no such flag; did you mean"),
        ("object lokate s3://b/k", "did you mean locate?"),
        ("check-config -prot 1 c.toml", "s3d check-config: error: -prot: no such flag; did you"),
        ("top -intervall 3", "s3d top: error: -intervall: no such flag; did you mean -interval?"),
        ("licenses -jsno", "s3d licenses: error: -jsno: no such flag; see s3d licenses -help"),
    ],
)
def test_a_word_that_is_nearly_right_is_one_mistake_with_the_right_one(
    line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(line.split())
    assert caught.value.code == 2
    found = [one for one in capsys.readouterr().err.splitlines() if "error:" in one]
    assert len(found) == 1
    assert says in found[0]


def test_a_file_of_the_original_is_checked_as_it_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of its design document: three members with keys, and no host is this one."""
    monkeypatch.setattr(roles, "is_local", lambda host: False)
    pair = 'access_key_id = "AKIDATABASE"\nsecret_access_key = "0b8a6a3f5e1f4c0e9d7c2b1a"\n'
    text = "[rs]\ndata = 3\nparity = 2\n" + "".join(
        f'[[db]]\nid = {n}\nhost = "192.0.2.1{n}"\nport = 6660\npath = "/data/db/node-{n}/"\n'
        f"leader = {'true' if n == 1 else 'false'}\n{pair}"
        for n in (1, 2, 3)
    )
    text += rows("nodes", 0, 1, 2, 3, 4, port=9990)
    Path("c.toml").write_text(text)
    assert cli.main(["check-config", "c.toml", "-node", "0", "-db-node", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("c.toml: fine; this host would run S3 on 0.0.0.0 port 8443 (distr")
    assert said[0].endswith("database member 1 in /data/db/node-1")
    assert said[1].startswith("c.toml: may be lost: any 2 nodes, any 1 member")
    assert sum("leader: a hint that is not needed" in line for line in said) == 1
    assert sum("warning: metadata stands the loss of 1 member" in line for line in said) == 1


def test_the_operation_that_was_meant_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["cluster", "stauts"])
    assert capsys.readouterr().err.endswith("; did you mean status?\n")


def test_values_are_no_flags() -> None:
    settings, options = cli.resolve(["-node", "-1", "-base-path", "d", "-access-log", "-"], {})
    assert (options.node, settings.base_path, settings.access_log) == (-1, Path("d"), "-")
