"""The rows of `make bench BENCH=s3`: which are picked, and what one run of a few of them says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as suite
from benchmarks import base, s3, s3_beside, subjects, usage
from benchmarks.cells import CELLS, DEFAULTS, Cell, Size, picked
from benchmarks.load import LoadFailed
from benchmarks.measure import Row, medians_row
from benchmarks.served import KEY_ID, PORT, SECRET, s3d
from support.benched import client_of
from support.puppet import answering

SMALL = Size("4k", 4096, stored=24, keys=64, seconds=0.2)
SHORT = (Cell("put", SMALL, 1), Cell("delete", SMALL, 1))


def test_every_default_is_a_cell_and_each_has_a_name_of_its_own() -> None:
    names = [cell.name for cell in CELLS]
    assert len(names) == len(set(names))
    assert set(names) >= DEFAULTS


def test_a_prefix_picks_cells_and_s3_alone_picks_the_defaults() -> None:
    assert {cell.name for cell in picked("s3")} == DEFAULTS
    assert {cell.clients for cell in picked("s3.put.4k")} == {1, 16, 256}
    assert [cell.name for cell in picked("s3.get.10m.c16")] == [
        "s3.get.10m.c16",
        "s3.get.10m.c16.tls",
    ]
    assert picked("s3.memory") == []


def test_a_prefix_that_is_a_word_is_not_the_beginning_of_another() -> None:
    assert suite.chosen("s3") == ["s3", "s3_beside", "s3_degraded", "s3_hosts"]
    assert suite.chosen("s3db") == ["s3db", "s3db_million", "s3db_rejoin"]
    assert suite.chosen("s3.put.4k") == ["s3"]
    assert set(suite.chosen("")) == set(suite.MODULES.values())
    assert suite.chosen("nothing") == []


def test_cpu_and_memory_are_of_a_process_and_of_what_it_started() -> None:
    before = usage.cpu(os.getpid())
    count = sum(range(10_000_000))
    assert count
    assert usage.cpu(os.getpid()).since(before).total_s > 0
    assert usage.resident_mib(os.getpid()) > 1


def test_a_base_that_is_no_commit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE", "no-such-commit")
    with pytest.raises(RuntimeError, match="BASE=no-such-commit: no such commit here"):
        base.wanted()


def test_a_run_that_fails_loses_nothing_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> Iterator[Row]:
        yield medians_row("s3.first", "/s", [1.0], "other", [2.0])
        raise LoadFailed("answered with 500")

    out = tmp_path / "out.json"
    monkeypatch.setattr(s3, "rows", fails)
    kernels = [medians_row("s3.beside.put", "ms", [3.0], "other", [2.0])]
    monkeypatch.setattr(s3_beside, "rows", lambda: kernels)
    monkeypatch.setattr(suite, "MODULES", {"s3": "s3", "s3.beside": "s3_beside"})
    monkeypatch.setenv("BENCH", "s3")
    monkeypatch.setenv("BENCH_OUT", str(out))
    assert suite.main() == 1
    assert "s3: no more rows: answered with 500" in capsys.readouterr().err
    found = json.loads(out.read_text())
    assert [row["name"] for row in found["rows"]] == ["s3.first", "s3.beside.put"]
    assert found["machine"]["cores"] > 0


def test_a_peer_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(lambda asked: b"") as puppet:
        port = puppet.port
    monkeypatch.setenv("PEER", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with (
        pytest.raises(RuntimeError, match=f"PEER=http://127.0.0.1:{port}: no bucket could be made"),
        subjects.peer(tls=False),
    ):
        pass


@pytest.mark.e2e
def test_a_run_beside_a_peer_has_all_figures_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "picked", lambda prefix: list(SHORT))
    monkeypatch.setitem(s3.DELETED, 1, 20)
    monkeypatch.setenv("BENCH", "s3.short")
    monkeypatch.setenv("BENCH_DIR", str(tmp_path / "disk"))
    monkeypatch.setenv("ROUNDS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with s3d(tmp_path) as peer:
        monkeypatch.setenv("PEER", f"http://{peer.host}:{PORT}")
        rows = list(s3.rows())
        left = client_of(peer).list_buckets()["Buckets"]
        assert [found["Name"] for found in left] == ["bench"]
    beside = {(row["name"], row["yardstick"]): row for row in rows}
    for cell in SHORT:
        rate = beside[cell.name, "peer"]
        assert rate["value"] > 0
        assert rate["ratio"] == rate["value"] / rate["yardstick_value"]
        assert beside[f"{cell.name}.p99", "peer"]["unit"] == "ms"
        assert 0 < beside[f"{cell.name}.generator", "the machine's cores"]["ratio"] < 1
        check_figures(cell, beside[cell.name, "peer"])
    assert beside["s3.put.4k.c1.cpu", "peer"]["yardstick_value"] > 0
    assert beside["s3.put.4k.c1", s3.SYNCS]["ratio"] > 0
    assert beside["s3.put.4k.c1", s3.HTTP]["ratio"] > 0
    assert beside["s3.memory.idle", "peer"]["value"] > 10


def check_figures(cell: Cell, row: Row) -> None:
    found = row["figures"]["subjects"]
    assert list(found) == ["ours", "peer"]
    for figures in found.values():
        assert {len(rounds) for rounds in figures.values()} == {1}
        assert figures["errors"] == [0]
        assert figures["answered"][0] >= figures["timed"][0] > 0
        assert figures["resident_mib"][0] > 10
