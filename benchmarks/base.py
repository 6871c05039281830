"""Another commit of this project, built beside this one: what BASE=<commit> is measured against.

It is a worktree of git with a Python environment of its own, under ~/.cache/predastore-bench
(BENCH_CACHE: elsewhere). It is built once, by its own Makefile, in some minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import ROOT


@dataclass(frozen=True)
class Program:
    """What runs an `s3d`: a command, and the directory whose source it is."""

    label: str
    command: tuple[str, ...]
    root: Path


def wanted() -> Program | None:
    """The program of the commit that BASE names, built; None: it names none."""
    name = os.environ.get("BASE", "")
    return built(name) if name else None


def built(name: str) -> Program:
    """RuntimeError where `name` is no commit of this repository, or can not be built."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if not commit:
        raise RuntimeError(f"BASE={name}: no such commit here; see `git log`")
    folder = _cache() / commit[:12]
    python = folder / ".venv" / "bin" / "python"
    if not (folder / ".venv" / ".build").exists():
        print(f"building {name} in {folder} (some minutes, once) ...", file=sys.stderr, flush=True)
        _git("worktree", "prune")
        if not (folder / "Makefile").exists():
            _git("worktree", "add", "--detach", str(folder), commit)
        outside = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        done = subprocess.run(
            ["make", "-C", str(folder), "build"],
            env=outside,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode:
            said = done.stdout.decode(errors="replace")[-4000:]
            raise RuntimeError(f"BASE={name} was not built in {folder}:\n{said}")
    return Program(commit[:7], (str(python), "-m", "predastore"), folder)


def _cache() -> Path:
    chosen = os.environ.get("BENCH_CACHE")
    if chosen:
        return Path(chosen).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "predastore-bench"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode and arguments[0] == "worktree":
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()
