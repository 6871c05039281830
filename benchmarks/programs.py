"""Small C programs of the benchmarks, built when they are needed."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_HERE = Path(__file__).parent


@contextlib.contextmanager
def built(name: str, *libraries: str) -> Iterator[str]:
    """The path of `name`.c, or of the sources in the folder `name`, as a program, for as long as
    the block lasts."""
    folder = _HERE / name
    sources = sorted(folder.glob("*.c")) if folder.is_dir() else [_HERE / f"{name}.c"]
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        path = f"{made}/{name}"
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", path]
        names = [f"-l{library}" for library in libraries]
        subprocess.run([*command, *map(str, sources), *names], check=True)
        yield path
