"""Failpoints: what the variable may say, what happens, and that each name is at one place."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from predastore.base import failpoints
from predastore.base.failpoints import FailpointReached, failpoint

PACKAGE = Path(failpoints.__file__).parents[1]


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def test_nothing_happens_where_nothing_is_armed() -> None:
    failpoint("a.b")
    failpoints.arm("a.c", "raise")
    failpoint("a.b")


def test_the_named_passage_raises_and_no_other() -> None:
    failpoints.arm_all(" a.b = raise:3 ,a.c=raise".replace(" = ", "="))
    failpoint("a.b")
    failpoint("a.b")
    with pytest.raises(FailpointReached, match=r"a\.b"):
        failpoint("a.b")
    failpoint("a.b")
    with pytest.raises(FailpointReached, match=r"a\.c"):
        failpoint("a.c")


@pytest.mark.parametrize("text", ["a", "a=explode", "a=kill:x", "a=raise:0"])
def test_what_can_not_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        failpoints.arm_all(text)


def test_the_variable_kills_the_process() -> None:
    program = (
        "from predastore.base.failpoints import failpoint\nfor _ in 'ab': failpoint('x')\nprint(1)"
    )
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    for passage, code in ((2, -signal.SIGKILL), (3, 0)):
        armed = environment | {failpoints.VARIABLE: f"x=kill:{passage}"}
        process = subprocess.run([sys.executable, "-c", program], env=armed, check=False)
        assert process.returncode == code


def test_each_name_stands_at_one_place() -> None:
    names: Counter[str] = Counter()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failpoint":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant), f"{file}: a name is a literal"
                names[str(argument.value)] += 1
    assert [name for name, count in names.items() if count > 1] == []
