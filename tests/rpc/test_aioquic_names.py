"""The private names of aioquic that are used: all of them are listed here, and all are there.

A release of aioquic that renames one, or code of ours that takes up another, fails here and not in
a connection some day.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import aioquic

import predastore.rpc

OURS = [
    file
    for file in sorted(Path(predastore.rpc.__file__).parent.glob("*.py"))
    if "aioquic" in file.read_text("utf-8")
]
THEIRS = sorted(Path(aioquic.__file__).parent.rglob("*.py"))

NAMES = {
    "_ack_delay",
    "_buffer",
    "_buffer_fin",
    "_cc",
    "_close_at",
    "_close_event",
    "_cryptos",
    "_final_size",
    "_get_or_create_stream_for_send",
    "_handshake_confirmed",
    "_host_cids",
    "_idle_timeout",
    "_is_client",
    "_local_max_data",
    "_local_max_stream_data_bidi_remote",
    "_local_max_streams_bidi",
    "_local_max_streams_uni",
    "_loop",
    "_loss",
    "_lower",
    "_max_datagram_size",
    "_network_paths",
    "_pacer",
    "_packet_number",
    "_payload_received",
    "_peer_certificate",
    "_peer_cid",
    "_peer_cid_available",
    "_ranges",
    "_ready",
    "_received",
    "_remote_max_data",
    "_remote_max_stream_data_bidi_local",
    "_remote_max_stream_data_bidi_remote",
    "_remote_max_streams_bidi",
    "_replenish_connection_ids",
    "_reset_error_code",
    "_retry",
    "_rtt_smoothed",
    "_spaces",
    "_stream_id",
    "_streams",
    "_streams_queue",
    "_timer",
    "_timer_at",
    "_update_traffic_key",
    "_version",
    "_write_stream_limits",
}


def trees(files: list[Path]) -> Iterator[ast.AST]:
    for file in files:
        yield from ast.walk(ast.parse(file.read_text("utf-8")))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def made(files: list[Path]) -> set[str]:
    """The private names that these files give something: attributes, methods, fields."""
    found: set[str] = set()
    for node in trees(files):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if is_private(name)}


def used(files: list[Path]) -> set[str]:
    named = {node.attr for node in trees(files) if isinstance(node, ast.Attribute)}
    return {name for name in named if is_private(name)}


def test_every_private_name_that_is_used_is_listed_and_is_there() -> None:
    there = made(THEIRS)
    assert {name for name in used(OURS) | made(OURS) if name in there} == NAMES, (
        f"aioquic {version('aioquic')}: look at each name that differs, then list it"
    )
    assert used(OURS) - made(OURS) - there == set()
