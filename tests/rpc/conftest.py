"""What tests of rpc ask for by name."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["engine", "aioquic"])
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with our engine, and once with stock aioquic: each has to do the same."""
    monkeypatch.setenv("PREDASTORE_QUIC", request.param)
