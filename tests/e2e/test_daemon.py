"""`s3d` as a Unix daemon: start, banner, signals, locks and exit codes."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support.processes import S3d, development, fresh_network, s3d_command
from support.waiting import eventually

pytestmark = pytest.mark.e2e


def s3d(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [*s3d_command(), *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_banner_tells_what_to_paste_and_it_works(tmp_path: Path) -> None:
    with development(tmp_path) as server:
        banner = eventually(
            lambda: server.output if "s3 mb" in server.output else "", what="the banner"
        )
        assert server.endpoint in banner
        assert "RS(3,2)" in banner
        assert "may be lost  any 2 nodes, no member" in banner
        warning = "the loss of the only database member loses every object"
        eventually(lambda: warning in server.output, what="a warning of that")
        assert str(server.ca) in banner
        lines = [line.strip() for line in banner.splitlines()]
        export = next(line for line in lines if line.startswith("export "))
        paste = next(line for line in lines if line.startswith("aws "))
        done = subprocess.run(
            ["/bin/sh", "-c", f"{export}\n{paste}"],
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_generated_keys_are_private_and_logs_hold_no_secret(tmp_path: Path) -> None:
    with development(tmp_path, "-log-level", "debug") as server:
        server.client().create_bucket(Bucket="secrets")
        _, secret = server.credentials()
        file = server.base_path / "credentials.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert server.stop() == 0
        errors = (tmp_path / "s3d.stderr").read_text()
        assert secret not in errors


def test_sigterm_finishes_running_requests_and_exits_0(tmp_path: Path) -> None:
    with development(tmp_path) as server:
        client = server.client()
        client.create_bucket(Bucket="drain")
        body = bytes(40 << 20)
        failures: list[Exception] = []

        def put() -> None:
            try:
                client.put_object(Bucket="drain", Key="big", Body=body)
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=put)
        thread.start()
        eventually(lambda: any(tmp_path.rglob("*.seg")), what="data on its way")
        assert server.stop() == 0
        thread.join(30)
        if failures:  # the connection was refused before the request began: never half-way
            assert "Connection" in str(failures[0]) or "connect" in str(failures[0])
        server.start()
        answer = server.client().list_objects_v2(Bucket="drain")
        assert answer["KeyCount"] == (0 if failures else 1)


def test_a_second_process_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with development(tmp_path) as server:
        other = f"{fresh_network()}.1"
        done = s3d(
            tmp_path, "-config", "dev.toml", "-host", other, "-base-path", str(server.base_path)
        )
        assert done.returncode == 69
        assert "in use" in done.stderr
        assert server.healthy("live")


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with development(tmp_path) as server:
        done = s3d(tmp_path, "-base-path", str(tmp_path / "second"), "-host", server.host)
        assert done.returncode == 69
        assert re.search(r"8443: .*in use; stop what uses it, or choose", done.stderr), done.stderr


def test_configuration_mistakes_exit_2(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[rs]\ndata = 0\n")
    done = s3d(tmp_path, "-config", "bad.toml")
    assert done.returncode == 2
    assert done.stderr.startswith("s3d: bad.toml:2: [rs], data: expected a whole number from 1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.toml"]


def test_health_says_live_and_ready_without_a_signature(tmp_path: Path) -> None:
    server = S3d(tmp_path / "data", f"{fresh_network()}.1", ["-backend", "filesystem"])
    try:
        server.start()
        assert server.healthy("live")
        assert server.healthy("ready")
    finally:
        server.end()


def test_while_it_waits_to_join_sighup_is_nothing_and_sigterm_ends_it(tmp_path: Path) -> None:
    network = fresh_network()
    (tmp_path / "joining.toml").write_text(
        f'backend = "distributed"\n[cluster]\nsecret = "a secret"\njoin = "{network}.2:9991"\n'
        f'[[nodes]]\nid = 7\nhost = "{network}.1"\nport = 9991\n'
        '[[auth]]\naccess_key_id = "AKJOINING"\nsecret_access_key = "joining-secret"\n'
    )
    server = S3d(tmp_path / "data", f"{network}.1", ["-config", "joining.toml", "-node", "7"])
    server.start(ready=False)
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status")

    def catches_sigterm() -> bool:
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())
        return caught is not None and bool(int(caught[1], 16) & 1 << (signal.SIGTERM - 1))

    try:
        eventually(catches_sigterm, within_s=30, what="a process that joins")
        server.process.send_signal(signal.SIGHUP)
        assert server.stop() == 0, server.output
    finally:
        server.end()
