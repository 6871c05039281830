"""The flags of `s3d` with their environment variables, and what they and the file come to.

A flag beats its environment variable, which beats the file. Commands take the flags that they
need, under the same names (`add`), and read them the same way (`resolved`).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from predastore.base import config
from predastore.base.config.nearest import nearest
from predastore.base.errors import ConfigError

DEFAULT_CONFIG: Final = Path("config/server.toml")
_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("", "0", "false", "no", "off")


@dataclass(frozen=True)
class Flag:
    """One flag: `-name` or `--name`, its environment variable, and what `--help` says of it."""

    name: str
    env: str
    group: str
    metavar: str
    default: str
    help: str


_RUN, _WHERE, _TLS, _LOGS, _METRICS = "What to run", "Where", "TLS", "Logs", "Metrics"

FLAGS: Final = (
    Flag("config", "CONFIG", _RUN, "FILE", str(DEFAULT_CONFIG), "the configuration, TOML"),
    Flag(
        "backend",
        "BACKEND",
        _RUN,
        "NAME",
        "filesystem",
        "where objects lie: filesystem (plain files, one host) or distributed (shards on nodes)",
    ),
    Flag(
        "node",
        "NODE",
        _RUN,
        "ID",
        "-1",
        "the shard node to run; -1: all of the file that are local",
    ),
    Flag("db", "DB_ONLY", _RUN, "", "off", "run the database server alone, without S3"),
    Flag(
        "db-node",
        "DB_NODE",
        _RUN,
        "ID",
        "-1",
        "the database member to run; -1: none beside -node, else all local ones",
    ),
    Flag("host", "HOST", _WHERE, "ADDRESS", "0.0.0.0", "address that S3 listens on"),
    Flag("port", "PORT", _WHERE, "NUMBER", "8443", "port that S3 listens on"),
    Flag("base-path", "BASE_PATH", _WHERE, "DIR", "data/", "where data, keys and certificates lie"),
    Flag("tls-cert", "TLS_CERT", _TLS, "FILE", "generated", "certificate chain, PEM"),
    Flag("tls-key", "TLS_KEY", _TLS, "FILE", "generated", "its private key, PEM"),
    Flag("log-level", "LOG_LEVEL", _LOGS, "LEVEL", "info", ", ".join(config.LOG_LEVELS)),
    Flag("access-log", "ACCESS_LOG", _LOGS, "FILE", "off", "a line for each request; - is stdout"),
    Flag(
        "metrics-port",
        "METRICS_PORT",
        _METRICS,
        "NUMBER",
        "off",
        "port of /metrics, /health/live and /health/ready, plain HTTP without signatures",
    ),
    Flag("metrics-host", "METRICS_HOST", _METRICS, "ADDRESS", "127.0.0.1", "its address"),
)

_OF_THE_FILE: Final = (  # flags that stand for a key of the file
    *("backend", "host", "port", "base-path", "tls-cert", "tls-key", "log-level"),
    *("access-log", "metrics-host", "metrics-port"),
)


class Parser(argparse.ArgumentParser):
    """One that names the flag, command or operation that was meant, where one is nearly right.
    `commands`: words that may stand first, and that the caller has looked for."""

    def __init__(self, *, commands: Sequence[str] = (), **arguments: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, **arguments)
        self._commands = commands

    def take(self, given: Sequence[str]) -> dict[str, Any]:
        """What a command line says, by dest; the process ends with code 2 where it is wrong. Flags
        are looked at first: the value of one that is not known is nothing else's."""
        self._check_flags(given)
        return vars(self.parse_intermixed_args(list(given)))

    def _check_flags(self, given: Sequence[str]) -> None:
        flags = {name: one for one in self._actions for name in one.option_strings}
        words = iter(given)
        for word in words:
            name, equals, _ = word.partition("=")
            if word == "--":
                return
            if name in flags:
                if flags[name].nargs is None and not equals:
                    next(words, None)  # its value
            elif word[:1] == "-" and len(word) > 1 and not word[1:].isdecimal():
                dashes = name.startswith("--")
                meant = nearest(name, [one for one in flags if one.startswith("--") is dashes])
                more = f"did you mean {meant}?" if meant else f"see {self.prog} -help"
                self.error(f"{name}: no such flag; {more}")

    def error(self, message: str) -> NoReturn:
        choice = _CHOICE.search(message)
        stray = _STRAY.match(message)
        if choice is not None:
            meant = nearest(choice[1], re.findall(r"[^\s',]+", choice[2]))
            message += f"; did you mean {meant}?" if meant else ""
        elif stray is not None and self._commands:
            meant = nearest(stray[1], self._commands)
            more = f"did you mean {meant}?" if meant else f"see {self.prog} -help"
            message = f"{stray[1]}: no such command; {more}"
        super().error(message)


_CHOICE: Final = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")
_STRAY: Final = re.compile(r"unrecognized arguments: (\S+)")


@dataclass(frozen=True)
class Options:
    """What the command line and the environment ask for, beside the configuration."""

    node: int = -1
    db_only: bool = False
    db_node: int = -1


def add(made: argparse.ArgumentParser, flags: Sequence[Flag] = FLAGS) -> None:
    """Adds `flags` to a parser, in their groups."""
    groups: dict[str, Any] = {}
    for flag in flags:
        group = groups.get(flag.group) or made.add_argument_group(flag.group)
        groups[flag.group] = group
        names = (f"-{flag.name}", f"--{flag.name}")
        text = f"{flag.help} [{flag.env}] (default: {flag.default})"
        dest = flag.name.replace("-", "_")
        if flag.metavar:
            group.add_argument(*names, dest=dest, metavar=flag.metavar, help=text)
        else:
            group.add_argument(*names, dest=dest, action="store_const", const="true", help=text)


def resolved(
    given: Mapping[str, Any], environment: Mapping[str, str], *, serves: bool = True
) -> tuple[config.Config, Options]:
    """What the flags of a command line (by dest), the environment and the file come to;
    ConfigError lists all that is wrong. `serves`: False for a command, which listens on nothing."""
    values: dict[str, tuple[str, str]] = {}  # flag name -> (text, where it came from)
    for flag in FLAGS:
        text = given.get(flag.name.replace("-", "_"))
        if text is not None:
            values[flag.name] = (text, f"-{flag.name}")
        elif environment.get(flag.env):
            values[flag.name] = (environment[flag.env], f"environment variable {flag.env}")
    problems: list[str] = []
    options = Options(
        node=_number(values, "node", problems),
        db_only=_switch(values, "db", problems),
        db_node=_number(values, "db-node", problems),
    )
    changes = _overrides(values, problems)
    try:
        loaded = _load(values.get("config"))
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from None
    if problems:
        raise ConfigError(problems)
    if "base_path" in changes:
        loaded = config.with_base_path(loaded, changes.pop("base_path"))
    loaded = replace(loaded, **changes)
    if (loaded.tls_cert is None) != (loaded.tls_key is None):
        raise ConfigError(["-tls-cert and -tls-key go together; give both or neither"])
    if options.db_only:
        loaded = replace(loaded, backend="distributed")
    completed = config.complete(loaded)
    wrong = config.problems(completed, lambda *of: serves and listens(completed, options, *of))
    if wrong:
        raise ConfigError([f"{_sources(loaded)}: {problem}" for problem in wrong])
    return completed, options


def listens(settings: config.Config, options: Options, table: str, row: int) -> bool:
    """Whether the process may listen for this row of [[nodes]] or [[db]], or for S3 (table ""):
    roles.choose, before it is known which addresses are of this host."""
    if table == "":
        return not options.db_only
    if settings.backend == "filesystem":
        return False
    if table == "nodes":
        return not options.db_only and options.node in (-1, row)
    if options.db_node != -1:
        return row == options.db_node
    return options.db_only or options.node == -1


def _sources(loaded: config.Config) -> str:
    together = "flags and environment"
    return f"{loaded.source} with {together}" if loaded.source else together


def _load(named: tuple[str, str] | None) -> config.Config:
    if named is not None:
        return config.load(Path(named[0]))
    if DEFAULT_CONFIG.exists():
        return config.load(DEFAULT_CONFIG)
    return config.Config()


def _number(values: dict[str, tuple[str, str]], name: str, problems: list[str]) -> int:
    text, place = values.get(name, ("-1", ""))
    try:
        number = int(text)
    except ValueError:
        number = -2
    if number < -1:
        problems.append(f'{place}: expected an id of the file, or -1, got "{text}"')
    return number


def _switch(values: dict[str, tuple[str, str]], name: str, problems: list[str]) -> bool:
    text, place = values.get(name, ("", ""))
    if text.lower() not in (*_TRUE, *_FALSE):
        problems.append(f'{place}: expected true or false, got "{text}"')
    return text.lower() in _TRUE


def _overrides(values: dict[str, tuple[str, str]], problems: list[str]) -> dict[str, Any]:
    """Flags that stand for a key of the file are read by that key's own reader."""
    raw: dict[str, Any] = {}
    for name in _OF_THE_FILE:
        if name in values:
            text, place = values[name]
            is_number = name.endswith("port") and text.isascii() and text.isdecimal()
            key = name.replace("-", "_")
            try:
                raw[key] = config.TOP_FIELDS[key].read(int(text) if is_number else text)
            except ValueError as error:
                problems.append(f"{place}: {error}")
    return raw
