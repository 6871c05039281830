"""`s3d check-config FILE`: what `s3d` would say of a configuration, without starting anything.

Reads what `s3d` reads (flags and environment too) and the certificate that is named. Nothing is
written, no data directory is touched and no port is opened. What is fine, and worth a second look,
is a warning. Exit codes: 0 fine, 2 not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from predastore.base.config import Config, losses
from predastore.process import advice, certificates, flags, roles


def parser() -> flags.Parser:
    """The argument parser of `s3d check-config`."""
    made = flags.Parser(
        prog="s3d check-config",
        usage="s3d check-config FILE [flags]",
        description="Checks a configuration and the certificate that it names. Nothing is touched.",
    )
    made.add_argument("file", metavar="FILE", help="the configuration, TOML")
    flags.add(made, tuple(flag for flag in flags.FLAGS if flag.name != "config"))
    about = made.add_argument_group("About")
    about.add_argument("-h", "-help", "--help", action="help", help="show this and exit")
    return made


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`s3d check-config FILE`; the exit code. ConfigError lists all that is wrong."""
    given = parser().take(arguments)
    file = given.pop("file")
    settings, options = flags.resolved({**given, "config": file}, environment)
    chosen = roles.choose(
        settings,
        node=options.node,
        db_only=options.db_only,
        db_node=options.db_node,
        is_local=roles.is_local,
    )
    roles.check_shared_keys(settings, chosen, roles.is_local)
    certificates.check(settings.tls_cert, settings.tls_key)
    say = sys.stdout.write
    say(f"{file}: fine; this host would run {_summary(settings, chosen)}\n")
    if settings.backend == "distributed" and settings.db:
        layout = losses.Layout.of(settings)
        say(f"{file}: may be lost: {losses.summary(layout)}\n")
        say(f"{file}: writes {losses.writes(layout)}\n")
    for note in advice.notes(settings):
        say(f"{note}\n")
    for warning in advice.warnings(settings, roles.is_local):
        say(f"{file}: warning: {warning}\n")
    return 0


def _summary(settings: Config, chosen: roles.Roles) -> str:
    parts = []
    if chosen.s3:
        parts.append(f"S3 on {settings.host} port {settings.port} ({settings.backend})")
    for row in chosen.nodes:
        parts.append(f"node {row.id} in {row.path}")
    for member in chosen.members:
        parts.append(f"database member {member.id} in {member.path}")
    return ", ".join(parts) or "nothing"
