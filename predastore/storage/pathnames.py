"""Where the files of a bucket lie that has a directory of its own (`pathname` of [[buckets]]).

What was in force is kept, so that a change of the configuration loses sight of nothing:

    <base_path>/.predastore/pathnames.json      {"format": 1, "buckets": {bucket: absolute path}}

A bucket whose row, or pathname, went goes on lying where it lies. One that is to lie elsewhere has
to be moved there first: a directory that holds what rows speak of has a .predastore in it,
and a start is refused where there is none (it was not moved, or its disk is not mounted).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from predastore.base import fs
from predastore.base.errors import OtherVersion, StartupError
from predastore.storage.interface import Placements
from predastore.storage.plain_names import OWN_DIRECTORY, TAKEN

FILE: Final = "pathnames.json"
_FORMAT: Final = 1

_log = logging.getLogger(__name__)


async def in_force(
    base_path: Path, wanted: Mapping[str, Path], placements: Placements
) -> dict[str, Path]:
    """The directories in force; StartupError where what is there does not lie in them."""
    file = base_path / OWN_DIRECTORY / FILE
    before = await asyncio.to_thread(_read, file)
    found = await asyncio.to_thread(_merged, base_path, before, wanted)
    if not found:
        return {}
    names = names_below(base_path, found)
    in_use = [name for name in {*found, *names} if await placements.has_anything(name)]
    await asyncio.to_thread(_check, base_path, before, found, in_use)
    for bucket in found.keys() - wanted.keys():
        extra = {"bucket": bucket, "path": str(found[bucket])}
        _log.info("the files of a bucket lie where they did", extra=extra)
    if found != before:
        await asyncio.to_thread(_write, file, found)
    return found


def names_below(base_path: Path, roots: Mapping[str, Path]) -> frozenset[str]:
    """The names in the base path below which these directories lie: no bucket can have them."""
    base = _real(base_path)
    below = (root.relative_to(base).parts for root in roots.values() if root.is_relative_to(base))
    return frozenset(parts[0] for parts in below if parts)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _merged(
    base_path: Path, before: Mapping[str, Path], wanted: Mapping[str, Path]
) -> dict[str, Path]:
    """Those that were in force, and those that are wanted, but for a bucket that is to lie where
    it would lie anyway."""
    found = {bucket: _real(path) for bucket, path in {**before, **wanted}.items()}
    base = _real(base_path)
    return {
        bucket: path for bucket, path in found.items() if bucket in before or path != base / bucket
    }


def _check(
    base_path: Path, before: Mapping[str, Path], found: Mapping[str, Path], in_use: list[str]
) -> None:
    """What rows speak of lies there, and nothing else of ours."""
    _check_apart(_real(base_path), found, in_use)
    for bucket, path in found.items():
        if bucket not in in_use:
            continue
        lies = base_path / bucket
        if bucket not in before and lies.is_dir() and any(lies.iterdir()):
            raise StartupError(
                f"bucket {bucket}: its files lie in {lies}; move what is in there to {path}, or "
                "leave pathname out"
            )
        if bucket in before and not (path / OWN_DIRECTORY).is_dir():
            raise StartupError(
                f"bucket {bucket}: its files lay in {before[bucket]}, and are not in {path}; mount "
                f'the disk, move the directory, or write pathname = "{before[bucket]}"'
            )


def _check_apart(base: Path, roots: Mapping[str, Path], in_use: list[str]) -> None:
    rows = list(roots.items())
    for number, (bucket, path) in enumerate(rows):
        place = f"bucket {bucket}: pathname {path}"
        if base.is_relative_to(path):
            raise StartupError(f"{place} holds the base path {base}; name another directory")
        [name] = names_below(base, {bucket: path}) or [""]
        if name in (OWN_DIRECTORY, *TAKEN) or (name != bucket and name in in_use):
            raise StartupError(
                f"{place} lies in {base / name}, where other files are; name another directory"
            )
        for other, there in rows[:number]:
            if path.is_relative_to(there) or there.is_relative_to(path):
                raise StartupError(
                    f"{place} and that of {other}, {there}, lie within each other; name another"
                )


def _read(file: Path) -> dict[str, Path]:
    try:
        raw = json.loads(file.read_text("utf-8"))
        found, buckets = raw["format"], raw["buckets"]
        if found == _FORMAT:
            return {str(bucket): Path(path) for bucket, path in buckets.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise StartupError(
            f"{file} can not be read ({error}); restore it from a backup: it says where the files "
            "of some buckets lie"
        ) from None
    raise OtherVersion(
        f"{file} has format {found}, this program reads {_FORMAT}; run the version that wrote it"
    )


def _write(file: Path, roots: Mapping[str, Path]) -> None:
    fs.make_folder(file.parent)
    buckets = {bucket: str(path) for bucket, path in sorted(roots.items())}
    content = json.dumps({"format": _FORMAT, "buckets": buckets}, indent=2)
    fs.write_file(file, f"{content}\n".encode(), 0o600)
