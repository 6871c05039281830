"""rpc.framing: one format, bounded, parsed at any cut."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.base.errors import NotLeader, PeerRefused, RemoteFailure, ShardNotFound
from predastore.base.limits import RPC_HEADER_BYTES_MAX, RPC_PAYLOAD_BYTES_MAX
from predastore.rpc.framing import (
    PREFIX,
    FrameError,
    FrameParser,
    RequestHeader,
    decode_response,
    decode_struct,
    encode_error,
    encode_prefix,
    encode_request,
    encode_response,
    encode_struct,
    joined,
    payload_length,
)


class Thing(msgspec.Struct, frozen=True):
    a: int
    b: bytes


def test_a_message_has_the_documented_bytes() -> None:
    header = encode_request("m", 250, encode_struct(Thing(1, b"x")))
    assert header == b"\x93\xa1m\xcc\xfa\x82\xa1a\x01\xa1b\xc4\x01x"
    assert encode_prefix(header, 3) == b"\x0e\0\0\0" + b"\x03\0\0\0" + header


class HeaderBeforeTraces(msgspec.Struct, frozen=True, array_like=True):
    method: str
    timeout_ms: int
    body: msgspec.Raw


def test_the_place_in_a_trace_is_appended_and_may_be_absent() -> None:
    body = encode_struct(Thing(1, b"x"))
    place = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traced = encode_request("m", 250, body, place)
    assert traced == b"\x94" + encode_request("m", 250, body)[1:] + b"\xd97" + place.encode()
    assert decode_struct(RequestHeader, traced).trace == place
    assert decode_struct(RequestHeader, encode_request("m", 250, body)).trace == ""
    assert decode_struct(HeaderBeforeTraces, traced).method == "m"


@settings(max_examples=60, deadline=None)
@given(
    header=st.binary(min_size=1, max_size=50),
    payload=st.binary(max_size=300),
    rest=st.binary(max_size=20),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_parser_finds_the_same_message_at_any_cut(
    header: bytes, payload: bytes, rest: bytes, cuts: list[int]
) -> None:
    data = encode_prefix(header, len(payload)) + payload + rest
    parser = FrameParser()
    start = 0
    while start < len(data):
        size = cuts[start % len(cuts)]
        has_header = parser.feed(data[start : start + size])
        start += size
        assert has_header == (min(start, len(data)) >= 8 + len(header))
    assert parser.complete
    assert parser.message().header == header
    assert parser.message().payload == payload
    assert parser.payload_bytes == len(payload)
    assert parser.rest == rest


@pytest.mark.parametrize("first_bytes", [0, 1, 1000])
@pytest.mark.parametrize("granted", [True, False])
def test_a_large_payload_is_asked_for_in_one_piece_once(first_bytes: int, granted: bool) -> None:
    payload = bytes(range(256)) * 1024
    data = encode_prefix(b"header", len(payload)) + payload
    asked: list[tuple[int, bytes, int]] = []

    def ask(*wanted: Any) -> bool:
        asked.append(wanted)
        return granted

    parser = FrameParser()
    parser.gather(ask)
    assert not asked
    parser.feed(data[: 14 + first_bytes])
    for _ in range(2):
        parser.gather(ask)
    assert asked == [(14 + first_bytes, payload[:first_bytes], len(payload))]
    parser.feed(payload if granted else payload[first_bytes:])
    assert parser.complete
    assert parser.message().payload == payload
    small = FrameParser()
    small.feed(encode_prefix(b"header", 100))
    small.gather(ask)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (0, 0),
        (RPC_HEADER_BYTES_MAX + 1, 0),
        (2**32 - 1, 2**32 - 1),
        (1, RPC_PAYLOAD_BYTES_MAX + 1),
    ],
)
def test_parser_refuses_lengths_out_of_bounds_at_once(header: int, payload: int) -> None:
    with pytest.raises(FrameError):
        FrameParser().feed(PREFIX.pack(header, payload))


def test_what_is_too_large_is_not_sent() -> None:
    with pytest.raises(FrameError):
        encode_prefix(bytes(RPC_HEADER_BYTES_MAX + 1), 0)
    with pytest.raises(FrameError):
        encode_prefix(b"h", RPC_PAYLOAD_BYTES_MAX + 1)


def test_structs_cross_and_foreign_bytes_do_not() -> None:
    header = decode_struct(RequestHeader, encode_request("m", 5, encode_struct(Thing(1, b"x"))))
    assert (header.method, header.timeout_ms) == ("m", 5)
    assert decode_struct(Thing, header.body) == Thing(1, b"x")
    for foreign in (b"", b"\xc1", b"\x93", encode_struct(header), b"\x91\xa2\xff\xff"):
        with pytest.raises(PeerRefused):
            decode_struct(Thing, foreign)


def test_a_response_is_the_struct_or_the_error_itself() -> None:
    assert decode_response(Thing, encode_response(encode_struct(Thing(2, b"")))) == Thing(2, b"")
    with pytest.raises(NotLeader) as raised:
        decode_response(Thing, encode_error(NotLeader("elsewhere", leader=3)))
    assert raised.value.leader == 3
    with pytest.raises(ShardNotFound, match="gone"):
        decode_response(Thing, encode_error(ShardNotFound("gone")))


def test_an_error_whose_detail_can_not_cross_still_arrives() -> None:
    class Odd(RemoteFailure):
        def detail(self) -> dict[str, object]:
            return {"odd": object()}

    with pytest.raises(RemoteFailure, match="odd one"):
        decode_response(Thing, encode_error(Odd("odd one")))


def test_one_buffer_is_not_copied_and_several_are_joined() -> None:
    buffer = bytearray(b"abcd")
    view = joined([buffer])
    buffer[0] = ord("x")
    assert view == b"xbcd"
    assert view.readonly
    assert joined([b"ab", memoryview(b"cd"), bytearray(b"e")]) == b"abcde"
    assert joined([]) == b""
    assert payload_length([b"ab", memoryview(b"cdefgh").cast("H"), bytearray(1)]) == 9
