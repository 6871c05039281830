"""The data plane under sanitizers, against a peer that has the keys and no manners. The longer run
is `make fuzz-quic`."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from fuzz import quic

SECONDS = int(os.environ.get("QUIC_FUZZ_SECONDS", "8"))
FIRST = 1  # the same scripts in each run; new ones are the longer run's business
SCRIPTS_MIN = 20


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return quic.build(tmp_path_factory.mktemp("fuzz"))
    except FileNotFoundError:
        pytest.skip("there is no gcc")
    except subprocess.CalledProcessError as error:
        if "libasan" in error.stderr or "libubsan" in error.stderr:
            pytest.skip("this gcc has no sanitizers")
        raise AssertionError(error.stderr) from None


def test_nothing_a_peer_sends_breaks_the_engine(program: Path) -> None:
    done = subprocess.run(
        [program, str(SECONDS), str(FIRST)],
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.match(r"(\d+) scripts", done.stdout)
    assert found is not None
    assert int(found[1]) >= SCRIPTS_MIN
