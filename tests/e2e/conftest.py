"""One `s3d` for all tests of clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.processes import S3d, development


@pytest.fixture(scope="session")
def client_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3d]:
    with development(tmp_path_factory.mktemp("clients")) as running:
        yield running
