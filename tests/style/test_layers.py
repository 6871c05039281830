"""The layer table: a module imports only from its own line or the lines above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "predastore"

# Layers from the ground up, as docs/architecture.md has them (test_docs.py compares). A package may
# import from itself and from every package of an earlier line; those of one line do not know each
# other.
LAYERS = (
    ("_fast",),
    ("base",),
    ("coding", "policy"),
    ("httpd", "rpc"),
    ("auth",),
    ("node", "s3db", "gossip"),
    ("storage",),
    ("catalog",),
    ("jobs", "iam"),
    ("s3",),
    ("process",),
    ("testing", "__main__"),
)
# The order within a package: a module imports from its own line and from earlier ones; what has no
# line is before all of them.
INNER = {
    "base": (("config", "syscalls", "fs", "lmdbfile", "metrics", "sealing"),),
    "process": (
        ("node_role", "member_role", "identities_role", "gateway_role"),
        ("wiring",),
        ("gauges",),
        ("host", "commands"),
        ("cli",),
    ),
}
LINE = {part: number for number, line in enumerate(LAYERS) for part in line}


def parts_of(module: str) -> tuple[str, str]:
    """`coding` and `erasure` of `predastore.coding.erasure`; "" where there is none."""
    _, package, inner, *_ = [*module.split("."), "", ""]
    return package, inner


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "predastore"}


def allowed(importer: str, imported: str) -> bool:
    (package, inner), (other, other_inner) = parts_of(importer), parts_of(imported)
    if other == "" or other.startswith("__"):
        return True
    if other != package:
        return LINE[other] < LINE[package]
    return inner_line(package, other_inner) <= inner_line(package, inner)


def inner_line(package: str, module: str) -> int:
    lines = [number for number, line in enumerate(INNER.get(package, ())) if module in line]
    return lines[0] if lines else -1


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_up_the_table(file: Path) -> None:
    importer = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    package, _ = parts_of(importer)
    if package == "__init__":
        return
    assert package in LINE, f"{package} has no line in the layer table"
    assert not {name for name in imports(file) if not allowed(importer, name)}


def test_the_top_level_holds_packages_only() -> None:
    files = {each.name for each in PACKAGE.iterdir() if each.is_file()}
    assert files - {"commit", "licenses.txt"} == {"__init__.py", "__main__.py", "py.typed"}


def test_the_kernels_import_nothing_of_ours() -> None:
    for file in sorted((PACKAGE / "_fast").glob("*.pyx")):
        for line in file.read_text("utf-8").splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"], ["cimport"]) and words[1:]:
                name = words[1]
                assert not name.startswith("predastore") or name.startswith("predastore._fast")


@pytest.mark.parametrize(
    ("importer", "imported", "fine"),
    [
        ("s3.routes", "catalog.objects", True),
        ("catalog.objects", "s3.routes", False),
        ("storage.filesystem", "catalog.adoption", False),
        ("node.store", "s3db.store", False),
        ("httpd.server", "rpc.endpoint", False),
        ("s3db.rest", "httpd.message", True),
        ("coding.erasure", "_fast.crc", True),
        ("_fast.crc", "base.errors", False),
        ("base.fs", "base.errors", True),
        ("base.errors", "base.fs", False),
        ("process.cli", "process.host", True),
        ("process.host", "process.cli", False),
        ("process.reload", "process.wiring", False),
    ],
)
def test_the_table_tells_right_from_wrong(importer: str, imported: str, fine: bool) -> None:
    assert allowed(f"predastore.{importer}", f"predastore.{imported}") is fine


def test_kernels_are_named_in_setup() -> None:
    setup = (PACKAGE.parent / "setup.py").read_text("utf-8")
    for file in (PACKAGE / "_fast").glob("*.pyx"):
        assert f'"{file.stem}"' in setup
        assert file.with_suffix(".pyi").exists()
