"""`s3d node ...`: shard nodes, one by one.

    status         what each node holds, and how it is
    scrub          ID: read all its blocks now, and say what was bad
    rebuild-index  ID: build its index anew from its segments (the node stopped)

The first two ask running nodes over rpc, with the cluster key. Exit codes: 0 fine, 1 a node does
not answer, or damage was found, 2 wrong usage; others are those of cli.EXITS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from predastore.base.errors import ConfigError
from predastore.base.limits import COMMAND_CALL_TIMEOUT_MS, COMMAND_POLL_MS
from predastore.node.messages import NodeStatus
from predastore.node.rebuild import rebuild_index
from predastore.process import flags
from predastore.process.commands import OPERATIONS, operations, ownership, remote, standing
from predastore.process.commands.remote import Remote, say

_USAGE: Final = "s3d node status | scrub ID | rebuild-index ID  [flags]"
_DESCRIPTION: Final = "\n".join(
    ("Shard nodes, one by one.", "", "commands:", *operations("node"), "")
)
_EPILOG: Final = """\
examples:
  s3d node status -config cluster.toml
  s3d node scrub 3 -config cluster.toml
  s3d node rebuild-index 3 -config cluster.toml
"""
_HEADS: Final = ("node", "shards", "live", "dead", "free", "segments", "bad", "scrub", "state")


def parser() -> flags.Parser:
    made = remote.parser("node", _USAGE, _DESCRIPTION, _EPILOG, ("config", "base-path"))
    names = [one.name for one in OPERATIONS["node"]]
    made.add_argument("command", choices=names, metavar="COMMAND", help=argparse.SUPPRESS)
    made.add_argument("id", nargs="?", metavar="ID", help=argparse.SUPPRESS)
    made.add_argument("-json", "--json", action="store_true", help="status: as JSON")
    return made


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`s3d node ...`; the exit code."""
    made = parser()
    given = made.take(arguments)
    command, text = given.pop("command"), given.pop("id")
    if (command == "status") is not (text is None):
        made.error("status takes no id" if command == "status" else f"{command} takes a node's id")
    settings, _ = remote.resolved(given, environment)
    if command == "status":
        return remote.run(settings, lambda to: _status(to, given["json"]))
    if not text.isdecimal():
        raise ConfigError([f'{command}: expected the id of a node, got "{text}"'])
    if command == "scrub":
        return remote.run(settings, lambda to: _scrub(to, int(text)))
    row = next((row for row in settings.nodes if row.id == int(text)), None)
    if row is None:
        known = ", ".join(str(row.id) for row in settings.nodes)
        raise ConfigError([f"rebuild-index {text}: no [[nodes]] has this id; write one of {known}"])
    ownership.check("node rebuild-index", settings.base_path, [row.path])
    found = rebuild_index(row.path, _progress)
    say(
        f"node {found.node_id}: {found.shards} shards, {remote.size(found.live_bytes)}, "
        f"{found.bad_shards} with bad blocks"
    )
    return 1 if found.bad_shards else 0


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{remote.bar(done / max(1, of))} {done} of {of} segments ")
        sys.stderr.write("\n" if done == of else "")
        sys.stderr.flush()


async def _status(to: Remote, as_json: bool) -> int:
    found = await standing.statuses(to.nodes, [row.id for row in to.table.nodes])
    silent = [node for node, said in found.items() if isinstance(said, str)]
    if as_json:
        rows = [
            {"id": node, "error": said}
            if isinstance(said, str)
            else {name: getattr(said, name) for name in said.__struct_fields__}
            for node, said in found.items()
        ]
        say(json.dumps(rows, indent=2))
    else:
        for line in remote.table([_HEADS, *(_row(node, said) for node, said in found.items())]):
            say(line)
        for node in silent:
            say(f"{node}: {found[node]}")
    failed = [said for said in found.values() if isinstance(said, NodeStatus) and said.failure]
    return 1 if silent or failed else 0


def _row(node: int, said: NodeStatus | str) -> tuple[str, ...]:
    if isinstance(said, str):
        return (str(node), *("-" for _ in _HEADS[2:]), "no answer")
    sizes = (remote.size(n) for n in (said.live_bytes, said.dead_bytes, said.free_bytes))
    counts = (str(said.segment_count), str(said.bad_shards))
    return (str(node), str(said.shard_count), *sizes, *counts, _scrubbed(said), _state(said))


def _scrubbed(said: NodeStatus) -> str:
    if said.scrub_share < 1:
        return f"{100 * said.scrub_share:.0f}% read"
    if not said.scrub_finished_ms:
        return "never"
    return f"{remote.span(time.time() - said.scrub_finished_ms / 1000)} ago"


def _state(said: NodeStatus) -> str:
    if said.failure:
        return f"FAILED: {said.failure}"
    return "full" if said.free_bytes <= 0 else "good"


async def _scrub(to: Remote, node: int) -> int:
    if to.row(node) is None:
        known = ", ".join(str(row.id) for row in to.table.nodes)
        raise ConfigError([f"scrub {node}: the cluster has no such node; write one of {known}"])
    found = await to.nodes.scrub(node, start=True, timeout_ms=COMMAND_CALL_TIMEOUT_MS)
    while found.running:
        _scrub_progress(found.share)
        await asyncio.sleep(COMMAND_POLL_MS / 1000)
        found = await to.nodes.scrub(node, start=False, timeout_ms=COMMAND_CALL_TIMEOUT_MS)
    _scrub_progress(1.0)
    say(f"node {node}: {found.bad_blocks} blocks were found bad that were not known to be")
    return 1 if found.bad_blocks else 0


def _scrub_progress(share: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{remote.bar(share)} {100 * share:3.0f}%")
        sys.stderr.write("\n" if share >= 1 else "")
        sys.stderr.flush()
