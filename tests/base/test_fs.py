"""Files and folders that are there after a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from predastore.base import fs


def test_what_is_made_is_synced_in_the_folder_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    real = fs.sync
    monkeypatch.setattr(fs, "sync", lambda folder: (synced.append(folder), real(folder)))
    before = os.umask(0o022)
    try:
        fs.make_folder(tmp_path / "a" / "b" / "c", 0o700)
    finally:
        os.umask(before)
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    modes = [each.stat().st_mode & 0o077 for each in (tmp_path / "a", tmp_path / "a" / "b" / "c")]
    assert modes[0] != 0, "those above are as the umask has them"
    assert modes[1] == 0
    fs.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 3, "it was there"


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        fs.make_folder(tmp_path / "file")
    with pytest.raises(FileExistsError):
        fs.make_folder(tmp_path / "file" / "below")
