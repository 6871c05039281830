"""The pages of docs/: short, listed, linked, and true where a machine can tell."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from style.test_layers import LAYERS, PACKAGE

ROOT = PACKAGE.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CHANGELOG.md"]
LINES_MAX = 250

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
FILE = re.compile(r"`((?:tests/)?(?:\w+/)*test_\w+\.py)(?:::(\w+))?`")
FURTHER = re.compile(r"`(test_\w+)`")
TESTS = {file.name: file for file in sorted((ROOT / "tests").rglob("test_*.py"))}
SUFFIXES = ("*.py", "*.pyx", "*.pxd", "*.h")
MAPS = (DOCS / "modules.md", DOCS / "modules-above.md")


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_read_in_one_sitting(page: Path) -> None:
    assert len(page.read_text("utf-8").splitlines()) <= LINES_MAX


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_is_in_the_list(page: Path) -> None:
    listed = LINK.findall((DOCS / "README.md").read_text("utf-8"))
    assert page.name == "README.md" or page.name in listed


@pytest.mark.parametrize("text", TEXTS, ids=name)
def test_links_lead_somewhere(text: Path) -> None:
    for target in LINK.findall(text.read_text("utf-8")):
        if "://" not in target:
            assert (text.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_sections_that_are_named_are_there(page: Path) -> None:
    """`[storage.md](storage.md), "Plain files"` names a heading, or words in bold."""
    text = " ".join(page.read_text("utf-8").split())
    for target, title in re.findall(r'\]\(([\w-]+\.md)\),? "([^"]+)"', text):
        there = (page.parent / target).read_text("utf-8")
        assert f"## {title}\n" in there or f"**{title}" in there, (target, title)


def test_the_layers_are_those_of_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| \d+ \| ([^|]+) \|", text, re.MULTILINE)
    assert [tuple(CODE.findall(row)) for row in rows] == [*LAYERS]


def test_the_tests_that_show_promises_are_there() -> None:
    for line in (DOCS / "promises.md").read_text("utf-8").splitlines():
        files = [TESTS[Path(path).name] for path, _ in FILE.findall(line)]
        for path, function in FILE.findall(line):
            file = TESTS[Path(path).name]
            assert not path.startswith("tests/") or name(file) == path
            assert f"def {function}" in file.read_text("utf-8"), line
        for function in FURTHER.findall(line):
            assert any(f"def {function}(" in file.read_text("utf-8") for file in files), line
        for folder in re.findall(r"`(tests/\w+)`", line):
            assert (ROOT / folder).is_dir()


def paths(names: list[str]) -> list[str]:
    """`a/b` `c` is `a/b` and `a/c`."""
    folder, found = "", []
    for name in names:
        folder = name.rpartition("/")[0] or folder
        found.append(f"{folder}/{name.rpartition('/')[2]}")
    return found


@pytest.mark.parametrize("page", ["way-of-a-put.md", "way-of-a-get.md"])
def test_the_modules_on_a_requests_way_are_there(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    cells = re.findall(r"\|(?: \w[\w' -]*)? (`\w+/[^|]+) \|", text.replace("| |", "|"))
    assert len(cells) > 10
    for path in {path for cell in cells for path in paths(CODE.findall(cell))}:
        assert (PACKAGE / f"{path}.py").exists(), path


def module_patterns() -> dict[str, set[str]]:
    """Of each package what the maps name, as paths below it."""
    found: dict[str, set[str]] = {}
    for page in MAPS:
        for section in page.read_text("utf-8").split("\n## `")[1:]:
            package = section.partition("/`")[0]
            for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE):
                named = (path.removeprefix("/") for path in paths(CODE.findall(row)))
                found.setdefault(package, set()).update(named)
    return found


def test_every_module_is_on_the_map_and_nothing_else() -> None:
    patterns = module_patterns()
    assert set(patterns) == {part for line in LAYERS for part in line} - {"__main__"}
    for package, named in patterns.items():
        folder = PACKAGE / package
        files = {
            str(file.relative_to(folder))
            for suffix in SUFFIXES
            for file in folder.rglob(suffix)
            if file.name != "__init__.py"
        }
        for file in sorted(files):
            assert any(fnmatch(file, pattern) for pattern in named), f"{package}/{file}"
        for pattern in sorted(named):
            assert any(fnmatch(file, pattern) for file in files), f"{package}/{pattern}"
