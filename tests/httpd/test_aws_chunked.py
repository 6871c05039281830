"""aws-chunked bodies, every variant: decoded whole, or refused before their end is told."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
import time
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore._fast import sigv4 as kernel
from predastore.auth.payload import verify_payload
from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential, Verifier
from predastore.base.errors import BodyMismatch, HttpError, PredastoreError, SignatureError
from predastore.base.limits import HTTP_DECODE_BYTES_MAX, HTTP_DECODE_BYTES_MIN
from predastore.httpd.chunked import (
    AwsChunkedBody,
    ChunkSigning,
    content_encoding,
    declared_trailers,
)
from predastore.httpd.message import Body, BytesBody, Headers, Request, Response
from reference import chunked as twin

KEY, STAMP, SCOPE, SEED = b"k" * 32, b"20250101T000000Z", b"20250101/r/s3/aws4_request", b"a" * 64
SIGNING = ChunkSigning(KEY, STAMP, SCOPE, SEED)
TWIN = twin.Signing(KEY, STAMP, SCOPE, SEED)
SUM = [("x-amz-checksum-crc32", "AAAAAA==")]
SUM_NAMES = frozenset({"x-amz-checksum-crc32"})


class Dribble(Body):
    """A body that comes in pieces of `step` bytes."""

    def __init__(self, data: bytes, step: int) -> None:
        self._inner = BytesBody(data)
        self._step = step
        self.length = len(data)

    async def readinto(self, buffer: memoryview) -> int:
        return await self._inner.readinto(buffer[: self._step])


def drain(body: Body, piece_bytes: int = 1 << 20) -> tuple[bytes, PredastoreError | None]:
    """(what came, the error it ended with): 0 must not have been told before an error."""

    async def run() -> tuple[bytes, PredastoreError | None]:
        data = b""
        piece = memoryview(bytearray(piece_bytes))
        try:
            while count := await body.readinto(piece):
                data += piece[:count]
            assert await body.readinto(piece) == 0
        except PredastoreError as error:
            with pytest.raises(PredastoreError):
                await body.readinto(piece)  # an error is final
            return data, error
        return data, None

    return asyncio.run(run())


VARIANTS: dict[str, tuple[twin.Signing | None, list[tuple[str, str]], bool]] = {
    "signed": (TWIN, [], False),
    "signed with trailer": (TWIN, SUM, True),
    "unsigned with trailer": (None, SUM, False),
    "unsigned without trailer": (None, [], False),
}


def make(
    variant: str,
    coded: bytes,
    length: int,
    step: int = 1 << 20,
    names: frozenset[str] | None = None,
) -> AwsChunkedBody:
    signing, trailers, _ = VARIANTS[variant]
    if names is None and variant != "signed":
        names = frozenset(name for name, _ in trailers)
    return AwsChunkedBody(Dribble(coded, step), length, SIGNING if signing else None, names)


def encode(variant: str, *chunks: bytes) -> bytes:
    signing, trailers, sign_trailer = VARIANTS[variant]
    return twin.encode(chunks, signing, trailers, sign_trailer=sign_trailer)


@settings(max_examples=120, deadline=None)
@given(
    variant=st.sampled_from(sorted(VARIANTS)),
    chunks=st.lists(st.binary(min_size=1, max_size=400), max_size=5),
    step=st.sampled_from([1, 3, 64, 5000]),
    piece_bytes=st.sampled_from([1, 10, 5000]),
)
def test_every_variant_decodes_however_it_is_cut(
    variant: str, chunks: list[bytes], step: int, piece_bytes: int
) -> None:
    whole = b"".join(chunks)
    body = make(variant, encode(variant, *chunks), len(whole), step)
    assert body.length == len(whole)
    assert dict(body.trailers) == {}
    assert drain(body, piece_bytes) == (whole, None)
    assert dict(body.trailers) == dict(VARIANTS[variant][1])


def test_large_signed_chunks_are_decoded_off_the_loop() -> None:
    chunks = [bytes([i]) * 1_000_000 for i in range(5)]
    body = make("signed", encode("signed", *chunks), 5_000_000)
    assert drain(body) == (b"".join(chunks), None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_body_cut_anywhere_is_never_told_whole(variant: str) -> None:
    coded = encode(variant, b"a" * 20, b"b" * 30)
    for end in range(len(coded)):
        data, error = drain(make(variant, coded[:end], 50))
        assert isinstance(error, BodyMismatch)
        assert error.what == "length"
        assert (b"a" * 20 + b"b" * 30).startswith(data)


@pytest.mark.parametrize("variant", ["signed", "signed with trailer"])
def test_any_flipped_byte_of_a_signed_body_is_found(variant: str) -> None:
    coded = encode(variant, b"a" * 20, b"b" * 30)
    for at in range(len(coded)):
        damaged = bytearray(coded)
        damaged[at] ^= 0x01
        _, error = drain(make(variant, bytes(damaged), 50))
        assert error is not None, (at, damaged)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [0, 49, 51, 10**12])
def test_the_declared_length_is_exact(variant: str, length: int) -> None:
    _, error = drain(make(variant, encode(variant, b"a" * 20, b"b" * 30), length))
    assert isinstance(error, BodyMismatch)
    assert error.what == "length"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_nothing_may_follow_the_end(variant: str, step: int) -> None:
    _, error = drain(make(variant, encode(variant, b"abc") + b"x", 3, step))
    assert isinstance(error, HttpError)
    assert error.status == 400


def test_chunks_can_not_be_reordered_dropped_or_repeated() -> None:
    coded = encode("signed", b"a" * 10, b"b" * 10)
    size = coded.index(b"\r\n", coded.index(b"aaaa")) + 2
    first, second, last = coded[:size], coded[size : 2 * size], coded[2 * size :]
    assert drain(make("signed", first + second + last, 20))[1] is None
    for wrong in ([second, first, last], [first, last], [first, first, last], [last]):
        data = b"".join(wrong)
        _, error = drain(make("signed", data, 10 * (len(wrong) - 1)))
        assert isinstance(error, BodyMismatch)
        assert error.what == "signature"


def test_trailers_are_exactly_those_declared() -> None:
    unsigned = encode("unsigned with trailer", b"abc")
    for names in (frozenset[str](), frozenset({"x-amz-checksum-sha1"}), SUM_NAMES | {"b"}):
        _, error = drain(make("unsigned with trailer", unsigned, 3, names=names))
        assert isinstance(error, HttpError)
    _, error = drain(AwsChunkedBody(BytesBody(unsigned), 3, None, None))
    assert isinstance(error, HttpError)
    bare = encode("unsigned without trailer", b"abc")
    _, error = drain(make("unsigned with trailer", bare, 3))
    assert isinstance(error, HttpError)


def test_a_signed_trailer_needs_its_signature() -> None:
    coded = encode("signed with trailer", b"abc")
    start = coded.index(b"x-amz-trailer-signature")
    missing = coded[:start] + b"\r\n"
    wrong = coded[:start] + b"x-amz-trailer-signature:" + b"0" * 64 + b"\r\n\r\n"
    other_value = coded.replace(b"AAAAAA==", b"BAAAAA==")
    for damaged in (missing, wrong, other_value):
        _, error = drain(make("signed with trailer", damaged, 3))
        assert isinstance(error, BodyMismatch)
        assert error.what == "signature"


def test_the_trailer_layout_of_the_aws_documentation_is_accepted() -> None:
    coded = encode("signed with trailer", b"abc").replace(b"AAAAAA==\r\n", b"AAAAAA==\n\r\n")
    assert drain(make("signed with trailer", coded, 3)) == (b"abc", None)


@pytest.mark.parametrize(
    "coded", [b"", b"x\r\n", b"3;chunk-signature=12\r\nabc\r\n", b"3\r\nabc\r\n0\r\n\r\n"]
)
def test_unsigned_chunks_are_not_taken_for_signed_ones(coded: bytes) -> None:
    _, error = drain(make("signed", coded, 3))
    assert isinstance(error, HttpError | BodyMismatch)


def test_what_botocore_wraps_is_decoded() -> None:
    data = bytes(range(256)) * 5000
    wrapper = AwsChunkedWrapper(
        io.BytesIO(data),
        checksum_cls=Crc32Checksum,
        checksum_name="x-amz-checksum-crc32",
        chunk_size=65536,
    )
    coded = wrapper.read()
    body = make("unsigned with trailer", coded, len(data))
    assert drain(body) == (data, None)
    crc = base64.b64encode(binascii.crc32(data).to_bytes(4, "big")).decode()
    assert dict(body.trailers) == {"x-amz-checksum-crc32": crc}


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ([], None),
        (["aws-chunked"], None),
        (["aws-chunked,gzip"], "gzip"),
        (["gzip, AWS-chunked , br"], "gzip,br"),
        (["gzip", "aws-chunked"], "gzip"),
        ([""], None),
    ],
)
def test_content_encoding_is_stored_without_aws_chunked(
    sent: list[str], stored: str | None
) -> None:
    headers = Headers.of([("content-encoding", value) for value in sent])
    assert content_encoding(headers) == stored


def test_declared_trailers_are_a_list_of_names() -> None:
    headers = Headers.of([("x-amz-trailer", "X-A, x-b"), ("x-amz-trailer", "x-c,")])
    assert declared_trailers(headers) == {"x-a", "x-b", "x-c"}


# --- through the server


ALICE = Credential("AKALICE", "alice-secret", "1001")


class Store:
    """A handler that verifies a request and keeps its body: name -> (body, trailers)."""

    def __init__(self) -> None:
        self.verifier = Verifier({ALICE.access_key_id: ALICE}.get, region="us-east-1")
        self.kept: dict[bytes, tuple[bytes, dict[str, str]]] = {}
        self.failures: list[str] = []

    async def __call__(self, request: Request) -> Response:
        if request.method == "GET":
            return Response(200, [], self.kept[request.raw_path][0])
        try:
            verified = self.verifier.verify(request)
            body = await request.body.read(1 << 30)
            verify_payload(body, verified.payload_sha256)
        except SignatureError as error:
            self.failures.append(error.s3_code)
            return Response(403)
        except BodyMismatch as error:
            self.failures.append(error.what)
            return Response(400)
        assert verified.credential == ALICE
        self.kept[request.raw_path] = (body, dict(request.body.trailers))
        digest = hashlib.md5(body).hexdigest()
        return Response(200, [("ETag", f'"{digest}"'), ("x-amz-request-id", request.id)])


def client(port: int, **config: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=ALICE.access_key_id,
        aws_secret_access_key=ALICE.secret_access_key,
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256", None])
@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_what_boto3_puts_arrives(http: Any, store: Store, algorithm: str | None, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    extra = {"ChecksumAlgorithm": algorithm} if algorithm else {}

    async def scenario() -> None:
        s3 = client(http.server.port)

        def put() -> None:
            s3.put_object(Bucket="b", Key="as bytes/ü+~", Body=data, **extra)
            s3.put_object(Bucket="b", Key="as file", Body=io.BytesIO(data), **extra)

        await asyncio.get_running_loop().run_in_executor(None, put)
        s3.close()

    http.run(scenario, store)
    assert [body for body, _ in store.kept.values()] == [data, data]
    assert len(store.kept) == 2
    assert store.failures == []


@pytest.mark.parametrize("outer", ["length", "chunked"])
@pytest.mark.parametrize(
    "payload",
    [
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    ],
)
@pytest.mark.parametrize("damage", [False, True])
def test_streaming_uploads_are_verified_inside_either_framing(
    http: Any, store: Store, payload: str, outer: str, damage: bool
) -> None:
    chunks = [b"x" * 65536, b"y" * 65536, b"z" * 17]
    trailers = SUM if payload.endswith("TRAILER") else []
    fields = [("host", "h"), ("x-amz-decoded-content-length", str(sum(map(len, chunks))))]
    if trailers:
        fields.append(("x-amz-trailer", trailers[0][0]))
    headers = sign_request(
        ALICE,
        method="PUT",
        raw_path=b"/b/k",
        raw_query=b"",
        headers=fields,
        payload=payload,
        region="us-east-1",
        service="s3",
    )
    stamp = dict(headers)["x-amz-date"].encode()
    scope = stamp[:8] + b"/us-east-1/s3/aws4_request"
    key = kernel.signing_key(b"alice-secret", stamp[:8], b"us-east-1", b"s3")
    signing = twin.Signing(key, stamp, scope, dict(headers)["authorization"][-64:].encode())
    signed = payload.startswith("STREAMING-AWS4")
    coded = twin.encode(chunks, signing if signed else None, trailers, sign_trailer=bool(trailers))
    if damage:
        coded = coded.replace(b"y", b"Y", 1) if signed else coded[: -len(b"\r\n")]
    if outer == "length":
        headers.append(("content-length", str(len(coded))))
        sent = coded
    else:
        headers.append(("transfer-encoding", "chunked"))
        sent = twin.encode([coded[at : at + 1000] for at in range(0, len(coded), 1000)])
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)

    async def scenario() -> None:
        raw = await http.connect()
        reply = await raw.exchange(f"PUT /b/k HTTP/1.1\r\n{head}\r\n".encode() + sent)
        assert reply.status == (400 if damage else 200)

    http.run(scenario, store)
    if damage:
        assert store.kept == {}
        assert store.failures == ["signature" if signed else "length"]
    else:
        assert store.kept == {b"/b/k": (b"".join(chunks), dict(trailers))}


def test_a_stale_request_is_refused_through_the_server(http: Any, store: Store) -> None:
    headers = sign_request(
        ALICE,
        method="PUT",
        raw_path=b"/b/k",
        raw_query=b"",
        headers=[("host", "h")],
        payload=b"",
        region="us-east-1",
        service="s3",
        now_s=time.time() - 1000,
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)

    async def scenario() -> None:
        raw = await http.connect()
        reply = await raw.exchange(f"PUT /b/k HTTP/1.1\r\n{head}\r\n".encode())
        assert reply.status == 403

    http.run(scenario, store)
    assert store.failures == ["RequestTimeTooSkewed"]


def test_a_body_has_a_buffer_only_while_it_is_read() -> None:
    body = make("signed with trailer", encode("signed with trailer", b"abc"), 3)
    assert not body._encoded
    assert drain(body) == (b"abc", None)
    assert not body._encoded


class Watched(Body):
    """Notes how much room each read has; `most`: comes at once."""

    def __init__(self, data: bytes, most: int) -> None:
        self._inner = BytesBody(data)
        self._most = most
        self.length = len(data)
        self.rooms: list[int] = []

    async def readinto(self, buffer: memoryview) -> int:
        self.rooms.append(len(buffer))
        return await self._inner.readinto(buffer[: self._most])


@pytest.mark.parametrize(("most", "grows"), [(1000, False), (1 << 20, True)])
def test_a_body_has_a_large_buffer_only_once_it_has_filled_a_small_one(
    most: int, grows: bool
) -> None:
    data = bytes(300_000)
    coded = encode("unsigned without trailer", data)
    inner = Watched(coded, most)
    body = AwsChunkedBody(inner, len(data), None, frozenset())
    assert drain(body) == (data, None)
    assert inner.rooms[0] == HTTP_DECODE_BYTES_MIN
    assert set(inner.rooms[1:]) == {HTTP_DECODE_BYTES_MAX if grows else HTTP_DECODE_BYTES_MIN}


def test_a_small_body_has_no_larger_buffer_than_it_needs() -> None:
    inner = Watched(encode("unsigned without trailer", b"abc"), 1 << 20)
    assert drain(AwsChunkedBody(inner, 3, None, frozenset())) == (b"abc", None)
    assert max(inner.rooms) < HTTP_DECODE_BYTES_MIN
