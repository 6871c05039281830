"""The yardstick of large GETs: a bare server in C (sender.c), over files with the same bytes.

The files are laid out as the data shards of RS(3,2) are: tiles that go to three files in turn.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks import payload
from benchmarks.bare import Bare
from benchmarks.programs import built

FILES: Final = 3
_TILE_BYTES: Final = 256 << 10


@contextlib.contextmanager
def running(
    folder: Path, size_bytes: int, count: int, tls: tuple[str, str] | None = None
) -> Iterator[Bare]:
    """The server, with objects 0 to `count`; `tls`: (certificate file, key file)."""
    folder.mkdir()
    for number in range(count):
        _write(folder, number, size_bytes)
    with built("sender", "ssl", "crypto") as program:
        process = subprocess.Popen(
            [program, str(folder), str(size_bytes), *(tls or ())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Bare(int(process.stdout.readline()), process.pid)
        finally:
            process.stdin.close()
            process.stdout.close()
            process.wait(10)


def _write(folder: Path, number: int, size_bytes: int) -> None:
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context((folder / f"{number}.{which}").open("wb")) for which in range(FILES)
        ]
        tile = 0
        for piece in payload.pieces(number, size_bytes):  # a piece is a whole number of tiles
            for at in range(0, len(piece), _TILE_BYTES):
                files[tile % FILES].write(piece[at : at + _TILE_BYTES])
                tile += 1
