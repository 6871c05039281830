"""The checksum family against what the AWS SDK computes, and the checksums of multipart objects."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from botocore import httpchecksum
from botocore.session import get_session
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.coding import checksum
from predastore.coding.checksum import ALGORITHMS, Digests

BODY = bytes(range(256)) * 40
PIECES = st.lists(st.binary(max_size=300), max_size=6)


def sdk_base64(name: str, body: bytes) -> str:
    if name == "md5":  # the SDK has it elsewhere
        return base64.b64encode(hashlib.md5(body).digest()).decode()
    return httpchecksum._CHECKSUM_CLS[name]().handle(body)


def one(name: str, body: bytes) -> bytes:
    digests = Digests([name])
    digests.update(body)
    return digests.digest(name)


def test_the_table_has_every_algorithm_that_the_sdk_offers_under_its_names() -> None:
    model = get_session().get_service_model("s3")
    names = {algorithm.s3_name for algorithm in ALGORITHMS.values()}
    assert set(model.shape_for("ChecksumAlgorithm").enum) == names
    headers = {
        member: shape.serialization["name"]
        for member, shape in model.shape_for("PutObjectRequest").members.items()
        if member.startswith("Checksum") and member != "ChecksumAlgorithm"
    }
    assert headers == {a.xml_name: a.header for a in ALGORITHMS.values()}


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("body", [b"", b"123456789", BODY], ids=["empty", "short", "long"])
def test_value_is_that_of_the_sdk(name: str, body: bytes) -> None:
    digest = one(name, body)
    assert len(digest) == ALGORITHMS[name].digest_bytes
    assert checksum.encode(digest) == sdk_base64(name, body)
    assert checksum.decode(name, checksum.encode(digest)) == digest


@given(pieces=PIECES)
@settings(max_examples=30, deadline=None)
def test_pieces_of_any_buffer_give_the_digests_of_the_whole(pieces: list[bytes]) -> None:
    digests = Digests(ALGORITHMS)
    for number, piece in enumerate(pieces):
        digests.update([piece, bytearray(piece), memoryview(piece)][number % 3])
    whole = b"".join(pieces)
    assert digests.all() == {name: one(name, whole) for name in ALGORITHMS}
    assert digests.names == set(ALGORITHMS)
    assert digests.hexdigest("sha256") == hashlib.sha256(whole).hexdigest()


def test_crcs_are_big_endian() -> None:
    assert checksum.encode(one("crc32", b"123456789")) == "y/Q5Jg=="
    assert one("crc64nvme", b"123456789").hex() == "ae8b14860a799888"


# --- multipart --------------------------------------------------------------------------------


@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_full_object_crcs_of_parts_are_those_of_the_whole(parts: list[bytes]) -> None:
    for name in ("crc32", "crc32c", "crc64nvme"):
        known = [(one(name, part), len(part)) for part in parts]
        assert checksum.full_object(name, known) == one(name, b"".join(parts))


def test_composite_is_the_digest_of_the_digests_and_their_number() -> None:
    parts = [BODY, b"tail"]
    sha = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
    assert checksum.composite("sha256", [one("sha256", part) for part in parts]) == (
        base64.b64encode(sha).decode() + "-2"
    )
    joined = b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)
    assert checksum.composite("crc32", [one("crc32", part) for part in parts]) == (
        base64.b64encode(zlib.crc32(joined).to_bytes(4, "big")).decode() + "-2"
    )


def test_multipart_etag_is_the_md5_of_the_md5s() -> None:
    md5s = [hashlib.md5(part).digest() for part in (b"a", b"b", b"c")]
    expected = hashlib.md5(b"".join(md5s)).hexdigest() + "-3"
    assert checksum.multipart_etag(md5s) == expected


def test_multipart_types_and_their_defaults() -> None:
    types = {name: algorithm.multipart_types for name, algorithm in ALGORITHMS.items()}
    assert types.pop("crc64nvme") == ("FULL_OBJECT",)
    assert types.pop("crc32") == types.pop("crc32c") == ("COMPOSITE", "FULL_OBJECT")
    assert set(types.values()) == {("COMPOSITE",)}


def test_types_that_an_algorithm_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="crc64nvme has no composite"):
        checksum.composite("crc64nvme", [bytes(8)])
    with pytest.raises(ValueError, match="sha256 digests of parts"):
        checksum.full_object("sha256", [(bytes(32), 1)])


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "y/Q5Jg",
        "y/Q5Jg=",
        "y/Q5Jh==",
        "y/Q5Jg==\n",
        " y/Q5Jg==",
        "y/Q5",
        "y/Q5JgA=",
        "é",
        "!!!!",
    ],
)
def test_a_value_that_is_not_the_base64_of_a_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base64"):
        checksum.decode("crc32", text)


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(KeyError, match="adler32"):
        Digests(["adler32"])
