"""What `s3d` says of what it can not use: one clear line, an exit code of its own, no traceback."""

from __future__ import annotations

import datetime
import json
import os
import socket
import subprocess
import tarfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.processes import development, fresh_network, s3d_command

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]


def refused(folder: Path, code: int, *arguments: str, prefix: tuple[str, ...] = ()) -> str:
    """Runs `s3d` where it can not start; the one line that it says."""
    done = subprocess.run(
        [*prefix, *s3d_command(), *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("s3d: ")]
    assert len(said) == 1, done.stderr
    return said[0]


@pytest.fixture(params=["start", "check"])
def with_config(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The words before a configuration's name, to start with it or to check it."""
    return ("-config",) if request.param == "start" else ("check-config",)


def test_a_missing_configuration(tmp_path: Path, with_config: tuple[str, ...]) -> None:
    said = refused(tmp_path, 2, *with_config, "none.toml")
    assert said == (
        "s3d: none.toml: can not be read (No such file or directory); name another with -config"
    )


def test_a_half_written_configuration(tmp_path: Path, with_config: tuple[str, ...]) -> None:
    whole = (ROOT / "config" / "cluster.toml").read_text()
    (tmp_path / "half.toml").write_text(whole[: whole.index('host = "127.0.0.3"') + 12])
    assert refused(tmp_path, 2, *with_config, "half.toml").startswith("s3d: half.toml: not TOML: ")
    assert [file.name for file in tmp_path.iterdir()] == ["half.toml"]


def test_a_configuration_of_other_bytes(tmp_path: Path, with_config: tuple[str, ...]) -> None:
    (tmp_path / "c.toml").write_bytes(b'region = "\xff"\n')
    assert "c.toml: not UTF-8 at byte 10" in refused(tmp_path, 2, *with_config, "c.toml")


def test_a_good_configuration_is_fine_and_nothing_is_touched(tmp_path: Path) -> None:
    text = (ROOT / "config" / "cluster.toml").read_text()
    (tmp_path / "c.toml").write_text(text)
    done = subprocess.run(
        [*s3d_command(), "check-config", "c.toml", "-node", "4"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "c.toml: fine; this host would run S3 on 0.0.0.0 port 8443 (distributed), "
        "node 4 in data/nodes/node-4\n"
        "c.toml: may be lost: any 2 nodes, any 2 members, any 2 hosts\n"
        "c.toml: writes need 4 of 5 shards; they go on without any 1 node, any 1 host\n"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["c.toml"]


def test_a_taken_port(tmp_path: Path) -> None:
    host = f"{fresh_network()}.1"
    with socket.create_server((host, 8443)):
        said = refused(tmp_path, 69, "-host", host)
    assert said.startswith(f"s3d: can not listen on {host}:8443: ")


def test_data_of_a_newer_version(tmp_path: Path) -> None:
    with development(tmp_path) as server:
        assert server.stop() == 0
    for file in (tmp_path / "data" / "nodes").glob("node-*/node.id"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    said = refused(tmp_path, 65, "-config", "dev.toml", "-base-path", "data")
    assert "node-1/node.id has format 99, this program reads 1; run the version that" in said


@pytest.mark.parametrize("backend", ["filesystem", "distributed"])
def test_data_from_before_the_first_release(tmp_path: Path, backend: str) -> None:
    with tarfile.open(ROOT / "tests" / "formats" / "before_release.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    host, folder = f"{fresh_network()}.1", tmp_path / backend
    rows = "".join(
        f'[[nodes]]\nid = {n}\nhost = "{host}"\nport = {9990 + n}\n' for n in range(1, 6)
    )
    database = f'[[db]]\nid = 1\nhost = "{host}"\nport = 6660\n'
    (folder / "dev.toml").write_text(f'backend = "{backend}"\nhost = "{host}"\n{rows}{database}')
    said = refused(folder, 65, "-config", "dev.toml", "-base-path", "data")
    assert "format 1, which an earlier program wrote, before 0.1.0 was released; this one" in said
    assert "give it an empty base_path" in said


@pytest.mark.parametrize("backend", ["filesystem", "distributed"])
def test_no_permission(tmp_path: Path, backend: str) -> None:
    # Below /sys not even root may make a directory.
    said = refused(tmp_path, 77, "-backend", backend, "-base-path", "/sys/kernel/predastore")
    assert said.startswith("s3d: /sys/kernel/predastore")
    assert "-base-path" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root")
def test_no_space(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    script = f'mount -t tmpfs -o size=16k,mode=700 none {small} && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh")
    said = refused(tmp_path, 73, "-backend", "distributed", "-base-path", str(small), prefix=prefix)
    assert "No space left on device" in said


def self_signed(folder: Path, name: str, first_day: int, last_day: int) -> tuple[Path, Path]:
    """A certificate that holds between two days from now, and its key, as PEM files."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "s3.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=first_day))
        .not_valid_after(now + datetime.timedelta(days=last_day))
        .sign(private, hashes.SHA256())
    )
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert, key


@pytest.mark.parametrize("case", ["expired", "early", "mismatched", "no PEM", "missing"])
def test_a_certificate_that_does_not_hold(
    tmp_path: Path, case: str, with_config: tuple[str, ...]
) -> None:
    fine, key_of_fine = self_signed(tmp_path, "fine", -1, 1)
    cert, key = {
        "expired": self_signed(tmp_path, "old", -9, -1),
        "early": self_signed(tmp_path, "new", 1, 9),
        "mismatched": (fine, self_signed(tmp_path, "other", -1, 1)[1]),
        "no PEM": (key_of_fine, key_of_fine),
        "missing": (tmp_path / "none.pem", key_of_fine),
    }[case]
    (tmp_path / "c.toml").write_text("")
    flags = ("-tls-cert", str(cert), "-tls-key", str(key), "-base-path", str(tmp_path / "data"))
    said = refused(tmp_path, 2, *with_config, "c.toml", *flags)
    expected = {
        "expired": f"s3d: {cert}: expired at ",
        "early": f"s3d: {cert}: not valid before ",
        "mismatched": f"s3d: {key}: not the key of {cert}",
        "no PEM": f"s3d: {cert}: no certificate in PEM form",
        "missing": f"s3d: {cert}: can not be read (No such file or directory)",
    }[case]
    assert said.startswith(expected)
    assert not (tmp_path / "data").exists()
