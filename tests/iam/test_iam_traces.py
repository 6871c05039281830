"""Each procedure of identities does what its golden trace says (iam_traces.py)."""

from __future__ import annotations

import pytest

from catalog.traces import calls_in, text_of
from iam import iam_traces
from predastore.iam.procedures import PROCEDURES

HINT = "a procedure means one thing for ever; traces.py says when a file is made anew"


@pytest.mark.parametrize("name", iam_traces.SCENARIOS)
def test_identities_calls_do_what_they_always_did(name: str) -> None:
    text = iam_traces.file_of(name).read_text()
    assert text_of(iam_traces.traced(calls_in(text))) == text, HINT


@pytest.mark.parametrize("name", iam_traces.SCENARIOS)
def test_identities_calls_are_written_as_ever(name: str) -> None:
    text = iam_traces.file_of(name).read_text()
    assert iam_traces.scripted(name) == calls_in(text), HINT


def test_each_procedure_of_identities_has_its_trace() -> None:
    assert {file.stem for file in iam_traces.FOLDER.iterdir()} == set(iam_traces.SCENARIOS)
    assert {one.name for one in PROCEDURES} == set(iam_traces.SCENARIOS)
