"""Programs of others that are run against a real `s3d`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.processes import S3d


def run(server: S3d, *command: str, cwd: Path | None = None, **changes: str) -> str:
    """What the command printed; it must succeed. `changes`: of its environment, which has the
    server's keys and CA file as the banner tells a person to export them."""
    done = subprocess.run(
        command,
        env={**server.environment(), "ENDPOINT": server.endpoint, **changes},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}\n{server.output[-3000:]}"
    return done.stdout
