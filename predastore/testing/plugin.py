"""Fixtures of pytest: a real S3 server, and a client of it.

    s3_server           the server, empty at the start of each test
    s3_client           a boto3 client of it
    s3_server_process   the same server for the whole session, never emptied

One process serves all tests of a session (with pytest-xdist, of a worker): it starts with the first
test that wants it. After each test that used `s3_server` every bucket is removed, so that tests
know nothing of each other and may use the same names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from predastore.testing.server import S3Server


@pytest.fixture(scope="session")
def s3_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on a free port, for the session."""
    from predastore.testing.server import running

    with running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_server(s3_server_process: S3Server) -> Iterator[S3Server]:
    """A real S3 server without any bucket: endpoint_url, access_key_id, secret_access_key, ..."""
    yield s3_server_process
    s3_server_process.clear()


@pytest.fixture
def s3_client(s3_server: S3Server) -> Iterator[Any]:
    """A boto3 client of a real S3 server without any bucket."""
    try:
        import boto3
    except ImportError:
        pytest.fail("the fixture s3_client needs boto3: pip install boto3", pytrace=False)
    client = boto3.client("s3", **s3_server.boto3)
    yield client
    client.close()
