"""Reads a TOML file into a Config, and reports every mistake of it at once.

The file is parsed by tomllib, walked along the tables of `fields`, and checked as a whole by
`checks`. Nothing touches the disk but to read the file. Each problem is one line: where it
stands, what is wrong, and what to write instead.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from predastore.config.checks import check, place
from predastore.config.fields import FIELDS, REPEATED, SINGLE
from predastore.config.model import (
    RAFT_PORT_OFFSET,
    Auth,
    Bucket,
    Cluster,
    Config,
    Db,
    Node,
    Rs,
)
from predastore.errors import ConfigError


@dataclass
class _Reader:
    """Walks the parsed file and gathers problems, each with its line where it can be found."""

    file: str
    lines: list[str]
    problems: list[str] = field(default_factory=list)

    def problem(self, table: str, number: int, key: str, what: str) -> None:
        line, where = self._line(table, number, key), place(table, number, key)
        self.problems.append(f"{self.file}{f':{line}' if line else ''}: {where}: {what}")

    def _line(self, table: str, number: int, key: str) -> int:
        """1-based line of the key, or of its table; 0 when it does not stand in the file."""
        header = f"[[{table}]]" if number >= 0 else f"[{table}]"
        seen, start = -1, 0 if not table else -1
        for index, text in enumerate(self.lines):
            bare = text.split("#")[0].strip()
            if table and bare.replace(" ", "") == header:
                seen += 1
                if seen == max(number, 0):
                    start = index
            elif start >= 0 and key and re.match(rf'"?{re.escape(key)}"?\s*=', bare):
                return index + 1
            elif start >= 0 and bare.startswith("[") and index > start:
                break
        return start + 1 if table and start >= 0 else 0

    def table(self, name: str, number: int, raw: Any) -> dict[str, Any] | None:
        """The fields of one table that could be read; None when the table itself is unusable."""
        if not isinstance(raw, dict):
            form = f"[[{name}]]" if number >= 0 else f"[{name}]"
            self.problem(name, number, "", f"expected a table; write {form} and its keys below it")
            return None
        fields, values, before = FIELDS[name], {}, len(self.problems)
        for key, value in raw.items():
            if name == "" and key in (*SINGLE, *REPEATED):
                continue
            if key not in fields:
                self.problem(name, number, key, f"unknown key; known are {', '.join(fields)}")
                continue
            try:
                values[fields[key].attribute or key] = fields[key].read(value)
            except ValueError as error:
                self.problem(name, number, key, str(error))
        for key, spec in fields.items():
            if spec.required and key not in raw:
                self.problem(name, number, key, f"missing; write {key} = {_EXAMPLE[key]}")
        return values if name in ("", *SINGLE) or len(self.problems) == before else None


_EXAMPLE: Final = {
    "id": "1",
    "host": '"192.168.1.10"',
    "port": "9991",
    "access_key_id": '"..."',
    "secret_access_key": '"..."',
    "name": '"my-bucket"',
}


def load(path: Path) -> Config:
    """The configuration in `path`; ConfigError lists all that is wrong with it."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            [f"{path}: can not be read ({reason}); name another with -config"]
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8"]) from None
    try:
        return parse(_toml(text, path), str(path), text.splitlines())
    except RecursionError:
        raise ConfigError([f"{path}: nested too deeply; write plain values and tables"]) from None


def _toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # no TOML, or a number of thousands of digits
        raise ConfigError([f"{path}: not TOML: {error}; mend that line"]) from None


def parse(raw: Mapping[str, Any], file: str, lines: list[str] | None = None) -> Config:
    """The configuration in a parsed TOML document; `file` and `lines` are for messages only."""
    reader = _Reader(file, lines or [])
    top = reader.table("", -1, dict(raw)) or {}
    single = {name: reader.table(name, -1, raw.get(name, {})) or {} for name in SINGLE}
    repeated: dict[str, list[dict[str, Any]]] = {}
    counts: dict[str, int] = {}
    for name in REPEATED:
        rows = raw.get(name, [])
        if not isinstance(rows, list):
            reader.problem(
                name, 0, "", f"expected a list of tables; write [[{name}]], in two brackets"
            )
            rows = []
        counts[name] = len(rows)
        read = (reader.table(name, number, row) for number, row in enumerate(rows))
        repeated[name] = [values for values in read if values is not None]
    base = Path(top.get("base_path", Config.base_path))
    config = Config(
        **top,
        rs=Rs(**single["rs"]),
        cluster=Cluster(**single["cluster"]),
        db=tuple(_db(values, base) for values in repeated["db"]),
        nodes=tuple(_node(values, base) for values in repeated["nodes"]),
        auth=tuple(Auth(**values) for values in repeated["auth"]),
        buckets=tuple(Bucket(**values) for values in repeated["buckets"]),
        source=file,
    )
    check(config, counts["nodes"], reader.problem)
    if reader.problems:
        raise ConfigError(reader.problems)
    return config


def _db(values: dict[str, Any], base: Path) -> Db:
    path = base / values.pop("path", Path("db") / f"db-{values['id']}")
    # A port too high for the offset is reported by `checks` as a raft_port out of range.
    raft_port = values.pop("raft_port", values["port"] + RAFT_PORT_OFFSET)
    return Db(**values, raft_port=raft_port, path=path)


def _node(values: dict[str, Any], base: Path) -> Node:
    path = base / values.pop("path", Path("nodes") / f"node-{values['id']}")
    return Node(**values, path=path)
