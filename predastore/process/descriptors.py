"""File descriptors: how many this process may have, and who gets how many of them.

At its start the process takes all that it may have: the soft limit is raised to the hard one. What
nodes, members, peers and the process itself need is set apart. Of the rest each node keeps some
for the files that it reads, and connections get what is left: anybody can make those, so they
never take the last one.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import sys
from dataclasses import dataclass

from predastore.base.config import Config
from predastore.base.limits import (
    DESCRIPTORS_CONNECTIONS_MIN,
    DESCRIPTORS_FILES_CONNECTION,
    DESCRIPTORS_MEMBER,
    DESCRIPTORS_NODE,
    DESCRIPTORS_PEER,
    DESCRIPTORS_PROCESS,
    HTTP_CONNECTIONS_MAX,
    HTTP_SIDE_CONNECTIONS_MAX,
    NODE_OPEN_SEGMENTS_MAX,
)
from predastore.httpd.bounds import Bounds
from predastore.process.roles import Roles

_log = logging.getLogger(__name__)

_TOLD_SHARE = 10  # a server takes one in so many more, to tell them that they are too many
_SEGMENTS_SHARE = 4  # one in so many of the rest is for files that nodes read
_SIDE_SHARE = 16  # one in so many of what is left then, for each server beside that of S3


@dataclass(frozen=True)
class Shares:
    """`s3` and `side`: bounds of the server of S3, and of each other one. `segments`: files that
    each node keeps open for reading."""

    s3: Bounds
    side: Bounds
    segments: int


def limit() -> int:
    """How many this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> None:
    """Takes all that the process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # what the kernel does not grant is not had
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def shares_of(settings: Config, chosen: Roles) -> Shares:
    """For a process that runs the parts that were chosen."""
    here = len(chosen.nodes) + len(chosen.members)
    files = settings.backend == "filesystem"
    return shares(
        limit(),
        nodes=len(chosen.nodes),
        members=len(chosen.members),
        peers=0 if files else len(settings.nodes) + len(settings.db) - here,
        each=DESCRIPTORS_FILES_CONNECTION if files else 1,
    )


def shares(count: int, *, nodes: int, members: int, peers: int, each: int) -> Shares:
    """Of `count` descriptors. `nodes` and `members`: in this process; `peers`: elsewhere. `each`:
    what one connection of S3 takes at most, with the files of its request."""
    left = count - (
        DESCRIPTORS_PROCESS
        + DESCRIPTORS_NODE * nodes
        + DESCRIPTORS_MEMBER * members
        + DESCRIPTORS_PEER * peers
    )
    segments = _between(1, left // _SEGMENTS_SHARE // max(1, nodes), NODE_OPEN_SEGMENTS_MAX)
    left -= segments * nodes
    side = _between(DESCRIPTORS_CONNECTIONS_MIN, left // _SIDE_SHARE, HTTP_SIDE_CONNECTIONS_MAX)
    left -= _with_told(side) * (members + 1)
    connections = left // each * _TOLD_SHARE // (_TOLD_SHARE + 1)
    if connections < DESCRIPTORS_CONNECTIONS_MIN:
        _log.warning(
            "the limit of %d file descriptors is low: requests may be refused for want of them; "
            "raise it (LimitNOFILE=, ulimit -n)",
            count,
        )
    connections = _between(DESCRIPTORS_CONNECTIONS_MIN, connections, HTTP_CONNECTIONS_MAX)
    return Shares(Bounds(connections_max=connections), Bounds(connections_max=side), segments)


def _with_told(connections: int) -> int:
    return connections + connections // _TOLD_SHARE + 1


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))
