"""CRC32C (RFC 3720), CRC32 (zlib) and CRC64NVME (NVM Express), incremental and combinable.

`value` is the result of the call before, 0 at the start; `data` any contiguous buffer. The GIL is
released for all but short inputs. `*_combine(crc1, crc2, len2)` is the CRC of two pieces of data
one after the other, from the CRC of each and the length of the second in bytes (below 2^64).
OverflowError for values out of range.
"""

from typing import Literal

from typing_extensions import Buffer

Path = Literal["portable", "sse42", "pclmul", "vpclmul"]

PATHS: tuple[Path, ...]

def paths() -> list[Path]:
    """The code paths that this CPU offers, plainest first."""

def path() -> Path:
    """The code path in use."""

def force_path(name: Path | None) -> None:
    """Uses a code path from now on, in all threads; None: the best one. For tests."""

def crc32c(data: Buffer, value: int = 0) -> int: ...
def crc32(data: Buffer, value: int = 0) -> int: ...
def crc64nvme(data: Buffer, value: int = 0) -> int: ...
def crc32c_combine(crc1: int, crc2: int, len2: int) -> int: ...
def crc32_combine(crc1: int, crc2: int, len2: int) -> int: ...
def crc64nvme_combine(crc1: int, crc2: int, len2: int) -> int: ...
