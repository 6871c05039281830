"""lmdb files, looked at before lmdb maps them.

lmdb believes what stands in its file: one that was cut short ends the process by SIGBUS, without a
word, and at each start. So every file that was there before is read through first (`check`), which
costs about as much as reading it; `_fast/lmdbfile` does it. What lmdb itself says of a file that it
can not open may be about something else than the file (`is_damage`).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

import lmdb

from predastore._fast import lmdbfile as kernel
from predastore._fast.crc import crc32c
from predastore.base.errors import CorruptData, reason

_CRC_BYTES: Final = 4
# Of the process or its disk, and gone another time.
_PASSING: Final = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EAGAIN),
    errno.EINTR,
)


def check(file: Path, *, with_crcs: bool = False) -> None:
    """CorruptData: `file` is no lmdb file, is not whole, or can not be read to its end. OSError: it
    can not be opened. `with_crcs`: its values are `sealed`."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CorruptData(f"{file}: it is no file")
        kernel.check(descriptor, with_crcs)
    except ValueError as error:
        raise CorruptData(f"{file}: {error}") from None
    except OSError as error:
        if error.errno in _PASSING:
            raise
        raise CorruptData(f"{file}: it can not be read ({reason(error)})") from error
    finally:
        os.close(descriptor)


def is_damage(error: lmdb.Error) -> bool:
    """Whether it is the file that lmdb can not open, not descriptors, memory or room that lack."""
    return getattr(error, "code", 0) not in _PASSING


def sealed(key: bytes, value: bytes) -> bytes:
    """What to store for `value`: damage is found by `check`."""
    return value + crc32c(value, crc32c(key)).to_bytes(_CRC_BYTES, "little")


def unsealed(stored: bytes) -> bytes:
    """The value; not compared: `check` was there before."""
    return stored[:-_CRC_BYTES]
