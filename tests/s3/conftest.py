"""One server for all tests of a module and backend; a bucket of its own for each test."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator

import pytest
from botocore.client import BaseClient

from support.iamserver import Cloud
from support.iamserver import running as running_cloud
from support.s3server import BOB, S3Server, distributed_catalog, filesystem_catalog, running

BACKENDS = {"filesystem": filesystem_catalog, "distributed": distributed_catalog}
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left_to_the_collector() -> Iterator[None]:
    """What was not closed fails the module that left it, not one that happens to collect it."""
    yield
    gc.collect()


@pytest.fixture(scope="module", params=BACKENDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    with running(BACKENDS[request.param], tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture(scope="module")
def s3(server: S3Server) -> Iterator[BaseClient]:
    client = server.client()
    yield client
    client.close()


@pytest.fixture(scope="module")
def bob(server: S3Server) -> Iterator[BaseClient]:
    """A client of another account."""
    client = server.client(BOB)
    yield client
    client.close()


@pytest.fixture
def bucket(s3: BaseClient) -> str:
    name = f"bucket-{next(_NUMBERS)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Two gateways that know users and roles, over plain files."""
    path = tmp_path_factory.mktemp("cloud")
    with running_cloud(filesystem_catalog, path, gateways=2) as made:
        yield made


@pytest.fixture(scope="module")
def root(cloud: Cloud) -> BaseClient:
    """A client of the account that owns the buckets."""
    return cloud.client("s3")


@pytest.fixture
def box(root: BaseClient) -> str:
    """A bucket of the root's, with the object `k`."""
    name = f"box-{next(_NUMBERS)}"
    root.create_bucket(Bucket=name)
    root.put_object(Bucket=name, Key="k", Body=b"hello")
    return name
