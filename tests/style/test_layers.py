"""The layer table: a module imports only from its own line or the lines above it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "predastore"

# Layers from the ground up, as docs/DESIGN.md has them. A part may import from its own part and
# from every part of an earlier line; parts of one line do not know each other, but for the pairs
# in BESIDE.
LAYERS = (
    ("_fast",),
    (
        "errors",
        "limits",
        "config",
        "metrics",
        "tracing",
        "syscalls",
        "failpoints",
        "threads",
        "fs",
        "lmdbfile",
        "sealing",
    ),
    ("coding",),
    ("httpd", "rpc"),
    ("node", "s3db", "gossip"),
    ("backend",),
    ("s3",),
    (
        *(
            "advice",
            "logs",
            "credentials",
            "certificates",
            "roles",
            "daemon",
            "banner",
            "looplag",
            "memory",
            "descriptors",
        ),
        *(
            "flags",
            "reload",
            "edited",
            "watchdog",
            "accesslog",
            "telemetry",
            "discovery",
            "wiring",
            "gauges",
            "monitoring",
            "readiness",
            "joining",
            "rivals",
            "authority",
            "cluster_tls",
            "tls",
        ),
        *("host", "commands", "cli", "testing", "__main__"),
    ),
)
BESIDE = {
    "config": {"errors", "limits"},
    "syscalls": {"errors", "limits"},
    "failpoints": set(),
    "threads": set(),
    "fs": {"errors", "limits"},
    "lmdbfile": {"errors"},
    "errors": set(),
    "metrics": {"limits"},
    "tracing": set(),
    "limits": set(),
    "advice": set(),
    "logs": set(),
    "credentials": set(),
    "reload": set(),
    "edited": {"reload"},
    "readiness": set(),
    "accesslog": {"logs", "reload"},
    "gauges": {"wiring"},
    "monitoring": set(),
    "telemetry": set(),
    "watchdog": {"daemon"},
    "certificates": {"authority"},
    "roles": set(),
    "daemon": set(),
    "descriptors": {"roles"},
    "looplag": set(),
    "memory": set(),
    "banner": {"roles"},
    "flags": set(),
    "joining": set(),
    "sealing": {"errors"},
    "authority": set(),
    "cluster_tls": {"authority", "certificates"},
    "tls": {"certificates", "cluster_tls", "roles"},
    "rivals": {"roles"},
    "discovery": {"roles", "joining", "rivals"},
    "wiring": {
        *("credentials", "certificates", "roles", "daemon"),
        *("reload", "edited", "watchdog", "accesslog", "telemetry"),
        *("discovery", "readiness", "rivals", "descriptors"),
        *("tls", "cluster_tls"),
    },
    "host": {
        "advice",
        "wiring",
        "descriptors",
        "credentials",
        "joining",
        "certificates",
        "logs",
        "roles",
        "daemon",
        "banner",
        "looplag",
        "memory",
        "reload",
        "edited",
        "watchdog",
        "gauges",
        "monitoring",
        "telemetry",
    },
    "testing": {"flags"},
    "commands": {
        "advice",
        "flags",
        "credentials",
        "certificates",
        "daemon",
        "roles",
        "discovery",
        "joining",
        "logs",
        *("authority", "cluster_tls"),
    },
    "cli": {"host", "commands", "flags"},
    "__main__": {"cli"},
}
LINE = {part: number for number, line in enumerate(LAYERS) for part in line}


def part_of(module: str) -> str:
    """`coding` of `predastore.coding.erasure`; "" for the package itself."""
    return [*module.split("."), ""][1]


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            if node.module == "predastore":
                found |= {f"predastore.{alias.name}" for alias in node.names}
            elif node.module:
                found.add(node.module)
    return {name for name in found if name.split(".")[0] == "predastore"}


def allowed(importer: str, imported: str) -> bool:
    if imported in (importer, "") or imported.startswith("__"):
        return True
    if LINE[imported] == LINE[importer]:
        return imported in BESIDE.get(importer, set())
    return LINE[imported] < LINE[importer]


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", MODULES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_up_the_table(file: Path) -> None:
    importer = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if importer == "__init__":
        return
    assert importer in LINE, f"{importer} has no line in the layer table"
    wrong = {name for name in imports(file) if not allowed(importer, part_of(name))}
    assert not wrong


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
        ("s3", "backend", True),
        ("backend", "s3", False),
        ("node", "s3db", False),
        ("httpd", "rpc", False),
        ("s3db", "httpd", True),
        ("coding", "_fast", True),
        ("_fast", "errors", False),
        ("cli", "host", True),
        ("host", "cli", False),
    ],
)
def test_the_table_tells_right_from_wrong(importer: str, imported: str, fine: bool) -> None:
    assert allowed(importer, imported) is fine


def test_kernels_are_named_in_setup() -> None:
    setup = (PACKAGE.parent / "setup.py").read_text("utf-8")
    for file in (PACKAGE / "_fast").glob("*.pyx"):
        assert f'"{file.stem}"' in setup
        assert file.with_suffix(".pyi").exists()
