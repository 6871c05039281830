"""What was built is hardened: read in the ELF file of every extension, and of the launcher; and
what it is built from is known by its hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import predastore
from support.elf import Elf, has_data_that_runs, is_bound_at_start
from support.packaging import PACKAGING, load

FAST = Path(predastore.__file__).parent / "_fast"
EXTENSIONS = sorted(FAST.glob("*.so"))
# They call nothing whose size glibc could check.
UNCHECKED = {"crc", "syncer"}
SWITCHES = ("-fstack-protector-strong", "-fstack-clash-protection")


def test_every_kernel_is_among_those_that_are_read() -> None:
    kernels = {file.stem for file in FAST.glob("*.pyx")}
    assert {file.name.partition(".")[0] for file in EXTENSIONS} == kernels


@pytest.mark.parametrize("file", EXTENSIONS, ids=lambda file: file.name.partition(".")[0])
def test_an_extension_is_hardened(file: Path) -> None:
    elf = Elf.read(file)
    assert is_bound_at_start(elf)
    assert not has_data_that_runs(elf)
    built_with = elf.sections[".GCC.command.line"].decode().split()
    assert not set(SWITCHES) - set(built_with)
    assert "__stack_chk_fail" in elf.symbols
    checked = {name for name in elf.symbols if name.endswith("_chk")}
    assert checked or file.name.partition(".")[0] in UNCHECKED, "_FORTIFY_SOURCE"


def test_the_launcher_is_hardened(tmp_path: Path) -> None:
    load("onefile").launcher(tmp_path / "launcher")
    elf = Elf.read(tmp_path / "launcher")
    assert is_bound_at_start(elf)
    assert not has_data_that_runs(elf)
    assert "__stack_chk_fail" in elf.symbols
    assert [name for name in elf.symbols if name.endswith("_chk")]


def locked() -> dict[str, tuple[str, list[str]]]:
    """Name to version and hashes, of every line of the lock."""
    text = (PACKAGING / "requirements.lock").read_text("utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pinned, *hashes = line.split()
            name, equal, version = pinned.partition("==")
            assert equal, f"{line}: no version"
            found[name] = (version, hashes)
    return found


def test_every_file_that_the_binary_is_built_from_has_its_hash_in_the_lock() -> None:
    lock = locked()
    assert lock
    for name, (_, hashes) in lock.items():
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), name
    recipe = (PACKAGING / "packaging.mk").read_text("utf-8").replace("\\\n", " ")
    installing = [line for line in recipe.splitlines() if "pip install" in line]
    assert len(installing) == 3
    for line in installing:
        assert "--require-hashes" in line or "--no-deps $(BINARY)/wheel" in " ".join(line.split())


def test_the_lock_has_what_the_project_asks_for() -> None:
    project = tomllib.loads((PACKAGING.parent / "pyproject.toml").read_text("utf-8"))["project"]
    lock = locked()
    for wanted in map(Requirement, project["dependencies"]):
        assert wanted.specifier.contains(lock[wanted.name.lower()][0]), wanted
