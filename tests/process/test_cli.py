"""Command line: a flag beats the environment, which beats the file; mistakes exit 2, untouched."""

from __future__ import annotations

from pathlib import Path

import pytest

from predastore import cli, flags
from predastore.errors import ConfigError


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
