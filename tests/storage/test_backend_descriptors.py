"""Plain files without a descriptor left: requests are told so, nothing is left behind, and what is
committed gets to its path."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from predastore.base.errors import Overloaded
from predastore.storage.beneath import Beneath
from support.backends import filesystem, run, some_bytes
from support.descriptors import no_descriptors
from support.garbage import fails

DATA = some_bytes(100_000)


def test_reads_and_writes_are_overloaded_and_leave_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with filesystem(tmp_path) as at:
            await at.put("k", DATA)
            with no_descriptors():
                await fails(Overloaded, at.put("new", DATA))
                await fails(Overloaded, at.get("k"))
            assert list((tmp_path / ".predastore" / "tmp").iterdir()) == []
            assert await at.get("k") == DATA
            await at.put("new", DATA)
            assert (tmp_path / "bucket" / "new").read_bytes() == DATA

    run(main())


@pytest.mark.parametrize("name", ["move", "is_free"])
def test_a_committed_file_gets_to_its_path_when_there_is_a_descriptor_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real, left = getattr(Beneath, name), [2]

    def short(self: Beneath, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EMFILE, "no more")
        return real(self, *arguments)

    async def main() -> None:
        async with filesystem(tmp_path) as at:
            monkeypatch.setattr(Beneath, name, short)
            if name == "is_free":  # before the commit: the client is told
                for _ in range(2):
                    await fails(Overloaded, at.put("k", DATA))
            await at.put("k", DATA)
            assert (tmp_path / "bucket" / "k").read_bytes() == DATA
            assert await at.get("k") == DATA

    run(main())
