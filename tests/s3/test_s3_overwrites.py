"""GET while the key is overwritten and deleted: one whole version, and no other answer."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.s3server import S3Server

SIZE = 300_000
WRITES, READERS = 60, 3


def test_readers_of_a_key_that_is_overwritten_get_whole_versions(
    server: S3Server, bucket: str
) -> None:
    """Each of two writers overwrites it, deletes it and makes it of a part, in turn."""
    is_over = threading.Event()
    where = {"Bucket": bucket, "Key": "dir/k"}

    def write(client: BaseClient) -> None:
        for number in range(WRITES):
            if number % 8 == 3:
                client.delete_object(**where)
            elif number % 8 == 5:
                upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
                etag = client.upload_part(**upload, PartNumber=1, Body=os.urandom(SIZE))["ETag"]
                named = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
                client.complete_multipart_upload(**upload, MultipartUpload=named)
            else:
                client.put_object(**where, Body=os.urandom(SIZE))

    def read(client: BaseClient) -> int:
        count = 0
        while not is_over.is_set():
            try:
                answer = client.get_object(**where)
                data = answer["Body"].read()
            except ClientError as error:
                assert error.response["Error"]["Code"] == "NoSuchKey"
                continue
            assert len(data) == SIZE
            digest = hashlib.md5(data)
            if "-" in answer["ETag"]:
                digest = hashlib.md5(digest.digest())
            assert answer["ETag"].strip('"').partition("-")[0] == digest.hexdigest()
            count += 1
        return count

    clients = [server.client() for _ in range(2 + READERS)]
    with ThreadPoolExecutor(len(clients)) as threads:
        reading = [threads.submit(read, client) for client in clients[2:]]
        writing = [threads.submit(write, client) for client in clients[:2]]
        try:
            for writer in writing:
                writer.result()
        finally:
            is_over.set()
        assert sum(reader.result() for reader in reading) > 10
    for client in clients:
        client.close()
