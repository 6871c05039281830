"""Who gets how many descriptors, and that all are taken which the process may have."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from predastore.base.limits import (
    DESCRIPTORS_CONNECTIONS_MIN,
    DESCRIPTORS_MEMBER,
    DESCRIPTORS_NODE,
    DESCRIPTORS_PEER,
    DESCRIPTORS_PROCESS,
    HTTP_CONNECTIONS_MAX,
    HTTP_SIDE_CONNECTIONS_MAX,
    NODE_OPEN_SEGMENTS_MAX,
)
from predastore.httpd.bounds import Bounds
from predastore.process import descriptors


@pytest.mark.parametrize("count", [300, 512, 1_024, 4_096, 20_000, 1 << 20])
@pytest.mark.parametrize(
    ("nodes", "members", "peers", "each"), [(5, 1, 0, 1), (1, 1, 8, 1), (0, 0, 0, 3), (0, 1, 4, 1)]
)
def test_no_more_is_given_away_than_there_is(
    count: int, nodes: int, members: int, peers: int, each: int
) -> None:
    given = descriptors.shares(count, nodes=nodes, members=members, peers=peers, each=each)
    reserved = DESCRIPTORS_PROCESS + DESCRIPTORS_NODE * nodes
    reserved += DESCRIPTORS_MEMBER * members + DESCRIPTORS_PEER * peers
    told = 1.1  # a tenth more connections are taken, to be told
    connections = given.s3.connections_max * each + given.side.connections_max * (members + 1)
    assert reserved + given.segments * nodes + connections * told <= count + each


def test_the_bounds_are_those_of_limits_where_there_are_enough() -> None:
    given = descriptors.shares(1 << 20, nodes=5, members=1, peers=0, each=1)
    assert given == descriptors.Shares(
        Bounds(connections_max=HTTP_CONNECTIONS_MAX),
        Bounds(connections_max=HTTP_SIDE_CONNECTIONS_MAX),
        NODE_OPEN_SEGMENTS_MAX,
    )


def test_a_few_connections_are_taken_however_few_there_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = descriptors.shares(64, nodes=5, members=1, peers=0, each=1)
    few = Bounds(connections_max=DESCRIPTORS_CONNECTIONS_MIN)
    assert given.s3 == given.side == few
    assert given.segments == 1
    assert "64 file descriptors is low" in caplog.text


def test_the_soft_limit_becomes_the_hard_one_of_the_process_alone() -> None:
    program = (
        "import resource; from predastore.process import descriptors\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))\n"
        "descriptors.raise_limit(); print(descriptors.limit())"
    )
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, timeout=60
    )
    assert int(said.stdout) == 300
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
