"""Constant load from two gateways, and a ledger of what was acknowledged.

Each client has a pace: its requests are due at fixed times, and a request's latency counts from
when it was due, so that a stall is seen by all requests that it held up. Every object has a key
of its own and bytes that follow from the key: whatever a GET returns can be judged.
"""

from __future__ import annotations

import functools
import http.client
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.faults.world import ACCESS_KEY, PORT, SECRET
from support.s3raw import Raw, Signer

BUCKET = "faults"
SIZES = (4096,) * 5 + (100_000,) * 3 + (1 << 20,) * 2 + (4 << 20,)
TIMEOUT_S = 40.0
WRITERS, READERS = 2, 3  # at each gateway
WRITE_EVERY_S, READ_EVERY_S = 0.4, 0.15


def content(key: str) -> bytes:
    draw = random.Random(key)
    return draw.randbytes(draw.choice(SIZES))


class Client:
    """One keep-alive connection to a gateway; anything but the right answer raises. What is
    answered 503 is asked again for `patience_s`, as clients of S3 do."""

    def __init__(self, address: str, patience_s: float = 0.0) -> None:
        self._signer = Signer(address, PORT, ACCESS_KEY, SECRET, "us-east-1")
        self._patience_s = patience_s
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        give_up = time.monotonic() + self._patience_s
        status, found = self._ask(method, path, body)
        while status == 503 and time.monotonic() < give_up:
            status, found = self._ask(method, path, body)
        if status != 200:
            raise AssertionError(f"{method} {path}: {status} {found[:400]!r}")
        return found

    def _ask(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        raw = Raw(method, path, body=body, payload="UNSIGNED-PAYLOAD")
        fields = {**self._signer.fields(raw), "content-length": str(len(body))}
        if self._connection is None:
            host, port = self._signer.address
            self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        try:
            self._connection.request(method, path, body, fields)
            answer = self._connection.getresponse()
            found = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        return answer.status, found

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(frozen=True)
class Seen:
    """One request: when it was due, how long after that it was answered, and what went wrong."""

    kind: str
    due: float
    took_s: float
    wrong: str = ""


@dataclass
class Ledger:
    """`exposed`: acknowledged while hosts were down, so perhaps with fewer shards than k + m; they
    can stand the loss of other hosts only after they are repaired."""

    safe: list[str] = field(default_factory=list)
    exposed: list[str] = field(default_factory=list)
    failing: bool = False

    def acknowledged(self, key: str, began_failing: bool) -> None:
        (self.exposed if began_failing or self.failing else self.safe).append(key)

    def some(self, draw: random.Random) -> str | None:
        """One to read: in part the newest, which are in no cache of the past."""
        exposed = self.exposed
        if exposed and draw.random() < 0.3:
            return draw.choice(exposed)
        return draw.choice(self.safe) if self.safe else None


class Load:
    """Runs until `stop`. `patience_s`: of the clients."""

    def __init__(self, gateways: list[str], patience_s: float = 0.0) -> None:
        self._patience_s = patience_s
        self.ledger = Ledger()
        self.seen: list[Seen] = []
        self.answered_up_to: dict[str, float] = {}  # by client: all that was due before
        self._stopping = threading.Event()
        first = Client(gateways[0])
        first.ask("PUT", f"/{BUCKET}")
        first.close()
        self._threads = [
            threading.Thread(target=work, args=(gateway, f"{number}-{kind}{n}"), daemon=True)
            for number, gateway in enumerate(gateways)
            for work, kind, count in ((self._write, "w", WRITERS), (self._read, "r", READERS))
            for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _write(self, gateway: str, name: str) -> None:
        client, number = Client(gateway, self._patience_s), 0
        due = time.monotonic()
        while not self._stopping.is_set():
            key = f"{name}/{number}"
            number += 1
            began_failing = self.ledger.failing
            put = functools.partial(client.ask, "PUT", f"/{BUCKET}/{key}", content(key))
            if self._timed("PUT", due, put):
                self.ledger.acknowledged(key, began_failing)
            due = self.answered_up_to[name] = self._pause(due, WRITE_EVERY_S)
        client.close()

    def _read(self, gateway: str, name: str) -> None:
        client, draw = Client(gateway, self._patience_s), random.Random(name)
        due = time.monotonic()
        while not self._stopping.is_set():
            key = self.ledger.some(draw)
            if key is not None:
                self._timed("GET", due, functools.partial(self.check, client, key))
            due = self.answered_up_to[name] = self._pause(due, READ_EVERY_S)
        client.close()

    @staticmethod
    def check(client: Client, key: str) -> None:
        found = client.ask("GET", f"/{BUCKET}/{key}")
        assert found == content(key), f"WRONG BYTES in {key}"

    def _timed(self, kind: str, due: float, work: Callable[[], object]) -> bool:
        wrong = ""
        try:
            work()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            wrong = f"{type(error).__name__}: {error}"
        self.seen.append(Seen(kind, due, time.monotonic() - due, wrong))
        return not wrong

    def _pause(self, due: float, every_s: float) -> float:
        """Until the next request is due. After a stall the missed ones are made up for, up to a
        second's worth, so that the stall is not seen as one request alone."""
        next_due = max(due + every_s, time.monotonic() - 1.0)
        self._stopping.wait(max(0.0, next_due - time.monotonic()))
        return next_due

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S + 10)
            assert not thread.is_alive(), "a client hangs"

    def failures(self, kind: str) -> list[Seen]:
        return [one for one in list(self.seen) if one.kind == kind and one.wrong]
