"""The Grafana dashboard asks for metrics that exist, with labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from predastore.base import metrics
from predastore.process import host

FILE = Path(__file__).resolve().parents[2] / "packaging" / "grafana" / "predastore.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]

ADDED_BY_PROMETHEUS = {"instance", "job", "le"}
NAME = re.compile(r"\b(?:predastore|process)_\w+")
BY = re.compile(r"by \(([^)]*)\)")
SELECTOR = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")


def family(name: str) -> metrics.Family[Any] | None:
    assert host.run  # with it, every module that counts is imported
    plain = re.sub(r"_(bucket|sum|count)$", "", name)
    found = metrics.FAMILIES.get(name) or metrics.FAMILIES.get(plain)
    if found is not None and found.kind == "histogram":
        return found if name != plain else None  # a histogram has no series of its own name
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_of_a_query_exists_with_its_labels(query: str) -> None:
    names = set(NAME.findall(query))
    assert names
    known = set(ADDED_BY_PROMETHEUS)
    for name in names:
        found = family(name)
        assert found is not None, f"{name} is not counted"
        known |= set(found.labels)
    asked = {label.strip() for inner in BY.findall(query) for label in inner.split(",")}
    asked |= set(SELECTOR.findall(query))
    assert asked <= known
    assert query.count("(") == query.count(")")
    assert query.count("{") == query.count("}")


def test_legends_name_labels_that_are_left() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            left = {
                label.strip() for inner in BY.findall(target["expr"]) for label in inner.split(",")
            } | {"instance"}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        own = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & own, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= own
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_every_metric_is_told_of_in_the_documents() -> None:
    text = (FILE.parents[2] / "docs" / "metrics.md").read_text("utf-8")
    ours = [name for name in metrics.FAMILIES if name.startswith("predastore_")]
    missing = [name for name in ours if f"`{name.removeprefix('predastore_')}`" not in text]
    assert ours
    assert not missing
