"""Hosts of their own on this machine: network namespaces on a bridge, which can be cut off.

Each host has two ways: the bridge, to the other hosts, and a link of its own, from this process.
Cutting a host off takes its port from the bridge: datagrams between hosts vanish without a word,
and this process can still talk to it, as a client on the wrong side of a partition would. A host
with a bad line hangs on the bridge by support.wire, which loses and delays.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_NUMBERS = itertools.count(1)  # of those that this process made: their names must differ


class Hosts:
    def __init__(self, count: int) -> None:
        self._tag = f"p{os.getpid() % 100_000:x}{next(_NUMBERS):x}"
        net, link = random.randrange(1, 255), random.randrange(1, 255)
        self.addresses = [f"10.{net}.{link}.{n}" for n in range(1, count + 1)]
        self._links = [f"10.{net}.{255 - link}.{4 * n}" for n in range(1, count + 1)]
        self._wires: dict[int, subprocess.Popen[bytes]] = {}

    def namespace(self, number: int) -> str:
        return f"{self._tag}n{number}"

    def prefix(self, number: int) -> list[str]:
        """Of a command that is to run on host `number`."""
        return ["ip", "netns", "exec", self.namespace(number)]

    def build(self) -> None:
        _ip(f"link add {self._tag}br type bridge")
        _ip(f"link set {self._tag}br up")
        for number, address in enumerate(self.addresses, 1):
            space, port, way = self.namespace(number), self._port(number), self._way(number)
            base, _, low = self._links[number - 1].rpartition(".")
            here, there = f"{base}.{int(low) + 1}", f"{base}.{int(low) + 2}"
            _ip(f"netns add {space}")
            _ip(f"link add {port} type veth peer name eth0 netns {space}")
            _ip(f"link add {way} type veth peer name way0 netns {space}")
            _ip(f"link set {port} master {self._tag}br up")
            _ip(f"-n {space} addr add {address}/24 dev eth0")
            _ip(f"-n {space} addr add {there}/30 dev way0")
            for device in ("lo", "eth0", "way0"):
                _ip(f"-n {space} link set {device} up")
            _ip(f"addr add {here}/30 dev {way}")
            _ip(f"link set {way} up")
            _ip(f"route add {address}/32 via {there}")

    def _port(self, number: int) -> str:
        return f"{self._tag}b{number}"

    def _way(self, number: int) -> str:
        return f"{self._tag}w{number}"

    def cut(self, number: int) -> None:
        _ip(f"link set {self._port(number)} nomaster")

    def spoil(self, number: int, *, loss: float = 0.0, delay_ms: float = 0.0) -> None:
        """Gives a host a bad line to the bridge: `loss` of its frames in either direction, and
        `delay_ms` for what it sends."""
        self.cut(number)
        near, far = self._lane(number)
        _ip(f"link add {near} type veth peer name {far}")
        _ip(f"link set {near} up")
        _ip(f"link set {far} master {self._tag}br up")
        settings = ["--loss", str(loss), "--delay-ms", str(delay_ms)]
        self._wires[number] = wire = subprocess.Popen(
            [sys.executable, "-m", "support.wire", self._port(number), near, *settings],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[1],
        )
        assert wire.stdout is not None
        assert wire.stdout.readline(), "the wire carries nothing"

    def _lane(self, number: int) -> tuple[str, str]:
        return f"{self._tag}l{number}", f"{self._tag}m{number}"

    def mend(self, number: int) -> None:
        """Undoes `cut` and `spoil`."""
        self._unwire(number)
        _ip(f"link set {self._port(number)} master {self._tag}br")

    def _unwire(self, number: int) -> None:
        wire = self._wires.pop(number, None)
        if wire is None:
            return
        wire.kill()
        wire.wait(10)
        assert wire.stdout is not None
        wire.stdout.close()
        _ip(f"link del {self._lane(number)[0]}")

    def remove(self) -> None:
        for number in range(1, len(self.addresses) + 1):
            self._unwire(number)
            for device in (self._port(number), self._way(number)):
                _ip(f"link del {device}", check=False)
            _ip(f"netns del {self.namespace(number)}", check=False)
        _ip(f"link del {self._tag}br", check=False)


def _ip(arguments: str, *, check: bool = True) -> None:
    subprocess.run(["ip", *arguments.split()], check=check, capture_output=True, timeout=20)


def why_not() -> str:
    """Why this process can have no such hosts; "" if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = Hosts(1)
    try:
        probe.build()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        return f"no network namespaces here: {said.decode().strip()}"
    finally:
        with contextlib.suppress(OSError):
            probe.remove()
    return ""


@contextlib.contextmanager
def hosts_of_their_own(count: int) -> Iterator[Hosts]:
    made = Hosts(count)
    try:
        made.build()
        yield made
    finally:
        made.remove()
