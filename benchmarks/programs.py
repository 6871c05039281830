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
    """The path of `name`.c as a program, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = f"{folder}/{name}"
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", path, str(_HERE / f"{name}.c")]
        subprocess.run([*command, *(f"-l{library}" for library in libraries)], check=True)
        yield path
