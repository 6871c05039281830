"""What no single field can tell: ids, ports, paths, and enough nodes for the code."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from predastore.base import limits
from predastore.base.config.model import LOOPBACK, Config, Db, Node

# (table, number of the row or -1, key, what is wrong and what to write)
Report = Callable[[str, int, str, str], None]
# Whether a process listens for the row of this table and id; the table "" stands for S3.
Listens = Callable[[str, int], bool]


def _for_all(table: str, row: int) -> bool:
    return True


def problems(config: Config, listens: Listens = _for_all) -> list[str]:
    """Every contradiction in a configuration that is not of a file alone, a line each. Only what
    the process itself listens on can take a port."""
    found: list[str] = []

    def report(table: str, number: int, key: str, what: str) -> None:
        found.append(f"{place(table, number, key)}: {what}")

    check(config, len(config.nodes), report, listens)
    return found


def place(table: str, number: int, key: str) -> str:
    """Where a key stands, for people. `number`: of the row, or -1."""
    header = f"[[{table}]] number {number + 1}" if number >= 0 else f"[{table}]" if table else ""
    return ", ".join(part for part in (header, key) if part)


def check(
    config: Config,
    node_rows: int,
    report: Report,
    listens: Listens = _for_all,
    doubtful: Collection[str] = (),
) -> None:
    """Reports every contradiction in `config`; `node_rows` counts the unreadable ones too.
    `doubtful`: tables that could not be read as they were meant: nothing follows from them."""
    if "rs" not in doubtful:
        _check_code(config, report)
        if not {"nodes", "cluster"} & set(doubtful):
            _check_enough(config, node_rows, report)
    if len(config.db) > limits.DB_MEMBERS_MAX:
        report("db", limits.DB_MEMBERS_MAX, "", f"at most {limits.DB_MEMBERS_MAX} members")
    if (config.tls_cert is None) != (config.tls_key is None) and "" not in doubtful:
        key = "tls_key" if config.tls_key is None else "tls_cert"
        report("", -1, key, "tls_cert and tls_key go together; write both or neither")
    _check_unique(config, report)
    _check_ports(config, report, listens)
    _check_pathnames(config, report)
    for number, member in enumerate(config.db):
        if bool(member.access_key_id) != bool(member.secret_access_key):
            what = "access_key_id and secret_access_key go together; write both or neither"
            report("db", number, "access_key_id", what)


def _check_code(config: Config, report: Report) -> None:
    rs = config.rs
    shards = rs.data + rs.parity
    if shards > limits.CODE_SHARDS_MAX:
        report(
            "rs",
            -1,
            "parity",
            f"data + parity is {shards}; write at most {limits.CODE_SHARDS_MAX} in all: an upload "
            f"of {limits.S3_PARTS_MAX:,} parts could not be completed",
        )
    if rs.write_min and not rs.data <= rs.write_min <= shards:
        report(
            "rs",
            -1,
            "write_min",
            f"{rs.write_min} shards can not be the least of a write under RS({rs.data},"
            f"{rs.parity}); write {rs.data} (as few as give it back) to {shards} (all of them)",
        )


def _check_enough(config: Config, node_rows: int, report: Report) -> None:
    """Enough nodes for the code."""
    rs = config.rs
    shards = rs.data + rs.parity
    if config.nodes and node_rows < shards and not config.cluster.join:
        report(
            "rs",
            -1,
            "data",
            f"RS({rs.data},{rs.parity}) puts {shards} shards on {shards} nodes, and the file has "
            f"{node_rows}; add [[nodes]] or write a smaller data or parity",
        )
    active = node_rows - sum(row.is_draining for row in config.nodes)
    if config.nodes and active < shards <= node_rows:
        report(
            "rs",
            -1,
            "data",
            f"RS({rs.data},{rs.parity}) puts {shards} shards on {shards} nodes, and {active} of "
            'the file\'s [[nodes]] are not draining; add others, or write state = "active"',
        )


def _check_unique(config: Config, report: Report) -> None:
    columns: tuple[tuple[str, str, list[Any]], ...] = (
        ("db", "id", [row.id for row in config.db]),
        ("db", "path", [row.path for row in config.db]),
        ("nodes", "id", [row.id for row in config.nodes]),
        ("nodes", "path", [row.path for row in config.nodes]),
        ("auth", "access_key_id", [row.access_key_id for row in config.auth]),
        ("buckets", "name", [row.name for row in config.buckets]),
        ("oidc", "issuer", [row.issuer for row in config.oidc]),
    )
    ids = {"db": [row.id for row in config.db], "nodes": [row.id for row in config.nodes]}
    for table, key, values in columns:
        for number, value in enumerate(values):
            first = values.index(value)
            # Two rows of one id share their default path: the id is the mistake to name.
            if first < number and (key != "path" or ids[table][first] != ids[table][number]):
                what = f"{value} stands in [[{table}]] number {first + 1} too; each needs its own"
                report(table, number, key, what)


def _check_ports(config: Config, report: Report, listens: Listens) -> None:
    """No two listeners of one protocol on one address."""
    taken: list[tuple[str, str, int, str]] = []
    if listens("", -1):
        taken.append(("tcp", config.host, config.port, "port"))
    metrics = ("", -1, "metrics_port", "tcp", config.metrics_host, config.metrics_port)
    nodes = [(n, row) for n, row in enumerate(config.nodes) if listens("nodes", row.id)]
    db = [(n, row) for n, row in enumerate(config.db) if listens("db", row.id)]
    listeners = [
        *([metrics] if config.metrics_port else []),
        *(("nodes", n, "port", "udp", _address(row), row.port) for n, row in nodes),
        *(("db", n, "port", "tcp", _address(row), row.port) for n, row in db),
        *(("db", n, "raft_port", "udp", _address(row), row.raft_port) for n, row in db),
    ]
    for table, number, key, protocol, host, port in listeners:
        if port > 65535:
            report(table, number, key, f"{port} is over 65535; write a {key} of its own")
        for other_protocol, other_host, other_port, other in taken:
            if (other_protocol, other_port) == (protocol, port) and _overlap(host, other_host):
                what = f"{protocol} port {port} on {host} is taken by {other}; write another"
                report(table, number, key, what)
                break
        taken.append((protocol, host, port, place(table, number, key)))


def _address(row: Node | Db) -> str:
    """Where it listens; where that is everywhere on a host that the file names, that host."""
    return row.listen_host if row.host in LOOPBACK.values() else row.host


def _overlap(host: str, other: str) -> bool:
    """Whether two listeners on one port get in each other's way: on one address, or where one
    listens on all of the other's kind."""
    if (":" in host) is not (":" in other):
        return False
    return host == other or host in LOOPBACK or other in LOOPBACK


def _check_pathnames(config: Config, report: Report) -> None:
    """No file of one bucket is where another's is."""
    seen: list[tuple[Path, str]] = []
    base = Path(os.path.abspath(config.base_path))
    for number, row in enumerate(config.buckets):
        if row.pathname is None:
            continue
        path = Path(os.path.abspath(row.pathname))
        if base.is_relative_to(path):
            what = f"{path} holds base_path, {base}; write another directory"
            report("buckets", number, "pathname", what)
        for other, name in seen:
            if path.is_relative_to(other) or other.is_relative_to(path):
                what = f"{path} and {other}, of bucket {name}, lie within each other; write another"
                report("buckets", number, "pathname", what)
        seen.append((path, row.name))
