"""Logs: one event a line, fields that a machine can split, control bytes escaped."""

from __future__ import annotations

import logging

import pytest

from predastore.process.logs import Logfmt, quoted


def rendered(message: str, **fields: object) -> str:
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "x.y", **fields})
    record.created, record.msecs = 0.0, 7.0
    return Logfmt().format(record)


def test_an_event_is_one_line_with_its_fields() -> None:
    line = rendered("torn tail cut", segment=3, path="/a b")
    assert line == '1970-01-01T00:00:00.007Z info x.y msg="torn tail cut" segment=3 path="/a b"'


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("plain", "plain"), ("", '""'), ('a"b', '"a\\"b"'), ("a\nb", '"a\\x0ab"'), ("k=v", '"k=v"')],
)
def test_values_can_not_break_out_of_their_field(value: str, wanted: str) -> None:
    assert quoted(value) == wanted
