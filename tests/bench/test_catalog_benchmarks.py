"""Benchmarks of listings, copies, garbage and rejoining, small: they check what they measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import copies, garbage, s3db_rejoin, versions


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DIR", str(tmp_path))


def test_garbage_is_let_go_of_to_the_last_row_and_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LAYOUTS", 4 * 50)
    monkeypatch.setattr(garbage.logging, "disable", lambda level: None)
    assert [row["name"] for row in garbage.rows()] == ["garbage.rate", "garbage.memory"]


@pytest.mark.e2e
def test_pages_above_old_versions_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "OLD", 3 * versions.OBJECTS_COUNT)
    monkeypatch.setattr(versions, "PAGES", 2)
    assert {row["name"] for row in versions.rows()} == {
        "versions.list",
        "versions.list.all",
        "versions.member.list",
        "versions.member.list.all",
        "versions.memory",
    }


@pytest.mark.e2e
def test_copies_move_no_bytes_and_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "LARGE_BYTES", 16 * copies.MIB)
    monkeypatch.setattr(copies, "COPIES", 2)
    assert [row["name"] for row in copies.rows()] == ["copy.1g", "copy.1g.parts"]


@pytest.mark.e2e
def test_a_member_is_level_again_under_puts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3db_rejoin, "AWAY_S", 1.0)
    monkeypatch.setattr(s3db_rejoin, "LOAD_S", 0.5)
    puts, level = s3db_rejoin.rows()
    assert (puts["name"], level["name"]) == ("s3db.rejoin.puts", "s3db.rejoin.level")
    assert puts["value"] > 0
