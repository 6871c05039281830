"""House style that a machine can check: see docs/contributing.md."""

from __future__ import annotations

import ast
import logging
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "predastore").rglob("*.py"))
KERNELS = sorted((ROOT / "predastore").rglob("*.pyx"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LINES_MAX = 400
KERNEL_LINES_MAX = 450  # declarations of C take room of their own
FUNCTION_LINES_MAX = 70
SILENCED = re.compile(r"TODO|FIXME|XXX|NotImplementedError|type: ignore|# ?noqa|# ?nosec")


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", [*SOURCES, *KERNELS], ids=name)
def test_a_file_fits_in_the_head(file: Path) -> None:
    if file.name == "limits.py":
        return  # every bound is in one file: a table, not a text
    most = KERNEL_LINES_MAX if file.suffix == ".pyx" else LINES_MAX
    assert len(file.read_text("utf-8").splitlines()) <= most


@pytest.mark.parametrize("file", SOURCES, ids=name)
def test_a_function_fits_on_a_screen(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


@pytest.mark.parametrize("file", SOURCES, ids=name)
def test_a_module_opens_with_what_it_owns(file: Path) -> None:
    text = file.read_text("utf-8")
    assert not text or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("file", SOURCES + KERNELS, ids=name)
def test_nothing_is_unfinished_or_silenced(file: Path) -> None:
    assert not SILENCED.search(file.read_text("utf-8"))


@pytest.mark.parametrize("file", SOURCES, ids=name)
def test_logs_say_nothing_under_a_name_of_loggings_own(file: Path) -> None:
    """Logging raises KeyError for it."""
    taken = {*vars(logging.makeLogRecord({})), "message", "asctime"}
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if (
            isinstance(node, ast.keyword)
            and node.arg == "extra"
            and isinstance(node.value, ast.Dict)
        ):
            keys = {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
            assert not keys & taken, f"line {node.value.lineno}"


@pytest.mark.parametrize("file", TESTS, ids=name)
def test_tests_do_not_sleep(file: Path) -> None:
    pattern = r"(time|asyncio)\." + r"sleep\((?!0\))"  # sleep(0) only lets others run
    assert not re.search(pattern, file.read_text("utf-8"))


def test_test_modules_have_names_of_their_own() -> None:
    stems = [file.stem for file in TESTS if file.stem.startswith("test_")]
    assert len(stems) == len(set(stems))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout of git")
def test_git_takes_every_source() -> None:
    kinds = ("*.c", "*.h", "*.pyx", "*.py", "*.toml", "*.json", "*.service", "*.socket")
    made = (":!.venv", ":!build", ":!dist", ":!data", ":!predastore/_fast/*.c")
    listed = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--"]
    done = subprocess.run(
        [*listed, *kinds, *made], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "", "ignored, so it would not be in a fresh checkout"
