"""What the process makes is for its user alone, unless its file says otherwise."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from support.processes import S3d, development, fresh_network

pytestmark = pytest.mark.e2e

PUBLIC = {"ca.pem"}  # clients need it


@pytest.fixture(autouse=True)
def _as_most_shells_have_it() -> object:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(base_path: Path, *, of: str = "") -> dict[str, int]:
    """Of what lies below a folder, and of itself; `of`: only of what has this in its path."""
    found = {
        str(file.relative_to(base_path)): stat.S_IMODE(file.stat().st_mode)
        for file in (base_path, *base_path.rglob("*"))
    }
    return {name: mode for name, mode in found.items() if of in name}


def fill(server: S3d) -> None:
    client = server.client()
    client.create_bucket(Bucket="private")
    client.put_object(Bucket="private", Key="small", Body=b"small")
    client.put_object(Bucket="private", Key="below/large", Body=bytes(3 << 20))
    client.put_object(Bucket="private", Key="../odd", Body=b"no path")
    upload = client.create_multipart_upload(Bucket="private", Key="parts")["UploadId"]
    client.upload_part(Bucket="private", Key="parts", UploadId=upload, PartNumber=1, Body=b"a part")


def test_everything_of_a_cluster_is_for_its_user_alone(tmp_path: Path) -> None:
    with development(tmp_path, "-access-log", str(tmp_path / "data" / "access.log")) as server:
        fill(server)
        assert server.stop() == 0
        server.start()
        found = modes(server.base_path)
    wanted = {
        name: 0o700 if (server.base_path / name).is_dir() else 0o600
        for name in found
        if Path(name).name not in PUBLIC
    }
    assert {name: mode for name, mode in found.items() if name in wanted} == wanted
    assert len(wanted) > 30


@pytest.mark.parametrize(
    ("said", "folder", "file"), [("", 0o700, 0o600), ('umask = "0027"\n', 0o750, 0o640)]
)
def test_plain_files_are_as_the_configuration_says(
    tmp_path: Path, said: str, folder: int, file: int
) -> None:
    (tmp_path / "s3d.toml").write_text(said)
    server = S3d(tmp_path / "data", f"{fresh_network()}.1", ["-config", "s3d.toml"])
    try:
        fill(server.start())
        found = modes(server.base_path)
    finally:
        server.end()
    objects = modes(server.base_path / "private")
    assert objects == {".": folder, "small": file, "below": folder, "below/large": file}
    secret = {"credentials.json", "tls/ca.key", "tls/authority.json"}
    secret |= {"tls/server.key", "tls/server.pem"}
    secret |= {name for name in found if name.startswith(".predastore/state/")}
    assert {found[name] for name in secret} == {0o600}
    left = set(found) - secret - {"tls/ca.pem"}
    assert {found[name] for name in left} == {folder, file}
