"""What data and backup programs do with a bucket: pyarrow, PyIceberg, DuckDB, delta-rs, Hadoop,
restic, s3fs-fuse, against a fresh `s3d`. docs/clients.md has the versions that were tried."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.clients import Restic, run
from support.processes import S3d
from support.waiting import eventually

pytestmark = pytest.mark.e2e
SCRIPTS = Path(__file__).with_name("clients")
JARS = Path(sys.prefix) / "java"  # where the Makefile puts what pom.xml names


@pytest.fixture(scope="module")
def server(client_server: S3d) -> S3d:
    client = client_server.client()
    for bucket in ("pyiceberg", "duckdb", "deltalake", "hadoop", "s3fs"):
        client.create_bucket(Bucket=bucket)
    return client_server


def script(server: S3d, name: str, *arguments: str) -> None:
    """Runs a script with this interpreter. SSL_CERT_FILE: for those who have no other way."""
    printed = run(
        *(server, sys.executable, str(SCRIPTS / name), *arguments),
        SSL_CERT_FILE=str(server.ca),
    )
    assert printed.endswith("done\n")


def test_pyarrow(server: S3d) -> None:
    script(server, "use_pyarrow.py")


def test_pyiceberg(server: S3d, tmp_path: Path) -> None:
    script(server, "use_pyiceberg.py", str(tmp_path / "catalog.db"))


def test_duckdb(server: S3d) -> None:
    script(server, "use_duckdb.py")


def test_delta_rs_with_writers_at_once(server: S3d) -> None:
    script(server, "use_deltalake.py")


def test_hadoop(server: S3d, tmp_path: Path) -> None:
    store = str(tmp_path / "trusted.p12")
    run(
        *(server, "keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", str(server.ca)),
        *("-keystore", store, "-storepass", "changeit"),
    )
    printed = run(
        *(server, "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
        f"-Djavax.net.ssl.trustStore={store}",
        *("-Djavax.net.ssl.trustStorePassword=changeit", "-cp", f"{JARS}/*"),
        str(SCRIPTS / "UseS3A.java"),
    )
    assert printed == "done\n"


def test_restic(server: S3d, tmp_path: Path) -> None:
    restic = Restic(server, "restic", tmp_path, files=20)
    restic.back_up()
    restic.check_restored()


@contextmanager
def mounted(server: S3d, folder: Path) -> Iterator[Path]:
    """The bucket `s3fs` as a file system."""
    where = folder / "mounted"
    where.mkdir(parents=True)
    keys = folder / "keys"
    keys.write_text(":".join(server.credentials()))
    keys.chmod(0o600)
    options = ("use_path_request_style", "endpoint=us-east-1", "multipart_size=10",
               f"url={server.endpoint}", f"passwd_file={keys}")  # fmt: skip
    command = ["s3fs", "s3fs", str(where), "-f"]
    for option in options:
        command += ["-o", option]
    environment = {**server.environment(), "CURL_CA_BUNDLE": str(server.ca)}
    with subprocess.Popen(command, env=environment) as process:
        try:
            eventually(where.is_mount, within_s=30, what="the bucket mounted")
            yield where
        finally:
            subprocess.run(["fusermount", "-u", str(where)], check=False)
            process.wait(30)


@pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK),
    reason="no FUSE here; its requests are replayed in tests/s3/test_s3_multipart.py",
)
def test_s3fs(server: S3d, tmp_path: Path) -> None:
    data = random.Random(15).randbytes(25 << 20)
    with mounted(server, tmp_path) as folder:
        assert os.listdir(folder) == []
        (folder / "d").mkdir()
        (folder / "d" / "small").write_bytes(b"small")
        (folder / "large").write_bytes(data)
        (folder / "large").rename(folder / "renamed")  # copied in parts
        (folder / "d").rename(folder / "e")
        (folder / "renamed").chmod(0o600)
        (folder / "link").symlink_to("renamed")
        with (folder / "renamed").open("r+b") as file:
            file.seek(20 << 20)
            file.write(b"changed")
    client = server.client()
    names = {one["Key"] for one in client.list_objects_v2(Bucket="s3fs")["Contents"]}
    assert names == {"e/", "e/small", "renamed", "link"}
    changed = data[: 20 << 20] + b"changed" + data[(20 << 20) + 7 :]
    with mounted(server, tmp_path / "again") as folder:
        assert (folder / "link").read_bytes() == changed
        assert (folder / "renamed").stat().st_mode & 0o777 == 0o600
        shutil.rmtree(folder / "e")
        (folder / "renamed").unlink()
        (folder / "link").unlink()
    assert "Contents" not in client.list_objects_v2(Bucket="s3fs")
