"""Writes to files that are synced, one at a time, in a thread that needs no interpreter.

A thread of Python's has to have the interpreter before it writes and again after the sync, which
it gets when the event loop's thread has nothing else to do: late, where commits are many.
"""

class Syncer:
    """Its thread ends with `close`."""

    def __init__(self) -> None:
        """OSError: there is no thread, or no descriptor, to be had."""

    def fileno(self) -> int:
        """A descriptor that is readable once the write under way is done."""

    def begin(self, fd: int, data: bytes, offset: int) -> None:
        """Writes all of `data` at `offset` and then calls fdatasync(2). ValueError if a write is
        under way already, or it is closed."""

    def finish(self) -> float:
        """How long fdatasync took, in seconds. OSError: the write or the sync failed, and nothing
        is known about what the disk has. BlockingIOError: it is not done yet."""

    def close(self) -> None:
        """Waits for the write under way."""
