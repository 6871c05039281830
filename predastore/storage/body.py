"""Taking a body of a declared size from its source: BodyMismatch("length") for any other size.

Where a size is the most that there may be (`may_end`), the source says where the body ends. It then
says so again, as often as it is asked.
"""

from __future__ import annotations

from predastore.base.errors import BodyMismatch
from predastore.base.limits import BACKEND_FIRST_READ_BYTES
from predastore.storage.buffers import Budget, BudgetClient
from predastore.storage.interface import Source


async def first_bytes(source: Source, *, may_end: bool = False) -> bytes:
    """The beginning of a body that is not empty, unless it may end.

    Large bodies are begun with this, and get their share of the memory budget after it: a client
    that sends a head and then nothing takes none.
    """
    buffer = bytearray(BACKEND_FIRST_READ_BYTES)
    count = await source.readinto(memoryview(buffer))
    if count == 0 and not may_end:
        raise BodyMismatch("the body is empty", "length")
    return bytes(memoryview(buffer)[:count])


async def fill(
    source: Source, view: memoryview, filled: int, budget: Budget, *, may_end: bool = False
) -> int:
    """Fills `view`, which is a share of `budget`, from `filled` on; how many bytes it has then:
    fewer than it has room for only where the body may end, and has."""
    client = BudgetClient(budget)
    while filled < len(view):
        count = await client.readinto(source, view[filled:])
        if count == 0:
            if may_end:
                break
            raise BodyMismatch("the body ended before its declared length", "length")
        filled += count
    return filled


async def expect_end(source: Source) -> None:
    """The body's end, at which what verifies it has been verified."""
    if await source.readinto(memoryview(bytearray(1))):
        raise BodyMismatch("the body is longer than its declared length", "length")
