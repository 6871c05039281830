"""What a request declares about its body."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

import pytest

from predastore.base.errors import BodyMismatch, S3Error
from predastore.catalog.rows import Checksum
from predastore.catalog.values import Expectation
from predastore.httpd.message import BytesBody, Headers
from predastore.s3 import checksums

DATA = b"hello"
MD5 = hashlib.md5(DATA).digest()
SHA1 = hashlib.sha1(DATA).digest()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


class Trailed(BytesBody):
    def __init__(self, trailers: Mapping[str, str]) -> None:
        super().__init__(b"")
        self._trailers = trailers

    @property
    def trailers(self) -> Mapping[str, str]:
        return self._trailers


def expect(*fields: tuple[str, str], trailers: Mapping[str, str] | None = None) -> Expectation:
    return checksums.expectation(Headers.of(fields), Trailed(trailers or {}))


def refusal(*fields: tuple[str, str]) -> str:
    with pytest.raises(S3Error) as caught:
        expect(*fields)
    return caught.value.s3_code


def test_nothing_declared() -> None:
    assert expect() == Expectation()


def test_headers() -> None:
    found = expect(("Content-MD5", b64(MD5)), ("x-amz-checksum-sha1", b64(SHA1)))
    assert found.digests == {"md5": MD5, "sha1": SHA1}
    assert found.compute == {"sha1"}
    checksums.verify(DATA, found)
    with pytest.raises(BodyMismatch) as caught:
        checksums.verify(b"other", found)
    assert caught.value.what in ("md5", "sha1")


def test_trailer() -> None:
    announced = ("x-amz-trailer", "x-amz-checksum-sha1")
    found = expect(announced, trailers={"x-amz-checksum-sha1": b64(SHA1)})
    assert found.compute == {"sha1"}
    assert found.late is not None
    assert found.late() == {"sha1": SHA1}
    missing = expect(announced).late
    assert missing is not None
    with pytest.raises(S3Error) as caught:
        missing()
    assert caught.value.s3_code == "MalformedTrailerError"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([("x-amz-checksum-crc99", "AAAAAA==")], "NotImplemented"),
        ([("content-md5", "nonsense")], "InvalidDigest"),
        ([("content-md5", b64(b"short"))], "InvalidDigest"),
        ([("x-amz-checksum-crc32", "AAAA")], "InvalidRequest"),
        ([("x-amz-checksum-crc32", b64(b"1234")), ("x-amz-checksum-sha1", b64(SHA1))],
         "InvalidRequest"),
        ([("x-amz-checksum-crc32", b64(b"1234")), ("x-amz-trailer", "x-amz-checksum-crc32")],
         "InvalidRequest"),
        ([("x-amz-trailer", "x-amz-checksum-crc99")], "InvalidRequest"),
        ([("x-amz-sdk-checksum-algorithm", "CRC32")], "InvalidRequest"),
        ([("x-amz-sdk-checksum-algorithm", "CRC99"), ("x-amz-checksum-sha1", b64(SHA1))],
         "InvalidRequest"),
        ([("x-amz-sdk-checksum-algorithm", "CRC32"), ("x-amz-checksum-sha1", b64(SHA1))],
         "InvalidRequest"),
    ],
)  # fmt: skip
def test_declarations_that_make_no_sense(fields: list[tuple[str, str]], code: str) -> None:
    assert refusal(*fields) == code


@pytest.mark.parametrize(
    ("algorithm", "kind", "expected"),
    [
        ("", "", ("", "")),
        ("CRC32", "", ("crc32", "COMPOSITE")),
        ("CRC32", "FULL_OBJECT", ("crc32", "FULL_OBJECT")),
        ("SHA256", "", ("sha256", "COMPOSITE")),
        ("CRC64NVME", "", ("crc64nvme", "FULL_OBJECT")),
        ("CRC64NVME", "COMPOSITE", None),
        ("SHA1", "FULL_OBJECT", None),
        ("SHA1", "OTHER", None),
        ("CRC99", "", None),
        ("", "COMPOSITE", None),
    ],
)
def test_the_checksum_of_an_upload(
    algorithm: str, kind: str, expected: tuple[str, str] | None
) -> None:
    fields = [("x-amz-checksum-algorithm", algorithm), ("x-amz-checksum-type", kind)]
    headers = Headers.of((name, value) for name, value in fields if value)
    if expected is None:
        with pytest.raises(S3Error) as caught:
            checksums.parse_upload_checksum(headers)
        assert caught.value.s3_code == "InvalidRequest"
    else:
        assert checksums.parse_upload_checksum(headers) == expected


def test_answers() -> None:
    whole, composite = Checksum("sha1", SHA1), Checksum("crc32", b"1234", 3)
    assert checksums.answer_headers([whole], with_type=True) == [
        ("x-amz-checksum-sha1", b64(SHA1)),
        ("x-amz-checksum-type", "FULL_OBJECT"),
    ]
    assert checksums.answer_elements([composite], with_type=True) == (
        "<ChecksumCRC32>MTIzNA==-3</ChecksumCRC32><ChecksumType>COMPOSITE</ChecksumType>"
    )


def test_whose_sha256_it_was() -> None:
    payload = hashlib.sha256(DATA)
    error = BodyMismatch("", "sha256")
    signed = ("x-amz-content-sha256", payload.hexdigest())
    same = ("x-amz-checksum-sha256", b64(payload.digest()))
    other = ("x-amz-checksum-sha256", b64(bytes(32)))
    assert checksums.is_of_payload(error, Headers.of([signed]))
    assert checksums.is_of_payload(error, Headers.of([signed, same]))
    assert not checksums.is_of_payload(error, Headers.of([signed, other]))
    assert not checksums.is_of_payload(error, Headers.of([same]))
    assert not checksums.is_of_payload(BodyMismatch("", "md5"), Headers.of([signed]))
