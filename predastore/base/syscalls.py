"""System calls that Python's `os` lacks, bound with cffi; Linux only.

Every function releases the GIL while it runs, and raises OSError with the errno.
"""

from __future__ import annotations

import os

import cffi

_ffi = cffi.FFI()
_ffi.cdef(
    """
    int sync_file_range(int fd, int64_t offset, int64_t length, unsigned int flags);
    """
)
_libc = _ffi.dlopen(None)

_SYNC_FILE_RANGE_WRITE = 2  # <linux/fs.h>


def _check(result: int) -> None:
    if result < 0:
        number = _ffi.errno
        raise OSError(number, os.strerror(number))


def start_writeback(descriptor: int, offset: int, length: int) -> None:
    """Starts writing the dirty pages of a range to disk, and does not wait for them.

    Not a promise: only fsync or fdatasync makes anything durable (sync_file_range(2)).
    """
    _check(_libc.sync_file_range(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE))
