"""Two of six hosts fail, in each of six ways, while two gateways serve: no GET of an acknowledged
object fails, no byte is wrong, PUTs go on. `python -m e2e.faults` is the long form."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from e2e.faults.load import Load
from e2e.faults.story import Story
from e2e.faults.world import PAIRS, WAYS, world
from support import disks, networks

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]


def test_any_two_hosts_may_fail_in_any_way(tmp_path: Path) -> None:
    reason = networks.why_not() or disks.why_not(tmp_path)
    if reason:
        pytest.skip(reason)
    with world(tmp_path) as made:
        # The long form has none; here the machine may be busy with other tests.
        load = Load(made.gateways, patience_s=10.0)
        try:
            story = Story(made, load, calm_s=1.0, fault_s=4.0)
            for way in WAYS:
                for line in story.tell(way, random.choice(PAIRS)).lines():
                    print(line)
        finally:
            load.stop()
        story.read_all()
        assert not load.failures("GET"), load.failures("GET")[:5]
