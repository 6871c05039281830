"""RS(3,2) on five nodes: any two may go, and a third loss is an error, never a wrong byte."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.processes import S3d, development, production

pytestmark = pytest.mark.e2e
MIB = 1 << 20
INLINE = 8192  # bodies up to this lie in the metadata
SIZES = (0, 1, INLINE, INLINE + 1, 65_536, 3 * MIB, 3 * MIB + 1, 10 * MIB + 17)


def fill(client: BaseClient) -> dict[str, bytes]:
    """Objects around block and stripe boundaries, and a multipart one."""
    draw = random.Random(32)
    client.create_bucket(Bucket="losses")
    stored: dict[str, bytes] = {}
    for size in SIZES:
        stored[f"size-{size}"] = draw.randbytes(size)
        client.put_object(Bucket="losses", Key=f"size-{size}", Body=stored[f"size-{size}"])
    parts = [draw.randbytes(5 * MIB), draw.randbytes(MIB + 5)]
    upload = client.create_multipart_upload(Bucket="losses", Key="parts")["UploadId"]
    done = [
        {
            "PartNumber": n,
            "ETag": client.upload_part(
                Bucket="losses", Key="parts", UploadId=upload, PartNumber=n, Body=part
            )["ETag"],
        }
        for n, part in enumerate(parts, 1)
    ]
    client.complete_multipart_upload(
        Bucket="losses", Key="parts", UploadId=upload, MultipartUpload={"Parts": done}
    )
    stored["parts"] = b"".join(parts)
    return stored


def check(client: BaseClient, stored: dict[str, bytes]) -> None:
    """Every object, whole and by ranges across block boundaries."""
    for key, wanted in stored.items():
        assert client.get_object(Bucket="losses", Key=key)["Body"].read() == wanted, key
        for start, end in ((0, 1), (MIB - 3, MIB + 3), (len(wanted) // 2, len(wanted))):
            piece = wanted[start:end]
            if not piece:
                continue
            header = f"bytes={start}-{end - 1}"
            answer = client.get_object(Bucket="losses", Key=key, Range=header)
            assert answer["Body"].read() == piece, (key, header)


@pytest.mark.parametrize("lost", list(itertools.combinations(range(1, 6), 2))[::3])
def test_the_directories_of_any_two_nodes_may_go(tmp_path: Path, lost: tuple[int, int]) -> None:
    with development(tmp_path) as server:
        stored = fill(server.client())
        assert server.stop() == 0
        for node in lost:
            shutil.rmtree(server.base_path / "nodes" / f"node-{node}")
        server.start()
        check(server.client(), stored)


def test_with_three_directories_gone_reads_are_a_clear_503(tmp_path: Path) -> None:
    with development(tmp_path) as server:
        stored = fill(server.client())
        assert server.stop() == 0
        for node in (1, 3, 4):
            shutil.rmtree(server.base_path / "nodes" / f"node-{node}")
        server.start()
        client = server.client()
        for key, wanted in stored.items():
            if len(wanted) <= INLINE:
                assert client.get_object(Bucket="losses", Key=key)["Body"].read() == wanted
                continue
            with pytest.raises(ClientError) as caught:
                client.get_object(Bucket="losses", Key=key)
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503


def test_any_two_node_processes_may_be_killed(tmp_path: Path) -> None:
    with production(tmp_path, count=5, members=3) as servers:
        stored = fill(servers[0].client())
        for one, two in ((3, 4), (1, 4), (2, 3)):
            doomed: list[S3d] = [servers[one], servers[two]]
            for server in doomed:
                server.kill()
            check(servers[0].client(attempts=3), stored)
            for server in doomed:
                server.start()


def test_with_three_node_processes_gone_reads_are_a_clear_503(tmp_path: Path) -> None:
    with production(tmp_path, count=5, members=1) as servers:
        stored = fill(servers[0].client())
        for server in servers[2:]:
            server.kill()
        client = servers[0].client()
        with pytest.raises(ClientError) as caught:
            client.get_object(Bucket="losses", Key="size-65536")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        with pytest.raises(ClientError) as caught:
            client.put_object(Bucket="losses", Key="new", Body=bytes(65_536))
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        servers[2].start()
        check(servers[0].client(attempts=3), stored)
