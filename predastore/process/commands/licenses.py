"""`s3d licenses`: the licences of all that the program is made of.

A binary carries the text that its build wrote, which also names Python and the system libraries
inside. Anywhere else it is put together from the installed packages.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import predastore
from predastore.process import flags

_FILES: Final = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)[^/]*$", re.IGNORECASE)
_RULE: Final = "=" * 80


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`s3d licenses`; the exit code."""
    made = flags.Parser(
        prog="s3d licenses",
        description="Shows the licences of all that s3d is made of.",
    )
    made.add_argument("-h", "-help", "--help", action="help", help="show this and exit")
    made.take(arguments)
    kept = Path(predastore.__file__).with_name("licenses.txt")
    sys.stdout.write(kept.read_text("utf-8") if kept.exists() else render(packages()))
    return 0


def packages() -> list[tuple[str, str, str]]:
    """(title, licence, text) of this project and of each package that it needs."""
    found: dict[str, Distribution] = {}
    waiting = ["predastore"]
    while waiting:
        name = _normal(waiting.pop(0))
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # needed on another platform only
            continue
        waiting += [
            re.split(r"[\s;<>=!~\[(]", line, maxsplit=1)[0]
            for line in found[name].requires or []
            if "extra ==" not in line
        ]
    return [(f"{one.name} {one.version}", _licence(one), _texts(one)) for one in found.values()]


def render(rows: Sequence[tuple[str, str, str]]) -> str:
    """A table of (title, licence, text), and below it the texts."""
    width = max(len(title) for title, _, _ in rows)
    lines = [f"{title.ljust(width)}  {licence}".rstrip() for title, licence, _ in rows]
    for title, _, text in rows:
        if text.strip():
            lines += ["", _RULE, title, _RULE, "", text.strip()]
    return "\n".join(lines) + "\n"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence(one: Distribution) -> str:
    for key in ("License-Expression", "License"):
        expression = (one.metadata.get_all(key) or [""])[0]
        if expression and "\n" not in expression:
            return str(expression)
    classifiers = one.metadata.get_all("Classifier") or []
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    return ", ".join(names) or "see below"


def _texts(one: Distribution) -> str:
    files = [file for file in one.files or [] if _FILES.search(file.name)]
    texts = [
        Path(str(file.locate())).read_text("utf-8", "replace")
        for file in sorted(files, key=str)
        if any(part.endswith(".dist-info") for part in file.parts)
    ]
    return "\n\n".join(texts)
