"""Flags, environment and signals: the `s3d` command, and its `s3d db` subcommands.

A flag beats its environment variable, which beats the file. Exit codes: 0 after a clean stop,
1 when the process could not go on, 2 when flags or configuration are wrong (nothing was touched).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from predastore import __version__, config
from predastore.errors import ConfigError, PredastoreError

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


_RUN, _WHERE, _TLS, _LOGS = "What to run", "Where", "TLS", "Logs"

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
)

_EPILOG: Final = """\
Each flag may also be given by the environment variable that stands in brackets. A flag beats the
variable, and the variable beats the file.

examples:
  s3d                                                    plain files below data/, one process
  s3d -backend distributed                               five local nodes, embedded database
  s3d -backend distributed -config cluster.toml -node 1 -db-node 1
                                                         host 1 of a cluster: S3, a node, a member
  s3d -db -config cluster.toml -db-node 2                a database member alone
  s3d db status -config cluster.toml                     the metadata cluster; see s3d db -help
"""

_DB_EPILOG: Final = """\
examples:
  s3d db status -config cluster.toml
  s3d db backup /backups/today.s3db -config cluster.toml
  s3d db restore /backups/today.s3db -config cluster.toml -db-node 1
"""
_DB_FLAGS: Final = ("config", "db-node", "base-path", "tls-cert", "tls-key")


@dataclass(frozen=True)
class Options:
    """What the command line and the environment ask for, beside the configuration."""

    node: int = -1
    db_only: bool = False
    db_node: int = -1


def parser() -> argparse.ArgumentParser:
    """The argument parser; `-flag` and `--flag` are the same."""
    made = argparse.ArgumentParser(
        prog="s3d",
        description="Predastore: an S3 server over Reed-Solomon coded shards.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    _add_flags(made, FLAGS)
    about = made.add_argument_group("About")
    about.add_argument("-h", "-help", "--help", action="help", help="show this and exit")
    about.add_argument(
        "-version",
        "--version",
        action="version",
        version=f"s3d {__version__}",
        help="show the version",
    )
    return made


def db_parser() -> argparse.ArgumentParser:
    """The argument parser of `s3d db`."""
    from predastore import commands_db

    made = argparse.ArgumentParser(
        prog="s3d db",
        usage="s3d db COMMAND [ARGUMENT] [flags]",
        description="Operate the metadata cluster.\n\ncommands:\n" + "\n".join(commands_db.usage()),
        epilog=_DB_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    names = [command.name for command in commands_db.COMMANDS]
    made.add_argument("command", choices=names, metavar="COMMAND", help=argparse.SUPPRESS)
    made.add_argument("argument", nargs="?", metavar="ARGUMENT", help=argparse.SUPPRESS)
    output = made.add_argument_group("Output")
    output.add_argument("-json", "--json", action="store_true", help="status: as JSON")
    output.add_argument(
        "-digest", "--digest", action="store_true", help="status: with a digest of each state"
    )
    _add_flags(made, tuple(flag for flag in FLAGS if flag.name in _DB_FLAGS))
    made.add_argument_group("Trust").add_argument(
        "-ca", "--ca", metavar="FILE", help="authorities that members are verified by, PEM"
    )
    about = made.add_argument_group("About")
    about.add_argument("-h", "-help", "--help", action="help", help="show this and exit")
    return made


def _add_flags(made: argparse.ArgumentParser, flags: Sequence[Flag]) -> None:
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


def resolve(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[config.Config, Options]:
    """The configuration and options of a command line; ConfigError lists all that is wrong."""
    return _settled(vars(parser().parse_args(list(arguments))), environment)


def _settled(
    given: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[config.Config, Options]:
    """What the flags of a command line, the environment and the file come to."""
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
    return config.complete(loaded), options


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
    for name in ("backend", "host", "port", "base-path", "tls-cert", "tls-key", "log-level"):
        if name in values:
            text, place = values[name]
            value: Any = int(text) if name == "port" and text.isdigit() else text
            key = name.replace("-", "_")
            try:
                raw[key] = config.TOP_FIELDS[key].read(value)
            except ValueError as error:
                problems.append(f"{place}: {error}")
    return raw


def _operate(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`s3d db ...`; the exit code."""
    from predastore import commands_db

    made = db_parser()
    given = vars(made.parse_intermixed_args(list(arguments)))
    wanted = next(row for row in commands_db.COMMANDS if row.name == given["command"])
    if bool(wanted.argument) is not (given["argument"] is not None):
        made.error(f"{wanted.name} takes {wanted.argument or 'no argument'}")
    settings, options = _settled({**given, "db": "true"}, environment)
    request = commands_db.Request(
        wanted.name,
        given["argument"] or "",
        as_json=given["json"],
        digest=given["digest"],
        ca=None if given["ca"] is None else Path(given["ca"]),
        db_node=options.db_node,
    )
    return commands_db.run(settings, request)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `s3d` until it is told to stop; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if given[:1] == ["db"]:
            return _operate(given[1:], os.environ)
        settings, options = resolve(given, os.environ)
        from predastore import host

        return host.run(settings, options.node, options.db_only, options.db_node)
    except ConfigError as error:
        for line in error.problems:
            print(f"s3d: {line}", file=sys.stderr)
        return 2
    except PredastoreError as error:
        print(f"s3d: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
