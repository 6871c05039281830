"""Reads a TOML file into a Config, and reports every mistake of it at once.

The file is parsed by tomllib, walked along the tables of `fields`, and checked as a whole by
`checks`. Nothing touches the disk but to read the file. Each problem is one line: where it
stands, what is wrong, and what to write instead. One mistake is one line: a name that is nearly
right stands for what was meant, and what can not be read is not judged with the rest.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from predastore.base.config.checks import check, place
from predastore.base.config.fields import FIELDS, REPEATED, SINGLE
from predastore.base.config.lines import line_of
from predastore.base.config.model import (
    BUCKET_TYPES,
    LOOPBACK,
    RAFT_PORT_OFFSET,
    S3,
    Auth,
    Bucket,
    Cluster,
    Config,
    Db,
    Node,
    Oidc,
    Rs,
)
from predastore.base.config.nearest import nearest
from predastore.base.config.original import SAID
from predastore.base.errors import ConfigError

TABLES: Final = (*SINGLE, *REPEATED)


def _form(table: str) -> str:
    """A table as a file writes it."""
    return f"[[{table}]]" if table in REPEATED else f"[{table}]"


@dataclass
class _Reader:
    """Walks the parsed file and gathers problems, each with its line where it can be found.
    `said`: what is done differently. `doubtful`: tables of which something could not be read.
    `misplaced`: keys that stand, or nearly, where they do not belong."""

    file: str
    lines: list[str]
    problems: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    doubtful: set[str] = field(default_factory=set)
    misplaced: set[str] = field(default_factory=set)

    def problem(self, table: str, number: int, key: str, what: str) -> None:
        self.problems.append(self._told(table, number, key, what))
        self.doubtful.add(table)

    def _told(self, table: str, number: int, key: str, what: str) -> str:
        line, where = line_of(self.lines, table, number, key), place(table, number, key)
        return f"{self.file}{f':{line}' if line else ''}: {where}: {what}"

    def tables(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """What there is under the name of each known table, or under one that is nearly it."""
        found = {name: raw[name] for name in TABLES if name in raw}
        for name, value in raw.items():
            if name in TABLES or name in FIELDS[""] or name in SAID[""] or not _is_table(value):
                continue
            meant = nearest(name, TABLES)
            what = f"did you mean {_form(meant)}?" if meant else f"known are {_KNOWN_TABLES}"
            line = line_of(self.lines, "", -1, name)
            where = f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            at = f"{self.file}{f':{line}' if line else ''}"
            self.problems.append(f"{at}: {where}: unknown table; {what}")
            self.doubtful.update((meant,) if meant else TABLES)  # which of them is not known
            if meant and isinstance(value, list) is (meant in REPEATED):
                found.setdefault(meant, value)
        return found

    def table(self, name: str, number: int, raw: Any) -> dict[str, Any] | None:
        """The fields of one table that could be read; None when the table itself is unusable."""
        if not isinstance(raw, dict):
            form = f"[[{name}]]" if number >= 0 else f"[{name}]"
            self.problem(name, number, "", f"expected a table; write {form} and its keys below it")
            return None
        fields, values, before = FIELDS[name], {}, len(self.problems)
        meant: set[str] = set()
        for key, value in self._own(name, raw):
            if key in fields and _is_table(value) and not fields[key].takes_tables:
                form = f"[[{key}]]" if isinstance(value, list) else f"[{key}]"
                what = (
                    f"{form} is no table, but a key: write {key} = ...; tables are {_KNOWN_TABLES}"
                )
                self.problem(name, number, key, what)
            elif key in fields:
                try:
                    values[fields[key].attribute or key] = fields[key].read(value)
                except ValueError as error:
                    self.problem(name, number, key, str(error))
            elif key in SAID.get(name, {}):
                self._differs(name, number, key, value)
            else:
                meant.add(self._unknown(name, number, key, value))
        missing = [key for key, spec in fields.items() if spec.required and key not in raw]
        for key in missing:
            if key not in meant and key not in self.misplaced:
                self.problem(name, number, key, f"missing; write {key} = {_EXAMPLE[key]}")
        is_whole = not missing and len(self.problems) == before
        return values if name in ("", *SINGLE) or is_whole else None

    def _own(self, name: str, raw: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """The keys of a table; of the top level, those that are not tables of their own."""
        for key, value in raw.items():
            known = key in FIELDS[name] or key in SAID.get(name, {})
            if name or known or not (key in TABLES or _is_table(value)):
                yield key, value

    def _differs(self, name: str, number: int, key: str, value: Any) -> None:
        """A key of the original's that means something else here."""
        try:
            what = SAID[name][key](value)
        except ValueError as error:
            self.problem(name, number, key, str(error))
        else:
            if what:
                self.said.append(self._told(name, number, key, what))

    def _unknown(self, name: str, number: int, key: str, value: Any) -> str:
        """Reports an unknown key; the name of the one that was meant, or ""."""
        kind = "table" if _is_table(value) else "key"
        others = _homes(key, name)
        meant = "" if others else nearest(key, [*FIELDS[name], *SAID.get(name, {})])
        elsewhere = key if others else "" if meant or kind == "table" else nearest(key, _EVERY_KEY)
        if elsewhere:
            homes = others or _homes(elsewhere, name)
            self.doubtful.update(homes)
            self.misplaced.add(elsewhere)
        if others:
            above = ", above all tables" if "" in others else ""
            what = f"it is a key of {_named(others)}: write it there{above}"
        elif meant:
            what = f"did you mean {meant}?"
        elif elsewhere:
            what = f"did you mean {elsewhere}, a key of {_named(homes)}?"
        else:
            what = f"known are {', '.join(FIELDS[name])}"
        self.problem(name, number, key, f"unknown {kind}; {what}")
        return meant


def _is_table(value: Any) -> bool:
    """Whether it is a table, or a list of tables."""
    rows = value if isinstance(value, list) and value else [value]
    return all(isinstance(row, dict) for row in rows)


def _homes(key: str, besides: str) -> list[str]:
    """The tables, besides this one, that have such a key."""
    return [each for each in FIELDS if each != besides and key in FIELDS[each]]


def _named(tables: list[str]) -> str:
    return " and ".join(_form(one) if one else "the top level" for one in tables)


_EVERY_KEY: Final = tuple(key for keys in FIELDS.values() for key in keys)
_KNOWN_TABLES: Final = ", ".join(map(_form, TABLES))
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
    tables = reader.tables(raw)
    top = reader.table("", -1, dict(raw)) or {}
    single = {name: reader.table(name, -1, tables.get(name, {})) or {} for name in SINGLE}
    repeated: dict[str, list[dict[str, Any]]] = {}
    counts: dict[str, int] = {}
    for name in REPEATED:
        rows = tables.get(name, [])
        if not isinstance(rows, list):
            reader.problem(
                name, 0, "", f"expected a list of tables; write [[{name}]], in two brackets"
            )
            rows = []
        counts[name] = len(rows)
        read = (reader.table(name, number, row) for number, row in enumerate(rows))
        repeated[name] = [values for values in read if values is not None]
    base = Path(top.get("base_path", Config.base_path))
    _complete_top(top, raw, tables, reader.said, file)
    config = Config(
        **top,
        rs=Rs(**single["rs"]),
        s3=S3(**single["s3"]),
        cluster=Cluster(**single["cluster"]),
        db=tuple(_db(values, base) for values in repeated["db"]),
        nodes=tuple(_node(values, base) for values in repeated["nodes"]),
        auth=tuple(Auth(**values) for values in repeated["auth"]),
        buckets=tuple(_bucket(values, base) for values in repeated["buckets"]),
        oidc=tuple(Oidc(**values) for values in repeated["oidc"]),
        source=file,
        said=tuple(reader.said),
    )
    check(config, counts["nodes"], reader.problem, doubtful=frozenset(reader.doubtful))
    if reader.problems:
        raise ConfigError(reader.problems)
    return config


def _complete_top(
    top: dict[str, Any],
    raw: Mapping[str, Any],
    tables: Mapping[str, Any],
    said: list[str],
    file: str,
) -> None:
    """What other keys say of those of the top level that are not written."""
    if raw.get("debug") is True:
        top.setdefault("log_level", "debug")
    if "backend" not in raw:
        causes = [_form(name) for name in ("rs", "cluster", "db", "nodes") if name in tables]
        rows = tables.get("buckets", [])
        if isinstance(rows, list) and any(
            isinstance(row, dict) and BUCKET_TYPES.get(str(row.get("type"))) == "distributed"
            for row in rows
        ):
            causes.append('type = "distributed"')
        if causes:
            top["backend"] = "distributed"
            said.append(f"{file}: backend: not written; {causes[0]} means distributed")


def _db(values: dict[str, Any], base: Path) -> Db:
    path = base / values.pop("path", Path("db") / f"db-{values['id']}")
    # A port too high for the offset is reported by `checks` as a raft_port out of range.
    raft_port = values.pop("raft_port", values["port"] + RAFT_PORT_OFFSET)
    return Db(**_placed(values), raft_port=raft_port, path=path)


def _node(values: dict[str, Any], base: Path) -> Node:
    path = base / values.pop("path", Path("nodes") / f"node-{values['id']}")
    return Node(**_placed(values), path=path)


def _placed(values: dict[str, Any]) -> dict[str, Any]:
    """With the address where others reach it as `host`. A process that listens on every address is
    reached on this host's own, unless the file has another for it."""
    listens = values.pop("host")
    reached = values.pop("advertise_host", LOOPBACK.get(listens, listens))
    return {**values, "host": reached, "listen": "" if listens == reached else listens}


def _bucket(values: dict[str, Any], base: Path) -> Bucket:
    pathname = values.pop("pathname", None)
    return Bucket(**values, pathname=None if pathname is None else base / pathname)
