"""The rows of `BENCH=s3`: what is asked for, of which size, by how many clients.

Names are s3.OPERATION.SIZE.cCLIENTS, with .tls where it is over TLS and .unsigned where a PUT over
plain HTTP does not sign its body (others do, as SDKs do it). BENCH=s3 takes DEFAULTS, a quarter of
an hour; a longer prefix takes every cell with it: BENCH=s3.put.4k, BENCH=s3.get.10m.c256.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
CLIENTS: Final = (1, 16, 256)
RANGE_BYTES: Final = 64 * KIB
LISTED: Final = 1000
WRITTEN_BYTES_MAX: Final = 768 * MIB  # by large PUTs or copies, in a round; or one object


@dataclass(frozen=True)
class Size:
    """`stored`: objects that reads are of; `keys`: those that a round of PUTs may use."""

    name: str
    size_bytes: int
    stored: int
    keys: int
    seconds: float = 1.5

    @property
    def is_large(self) -> bool:
        """Whether its rate is in bytes."""
        return self.size_bytes >= MIB


SIZES: Final = {
    size.name: size
    for size in (
        Size("4k", 4 * KIB, stored=3000, keys=16_384),
        Size("64k", 64 * KIB, stored=512, keys=4096),
        Size("1m", MIB, stored=128, keys=4096),
        Size("10m", 10 * MIB, stored=32, keys=1024, seconds=2.0),
        Size("1g", 1024 * MIB, stored=1, keys=16),
    )
}


@dataclass(frozen=True)
class Cell:
    operation: str  # put, get, range, head, list, delete, copy
    size: Size
    clients: int
    tls: bool = False
    unsigned: bool = False

    @property
    def name(self) -> str:
        what = f"{LISTED}" if self.operation == "list" else self.size.name
        ends = (".tls" if self.tls else "") + (".unsigned" if self.unsigned else "")
        return f"s3.{self.operation}.{what}.c{self.clients}{ends}"

    @property
    def written_max(self) -> int:
        """How many objects a round writes at most, of large ones; 0: what its time allows."""
        if not self.writes_large:
            return 0
        return max(self.clients, WRITTEN_BYTES_MAX // self.size.size_bytes)

    @property
    def counts_bytes(self) -> bool:
        """Whether the rate is in MiB/s; else in requests a second."""
        return self.size.is_large and self.operation in ("put", "get")

    @property
    def signs_body(self) -> bool:
        return not self.tls and not self.unsigned

    @property
    def reads_stored(self) -> bool:
        return self.operation in ("get", "range", "head", "list", "copy")

    @property
    def writes_large(self) -> bool:
        return self.size.is_large and self.operation in ("put", "copy")

    @property
    def group(self) -> tuple[bool, bool, str]:
        """Cells that share servers. What writes much has servers, and data, of its own."""
        return self.tls, self.size.is_large, self.name if self.writes_large else ""


def _all() -> list[Cell]:
    """Every cell there is, in the order in which they are measured."""
    found = []
    for tls in (False, True):
        for size in SIZES.values():
            operations = ["put", "get"]
            operations += ["head", "list", "delete", "copy"] if size.name == "4k" else []
            operations += ["range"] if size.name == "10m" else []
            operations += ["copy"] if size.name in ("10m", "1g") else []
            for operation in operations:
                for clients in CLIENTS if size.name != "1g" else CLIENTS[:1]:
                    found.append(Cell(operation, size, clients, tls))
                    if operation == "put" and not tls:
                        found.append(Cell(operation, size, clients, tls, unsigned=True))
    return found


CELLS: Final = sorted(_all(), key=lambda cell: cell.group)
DEFAULTS: Final = frozenset(
    f"s3.{what}.{how}"
    for what, hows in {
        "put.4k": (
            "c1",
            "c16",
            "c256",
            "c16.tls",
        ),
        "get.4k": (
            "c1",
            "c16",
            "c256",
            "c16.tls",
            "c256.tls",
        ),
        "head.4k": (
            "c1",
            "c16",
        ),
        "list.1000": (
            "c1",
            "c16",
        ),
        "delete.4k": ("c16",),
        "copy.4k": ("c16",),
        "put.64k": ("c16",),
        "get.64k": ("c16",),
        "put.1m": ("c16",),
        "get.1m": ("c16",),
        "put.10m": (
            "c1",
            "c16",
            "c16.unsigned",
            "c16.tls",
        ),
        "get.10m": (
            "c1",
            "c16",
            "c16.tls",
        ),
        "range.10m": ("c16",),
        "copy.10m": ("c1",),
        "put.1g": ("c1",),
        "get.1g": ("c1",),
    }.items()
    for how in hows
)


def picked(prefix: str) -> list[Cell]:
    """The cells that BENCH=`prefix` asks for."""
    if len(prefix) <= len("s3."):
        return [cell for cell in CELLS if cell.name in DEFAULTS]
    return [cell for cell in CELLS if cell.name.startswith(prefix)]
