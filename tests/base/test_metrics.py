"""Counting, and the text that Prometheus reads: judged by Prometheus' own parser."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from predastore.base import metrics
from predastore.base.limits import METRICS_CHILDREN_MAX
from support.loops import on_a_loop

REQUESTS = metrics.counter("test_requests_total", "Requests.", "operation", "code")
TIMES = metrics.histogram("test_seconds", "Times.", "operation")
STATE = metrics.gauge("test_state", "State.", "name")


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(autouse=True)
def _empty() -> None:
    for family in (REQUESTS, TIMES, STATE):
        family.clear()


@on_a_loop
async def test_what_was_counted_is_read() -> None:
    REQUESTS.child("Get", "200").value += 2
    REQUESTS.child("Get", "404").value += 1
    for seconds in (0.0001, 0.002, 99.0):
        TIMES.child("Get").observe(seconds)
    found = parsed(await metrics.text())
    assert found["test_requests_total", (("code", "200"), ("operation", "Get"))] == 2
    assert found["test_requests_total", (("code", "404"), ("operation", "Get"))] == 1
    assert found["test_seconds_count", (("operation", "Get"),)] == 3
    assert found["test_seconds_sum", (("operation", "Get"),)] == pytest.approx(99.0021)
    below = {
        bound: found["test_seconds_bucket", (("le", bound), ("operation", "Get"))]
        for bound in ("0.0001", "0.001", "0.0025", "60.0", "+Inf")
    }
    assert below == {"0.0001": 1, "0.001": 1, "0.0025": 2, "60.0": 2, "+Inf": 3}


@on_a_loop
async def test_any_text_may_be_a_label() -> None:
    name = 'a "b"\\ \n'
    STATE.child(name).value = 0.25
    assert parsed(await metrics.text())["test_state", (("name", name),)] == 0.25


@on_a_loop
async def test_sources_fill_gauges_and_a_failing_one_harms_no_other() -> None:
    async def bad() -> None:
        raise OSError("no")

    async def good() -> None:
        STATE.child("x").value += 1

    with metrics.filled_by(bad), metrics.filled_by(good):
        assert parsed(await metrics.text())["test_state", (("name", "x"),)] == 1
    assert parsed(await metrics.text())["test_state", (("name", "x"),)] == 1


@on_a_loop
async def test_a_source_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "METRICS_SOURCE_MS_MAX", 10)

    async def hung() -> None:
        await asyncio.get_running_loop().create_future()

    with metrics.filled_by(hung):
        assert "test_state" in await metrics.text()


def test_children_are_bounded() -> None:
    for number in range(METRICS_CHILDREN_MAX + 5):
        STATE.child(str(number)).value += 1
    children = STATE.children()
    assert len(children) == METRICS_CHILDREN_MAX + 1
    assert sum(child.value for _, child in children) == METRICS_CHILDREN_MAX + 5


def test_a_name_is_counted_by_one_module() -> None:
    with pytest.raises(ValueError, match="test_state"):
        metrics.gauge("test_state", "Again.")
