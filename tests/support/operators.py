"""`s3d` commands as an operator types them, and what they draw on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.processes import s3d_command
from support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
CLEAR = "\x1b[H\x1b[2J"


class Screen:
    """What a command draws on a terminal, and draws again."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self._process = process
        self._terminal = terminal
        self._text = ""
        os.set_blocking(terminal, False)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # nothing new, or it has ended
            while data := os.read(self._terminal, 65_536):
                self._text += data.decode("utf-8", "replace")

    def count(self) -> int:
        """How often it was drawn."""
        self._read()
        return self._text.count(CLEAR)

    def last(self) -> str:
        self._read()
        return self._text.rpartition(CLEAR)[2]

    def ends(self) -> int:
        """The exit code, once it has one."""

        def has_ended() -> bool:
            self._read()
            return self._process.poll() is not None

        eventually(has_ended, within_s=90, what="the end of the command")
        return self._process.wait()


class Operator:
    """`s3d` commands with the configuration of the cluster."""

    def __init__(self, folder: Path, file: str = "cluster.toml") -> None:
        self._folder = folder
        self._file = file

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return [*s3d_command(), *arguments, "-config", self._file, "-base-path", "data"]

    @contextlib.contextmanager
    def watching(self, *arguments: str) -> Iterator[Screen]:
        """The command in a terminal."""
        terminal, inside = os.openpty()
        process = subprocess.Popen(
            self._command(arguments),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        os.close(inside)
        try:
            yield Screen(process, terminal)
        finally:
            process.kill()
            process.wait(10)
            os.close(terminal)

    def run(self, *arguments: str, code: int | None = 0) -> str:
        done = subprocess.run(
            self._command(arguments),
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("cluster", "status", "--json", code=None))
        return found

    def nodes(self) -> dict[int, dict[str, Any]]:
        return {node["id"]: node for node in self.status()["nodes"]}

    def shards(self, key: str, code: int | None = 0) -> list[dict[str, Any]]:
        text = self.run("object", "locate", f"s3://shelf/{key}", "--json", code=code)
        return json.loads(text)["shards"]
