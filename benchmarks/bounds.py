"""What the machine could do at best for a PUT: its processors, at the kernels' own speeds.

A body's bytes are copied from the socket once, their MD5 is taken, and their SHA-256 where the
client signed it; parity is made; (k + m) / k times as many bytes get a CRC32C and are copied to
the page cache. That many nanoseconds a byte are the processor's price. Copies are between
buffers that do not fit the caches.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable
from typing import Final

from predastore._fast import crc, gf256

_BLOCK_BYTES: Final = 1 << 20
_COPY_BYTES: Final = 64 << 20
_SAMPLE_S: Final = 0.03

NAMES: Final = ("md5", "sha256", "crc32c", "parity", "copy")


class Kernels:
    """Bytes a second of each of NAMES on one processor; of `parity`, bytes of data."""

    def __init__(self, k: int, m: int) -> None:
        self._k, self._m = k, m
        self._shards = bytearray(os.urandom((k + m) * _BLOCK_BYTES))
        self._data = bytes(self._shards[:_BLOCK_BYTES])
        self._from = memoryview(bytearray(os.urandom(_COPY_BYTES)))
        self._to = memoryview(bytearray(_COPY_BYTES))
        self._work: dict[str, tuple[int, Callable[[], object]]] = {
            "md5": (_BLOCK_BYTES, lambda: hashlib.md5(self._data).digest()),
            "sha256": (_BLOCK_BYTES, lambda: hashlib.sha256(self._data).digest()),
            "crc32c": (_BLOCK_BYTES, lambda: crc.crc32c(self._data)),
            "parity": (k * _BLOCK_BYTES, lambda: gf256.encode(k, m, self._shards, _BLOCK_BYTES)),
            "copy": (_COPY_BYTES, self._copy),
        }
        self.samples: dict[str, list[float]] = {name: [] for name in NAMES}

    def _copy(self) -> None:
        self._to[:] = self._from

    def sample(self, *, signed: bool) -> float:
        """Measures all; the seconds that a byte of a PUT takes one processor."""
        speed = {name: _rate(*self._work[name]) for name in NAMES}
        for name, rate in speed.items():
            self.samples[name].append(rate)
        spread = (self._k + self._m) / self._k
        price = 1 / speed["md5"] + 1 / speed["parity"] + spread / speed["crc32c"]
        price += (1 + spread) / speed["copy"]
        return price + (1 / speed["sha256"] if signed else 0.0)


def _rate(amount_bytes: int, work: Callable[[], object]) -> float:
    work()
    start, count = time.thread_time(), 0  # of this thread: whoever else is at work does not count
    while (taken_s := time.thread_time() - start) < _SAMPLE_S:
        work()
        count += 1
    return count * amount_bytes / taken_s


def openssl_speed(cipher: str = "aes-256-gcm", record_bytes: int = 16384) -> float:
    """Bytes a second of `openssl speed` on one processor; 0: there is no such program."""
    command = ["openssl", "speed", "-mr", "-elapsed", "-seconds", "1"]
    try:
        done = subprocess.run(
            [*command, "-bytes", str(record_bytes), "-evp", cipher],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return 0.0
    found = re.search(rf"^\+F:\d+:{cipher}:([0-9.]+)", done.stdout, re.M | re.I)
    return float(found[1]) if found else 0.0
