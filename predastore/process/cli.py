"""The `s3d` command: `s3d [flags]` runs it, `s3d NAME ...` is one of process/commands.

Exit codes are in EXITS; after 2 nothing was touched.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from predastore import __commit__, __version__
from predastore.base import config
from predastore.base.errors import (
    ConfigError,
    DeadlineExceeded,
    InUse,
    NoLeader,
    NoRoom,
    NotPermitted,
    OtherVersion,
    Overloaded,
    PeerUnreachable,
    PredastoreError,
    StartupError,
    UnsupportedFormat,
    located,
)
from predastore.process import commands, flags

# (code, what it means, the errors that lead to it); the first row that fits an error holds. Those
# over 2 are of sysexits(3).
EXITS: Final[tuple[tuple[int, str, tuple[type[PredastoreError], ...]], ...]] = (
    (0, "done, or stopped by SIGTERM or SIGINT", ()),
    (2, "flags, configuration or certificate are wrong; nothing was touched", (ConfigError,)),
    (65, "the data is of another version (EX_DATAERR)", (OtherVersion, UnsupportedFormat)),
    (69, "a port, a directory or a node is in use by another process (EX_UNAVAILABLE)", (InUse,)),
    (73, "no space for what has to be written (EX_CANTCREAT)", (NoRoom,)),
    (
        75,
        "the cluster gave no answer in time, or had no leader: try again (EX_TEMPFAIL)",
        (PeerUnreachable, DeadlineExceeded, Overloaded, NoLeader),
    ),
    (77, "no permission for a file, a directory or a port (EX_NOPERM)", (NotPermitted,)),
    (130, "a command that Ctrl-C ended before it was done", ()),
    (1, "could not start, could not go on, or the command was not done", (PredastoreError,)),
)

_INTERRUPTED: Final = 130

_log = logging.getLogger(__name__)

_EPILOG: Final = """\
Each flag may also be given by the environment variable that stands in brackets. A flag beats the
variable, and the variable beats the file.

examples:
  s3d                                                    plain files below data/, one process
  s3d -backend distributed                               five local nodes, embedded database
  s3d -backend distributed -config cluster.toml -node 1 -db-node 1
                                                         host 1 of a cluster: S3, a node, a member
  s3d -db -config cluster.toml -db-node 2                a database member alone
  s3d db status -config cluster.toml                     the metadata cluster; see s3d db -help
"""


def parser() -> flags.Parser:
    """The argument parser; `-flag` and `--flag` are the same."""
    made = flags.Parser(
        commands=[one.name for one in commands.COMMANDS],
        prog="s3d",
        usage="s3d [flags]\n       s3d COMMAND ...",
        description="Predastore: an S3 server over Reed-Solomon coded shards.\n\n"
        "commands, each with a -help of its own:\n" + "\n".join(commands.usage()),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add(made)
    about = made.add_argument_group("About")
    about.add_argument("-h", "-help", "--help", action="help", help="show this and exit")
    about.add_argument(
        "-version",
        "--version",
        action="version",
        version=f"s3d {__version__}" + (f" (commit {__commit__})" if __commit__ else ""),
        help="show the version",
    )
    return made


def resolve(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[config.Config, flags.Options]:
    """The configuration and options of a command line; ConfigError lists all that is wrong."""
    return flags.resolved(parser().take(arguments), environment)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `s3d` until it is told to stop; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    command = commands.find(given[0]) if given else None
    before = os.umask(int(config.UMASK_DEFAULT, 8))  # what commands write is for their user alone
    try:
        if command is not None:
            return command.main(given[1:], os.environ)
        return _serve(given)
    except PredastoreError as error:
        return _refused(error)
    except OSError as error:
        level = logging.ERROR if command is None else logging.DEBUG
        _log.log(level, "not foreseen", exc_info=error)
        return _refused(StartupError.because(error, located(error)))
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        os.umask(before)


def _serve(given: Sequence[str]) -> int:
    settings, options = resolve(given, os.environ)
    from predastore.process import host

    environment = dict(os.environ)
    return host.run(
        settings,
        options.node,
        options.db_only,
        options.db_node,
        reread=lambda: resolve(given, environment)[0],
    )


def _refused(error: PredastoreError) -> int:
    """Says what is wrong; the exit code."""
    lines = error.problems if isinstance(error, ConfigError) else [str(error)]
    for line in lines:
        print(f"s3d: {line}", file=sys.stderr)
    return next(code for code, _, kinds in EXITS if isinstance(error, kinds))


if __name__ == "__main__":
    sys.exit(main())
