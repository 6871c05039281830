"""`s3d db ...`: what an operator does to the metadata cluster from the command line.

    status          a table of the whole cluster; --json: what every member says; --digest
    step-down       another member is to lead
    set-time        the leader's wall clock becomes cluster time (db_time.py)
    remove-member   ID leaves the cluster
    backup          FILE: the state of this moment, checked
    restore         FILE: data directories for local members from a backup (offline)
    check           local members' files, journal against tables (offline)

Online commands ask the members of the configuration file over REST, the one of -db-node or the
local ones first, with the credentials that the file or the base path has. Exit codes: 0 done, and
of status: one leads and every member answers; 1 not so, or not done, or damage was found; 2 wrong
usage; others are those of cli.EXITS.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from predastore.auth.sigv4 import Credential
from predastore.base.config import Auth, Config, Db
from predastore.base.errors import ConfigError, PeerRefused, PeerUnreachable, StartupError, reason
from predastore.base.limits import RAFT_RESERVE_BYTES
from predastore.catalog.keys import HEALING
from predastore.jobs.healing.records import RESTORED_KEY
from predastore.process import credentials, daemon, flags, roles
from predastore.process.commands import OPERATIONS, db_time, operations, ownership, remote
from predastore.s3db import backup, inspection
from predastore.s3db.api import Api
from predastore.s3db.commands import Put, batch
from predastore.s3db.raft.messages import Address
from predastore.storage import extents

_EPILOG: Final = """\
examples:
  s3d db status -config cluster.toml
  s3d db backup /backups/today.s3db -config cluster.toml
  s3d db restore /backups/today.s3db -config cluster.toml -db-node 1
"""
_FLAGS: Final = ("config", "db-node", "base-path", "tls-cert", "tls-key")
_SETTING: Final = {
    "confirm": "do it: what is retained depends on it",
    "backwards": "also where it sets cluster time back",
    "filesystem": "in the files of a filesystem backend below -base-path, whose server is stopped",
}


@dataclass(frozen=True)
class DbRequest:
    """What the command line asks for."""

    command: str
    argument: str = ""
    as_json: bool = False
    digest: bool = False
    ca: Path | None = None
    db_node: int = roles.ALL_LOCAL
    confirm: bool = False
    backwards: bool = False
    filesystem: bool = False


def parser() -> flags.Parser:
    """The argument parser of `s3d db`."""
    made = flags.Parser(
        prog="s3d db",
        usage="s3d db COMMAND [ARGUMENT] [flags]",
        description="Operate the metadata cluster.\n\ncommands:\n" + "\n".join(operations("db")),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [one.name for one in OPERATIONS["db"]]
    made.add_argument("command", choices=names, metavar="COMMAND", help=argparse.SUPPRESS)
    made.add_argument("argument", nargs="?", metavar="ARGUMENT", help=argparse.SUPPRESS)
    output = made.add_argument_group("Output")
    output.add_argument("-json", "--json", action="store_true", help="status: as JSON")
    output.add_argument(
        "-digest", "--digest", action="store_true", help="status: with a digest of each state"
    )
    setting = made.add_argument_group("set-time")
    for name, text in _SETTING.items():
        setting.add_argument(f"-{name}", f"--{name}", action="store_true", help=text)
    flags.add(made, tuple(flag for flag in flags.FLAGS if flag.name in _FLAGS))
    made.add_argument_group("Trust").add_argument(
        "-ca", "--ca", metavar="FILE", help="authorities that members are verified by, PEM"
    )
    about = made.add_argument_group("About")
    about.add_argument("-h", "-help", "--help", action="help", help="show this and exit")
    return made


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`s3d db ...`; the exit code."""
    made = parser()
    given = made.take(arguments)
    wanted = next(row for row in OPERATIONS["db"] if row.name == given["command"])
    if bool(wanted.argument) is not (given["argument"] is not None):
        made.error(f"{wanted.name} takes {wanted.argument or 'no argument'}")
    settings, options = flags.resolved({**given, "db": "true"}, environment, serves=False)
    request = DbRequest(
        wanted.name,
        given["argument"] or "",
        as_json=given["json"],
        digest=given["digest"],
        ca=None if given["ca"] is None else Path(given["ca"]),
        db_node=options.db_node,
        **{name: given[name] for name in _SETTING},
    )
    return run(settings, request)


def run(settings: Config, request: DbRequest) -> int:
    """Does one command; the exit code. ConfigError, PredastoreError."""
    return _OPERATIONS[request.command](settings, request)


# --- online -----------------------------------------------------------------------------------


def _status(settings: Config, request: DbRequest) -> int:
    query = "members=all" + ("&digest=1" if request.digest else "")
    found = _ask(settings, request, lambda api: api.get("/status", query))
    if request.as_json:
        _say(json.dumps(found, indent=2))
    else:
        for line in table(found):
            _say(line)
    return 0 if is_whole(found) else 1


def is_whole(found: dict[str, Any]) -> bool:
    """Whether, by a `/status?members=all`, one leads, and every member answers and can go on."""
    members = found["members"].values()
    return found["leader"] is not None and not any(
        "error" in said or said.get("failed") for said in members
    )


def _step_down(settings: Config, request: DbRequest) -> int:
    _ask(settings, request, lambda api: api.post("/v1/step-down", {}))
    _say("done: another member leads")
    return 0


def _set_time(settings: Config, request: DbRequest) -> int:
    how = {"confirm": request.confirm, "backwards": request.backwards}
    if request.filesystem:
        told = db_time.set_filesystem_time(settings, **how)
    else:
        found = _ask(settings, request, lambda api: api.get("/status", "members=all"))

        def post(content: dict[str, Any]) -> dict[str, Any]:
            return dict(_ask(settings, request, lambda api: api.post("/v1/set-time", content)))

        told = db_time.set_time(found, post, **how)
    for line in told:
        _say(line)
    return 0 if request.confirm else 1


def _remove_member(settings: Config, request: DbRequest) -> int:
    if not request.argument.isdecimal():
        raise ConfigError([f'remove-member: expected the id of a member, got "{request.argument}"'])
    content = {"id": int(request.argument)}
    found = _ask(settings, request, lambda api: api.post("/v1/leave", content))
    _say(f"done: the members are {found['members']}; stop the process of {request.argument}")
    return 0


def _backup(settings: Config, request: DbRequest) -> int:
    path = Path(request.argument)
    try:
        if path.exists():
            raise ConfigError([f"backup: {path} is there already; name another file, or remove it"])
        header = _ask(settings, request, lambda api: backup.receive(api.pieces("/v1/backup"), path))
    except OSError as error:
        raise StartupError.because(
            error,
            f"backup: {path} can not be written ({reason(error)}); name a file where "
            "there is a directory, permission and room",
        ) from None
    _say(f"done: {path}, {header.total_bytes} bytes, the state as of entry {header.applied_index}")
    return 0


def _ask(settings: Config, request: DbRequest, question: Callable[[Api], Any]) -> Any:
    """The answer of the first member that can be reached; PredastoreError. PeerRefused where there
    is none, and the certificate of one can not be verified: that does not pass."""
    failures: list[PeerRefused | PeerUnreachable] = []
    for api in _apis(settings, request):
        try:
            return question(api)
        except (PeerRefused, PeerUnreachable) as error:
            failures.append(error)
    refused = any(isinstance(error, PeerRefused) for error in failures)
    kind = PeerRefused if refused else PeerUnreachable
    raise kind("no member can be reached:\n  " + "\n  ".join(map(str, failures)))


def _apis(settings: Config, request: DbRequest) -> Iterator[Api]:
    """Of all members, in the order in which they are to be asked."""
    named = _named(settings, request)
    first = named or tuple(row for row in settings.db if roles.is_local(row.host))
    others = () if named else tuple(row for row in settings.db if row not in first)
    operator = remote.keys(settings).operator
    context = _context(settings, request.ca)
    for row in (*first, *others):
        auth = operator
        if row.access_key_id:
            auth = Auth(row.access_key_id, row.secret_access_key)
        credential = Credential(auth.access_key_id, auth.secret_access_key, auth.account_id)
        yield Api(row.host, row.port, credential, settings.region, context)


def _context(settings: Config, ca: Path | None) -> ssl.SSLContext:
    """Trusts the system's authorities, and the one that is given or was generated."""
    context = ssl.create_default_context()
    file = ca or settings.tls_cert or _generated_ca(settings)
    if file is not None:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError([f"{file}: no certificates to verify members by ({error})"]) from None
    return context


def _generated_ca(settings: Config) -> Path | None:
    file = settings.base_path / "tls" / "ca.pem"
    with remote.reading(file):
        return file if file.exists() else None


# --- offline ----------------------------------------------------------------------------------


def _restore(settings: Config, request: DbRequest) -> int:
    rows, path = _local(settings, request), Path(request.argument)
    try:
        ownership.check("db restore", settings.base_path, [row.path for row in rows])
        header = backup.restore(
            path,
            directories={row.id: row.path for row in rows},
            addresses=[Address(row.id, row.host, row.port, row.raft_port) for row in rows],
            cluster_id=credentials.cluster_id(settings),
            held=daemon.held,
            # Shards that its records name may be gone: nothing counts as looked through.
            then=batch(Put(HEALING, RESTORED_KEY, extents.new_id())),
        )
    except OSError as error:
        raise StartupError.because(error, _restore_failed(error, path, rows)) from None
    ids = [row.id for row in rows]
    _say(f"done: the state as of entry {header.applied_index}, for the members {ids}")
    others = [row.id for row in settings.db if row not in rows]
    if others:
        _say(
            f"start these, then start {others} with empty directories: they join by themselves. Do "
            "not restore on their hosts as well: each restore begins a cluster of its own"
        )
    return 0


def _restore_failed(error: OSError, path: Path, rows: Sequence[Db]) -> str:
    if error.filename == str(path):
        return f"restore: {path} can not be read ({error.strerror}); name another file"
    where = error.filename or ", ".join(str(row.path) for row in rows)
    return (
        f"restore: {where} can not be written ({reason(error)}); mend that, remove what "
        "was restored by then, and try again"
    )


def _check(settings: Config, request: DbRequest) -> int:
    damaged, rows = 0, _local(settings, request)
    there = [row.path for row in rows if row.path.exists()]
    ownership.check("db check", settings.base_path, there)  # holding one may make its lock
    for row in rows:
        with ExitStack() as stack:
            if row.path in there:
                stack.enter_context(daemon.held(row.path))
            report = inspection.inspect(row.id, row.path, credentials.cluster_id(settings))
        for line in report.found:
            _say(f"member {row.id}: {line}")
        for line in report.damage:
            _say(f"member {row.id}: DAMAGE: {line}")
        damaged += bool(report.damage)
        if not report.damage:
            _say(f"member {row.id}: no damage found")
    return 1 if damaged else 0


def _local(settings: Config, request: DbRequest) -> tuple[Db, ...]:
    """The member of -db-node, else all whose address is one of this host's."""
    rows = _named(settings, request)
    rows = rows or tuple(row for row in settings.db if roles.is_local(row.host))
    if not rows:
        raise ConfigError(["no [[db]] of the file is on this host; name one with -db-node"])
    return rows


def _named(settings: Config, request: DbRequest) -> tuple[Db, ...]:
    if request.db_node == roles.ALL_LOCAL:
        return ()
    found = tuple(row for row in settings.db if row.id == request.db_node)
    if not found:
        known = ", ".join(str(row.id) for row in settings.db)
        raise ConfigError(
            [f"-db-node {request.db_node}: no [[db]] has this id; write one of {known}"]
        )
    return found


# --- output -----------------------------------------------------------------------------------

_COLUMNS: Final = ("member", "role", "term", "last", "commit", "applied", "lag", "journal", "store")


def table(found: dict[str, Any]) -> list[str]:
    """A line for each member of a `/status?members=all`, and what is above and below them."""
    members: dict[str, Any] = found["members"]
    leader = members.get(str(found["leader"]), {})
    last = leader.get("last_index")
    rows: list[tuple[str, ...]] = [_COLUMNS]
    rows += [_row(members[name], found, last) for name in sorted(members, key=int)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    for name in sorted(members, key=int):
        said = members[name]
        if "error" in said:
            lines.append(f"{name}: {said['error']}")
        if said.get("failed"):
            lines.append(f"{name}: {said['failed']}")
        free_bytes = said.get("disk_free_bytes", RAFT_RESERVE_BYTES)
        if free_bytes < RAFT_RESERVE_BYTES:
            lines.append(f"{name}: its disk is nearly full ({free_bytes >> 20} MiB): make room")
        level, newest = _levels(found, name)
        if level < newest:
            lines.append(
                f"{name}: its program has level {level}, that of others {newest}: install theirs, "
                "or, where that was done, start it, so that it can say so"
            )
        if said.get("digest"):
            lines.append(f"{name}: digest {said['digest']} as of entry {said['digest_index']}")
    lines += db_time.lines(found)
    if found["leader"] is None:
        lines.append("no leader is known: nothing can be written, or read linearizably")
    return lines


def _levels(found: dict[str, Any], name: str) -> tuple[int, int]:
    """Of this member's program, as it has said, and of the newest."""
    levels: dict[str, int] = found.get("levels", {})
    newest = max(levels.values(), default=0)
    return levels.get(name, newest), newest


def _row(said: dict[str, Any], found: dict[str, Any], last: int | None) -> tuple[str, ...]:
    if "error" in said:
        return (str(said["id"]), "no answer", *("-" for _ in _COLUMNS[2:]))
    role = "learner" if said["id"] in found["learners"] else said["role"]
    lag = "-" if last is None else str(max(0, last - said["last_index"]))
    numbers = (said["term"], said["last_index"], said["commit_index"], said["applied_index"])
    sizes = (said["journal_bytes"], said["store"]["file_bytes"])
    return (
        str(said["id"]),
        role,
        *map(str, numbers),
        lag,
        *(f"{size / (1 << 20):.1f} MiB" for size in sizes),
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


_OPERATIONS: Final[dict[str, Callable[[Config, DbRequest], int]]] = {
    "status": _status,
    "step-down": _step_down,
    "set-time": _set_time,
    "remove-member": _remove_member,
    "backup": _backup,
    "restore": _restore,
    "check": _check,
}
