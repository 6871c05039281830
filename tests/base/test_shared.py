"""What hosts are to have alike: found by marks that tell nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from predastore.base.config import S3, Auth, Bucket, Config, Db, Node, Rs
from predastore.base.config.model import Cluster
from predastore.base.config.shared import Differences, differing, lines, marks, outliers

KEY = b"k" * 32
FILE = Config(
    backend="distributed",
    auth=(Auth("A", "a secret"), Auth("B", "another")),
    nodes=tuple(Node(n, f"10.0.0.{n}", 9991, Path(f"/data/{n}")) for n in range(1, 4)),
    db=(Db(1, "10.0.0.1", 6660, 7660, Path("/data/db")),),
)


def differs(other: Config) -> list[str]:
    return differing(marks(FILE, KEY), marks(other, KEY))


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (replace(FILE, region="eu"), ["region"]),
        (replace(FILE, domains=("s3.example.com",)), ["domains"]),
        (replace(FILE, rs=Rs(2, 1)), ["[rs]"]),
        (replace(FILE, rs=Rs(write_min=5)), ["[rs]"]),
        (replace(FILE, rs=Rs(inline_max=0)), ["[rs]"]),
        (replace(FILE, s3=S3("BucketOwnerEnforced")), ["[s3]"]),
        (replace(FILE, s3=S3(block_public_access=True)), ["[s3]"]),
        (replace(FILE, auth=FILE.auth[:1]), ["[[auth]]"]),
        (replace(FILE, buckets=(Bucket("photos"),)), ["[[buckets]]"]),
        (replace(FILE, nodes=FILE.nodes[:2]), ["[[nodes]]"]),
        (replace(FILE, nodes=(replace(FILE.nodes[0], weight=2.0), *FILE.nodes[1:])), ["[[nodes]]"]),
        (replace(FILE, db=(replace(FILE.db[0], port=1),), region="eu"), ["region", "[[db]]"]),
    ],
)
def test_what_all_are_to_have_alike_is_compared(other: Config, what: list[str]) -> None:
    assert differs(other) == what


def test_what_a_host_has_for_itself_is_not(tmp_path: Path) -> None:
    moved = tuple(replace(row, path=tmp_path, listen="0.0.0.0") for row in FILE.nodes)
    own = replace(
        FILE,
        nodes=moved[::-1],
        auth=FILE.auth[::-1],
        rs=Rs(write_min=4),  # as it is by itself
        host="10.0.0.2",
        port=443,
        base_path=tmp_path,
        log_level="debug",
        cluster=Cluster(scrub_days=3),
    )
    assert differs(own) == []


def test_a_process_that_joined_has_its_rows_from_the_others() -> None:
    joined = replace(FILE, nodes=FILE.nodes[:1], cluster=Cluster(join=(("10.0.0.1", 9991),)))
    assert differs(joined) == []


def test_a_mark_tells_nothing_without_the_key() -> None:
    assert differing(marks(FILE, KEY), marks(FILE, b"another key")) == ["[cluster] secret"]
    assert marks(FILE, KEY) != marks(FILE, b"another key") != {}
    assert all(len(mark) == 8 for mark in marks(FILE, KEY).values())


def test_those_that_have_it_otherwise_than_most_are_named() -> None:
    same, other = {"[rs]": b"1", "region": b"r"}, {"[rs]": b"2", "region": b"r"}
    assert outliers({"node/1": same, "node/2": same, "old": {}}) == []
    found = outliers({"node/1": other, "node/2": same, "node/3": same})
    assert found == [{"what": "[rs]", "groups": [["node/2", "node/3"], ["node/1"]]}]
    assert lines(found) == [
        "settings: [rs] of node/1 is not as the other 2 processes have it; give all hosts the same "
        "file"
    ]
    assert lines(outliers({"node/1": other, "node/2": same})) == [
        "settings: [rs] differs: node/1 | node/2; give all hosts the same file"
    ]


def test_where_the_secret_differs_nothing_else_is_compared() -> None:
    told = {"node/1": marks(FILE, KEY), "node/2": marks(FILE, b"another key")}
    assert [one["what"] for one in outliers(told)] == ["[cluster] secret"]


def test_a_difference_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    differences = Differences()
    own, theirs = {"[rs]": b"1"}, {"[rs]": b"2"}
    for marks_, count in ((theirs, 1), (theirs, 1), (own, 1), (theirs, 2)):
        differences.heard("node/3", "10.0.0.3", own, marks_)
        assert len(caplog.records) == count
    assert vars(caplog.records[0])["differ"] == "[rs]"
