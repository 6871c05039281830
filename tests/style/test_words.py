"""One term, one meaning: a class name stands once, a verb of the project's own has one sense."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "predastore"

# A verb -> where functions may begin with it, all of which mean the same.
VERBS = {
    "settle": {  # gives who waits for it the outcome
        "rpc/quic_client.py",
        "s3db/global_state.py",
        "s3db/proposals.py",
        "s3db/raft/answers.py",
    },
    "turn": {  # once around a loop that is called again and again
        "gossip/agent.py",
        "gossip/core.py",
        "s3db/raft/driver.py",
        "s3db/raft/engine.py",
    },
    "keep": {"httpd/head.py"},  # keep-alive, the term of HTTP
}


def definitions(kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> Iterator[tuple[str, str]]:
    """(name, file) of each definition of a kind in the package."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in nodes(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, kind):
                yield getattr(node, "name", ""), file.relative_to(PACKAGE).as_posix()


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All but what is there for a type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from nodes(node)


def test_no_name_is_of_two_classes() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for name, file in definitions(ast.ClassDef):
        if not name.startswith("_"):
            places[name].append(file)
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_of_the_projects_own_has_one_sense(verb: str) -> None:
    found = {
        file
        for name, file in definitions((ast.FunctionDef, ast.AsyncFunctionDef))
        if name.strip("_").split("_")[0] in (verb, f"{verb}s", f"{verb}d", f"{verb}ed")
    }
    assert found == VERBS[verb]
