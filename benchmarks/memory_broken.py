"""What `s3d` holds in memory after 10,000 requests of a kind that their clients broke off.

    memory.broken.get     a response of 32 MiB, cut after a few KiB of it
    memory.broken.put     a body of 16 MiB, cut somewhere in its first 4 MiB
    memory.broken.copy    a copy of 8 MiB within the store, whose client goes after some ms
    memory.broken.list    a page of 1,000 keys that nobody reads
    memory.broken.tls     a TLS handshake, cut before, in or after its first message

Each is VmRSS in MiB at the end, against the same after the first 1,000, by when every pool of
buffers is as full as it gets. Eight clients at once; connections end with a reset, or a FIN, in
turn. BENCH_BROKEN: another count than 10,000.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from benchmarks.measure import Row, row
from benchmarks.served import KEY_ID, PORT, SECRET, Served, s3d, scratch
from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential

CLIENTS: Final = 8
WARM_UP: Final = 1_000
LISTED: Final = 1_000
_MIB: Final = 1 << 20
_TIMEOUT_S: Final = 60.0
_STEADY_S: Final = 0.5  # between two looks at memory that comes to rest
_LOOKS_MAX: Final = 60
_BODY: Final = os.urandom(4 * _MIB)

Break = Callable[[Served, random.Random], None]


def rows() -> list[Row]:
    with scratch() as folder, s3d(folder) as served:
        _prepare(served)
        found = [
            _row(served, name, broken)
            for name, broken in (
                ("memory.broken.get", _get),
                ("memory.broken.put", _put),
                ("memory.broken.copy", _copy),
                ("memory.broken.list", _list),
            )
        ]
        served.stop()
    with scratch() as folder, s3d(folder, tls=True) as served:
        found.append(_row(served, "memory.broken.tls", _handshake))
        served.stop()
    return found


def _row(served: Served, name: str, broken: Break) -> Row:
    _run(served, broken, WARM_UP)
    before = _steady_mib(served)
    _run(served, broken, int(os.environ.get("BENCH_BROKEN") or 10_000))
    return row(
        name,
        _steady_mib(served),
        "MiB",
        spread=0.0,
        yardstick=f"after the first {WARM_UP:,}",
        yardstick_value=before,
    )


def _run(served: Served, broken: Break, count: int) -> None:
    def client(number: int) -> None:
        chance = random.Random(number)
        for _ in range(number, count, CLIENTS):
            broken(served, chance)

    with ThreadPoolExecutor(CLIENTS) as clients:
        for _ in clients.map(client, range(CLIENTS)):
            pass


def _steady_mib(served: Served) -> float:
    """What is resident once the last requests have been let go of."""
    found = served.resident_mib()
    for _ in range(_LOOKS_MAX):
        time.sleep(_STEADY_S)
        before, found = found, served.resident_mib()
        if abs(found - before) < 0.1:
            break
    return found


# --- requests -------------------------------------------------------------------------------------


def _head(method: str, path: str, query: str = "", length: int = 0, **headers: str) -> bytes:
    fields = [("host", f"bench:{PORT}"), *((k.replace("_", "-"), v) for k, v in headers.items())]
    signed = sign_request(
        Credential(KEY_ID, SECRET, "bench"),
        method=method,
        raw_path=path.encode(),
        raw_query=query.encode(),
        headers=fields,
        payload=None,
        region="us-east-1",
        service="s3",
    )
    lines = [f"{method} {path}{'?' if query else ''}{query} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in signed]
    return "\r\n".join([*lines, f"content-length: {length}", "", ""]).encode("latin-1")


def _connected(served: Served) -> socket.socket:
    made = socket.socket()
    made.settimeout(_TIMEOUT_S)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    made.connect((served.host, PORT))
    return made


def _prepare(served: Served) -> None:
    whole = [("source-large", 32 * _MIB), ("source", 8 * _MIB)]
    whole += [(f"listed/{'x' * 200}{number:06}", 0) for number in range(LISTED)]
    for key, size in whole:
        with _connected(served) as made:
            made.sendall(_head("PUT", f"/bench/{key}", length=size))
            for start in range(0, size, len(_BODY)):
                made.sendall(_BODY[: size - start])
            answer = made.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{key} was not stored: {answer!r}")


def _end(made: socket.socket, chance: random.Random) -> None:
    """A reset, as of a process that was killed, or a FIN."""
    if chance.random() < 0.5:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()


def _get(served: Served, chance: random.Random) -> None:
    with _connected(served) as made:
        made.sendall(_head("GET", "/bench/source-large"))
        answer = made.recv(4096)
        if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")):
            raise RuntimeError(f"not answered: {answer!r}")
        _end(made, chance)


def _put(served: Served, chance: random.Random) -> None:
    with _connected(served) as made, contextlib.suppress(ConnectionError):
        made.sendall(_head("PUT", "/bench/never", length=16 * _MIB))
        made.sendall(_BODY[: chance.randrange(len(_BODY))])
        _end(made, chance)


def _copy(served: Served, chance: random.Random) -> None:
    with _connected(served) as made:
        made.sendall(_head("PUT", "/bench/copied", x_amz_copy_source="/bench/source"))
        time.sleep(chance.uniform(0.0, 0.01))
        _end(made, chance)


def _list(served: Served, chance: random.Random) -> None:
    with _connected(served) as made:
        made.sendall(_head("GET", "/bench", "list-type=2&prefix=listed%2F"))
        time.sleep(chance.uniform(0.0, 0.003))
        _end(made, chance)


def _handshake(served: Served, chance: random.Random) -> None:
    written = ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(served.ca))
    client = context.wrap_bio(ssl.MemoryBIO(), written, server_hostname=served.host)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = written.read()
    with _connected(served) as made, contextlib.suppress(ConnectionError):
        stage = chance.randrange(4)
        made.sendall(b"" if stage == 0 else hello[: len(hello) // 2] if stage == 1 else hello)
        if stage == 3:
            made.recv(16)
        _end(made, chance)
