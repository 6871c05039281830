"""Which parts of a cluster this process runs: the four modes, as a pure function.

| mode            | flags                       | runs                                         |
|-----------------|-----------------------------|----------------------------------------------|
| development     | -backend distributed        | S3, every local node and every local member  |
| production      | -node N -db-node M          | S3, shard node N, db member M                |
| shard node only | -node N                     | S3 and shard node N, state in the db cluster |
| database only   | -db [-db-node M]            | db member M, or every local one              |
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from predastore.base.config import Config, Db, Node
from predastore.base.errors import ConfigError

ALL_LOCAL = -1


@dataclass(frozen=True)
class Roles:
    """What this process runs."""

    s3: bool
    nodes: tuple[Node, ...]
    members: tuple[Db, ...]


def choose(
    config: Config,
    *,
    node: int = ALL_LOCAL,
    db_only: bool = False,
    db_node: int = ALL_LOCAL,
    is_local: Callable[[str], bool],
) -> Roles:
    """The roles that flags and file ask for; ConfigError where they do not fit together."""
    if config.backend == "filesystem" and not db_only:
        if node != ALL_LOCAL or db_node != ALL_LOCAL:
            raise ConfigError(
                ["-node and -db-node: the filesystem backend has neither; add -backend distributed"]
            )
        return Roles(s3=True, nodes=(), members=())
    nodes = () if db_only else _nodes(config, node, is_local)
    members = _members(config, node, db_only, db_node, is_local)
    return Roles(s3=not db_only, nodes=nodes, members=members)


def _nodes(config: Config, node: int, is_local: Callable[[str], bool]) -> tuple[Node, ...]:
    if node != ALL_LOCAL:
        chosen = tuple(row for row in config.nodes if row.id == node)
        if not chosen:
            known = ", ".join(str(row.id) for row in config.nodes)
            raise ConfigError([f"-node {node}: no [[nodes]] has this id; write one of {known}"])
        return chosen
    return tuple(row for row in config.nodes if is_local(row.host))


def _members(
    config: Config, node: int, db_only: bool, db_node: int, is_local: Callable[[str], bool]
) -> tuple[Db, ...]:
    if db_node != ALL_LOCAL:
        chosen = tuple(row for row in config.db if row.id == db_node)
        if not chosen:
            known = ", ".join(str(row.id) for row in config.db)
            raise ConfigError([f"-db-node {db_node}: no [[db]] has this id; write one of {known}"])
        return chosen
    if node != ALL_LOCAL and not db_only:
        if config.embedded_db:
            raise ConfigError(
                [
                    f"-node {node}: without [[db]] the database is embedded in one process, and "
                    "other processes can not reach it; add [[db]] to the file, or leave -node out"
                ]
            )
        return ()
    chosen = tuple(row for row in config.db if is_local(row.host))
    if db_only and not chosen:
        raise ConfigError(["-db: no [[db]] of the file is on this host; name one with -db-node"])
    return chosen


def check_shared_keys(config: Config, chosen: Roles, is_local: Callable[[str], bool]) -> None:
    """A cluster over several hosts needs keys that all of them have: ConfigError without."""
    hosts = {row.host for row in config.nodes} | {row.host for row in config.db}
    others = {host for host in hosts if not is_local(host)}
    if config.auth or not others or any(row.access_key_id for row in config.db):
        return
    raise ConfigError(
        [
            f"{config.source or 'the configuration'}: [[auth]]: none is given, and the cluster "
            f"has other hosts ({', '.join(sorted(others))}); write one [[auth]] for all of them, "
            "for example with the output of: openssl rand -hex 10; openssl rand -base64 30"
        ]
    )


def is_local(host: str) -> bool:
    """Whether `host` is an address of this machine: whether a socket can be bound to it."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
                return True
        except OSError:
            continue
    return False
