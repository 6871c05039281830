"""What a cluster lacks, from what the process that heals and the nodes themselves say."""

from __future__ import annotations

from typing import Any

from predastore.backend.healing.records import FAILED, GOOD, SILENT, ProgressRecord, SeenNode
from predastore.commands import cluster, missing

MIB = 1 << 20


def answering(node: int, *, health: str = "good", shards: int = 10) -> dict[str, Any]:
    return {
        "id": node,
        "state": "active",
        "health": health,
        "shards": shards,
        "live_bytes": shards * MIB,
    }


def silent(node: int) -> dict[str, Any]:
    return {"id": node, "state": "active", "health": "no answer", "error": "no answer"}


def progress(*seen: SeenNode, **more: Any) -> ProgressRecord:
    return ProgressRecord("host-1", 0, seen=seen, **more)


def well(node: int) -> SeenNode:
    return SeenNode(node, 10, 10 * MIB, GOOD, -1)


def test_nothing_is_missing_where_all_are_well() -> None:
    found = missing.summary(progress(well(1), well(2)), [answering(1), answering(2)], 2)
    assert (found["shards"], found["unreachable"]) == (0, [])
    assert missing.lines(found) == ["redundancy: no shard is known to be missing"]


def test_what_was_said_of_healing_long_ago_does_not_count() -> None:
    def found(age_s: float) -> dict[str, Any]:
        healing = {"moves_left": 0, "ring_settled": True, "age_s": age_s}
        return {"healing": healing, "missing": {"shards": 0}, "nodes": [answering(1)]}

    assert cluster.is_whole(found(3.0))
    assert not cluster.is_whole(found(3600.0))


def test_a_node_that_has_failed_says_itself_what_it_held() -> None:
    """Not what it held when it was last asked: that was before it got them."""
    seen = SeenNode(2, 0, 0, FAILED, 840)
    nodes = [answering(1), answering(2, health="FAILED", shards=5), answering(3)]
    found = missing.summary(progress(well(1), seen, well(3)), nodes, 2)
    assert (found["shards"], found["bytes"]) == (5, 5 * MIB)
    assert found["unreachable"] == [
        {"node": 2, "why": "has failed", "shards": 5, "bytes": 5 * MIB, "given_up_in_s": 840}
    ]
    assert "5 shards are missing, 5 MiB" in missing.lines(found)[0].replace("5.0", "5")


def test_of_a_node_that_is_silent_what_it_said_last_counts() -> None:
    seen = SeenNode(2, 7, 7 * MIB, SILENT, 60)
    nodes = [answering(1), silent(2), answering(3)]
    found = missing.summary(progress(well(1), seen, well(3)), nodes, 2)
    assert (found["shards"], found["bytes"]) == (7, 7 * MIB)
    assert found["seconds_left"] >= 60


def test_what_is_on_the_repair_table_is_not_counted_twice() -> None:
    seen = SeenNode(2, 7, 7 * MIB, SILENT, 0)
    said = progress(well(1), seen, shards_left=7, bytes_left=7 * MIB, noted_nodes=(2,))
    assert missing.summary(said, [answering(1), silent(2)], 1)["shards"] == 7


def test_too_few_nodes_are_told() -> None:
    found = missing.summary(
        progress(well(1), SeenNode(2, 7, 7 * MIB, SILENT, 60)), [answering(1), silent(2)], 2
    )
    assert found["seconds_left"] == -1
    assert "until a node is back" in missing.lines(found)[0]
