"""What a cluster lacks, from what the process that heals and the nodes themselves say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from predastore.jobs.healing.records import FAILED, GOOD, LEFT, SILENT, ProgressRecord, SeenNode
from predastore.process.commands import missing
from predastore.process.commands.missing import KnownState, Notes
from predastore.storage.extents import MISSING

MIB = 1 << 20


def answering(node: int, *, health: str = "good", shards: int = 10) -> dict[str, Any]:
    return {
        "id": node,
        "state": "active",
        "health": health,
        "shards": shards,
        "live_bytes": shards * MIB,
        "store_id": f"store {node}",
    }


def silent(node: int) -> dict[str, Any]:
    return {"id": node, "state": "active", "health": "no answer", "error": "no answer"}


def well(node: int) -> SeenNode:
    return SeenNode(node, 10, 10 * MIB, GOOD, -1)


def known(*seen: SeenNode, noted: dict[int, int] | None = None, **more: Any) -> KnownState:
    """`noted`: shards of a MiB on the repair table, by node. All nodes were looked through."""
    shards = Counter(noted or {})
    notes = Notes(shards, Counter({node: count * MIB for node, count in shards.items()}))
    looked_through = {node: f"store {node}" for node in range(1, 9)} | {9: LEFT}
    return KnownState(ProgressRecord("host-1", 0, seen=seen, **more), looked_through, notes)


def summary(
    said: KnownState, *nodes: dict[str, Any], removed: tuple[int, ...] = (), shards: int = 2
) -> dict[str, Any]:
    return missing.summary(said, nodes, removed, {}, shards)


def test_nothing_is_missing_where_all_are_well() -> None:
    found = summary(known(well(1), well(2)), answering(1), answering(2), removed=(9,))
    assert (found["whole"], found["shards"], found["unreachable"]) == (True, 0, [])
    assert missing.lines(found) == ["redundancy: no shard is known to be missing"]


def test_a_node_that_has_failed_says_itself_what_it_held() -> None:
    """Not what it held when it was last asked: that was before it got them."""
    seen = SeenNode(2, 0, 0, FAILED, 840)
    nodes = (answering(1), answering(2, health="FAILED", shards=5), answering(3))
    found = summary(known(well(1), seen, well(3)), *nodes)
    assert (found["shards"], found["bytes"]) == (5, 5 * MIB)
    assert found["unreachable"] == [
        {
            "node": 2,
            "why": "has failed",
            "shards": 5,
            "bytes": 5 * MIB,
            "counted": False,
            "given_up_in_s": 840,
        }
    ]
    assert "5 shards are missing, 5 MiB" in missing.lines(found)[0].replace("5.0", "5")
    assert missing.lines(found)[1].startswith("  about 5 of them")


def test_of_a_node_that_is_silent_what_it_said_last_counts_until_it_is_counted() -> None:
    nodes = (answering(1), silent(2), answering(3))
    for named, shards in (((-1, -1), 7), ((3, 3 * MIB), 3)):
        seen = SeenNode(2, 7, 7 * MIB, SILENT, 60, *named)
        found = summary(known(well(1), seen, well(3)), *nodes)
        assert (found["shards"], found["bytes"]) == (shards, shards * MIB)
        assert found["seconds_left"] >= 60


def test_what_is_on_the_repair_table_is_not_counted_twice() -> None:
    seen = SeenNode(2, 7, 7 * MIB, SILENT, 0)
    given_up = known(well(1), seen, noted={2: 7}, noted_nodes=(2,))
    assert summary(given_up, answering(1), silent(2), shards=1)["shards"] == 7
    counted = SeenNode(2, 7, 7 * MIB, SILENT, 60, 7, 7 * MIB)
    down = known(well(1), counted, noted={2: 4, MISSING: 1})
    assert summary(down, answering(1), silent(2), shards=1)["shards"] == 8


def test_too_few_nodes_are_told() -> None:
    said = known(well(1), SeenNode(2, 7, 7 * MIB, SILENT, 60))
    found = summary(said, answering(1), silent(2))
    assert found["seconds_left"] == -1
    assert "until a node is back" in missing.lines(found)[0]


def test_what_is_missing_takes_a_second_at_least() -> None:
    found = summary(known(well(1), well(2), noted={2: 1}), answering(1), answering(2))
    assert missing.lines(found)[0].endswith("1 shard is missing, 1.0 MiB, at least 1 s left")


def test_of_a_long_table_what_the_one_who_heals_has_counted_is_told() -> None:
    said = known(well(1), noted={1: 5}, shards_left=90_000, bytes_left=90_000 * MIB)
    said.notes.is_all = False
    assert summary(said, answering(1))["shards"] == 90_000


def test_nodes_that_were_not_looked_through_are_named() -> None:
    new = {**answering(2), "store_id": "another"}
    found = summary(known(well(1), well(2)), answering(1), new, answering(10), removed=(3, 9))
    assert not found["whole"]
    assert found["checking"] == [
        {"node": 2, "why": "new"},
        {"node": 10, "why": "new"},
        {"node": 3, "why": "left"},
    ]
    assert missing.lines(found, 40) == [
        "redundancy: not known yet",
        "  being checked: nodes 2, 10: all that should be there is looked for, 40% of the records "
        "so far",
        "  being checked: node 3: records that still name what has left are looked for, 40% of the "
        "records so far",
    ]
    some = summary(known(well(1), well(2), noted={2: 172}), answering(1), new)
    assert missing.lines(some)[0].startswith("redundancy: 172 shards are missing so far, ")


def test_a_node_that_nobody_has_seen_yet_and_that_is_silent_is_no_good_news() -> None:
    found = summary(known(well(1)), answering(1), silent(2))
    assert not found["whole"]
    assert missing.lines(found)[1] == "  node 2 does not answer; what it has is not known"
