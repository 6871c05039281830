"""Each procedure does what its golden trace says (traces.py), and is called as it says."""

from __future__ import annotations

import pytest

from catalog import traces
from predastore.catalog.procedures import PROCEDURES

HINT = "a procedure means one thing for ever; traces.py says when a file is made anew"


@pytest.mark.parametrize("name", traces.SCENARIOS)
def test_calls_do_what_they_always_did(name: str) -> None:
    text = traces.file_of(name).read_text()
    assert traces.text_of(traces.run(traces.calls_in(text))) == text, HINT


@pytest.mark.parametrize("name", traces.SCENARIOS)
def test_calls_are_written_as_ever(name: str) -> None:
    text = traces.file_of(name).read_text()
    assert traces.scripted(name) == traces.calls_in(text), HINT


def test_each_procedure_has_its_trace() -> None:
    assert {file.stem for file in traces.FOLDER.iterdir()} == set(traces.SCENARIOS)
    assert set(PROCEDURES) <= set(traces.SCENARIOS)
