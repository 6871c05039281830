"""The commands of `s3d` beside running it: `s3d NAME ...`, one module each.

A command's module has a parser with the flags of `s3d` that it needs (predastore.flags), and a
`main(arguments, environment)` that returns the exit code. It is imported only when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Main = Callable[[Sequence[str], Mapping[str, str]], int]


@dataclass(frozen=True)
class Command:
    """`s3d NAME ...`, its line in `s3d --help`, and what runs it."""

    name: str
    help: str
    main: Main


def _db(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.commands import db

    return db.main(arguments, environment)


def _node(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.commands import node

    return node.main(arguments, environment)


def _cluster(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.commands import cluster

    return cluster.main(arguments, environment)


def _object(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.commands import object as object_

    return object_.main(arguments, environment)


def _check_config(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.commands import check_config

    return check_config.main(arguments, environment)


def _licenses(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.commands import licenses

    return licenses.main(arguments, environment)


def _top(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.commands import top

    return top.main(arguments, environment)


COMMANDS: Final = (
    Command("db", "operate the metadata cluster", _db),
    Command("cluster", "the whole cluster: its state, verify all of it, drain a node", _cluster),
    Command("node", "shard nodes: their state, scrub, rebuild an index", _node),
    Command("object", "where the shards of an object are", _object),
    Command("check-config", "FILE: say what is wrong with a configuration", _check_config),
    Command("top", "watch running processes in the terminal", _top),
    Command("licenses", "show the licences of all that s3d is made of", _licenses),
)


def find(name: str) -> Command | None:
    """The command of this name."""
    return next((command for command in COMMANDS if command.name == name), None)


def usage(prefix: str = "  ") -> list[str]:
    """A line of help for each command."""
    return [f"{prefix}{command.name.ljust(14)} {command.help}" for command in COMMANDS]
