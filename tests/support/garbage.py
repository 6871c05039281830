"""What only a collection would free: found with the collector off, and without freeing it first.

with Garbage() as garbage:
    ...                      # the collector is off
    assert not garbage.left()
"""

from __future__ import annotations

import gc
import types
from asyncio import Future
from collections.abc import Awaitable, Iterator
from mmap import mmap
from types import TracebackType

# What holds the memory of a request, or leads to it, whoever made it.
_HOLDERS = (
    *(types.FrameType, types.TracebackType, types.CoroutineType, types.AsyncGeneratorType),
    *(BaseException, Future, memoryview, bytearray, mmap),
)


class Garbage:
    """The collector is off until the block ends."""

    def __enter__(self) -> Garbage:
        gc.collect()
        gc.disable()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        gc.enable()

    def left(self) -> list[str]:
        """What is unreachable and not freed: objects of the product, frames, tasks, buffers."""
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return sorted(_described(gc.garbage))
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.collect()


def _described(objects: list[object]) -> Iterator[str]:
    for each in objects:
        kind = type(each)
        if isinstance(each, types.FrameType):
            yield f"frame of {each.f_code.co_qualname}, line {each.f_lineno}"
        elif isinstance(each, _HOLDERS) or kind.__module__.startswith(("predastore", "aioquic")):
            yield f"{kind.__module__}.{kind.__qualname__}"


async def fails(kind: type[BaseException], work: Awaitable[object]) -> None:
    """`work` raises an error of `kind`, which is forgotten, as a request's is."""
    try:
        await work
    except kind:
        return
    finally:
        del work  # a task keeps its error
    raise AssertionError(f"no {kind.__name__}")
