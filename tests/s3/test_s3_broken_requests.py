"""Clients that go away in the middle: what their requests held is given back at once, with the
collector off. The same over 10,000 of each is `make bench BENCH=memory.broken`."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable

import pytest
from botocore.client import BaseClient

from predastore.base.limits import MIB
from reference import chunked
from support.forms import CONTENT_TYPE, Form
from support.garbage import Garbage
from support.s3raw import SIGNED_CHUNKS, UNSIGNED, Raw, request_bytes
from support.s3server import S3Server
from support.waiting import eventually

TIMES = 2
LARGE, SMALL = 20 * MIB, 5_000
_BODY = os.urandom(MIB)

End = Callable[[socket.socket], None]


def reset(client: socket.socket) -> None:
    """As a process that was killed."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def close(client: socket.socket) -> None:
    client.close()


def half_close(client: socket.socket) -> None:
    """No more is sent; whatever comes is read."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass
    client.close()


ENDS = (reset, close, half_close)


class Requests:
    """Requests of one bucket, each of which ends somewhere in its middle."""

    def __init__(self, server: S3Server, bucket: str) -> None:
        self._server = server
        self._path = f"/{bucket}"

    def send(self, raw: Raw, length: int, body_bytes: int, end: End, *, answer: int = 0) -> None:
        """`body_bytes` of a body of `length` go out, and `answer` of what comes is read."""
        with socket.create_connection(self._server.address, timeout=20) as client:
            fields = {**self._server.signer().fields(raw), "content-length": str(length)}
            client.sendall(request_bytes(raw.method, raw.path, raw.query, fields.items(), b""))
            with contextlib.suppress(OSError):
                for start in range(0, body_bytes, MIB):
                    client.sendall(_BODY[: body_bytes - start])
            while answer > 0 and (piece := client.recv(min(answer, 1 << 16))):
                answer -= len(piece)
            end(client)

    def get(self, key: str, end: End, *, answer: int, **headers: str) -> None:
        self.send(Raw("GET", f"{self._path}/{key}", headers=headers), 0, 0, end, answer=answer)

    def put(self, length: int, body_bytes: int, end: End, query: str = "") -> None:
        raw = Raw("PUT", f"{self._path}/never", query, payload=UNSIGNED)
        self.send(raw, length, body_bytes, end)

    def copy(self, end: End, query: str = "") -> None:
        headers = {"x-amz-copy-source": f"{self._path}/large"}
        raw = Raw("PUT", f"{self._path}/copied", query, headers=headers)
        self.send(raw, 0, 0, end)

    def list(self, end: End) -> None:
        self.send(Raw("GET", self._path, "list-type=2"), 0, 0, end)

    def signed_chunks(self, end: End, *, wrong: bool) -> None:
        """Cut short, or with a chunk that is not the one that was signed."""
        signer, path = self._server.signer(), f"{self._path}/never"
        headers = {"x-amz-decoded-content-length": str(2 * MIB)}
        raw = Raw("PUT", path, payload=SIGNED_CHUNKS, headers=headers)
        fields = signer.fields(raw)
        body = bytearray(chunked.encode([_BODY, _BODY], signer.chunks(fields)))
        fields["content-length"] = str(len(body))
        if wrong:
            body[MIB // 2] ^= 1
        with socket.create_connection(self._server.address, timeout=20) as client:
            sent = len(body) if wrong else len(body) // 2
            client.sendall(request_bytes("PUT", path, "", fields.items(), bytes(body[:sent])))
            end(client)

    def refused(self, status: int, raw: Raw) -> None:
        assert self._server.signer().send(raw).status == status

    def form(self, body: bytes, sent_bytes: int, end: End) -> None:
        """So many bytes of a form go out."""
        fields = {"host": "h", "content-type": CONTENT_TYPE, "content-length": str(len(body))}
        with socket.create_connection(self._server.address, timeout=20) as client:
            client.sendall(request_bytes("POST", self._path, "", fields.items(), b""))
            with contextlib.suppress(OSError):
                client.sendall(body[:sent_bytes])
            end(client)

    def wrong_digest(self) -> None:
        headers = {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}
        self.refused(400, Raw("PUT", f"{self._path}/never", body=_BODY, headers=headers))

    def condition_fails(self) -> None:
        headers = {"if-none-match": "*"}
        self.refused(412, Raw("PUT", f"{self._path}/small", body=_BODY, headers=headers))


def _upload(s3: BaseClient, bucket: str) -> str:
    upload: str = s3.create_multipart_upload(Bucket=bucket, Key="never")["UploadId"]
    return upload


@pytest.fixture
def requests(server: S3Server, s3: BaseClient, bucket: str) -> Requests:
    s3.put_object(Bucket=bucket, Key="large", Body=_BODY * (LARGE // MIB))
    s3.put_object(Bucket=bucket, Key="small", Body=_BODY[:SMALL])
    return Requests(server, bucket)


def leaves_nothing(server: S3Server, work: Callable[[], None]) -> None:
    """The first round makes what is made but once."""
    before = server.connections()  # that of `s3` is kept alive

    def all_is_given_back() -> bool:
        held = server.catalog.held_bytes()
        held.pop("pool")
        return server.connections() == before and not any(held.values())

    for _ in range(2):
        with Garbage() as garbage:
            for _ in range(TIMES):
                work()
            eventually(all_is_given_back, what="budgets and buffers are free")
            left = garbage.left()
    assert not left, f"{len(left)} objects wait for a collection, such as {left[:20]}"


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_broken_get_leaves_nothing(server: S3Server, requests: Requests, end: End) -> None:
    def work() -> None:
        requests.get("small", end, answer=0)
        requests.get("large", end, answer=0)
        requests.get("large", end, answer=100)
        requests.get("large", end, answer=3 * MIB)
        requests.get("large", end, answer=MIB, range=f"bytes={2 * MIB}-{LARGE - MIB}")

    leaves_nothing(server, work)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_broken_put_leaves_nothing(
    server: S3Server, s3: BaseClient, bucket: str, requests: Requests, end: End
) -> None:
    upload = _upload(s3, bucket)

    def work() -> None:
        for body_bytes in (0, 1_000, 2 * MIB, LARGE - MIB, LARGE):
            requests.put(LARGE, body_bytes, end)
        requests.put(SMALL, SMALL // 2, end)
        requests.put(LARGE, 7 * MIB, end, f"partNumber=1&uploadId={upload}")
        requests.signed_chunks(end, wrong=False)

    leaves_nothing(server, work)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_broken_form_leaves_nothing(
    server: S3Server, bucket: str, requests: Requests, end: End
) -> None:
    body = Form(bucket, data=_BODY * 8, behind={"a": "b"}).body()

    def work() -> None:
        for sent_bytes in (0, 100, 1_500, 50_000, 2 * MIB, 7 * MIB, len(body) - 1):
            requests.form(body, sent_bytes, end)

    leaves_nothing(server, work)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_copy_or_a_list_whose_client_goes_leaves_nothing(
    server: S3Server, s3: BaseClient, bucket: str, requests: Requests, end: End
) -> None:
    upload = _upload(s3, bucket)

    def work() -> None:
        requests.copy(end)
        requests.copy(end, f"partNumber=1&uploadId={upload}")
        requests.list(end)

    leaves_nothing(server, work)


def test_a_put_that_is_refused_after_its_body_leaves_nothing(
    server: S3Server, requests: Requests
) -> None:
    def work() -> None:
        requests.wrong_digest()
        requests.condition_fails()
        requests.signed_chunks(half_close, wrong=True)

    leaves_nothing(server, work)
