"""Prints s3d(1) in roff, made from the tables of the program: flags, commands, exit codes.

What is not in those tables (files, signals, recovery, examples) is here.
"""

import datetime
import os
import sys

from predastore import __version__
from predastore.process import cli, commands, flags

HEAD = r"""
.SH NAME
s3d \- S3 server over Reed\-Solomon coded shards
.SH SYNOPSIS
.B s3d
.RI [ flags ]
.br
.B s3d
.I command
\&...
.SH DESCRIPTION
.B s3d
is an S3 server in one process.
Objects are cut into stripes, Reed\-Solomon coded, and laid as checksummed shards on several nodes;
metadata is in a Raft cluster.
Of five hosts, each with a shard node and a database member, any two may be lost and every object
still reads.
Without a cluster it keeps objects as plain files of one directory.
.PP
The configuration is a file in TOML, see
.BR cluster.toml (5).
A flag, with one dash or two, beats its environment variable, which beats the file.
"""

# Commands that work on the files of a host, whoever owns those.
OFFLINE = (("db", "restore"), ("db", "check"), ("node", "rebuild-index"))

TAIL = r"""
.SH RECOVERY
.BR "s3d db restore" ,
.B s3d db check
and
.B s3d node rebuild\-index
work on the files of this host while the service is stopped.
Run them as the user that the service runs as: files that root makes, the service can not open.
On a packaged host:
.PP
.nf
runuser \-u predastore \-\- s3d node rebuild\-index 1 \-config /etc/predastore/cluster.toml
runuser \-u predastore \-\- s3d db restore FILE \-config /etc/predastore/cluster.toml
.fi
.PP
That user must be able to read the backup,
.IR FILE ,
as below
.IR /var/lib/predastore .
.SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
No new connections; running requests get 20 seconds; then everything is closed in order.
.TP
.B SIGHUP
Flags, environment and file are read again, and no connection is dropped.
Taken in are certificates, credentials, secrets of [cluster], log level, access log (its file is
opened anew), identity providers, and of [[nodes]] weight, state and rows that went; see
.BR cluster.toml (5),
RELOAD.
A [[nodes]] row that went makes that node leave the cluster: all that it holds is moved to the
others.
.SH FILES
.TP
.I /etc/predastore/cluster.toml
The configuration of the packaged service.
.TP
.I /var/lib/predastore
Its data, keys and certificates.
.TP
.IR base\-path /credentials.json
The generated key pair, where the configuration has none.
.TP
.IR base\-path /tls/ca.pem
The authority that clients verify generated certificates by, on every host of a cluster the same;
.B s3d tls ca
prints it.
.SH ENVIRONMENT
Besides the variables of the flags:
.TP
.B NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS
The service manager's, see
.BR sd_notify (3)
and
.BR sd_listen_fds (3).
.TP
.B S3D_UNPACK_DIR
The single\-file binary alone: the directory, and no other, in which it unpacks itself, into
.IR predastore_unpacked ,
a folder of its own.
Otherwise it takes the first that it can use of
.BR CACHE_DIRECTORY ,
.BR XDG_CACHE_HOME ,
.IR $HOME/.cache ,
and
.B TMPDIR
or
.IR /tmp .
.SH EXAMPLES
.TP
.B s3d
Plain files below data/.
.TP
.B s3d \-backend distributed
Five local nodes and an embedded database, in one process.
.TP
.B s3d \-backend distributed \-config cluster.toml \-node 1 \-db\-node 1
Host 1 of a cluster: S3, a node, a database member.
.TP
.B s3d \-db \-config cluster.toml \-db\-node 2
A database member alone.
.SH SEE ALSO
.BR cluster.toml (5),
.BR systemctl (1)
"""


def escaped(text: str) -> str:
    """`text` as roff: no character of it is a request or an escape."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + safe if safe[:1] in (".", "'") else safe


def options() -> list[str]:
    lines, group = [".SH OPTIONS"], ""
    for flag in flags.FLAGS:
        if flag.group != group:
            group = flag.group
            lines.append(f".SS {group}")
        value = f" \\fI{escaped(flag.metavar)}\\fR" if flag.metavar else ""
        lines += [".TP", f"\\fB\\-{escaped(flag.name)}\\fR{value}"]
        lines.append(escaped(f"{flag.help[0].upper()}{flag.help[1:]}."))
        lines.append(f"Variable \\fB{escaped(flag.env)}\\fR; default {escaped(flag.default)}.")
    lines += [".SS About", ".TP", "\\fB\\-help\\fR", "Shows the flags."]
    lines += [".TP", "\\fB\\-version\\fR"]
    return [*lines, "Shows the version, and the commit that a binary was built from."]


def subcommands() -> list[str]:
    lines = [".SH COMMANDS"]
    for command in commands.COMMANDS:
        lines += [".TP", f"\\fBs3d {escaped(command.name)}\\fR", f"{escaped(command.help)}."]
    for name, rows in commands.OPERATIONS.items():
        lines.append(f".SS s3d {name}")
        for row in rows:
            argument = f" \\fI{escaped(row.argument)}\\fR" if row.argument else ""
            head = f"\\fB{name} {escaped(row.name)}\\fR{argument}"
            lines += [".TP", head, f"{escaped(row.help)}."]
            if (name, row.name) in OFFLINE:
                lines.append("Run it as the user of the service, see RECOVERY.")
    return lines


def exits() -> list[str]:
    lines = [".SH EXIT STATUS"]
    for code, meaning, _ in sorted(cli.EXITS, key=lambda row: row[0]):
        lines += [".TP", f"\\fB{code}\\fR", f"{escaped(meaning[0].upper() + meaning[1:])}."]
    return lines


def page(epoch: int) -> str:
    date = datetime.datetime.fromtimestamp(epoch, datetime.UTC).date()
    title = f'.TH S3D 1 "{date}" "Predastore {__version__}" "Predastore"'
    parts = [title, HEAD.strip(), *options(), *subcommands(), *exits(), TAIL.strip()]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(int(os.environ.get("SOURCE_DATE_EPOCH", "0"))))
