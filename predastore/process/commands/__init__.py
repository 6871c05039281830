"""The commands of `s3d` beside running it: `s3d NAME ...`, one module each.

A command's module has a parser with the flags of `s3d` that it needs (process/flags.py), and a
`main(arguments, environment)` that returns the exit code. It is imported only when it is called.
What its second word may be is in OPERATIONS, for its own help and for manuals and completion.
"""

from __future__ import annotations

import textwrap
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
    from predastore.process.commands import db

    return db.main(arguments, environment)


def _node(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.process.commands import node

    return node.main(arguments, environment)


def _cluster(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.process.commands import cluster

    return cluster.main(arguments, environment)


def _object(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.process.commands import object as object_

    return object_.main(arguments, environment)


def _iam(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.process.commands import iam

    return iam.main(arguments, environment)


def _check_config(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.process.commands import check_config

    return check_config.main(arguments, environment)


def _tls(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.process.commands import tls

    return tls.main(arguments, environment)


def _licenses(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.process.commands import licenses

    return licenses.main(arguments, environment)


def _top(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    from predastore.process.commands import top

    return top.main(arguments, environment)


COMMANDS: Final = (
    Command("db", "operate the metadata cluster", _db),
    Command("cluster", "the whole cluster: its state, verify all of it, drain a node", _cluster),
    Command("node", "shard nodes: their state, scrub, rebuild an index", _node),
    Command("object", "where the shards of an object are", _object),
    Command("iam", "accounts, users, their keys and policies", _iam),
    Command("tls", "the certificate authority that clients trust", _tls),
    Command("check-config", "FILE: say what is wrong with a configuration", _check_config),
    Command("top", "watch running processes in the terminal", _top),
    Command("licenses", "show the licences of all that s3d is made of", _licenses),
)


@dataclass(frozen=True)
class CommandOperation:
    """`s3d COMMAND NAME [ARGUMENT]` ("": it takes none), and what it does."""

    name: str
    argument: str
    help: str


OPERATIONS: Final = {
    "db": (
        CommandOperation(
            "status",
            "",
            "the whole cluster as a table; exit code 1 unless one leads and every member answers",
        ),
        CommandOperation("step-down", "", "let another member lead"),
        CommandOperation("remove-member", "ID", "take a member out of the cluster"),
        CommandOperation(
            "set-time",
            "",
            "make the leader's wall clock cluster time, by which objects are retained; tells what "
            "it would do, unless --confirm is given",
        ),
        CommandOperation("backup", "FILE", "write the state of this moment to FILE, and check it"),
        CommandOperation(
            "restore", "FILE", "make data directories from a backup (members stopped)"
        ),
        CommandOperation("check", "", "look for damage in the files of local members (stopped)"),
    ),
    "cluster": (
        CommandOperation(
            "status",
            "",
            "every node and process, how many shards are missing, what is left to repair and to "
            "move, and how long that will take; live in a terminal while there is such work",
        ),
        CommandOperation(
            "verify", "", "read every block of every shard back, check CRCs, parity and ETags"
        ),
        CommandOperation(
            "drain", "ID", "give a node nothing new, and move what it has to the others"
        ),
        CommandOperation("activate", "ID", "take a node back that was drained or removed"),
        CommandOperation(
            "remove",
            "ID",
            "drain a node; when it is empty it is none of the cluster any more, unless it is "
            "activated",
        ),
    ),
    "node": (
        CommandOperation(
            "status", "", "what every node holds: shards, bytes, free space, damage, the last scrub"
        ),
        CommandOperation(
            "scrub",
            "ID",
            "read all blocks of a node now, wait for the end, and say what was bad; what is bad is "
            "repaired from the other shards, in the background",
        ),
        CommandOperation(
            "rebuild-index",
            "ID",
            "throw the index of a stopped node away and build it anew from its segments",
        ),
    ),
    "tls": (
        CommandOperation(
            "show", "", "which authority it is, how long it lasts, who has another yet"
        ),
        CommandOperation("ca", "", "print the file that clients need"),
        CommandOperation(
            "new",
            "",
            "make another authority take its place; clients go on, as the one before vouches for "
            "it, unless it is told to end --at-once",
        ),
        CommandOperation("import", "CERT KEY", "the same with an authority of your own, PEM files"),
    ),
    "iam": (
        CommandOperation("user", "add|remove|list [NAME]", "users; removes what they have, too"),
        CommandOperation(
            "key",
            "add|remove|enable|disable|list USER [KEY]",
            "access keys; a new one is told once, as a shell reads it",
        ),
        CommandOperation("group", "add|remove|join|leave|list [GROUP] [USER]", "groups of users"),
        CommandOperation(
            "policy",
            "add|remove|attach|detach|list [NAME|WHO] [FILE|POLICY]",
            "managed policies; WHO is user/NAME, group/NAME or role/NAME",
        ),
        CommandOperation("account", "add|list [NAME]", "accounts; the operator's key alone may"),
        CommandOperation(
            "explain",
            "WHO ACTION [RESOURCE]",
            "may they, and which statement says so? WHO is as above, or all",
        ),
        CommandOperation(
            "rotate-sealing-key", "", "make another key that seals secrets, and seal them anew"
        ),
    ),
    "object": (
        CommandOperation(
            "locate",
            "s3://BUCKET/KEY",
            "the node, segment, offset and health of each of its shards",
        ),
    ),
}
_HELP_COLUMNS: Final = 98


def operations(command: str, prefix: str = "  ") -> list[str]:
    """Lines of help for the operations of a command."""
    heads = [f"{one.name} {one.argument}".rstrip() for one in OPERATIONS[command]]
    width = max(map(len, heads)) + 2
    lines = []
    for head, one in zip(heads, OPERATIONS[command], strict=True):
        first, *more = textwrap.wrap(one.help, _HELP_COLUMNS - width - len(prefix))
        lines.append(f"{prefix}{head.ljust(width)}{first}")
        lines += [f"{prefix}{' ' * width}{line}" for line in more]
    return lines


def find(name: str) -> Command | None:
    """The command of this name."""
    return next((command for command in COMMANDS if command.name == name), None)


def usage(prefix: str = "  ") -> list[str]:
    """A line of help for each command."""
    return [f"{prefix}{command.name.ljust(14)} {command.help}" for command in COMMANDS]
