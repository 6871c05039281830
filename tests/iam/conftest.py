"""The Query API over plain files, and over a cluster of one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.iamserver import Cloud, running
from support.s3server import filesystem_catalog


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with running(filesystem_catalog, tmp_path) as made:
        yield made


@pytest.fixture
def clouds(tmp_path: Path) -> Iterator[Cloud]:
    """Two gateways over one state."""
    with running(filesystem_catalog, tmp_path, gateways=2) as made:
        yield made
