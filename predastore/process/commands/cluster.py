"""`s3d cluster ...`: the whole cluster.

    status    nodes, processes, redundancy and what is being done for it
    verify    read every object back, every block of every shard
    drain     ID: the node is to get nothing new, and what it has is moved away
    activate  ID: it takes part again
    remove    ID: drain it, and then it is no node of the cluster any more; it stays so, whoever
              starts its process, until it is activated

In a terminal `status` goes on while shards are missing or being moved. Exit codes: 0 all is whole,
1 it is not, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from predastore.base.config import Layout, losses, shared
from predastore.base.config.model import ACTIVE, DRAINING
from predastore.base.errors import ConfigError, PeerUnreachable, PredastoreError
from predastore.base.limits import COMMAND_CALL_TIMEOUT_MS, COMMAND_POLL_MS
from predastore.process import flags
from predastore.process.commands import (
    OPERATIONS,
    leaving,
    missing,
    operations,
    remote,
    standing,
    verify,
)
from predastore.process.commands.remote import Remote, say
from predastore.storage.ring_table import LEAVING, RingStore, RingTable, setting

_USAGE: Final = "s3d cluster status | verify | drain ID | activate ID | remove ID  [flags]"
_DESCRIPTION: Final = "\n".join(("The whole cluster.", "", "commands:", *operations("cluster"), ""))
_EPILOG: Final = """\
examples:
  s3d cluster status -config cluster.toml
  s3d cluster status --json -config cluster.toml
  s3d cluster verify -config cluster.toml
  s3d cluster remove 4 -config cluster.toml
"""
_STATES: Final = {"drain": DRAINING, "activate": ACTIVE, "remove": LEAVING}
_HEADS: Final = ("node", "address", "state", "weight", "health", "shards", "used", "free")


def parser() -> flags.Parser:
    made = remote.parser("cluster", _USAGE, _DESCRIPTION, _EPILOG, ("config", "base-path"))
    names = [one.name for one in OPERATIONS["cluster"]]
    made.add_argument("command", choices=names, metavar="COMMAND", help=argparse.SUPPRESS)
    made.add_argument("id", nargs="?", metavar="ID", help=argparse.SUPPRESS)
    made.add_argument("-json", "--json", action="store_true", help="as JSON")
    made.add_argument("-once", "--once", action="store_true", help="status: one look, then the end")
    return made


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`s3d cluster ...`; the exit code."""
    made = parser()
    given = made.take(arguments)
    command, text = given.pop("command"), given.pop("id")
    if (command in _STATES) is not (text is not None):
        made.error(f"{command} takes {'the id of a node' if command in _STATES else 'no id'}")
    settings, _ = remote.resolved(given, environment)
    if command == "verify":
        return remote.run(settings, lambda to: verify.run(to, given["json"]))
    if command == "status":
        is_live = sys.stdout.isatty() and not given["json"] and not given["once"]
        try:
            return remote.run(settings, lambda to: _status(to, given["json"], is_live))
        except KeyboardInterrupt:
            if is_live:
                return 1
            raise
    if not text.isdecimal():
        raise ConfigError([f'{command}: expected the id of a node, got "{text}"'])
    return remote.run(settings, lambda to: _set(to, int(text), _STATES[command]))


async def _set(to: Remote, node: int, state: str) -> int:
    if node in {row.id for row in to.table.removed}:
        await _check_removed(to, node, state)
    elif to.row(node) is None:
        known = ", ".join(str(row.id) for row in to.table.nodes)
        raise ConfigError([f"node {node}: the cluster has no such node; write one of {known}"])
    table = await RingStore(to.state, to.code.shards).change(setting(node, state))
    say(f"done: node {node} is {state}, in version {table.version} of the table of nodes")
    await remote.tell_changed(to, table.version)
    if state != ACTIVE:
        say("its shards are moved in the background: s3d cluster status shows how far that is")
    return 0


async def _check_removed(to: Remote, node: int, state: str) -> None:
    """ConfigError unless a node that was removed can be made `state`: active, if it is there."""
    if state != ACTIVE:
        raise ConfigError(
            [f"node {node}: it was removed; s3d cluster activate {node} takes it back"]
        )
    try:
        await to.nodes.status(node, timeout_ms=COMMAND_CALL_TIMEOUT_MS)
    except PredastoreError as error:
        raise PeerUnreachable(
            f"node {node} was removed, and does not answer ({error}): start its process, then "
            "activate it"
        ) from None


# --- status -----------------------------------------------------------------------------------


async def look(to: Remote) -> dict[str, Any]:
    """All that `status` knows, as JSON has it."""
    table = await RingStore(to.state, to.code.shards).read() or RingTable(0, ())
    processes = await remote.view(to)
    remote.reach(to.endpoint, table, processes)
    found = await standing.look(to.state, to.nodes, table, processes, to.code.shards)
    layout = await _layout(to, table)
    return {
        "name": to.settings.cluster.name,
        "code": {"data": to.code.k, "parity": to.code.m},
        "version": table.version,
        "may_be_lost": losses.summary(layout),
        "writes": {
            "need": layout.writes_need,
            "takers": standing.takers(found["nodes"]),
            "survive": losses.writes(layout),
        },
        "warnings": losses.warnings(layout),
        "processes": [standing.process(record) for record in processes],
        "differing": shared.outliers(
            {one.name: one.facts.settings for one in processes if one.is_here}
        ),
        **found,
    }


async def _layout(to: Remote, table: RingTable) -> Layout:
    """Who is in the cluster, and where, as it says itself."""
    said = await to.db.status()
    hosts = {row.id: row.host for row in to.settings.db}
    hosts |= {int(member): host for member, (host, _) in said["addresses"].items()}
    return Layout(
        to.code.k,
        to.code.m,
        tuple((row.id, row.host) for row in table.nodes if row.state == ACTIVE),
        tuple((member, hosts.get(member, "")) for member in said["voters"]),
        to.settings.embedded_db,
        to.settings.rs.write_shards,
    )


async def _status(to: Remote, as_json: bool, is_live: bool) -> int:
    most: dict[str, int] = {}
    while True:
        found = await look(to)
        whole = standing.is_whole(found)
        if as_json:
            say(json.dumps(found, indent=2))
        else:
            lines = text(found, most)
            if is_live:
                sys.stdout.write("\x1b[H\x1b[2J")
            for line in lines:
                say(line)
        if whole or not is_live:
            return 0 if whole else 1
        say("(ends when all is whole; Ctrl-C ends it now)")
        await asyncio.sleep(COMMAND_POLL_MS / 1000)


def text(found: Mapping[str, Any], most: dict[str, int]) -> list[str]:
    """The lines for people. `most`: the most that was left of each kind of work, for its bar."""
    code = found["code"]
    rows = [_HEADS, *(_node_row(node) for node in found["nodes"])]
    away = [one for one in found["processes"] if one["status"] != "alive"]
    lines = [
        f"cluster {found['name']}: RS({code['data']},{code['parity']}), "
        f"{len(found['nodes'])} nodes (version {found['version']}), "
        f"processes here: {len(found['processes']) - len(away)}",
        f"may be lost: {found['may_be_lost']}",
        f"writes {_writes(found['writes'])}",
        *(f"warning: {warning}" for warning in found["warnings"]),
        "",
        *remote.table(rows),
        "",
    ]
    lines += [f"process {one['name']} at {one['host']} is {one['status']}" for one in away]
    lines += shared.lines(found["differing"])
    lines += [
        f"node {one['id']} was removed, and its process runs at {one['host']}:{one['port']}: stop "
        f"it, or take the node back by s3d cluster activate {one['id']}"
        for one in found["removed"]
        if one["runs"]
    ]
    silent = (found["missing"] or {}).get("unreachable", ())
    lines += leaving.lines(found["waits"], {one["node"]: one["given_up_in_s"] for one in silent})
    lines += _healing_lines(found, most)
    lines += [f"node {node['id']}: {node['error']}" for node in found["nodes"] if "error" in node]
    return lines


def _writes(said: Mapping[str, Any]) -> str:
    if said["takers"] >= said["need"]:
        return str(said["survive"])
    return (
        f"are refused now: {losses.counted(said['takers'], 'node')} can take shards, and a write "
        f"needs {said['need']}"
    )


def _node_row(node: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = ("-", "-", "-")
    if "shards" in node:
        used, free = remote.size(node["used_bytes"]), remote.size(node["free_bytes"])
        numbers = (str(node["shards"]), used, free)
    address = f"{node['host']}:{node['port']}"
    return (
        str(node["id"]),
        address,
        node["state"],
        f"{node['weight']:g}",
        node["health"],
        *numbers,
    )


def _healing_lines(found: Mapping[str, Any], most: dict[str, int]) -> list[str]:
    healing = found["healing"]
    if healing is None:
        return ["redundancy: not known yet; no process has said how it stands"]
    is_pass = healing["walk"] == "records"
    lines = missing.lines(found["missing"], healing["walk_percent"] if is_pass else 0)
    if healing["shards_left"]:
        left = healing["bytes_left"]
        lines.append(
            f"repair: {healing['shards_left']} shards of {healing['objects_left']} objects, "
            f"{remote.size(left)}"
        )
        lines.append(f"  {remote.bar(_done('repair', left, most))}  {_rate(healing)}")
        if healing["stuck_shards"]:
            lines.append(f"  {healing['stuck_shards']} of them can not be rebuilt at present")
    if healing["moves_left"] or not healing["ring_settled"]:
        share = healing["walk_percent"] / 100
        lines.append(f"moving shards to where they belong: {healing['moved_shards']} moved so far")
        lines.append(f"  {remote.bar(share)}  {_rate(healing)}")
    if healing["walk"]:
        lines.append(f"looking over {healing['walk']}: {healing['walk_percent']}% done")
    if healing["age_s"] > standing.STALE_S:
        ago = remote.span(healing["age_s"])
        lines.append(f"(as of {ago} ago by this host's clock, from {healing['process']})")
    return lines


def _rate(healing: Mapping[str, Any]) -> str:
    return f"{remote.size(healing['rate_bytes_s'])}/s"


def _done(kind: str, left: int, most: dict[str, int]) -> float:
    most[kind] = max(most.get(kind, 0), left)
    return 1 - left / most[kind] if most[kind] else 1.0
