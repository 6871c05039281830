"""Clusters of `s3d` on hosts of their own: network namespaces (tests/support/networks.py)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.base import Program
from benchmarks.served import KEY_ID, PORT, SECRET, START_S, Served
from tests.support.networks import Hosts


@contextlib.contextmanager
def process(
    folder: Path,
    hosts: Hosts,
    number: int,
    program: Program,
    text: str,
    *,
    tls: bool = False,
    roles: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """An `s3d` on host `number`, with the configuration `text`; it may not be ready yet."""
    host, data = hosts.addresses[number - 1], f"data{number}"
    file = folder / f"bench-{number}.toml"
    file.write_text(text)
    with (folder / "s3d.log").open("ab") as log:
        started = subprocess.Popen(
            [
                *hosts.prefix(number),
                *program.command,
                *("-config", str(file), "-base-path", str(folder / data), "-host", host),
                *roles,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=program.root,
            env={**os.environ, "PYTHONPATH": str(program.root), **(environment or {})},
        )
    try:
        yield Served(folder, host, tls, started, data)
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def configuration(
    members: Sequence[str], nodes: Sequence[tuple[str, int]], code: tuple[int, int], *, tls: bool
) -> str:
    """`members`: their hosts; `nodes`: host and port of each."""
    text = f'backend = "distributed"\nport = {PORT}\ntls = {str(tls).lower()}\n'
    text += f"[rs]\ndata = {code[0]}\nparity = {code[1]}\n"
    text += f'[[auth]]\naccess_key_id = "{KEY_ID}"\nsecret_access_key = "{SECRET}"\n'
    for number, host in enumerate(members, 1):
        text += f'[[db]]\nid = {number}\nhost = "{host}"\nport = 6660\n'
    for number, (host, port) in enumerate(nodes, 1):
        text += f'[[nodes]]\nid = {number}\nhost = "{host}"\nport = {port}\n'
    return text + '[[buckets]]\nname = "bench"\n'


def wait_ready(processes: Sequence[Served]) -> None:
    deadline = time.monotonic() + START_S
    while not all(each.ready() for each in processes):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not ready in {START_S} s:\n{processes[0].log[-4000:]}")
        time.sleep(0.05)
