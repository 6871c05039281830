"""Reed-Solomon over GF(2^8), polynomial 0x11D; systematic, k data and m parity blocks.

k >= 1, m >= 0, k + m <= 256. Every block of a call has `block_bytes` bytes, zero included; buffers
are contiguous, of any alignment, and may be longer. Shards 0..k-1 are data, k..k+m-1 parity. The
first parity shard is the XOR of the data. ValueError for arguments that do not fit. The GIL is
released while bytes are worked on.
"""

from collections.abc import Iterable
from typing import Literal

from typing_extensions import Buffer

Path = Literal["portable", "ssse3", "avx2", "gfni"]

PATHS: tuple[Path, ...]

def paths() -> list[Path]:
    """The code paths that this CPU offers, slowest first."""

def path() -> Path:
    """The code path in use."""

def force_path(name: Path | None) -> None:
    """Uses a code path from now on, in all threads; None: the best one. For tests."""

def affine_matrix(coefficient: int) -> int:
    """The 64-bit operand with which VGF2P8AFFINEQB multiplies by `coefficient`."""

def generator_matrix(k: int, m: int) -> list[bytes]:
    """k + m rows of k coefficients; any k of the rows are invertible."""

def plans_cached() -> tuple[int, int]:
    """Prepared matrices held: how many, and their bytes."""

def encode(k: int, m: int, buffer: Buffer, block_bytes: int) -> None:
    """`buffer`, writable, holds k + m blocks: the first k are read, the last m overwritten."""

def encode_with_crcs(k: int, m: int, buffer: Buffer, block_bytes: int) -> list[int]:
    """`encode`, and the CRC32C of each of the k + m blocks."""

def reconstruct(
    k: int,
    m: int,
    present: Iterable[tuple[int, Buffer]],
    wanted: Iterable[tuple[int, Buffer]],
    block_bytes: int,
) -> None:
    """Overwrites the `wanted` blocks (shard, writable buffer), data or parity, from exactly k
    `present` ones (shard, buffer). No wanted block may overlap another block of the call."""
