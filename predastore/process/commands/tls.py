"""`s3d tls ...`: the certificate authority that clients trust.

    show                which it is, how long it lasts, and who does not have it yet
    ca                  print the file that clients need
    new                 another takes its place, made now
    import CERT KEY     that of these PEM files takes its place

That of a cluster is in its metadata, and every process takes another within a minute. On the
filesystem backend it is that of this base path; a running process takes it at SIGHUP. The one
before is trusted as long as it lasts, and vouches for the new one, as those before it did, so that
clients with an old file go on; with --at-once it is not, as where its key has become known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from predastore.base.config import Config
from predastore.base.errors import ConfigError, StartupError
from predastore.process import authority, certificates, cluster_tls, flags
from predastore.process.authority import Authority
from predastore.process.certificates import Held
from predastore.process.cluster_tls import Authorities
from predastore.process.commands import OPERATIONS, operations, remote
from predastore.process.commands.remote import Remote, say

_USAGE: Final = "s3d tls show | ca | new | import CERT KEY  [flags]"
_DESCRIPTION: Final = "\n".join(
    ("The certificate authority that clients trust.", "", "commands:", *operations("tls"), "")
)
_EPILOG: Final = """\
examples:
  s3d tls show -config cluster.toml
  s3d tls ca -config cluster.toml > ca.pem
  s3d tls import authority.pem authority.key -config cluster.toml
"""


def parser() -> Any:
    made = remote.parser("tls", _USAGE, _DESCRIPTION, _EPILOG, ("config", "backend", "base-path"))
    names = [one.name for one in OPERATIONS["tls"]]
    made.add_argument("command", choices=names, metavar="COMMAND", help=argparse.SUPPRESS)
    made.add_argument("files", nargs="*", metavar="FILE", help=argparse.SUPPRESS)
    made.add_argument(
        "-at-once", "--at-once", action="store_true", help="new, import: the one before ends now"
    )
    return made


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`s3d tls ...`; the exit code."""
    made = parser()
    given = made.take(arguments)
    command, files, at_once = given.pop("command"), given.pop("files"), given.pop("at_once")
    if len(files) != (2 if command == "import" else 0):
        made.error("import takes CERT KEY" if command == "import" else f"{command} takes no file")
    new = _new(command, *map(Path, files))
    settings, _ = flags.resolved(given, environment, serves=False)
    if settings.backend == "filesystem":
        return _local(settings, command, new, at_once=at_once)
    return remote.run(settings, lambda to: _cluster(to, command, new, at_once=at_once))


def _new(command: str, cert: Path | None = None, key: Path | None = None) -> Authority | None:
    """What is to take the place of the authority; None where nothing is."""
    if command == "new":
        return authority.made("Predastore authority")
    if cert is None or key is None:
        return None
    try:
        found = authority.read(cert.read_bytes(), key.read_bytes())
    except OSError as error:
        raise ConfigError([f"{error.filename}: can not be read ({error.strerror})"]) from None
    except ValueError as error:
        raise ConfigError(
            [f"{cert}, {key}: no certificate and key in PEM form without a password ({error})"]
        ) from None
    authority.check(found, str(cert), str(key))
    return found


# --- of a cluster -----------------------------------------------------------------------------


async def _cluster(to: Remote, command: str, new: Authority | None, *, at_once: bool) -> int:
    keys = remote.keys(to.settings)
    cluster_keys = (keys.cluster, *keys.accepted)
    authorities = Authorities(to.state, lambda: cluster_keys, to.settings.cluster.name)
    if new is not None:
        held = await authorities.replace(new, at_once=at_once)
        _say_taken(held, "every process takes it within a minute; then clients need: s3d tls ca")
        return 0
    found = await authorities.read()
    if found is None:
        raise StartupError("the cluster has no authority yet; its first process makes it")
    if command == "ca":
        sys.stdout.write(authority.pem(found.trusted).decode())
        return 0
    _show(found)
    own = bytes.fromhex(found.authority.fingerprint)
    told = [one for one in to.records if one.is_here and one.facts.authority]
    others = [one.name for one in told if one.facts.authority != own]
    if others:
        say(f"not yet served by: {', '.join(others)}")
    return 1 if others else 0


# --- of a host --------------------------------------------------------------------------------


def _local(settings: Config, command: str, new: Authority | None, *, at_once: bool) -> int:
    directory = settings.base_path / "tls"
    with remote.reading(directory):
        held = certificates.load(directory, "") if directory.is_dir() else None
        if new is not None:
            following = cluster_tls.following(held, new, "", at_once=at_once)
            certificates.ensure(directory, (), Held(new, following.previous, following.cross))
            _say_taken(following, "a running s3d takes it at SIGHUP; clients need: s3d tls ca")
            return 0
    if held is None:
        raise StartupError(f"{directory}: no authority yet; it is made at the first start")
    if command == "ca":
        sys.stdout.write(authority.pem(held.trusted).decode())
    else:
        _show(held)
    return 0


# --- output -----------------------------------------------------------------------------------


def _show(held: Held) -> None:
    own = held.authority.certificate
    rows = [
        ("authority", own.subject.rfc4514_string()),
        ("sha256", held.authority.fingerprint),
        ("lasts until", authority.stamp(own.not_valid_after_utc)),
    ]
    if held.cluster:
        rows.append(("cluster", f"{held.cluster}, its authority number {held.generation}"))
    for one in held.authority.chain[1:]:
        rows.append(("signed by", one.subject.rfc4514_string()))
    for one in held.previous:
        until = authority.stamp(one.not_valid_after_utc)
        rows.append(("still trusted", f"{one.subject.rfc4514_string()}, until {until}"))
    for name, value in rows:
        say(f"{name:<14} {value}")


def _say_taken(held: Held, then: str) -> None:
    say(f"done: {held.authority.certificate.subject.rfc4514_string()} is the authority; {then}")
    if held.previous and not held.cross:
        say("clients with the file of the one before need the new one: that can not vouch for it")
