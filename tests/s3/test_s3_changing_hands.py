"""A bucket's name that two accounts want: what one was permitted in its bucket is never done in the
other's, however the requests fall."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.s3refusals import refused
from support.s3server import BOB, S3Server

NAME = "wanted-by-two"
KEY = {"Bucket": NAME, "Key": "alices"}
TURNS = 8  # of Bob's


def try_to(call: Callable[..., Any], **arguments: Any) -> Any:
    with suppress(ClientError):
        return call(**arguments)


def be_alice(client: BaseClient, is_over: threading.Event) -> None:
    """Makes the bucket, fills and empties it, and deletes it, whatever fails."""
    while not is_over.is_set():
        try_to(client.create_bucket, Bucket=NAME)
        upload = try_to(client.create_multipart_upload, **KEY)
        if upload is not None:
            where = {**KEY, "UploadId": upload["UploadId"]}
            part = try_to(client.upload_part, **where, PartNumber=1, Body=b"alice's")
            if part is not None:
                named = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
                try_to(client.complete_multipart_upload, **where, MultipartUpload=named)
        try_to(client.put_object, **KEY, Body=b"alice's")
        try_to(client.delete_objects, Bucket=NAME, Delete={"Objects": [{"Key": "alices"}]})
        try_to(client.delete_bucket, Bucket=NAME)


def be_bob(client: BaseClient) -> None:
    """Once he has it, the bucket is his alone until he deletes it."""
    while try_to(client.create_bucket, Bucket=NAME) is None:
        continue
    for _ in range(3):
        assert client.list_objects_v2(Bucket=NAME)["KeyCount"] == 0
        assert "Uploads" not in client.list_multipart_uploads(Bucket=NAME)
    client.put_object(Bucket=NAME, Key="bobs", Body=b"bob's")
    listed = client.list_objects_v2(Bucket=NAME)["Contents"]
    assert [one["Key"] for one in listed] == ["bobs"]
    assert refused(client.get_object, **KEY) == ("NoSuchKey", 404)
    client.delete_object(Bucket=NAME, Key="bobs")
    client.delete_bucket(Bucket=NAME)


def test_what_one_account_may_do_is_never_done_to_the_others_bucket(server: S3Server) -> None:
    is_over = threading.Event()
    alices = [server.client() for _ in range(3)]
    bob = server.client(BOB)
    with ThreadPoolExecutor(len(alices)) as threads:
        working = [threads.submit(be_alice, client, is_over) for client in alices]
        try:
            for _ in range(TURNS):
                be_bob(bob)
        finally:
            is_over.set()
        for work in working:
            work.result()
    for client in (*alices, bob):
        client.close()
