"""Programs of others that are run against a real `s3d`."""

from __future__ import annotations

import filecmp
import random
import subprocess
from pathlib import Path

from support.processes import Keys, S3d


def run(server: S3d, *command: str, cwd: Path | None = None, **changes: str) -> str:
    """What the command printed; it must succeed. `changes`: of its environment, which has the
    server's keys and CA file as the banner tells a person to export them."""
    done = _done(server, command, cwd, changes)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}\n{server.output[-3000:]}"
    return done.stdout


def refused(server: S3d, *command: str, **changes: str) -> str:
    """What the command complained of; it must fail."""
    done = _done(server, command, None, changes)
    assert done.returncode != 0, f"{command} succeeded\n{done.stdout}"
    return done.stdout + done.stderr


def _done(
    server: S3d, command: tuple[str, ...], cwd: Path | None, changes: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**server.environment(), "ENDPOINT": server.endpoint, **changes},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


class Restic:
    """A repository of restic's in a bucket, of a folder with `files` files. `keys`: whose; None,
    the operator's."""

    def __init__(
        self, server: S3d, bucket: str, folder: Path, files: int, keys: Keys | None = None
    ) -> None:
        self._server = server
        self._changes = keys.environment() if keys else {}
        self._repository = f"s3:{server.endpoint}/{bucket}"
        self._source, self._back = folder / "source", folder / "back"
        self._source.mkdir()
        draw = random.Random(14)
        for number in range(files):
            data = draw.randbytes(draw.randrange(600_000))
            (self._source / f"file {number}").write_bytes(data)

    def run(self, *words: str) -> str:
        return run(
            *(self._server, "restic", "-r", self._repository),
            *("--cacert", str(self._server.ca), "--no-cache", *words),
            **{"RESTIC_PASSWORD": "of a test", **self._changes},
        )

    def back_up(self) -> None:
        """Two snapshots, of which one is left, every byte of it read."""
        self.run("init")
        self.run("backup", str(self._source))
        (self._source / "file 0").write_bytes(b"changed")
        self.run("backup", str(self._source))
        self.run("forget", "--keep-last", "1", "--prune")
        self.run("check", "--read-data")

    def check_restored(self) -> None:
        self.run("restore", "latest", "--target", str(self._back))
        names = [file.name for file in self._source.iterdir()]
        restored = self._back / self._source.relative_to("/")
        _, differ, errors = filecmp.cmpfiles(self._source, restored, names, shallow=False)
        assert not differ
        assert not errors
