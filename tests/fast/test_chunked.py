"""The chunked decoder: equal to its twin however the body is cut, and strict about its framing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore._fast import chunked, sigv4
from reference import chunked as twin

KEY = bytes(range(32))
STAMP, SCOPE, SEED = b"20130524T000000Z", b"20130524/us-east-1/s3/aws4_request", b"0" * 64
SIGNING = twin.Signing(KEY, STAMP, SCOPE, SEED)
CHUNK_MAX = 1 << 30


def decoder(signing: twin.Signing | None = None, trailer_max: int = 4096) -> chunked.Decoder:
    if signing is None:
        return chunked.Decoder(CHUNK_MAX, trailer_max)
    return chunked.Decoder(CHUNK_MAX, trailer_max, signing.key, signing.prefix, signing.seed)


def run(
    decode: chunked.Decoder, body: bytes, source_step: int = 1 << 20, target_step: int = 1 << 20
) -> tuple[bytes, bytes]:
    """(decoded, what was not used): feeds pieces of one size into buffers of another."""
    out = b""
    at = 0
    target = bytearray(target_step)
    while at < len(body) and not decode.done and not decode.fault:
        used, written = decode.feed(body[at : at + source_step], target)
        assert used or written
        out += target[:written]
        at += used
    return out, body[at:]


CHUNKS = st.lists(st.binary(min_size=1, max_size=300), max_size=6)
STEP = st.sampled_from([1, 2, 3, 7, 64, 1000])


@settings(max_examples=200, deadline=None)
@given(chunks=CHUNKS, signed=st.booleans(), source=STEP, target=STEP, after=st.binary(max_size=9))
def test_a_good_body_decodes_however_it_is_cut(
    chunks: list[bytes], signed: bool, source: int, target: int, after: bytes
) -> None:
    signing = SIGNING if signed else None
    trailers = [("x-amz-checksum-crc32", "AAAA=="), ("b", "c")]
    body = twin.encode(chunks, signing, trailers)
    decode = decoder(signing)
    out, rest = run(decode, body + after, source, target)
    assert (out, decode.trailer, rest) == twin.decode(body + after, signing)
    assert out == b"".join(chunks)
    assert rest == after
    assert decode.done
    assert decode.fault == ""


@settings(max_examples=400, deadline=None)
@given(
    chunks=CHUNKS,
    signed=st.booleans(),
    step=STEP,
    at=st.integers(0, 10_000),
    byte=st.sampled_from(b"\r\n;0f 1ax:\x00\xff"),
    cut=st.booleans(),
)
def test_a_damaged_body_ends_as_it_does_in_the_twin(
    chunks: list[bytes], signed: bool, step: int, at: int, byte: int, cut: bool
) -> None:
    signing = SIGNING if signed else None
    body = bytearray(twin.encode(chunks, signing))
    at %= len(body)
    if cut:
        del body[at:]
    else:
        body[at] = byte
    decode = decoder(signing)
    out, rest = run(decode, bytes(body), step)
    expected = twin.decode(bytes(body), signing)
    if expected is None:
        assert not decode.done
    else:
        assert (out, decode.trailer, rest) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3;a\x00b\r\nabc\r\n0\r\n\r\n",
        b"3;\nabc\r\n0\r\n\r\n",
        b"3;" + b"x" * chunked.SIZE_LINE_BYTES_MAX + b"\r\n",
        b"z",
        b"1" * 2000,
    ],
)
@pytest.mark.parametrize("step", [1, 4096])
def test_malformed_framing_is_a_fault(body: bytes, step: int) -> None:
    assert twin.decode(body + b"\r\n" * 3) is None
    decode = decoder()
    run(decode, body + b"\r\n" * 3, step)
    assert decode.fault in ("framing", "chunk-size")
    assert not decode.done
    assert decode.feed(b"0\r\n\r\n", bytearray(9)) == (0, 0)


@pytest.mark.parametrize("size", [b"40000001", b"ffffffffffffffff", b"00000000000000003"])
def test_a_chunk_over_its_bound_is_a_fault(size: bytes) -> None:
    decode = decoder()
    run(decode, size + b"\r\n")
    assert decode.fault == "chunk-size"


def test_trailers_over_their_bound_are_a_fault() -> None:
    decode = decoder(trailer_max=10)
    run(decode, b"0\r\nabc: def\r\n\r\n")
    assert decode.done
    decode = decoder(trailer_max=10)
    run(decode, b"0\r\nabc: defg\r\n\r\n")
    assert decode.fault == "trailer-size"
    decode = decoder(trailer_max=0)
    run(decode, b"0\r\na:b\r\n\r\n")
    assert decode.fault == "trailer-size"


def test_a_line_feed_inside_a_trailer_line_does_not_end_it() -> None:
    decode = decoder()
    run(decode, b"0\r\nx-amz-checksum-crc32c:sOO8/Q==\n\r\ny:z\r\n\r\n", 1)
    assert decode.done
    assert decode.trailer == b"x-amz-checksum-crc32c:sOO8/Q==\n\r\ny:z\r\n"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_flipped_bit_in_any_signed_chunk_is_a_fault(which: int) -> None:
    chunks = [b"a" * 100, b"b" * 9000, b"c" * 9]
    body = bytearray(twin.encode(chunks, SIGNING))
    body[body.index(b"\r\n" + chunks[which]) + 2] ^= 1
    decode = decoder(SIGNING)
    run(decode, bytes(body), 64)
    assert decode.fault == "signature"
    assert not decode.done


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_a_wrong_digit_in_any_chunk_signature_is_a_fault(which: int) -> None:
    body = bytearray(twin.encode([b"a" * 100, b"b" * 9000, b"c"], SIGNING))
    start = -1
    for _ in range(which + 1):
        start = body.index(b"=", start + 1)
    body[start + 64] ^= 1
    decode = decoder(SIGNING)
    run(decode, bytes(body), 64)
    assert decode.fault == "signature"
    assert not decode.done


# "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks".
def test_documented_example_of_signed_chunks() -> None:
    key = sigv4.signing_key(
        b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", b"20130524", b"us-east-1", b"s3"
    )
    seed = b"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    signatures = [
        b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ]
    body = b"".join(
        [
            b"10000;chunk-signature=" + signatures[0] + b"\r\n" + b"a" * 65536 + b"\r\n",
            b"400;chunk-signature=" + signatures[1] + b"\r\n" + b"a" * 1024 + b"\r\n",
            b"0;chunk-signature=" + signatures[2] + b"\r\n\r\n",
        ]
    )
    decode = decoder(twin.Signing(key, STAMP, SCOPE, seed))
    out, rest = run(decode, body)
    assert (decode.fault, decode.done, rest) == ("", True, b"")
    assert out == b"a" * 66560
    assert decode.signature == signatures[2]
