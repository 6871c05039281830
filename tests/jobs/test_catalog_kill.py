"""SIGKILL at every step of the catalog's operations, on both backends: after a restart there is
what was there before the operation, or what it makes; nothing else is left, in no table, on no
node, in no file."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from catalog_kill_child import INLINE_MAX, STEPS, Model, models, seen
from healing_child import PACE, at_rest

from catalog.projection import check_extents, check_invariants
from predastore.catalog import keys
from predastore.catalog.rows import PartRow, PlacementRow
from predastore.jobs import garbage
from predastore.storage.extents import FileExtent
from predastore.storage.formats import decode
from support.backends import Harness, filesystem, run
from support.healing import cluster, healing
from support.waiting import until

HERE = Path(__file__).parent
SOURCE = HERE.parents[1]
TABLES = (
    *(keys.BUCKETS, keys.DOCUMENTS, keys.OBJECTS, keys.VERSIONS, keys.NULLS, keys.INLINE),
    *(keys.REFS, keys.UPLOADS, keys.PARTS, keys.COMPLETED, keys.DUE, keys.REPAIR),
)


@pytest.mark.parametrize(
    ("backend", "operation", "step", "is_done"),
    [
        pytest.param(backend, operation, step, is_done, id=f"{backend}-{operation}-{step}")
        for operation, step, backends, is_done in STEPS
        for backend in backends
    ],
)
def test_after_a_kill_all_is_there_and_nothing_is_left(
    tmp_path: Path,
    backend: str,
    operation: str,
    step: str,
    is_done: bool | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage, "GARBAGE_WAIT_S_MAX", 0.05)

    async def main() -> None:
        output = await killed(backend, tmp_path, operation, step)
        at_work = output.splitlines()[-1].removeprefix("begin ")
        before, after = models(at_work)
        wanted = [before, after] if is_done is None else [after if is_done else before]
        if backend == "filesystem":
            await check_files(tmp_path, wanted)
        else:
            await check_nodes(tmp_path, wanted)

    run(main())


async def killed(backend: str, base: Path, operation: str, step: str) -> str:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(HERE / "catalog_kill_child.py")),
        *(backend, str(base), operation, step, "1"),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": f"{SOURCE}:{HERE}:{HERE.parent}"},
    )
    output, _ = await asyncio.wait_for(child.communicate(), 120)
    assert child.returncode == -signal.SIGKILL, "the step was reached"
    return output.decode()


async def check_nodes(base: Path, wanted: list[Model]) -> None:
    async with cluster(base, inline_max=INLINE_MAX) as nodes:
        at = nodes.at
        assert await seen(at) in wanted
        await nothing_due(at)
        async with healing(nodes, PACE) as healer:
            healer.want_full_pass()
            await until(lambda: at_rest(nodes, healer))
        assert await seen(at) in wanted
        await check_tables(at)


async def check_files(base: Path, wanted: list[Model]) -> None:
    async with filesystem(base) as at:
        assert await seen(at) in wanted
        await nothing_due(at)
        assert await seen(at) in wanted
        await check_tables(at)
        assert files_below(base) == await paths(at)


def files_below(base: Path) -> set[str]:
    """Without those of the state."""
    state = base / ".predastore" / "state"
    files = {path for path in base.rglob("*") if path.is_file()}
    return {str(path.relative_to(base)) for path in files if not path.is_relative_to(state)}


async def nothing_due(at: Harness) -> None:
    async def is_so() -> bool:
        return not await at.due()

    await until(is_so)


async def check_tables(at: Harness) -> None:
    tables = {name: await at.table(name) for name in TABLES}
    assert not [key for key in tables[keys.OBJECTS] if key.startswith(keys.DELETED)]
    check_invariants(tables)
    check_extents(tables)


async def paths(at: Harness) -> set[str]:
    """Of the files that rows name."""
    extents = [decode(PartRow, row).extent for row in (await at.table(keys.PARTS)).values()]
    for key, row in (await at.table(keys.OBJECTS)).items():
        if not key.startswith((keys.ARN, keys.DELETED)):
            extents += decode(PlacementRow, row).extents
    return {extent.path for extent in extents if isinstance(extent, FileExtent)}
