"""Stripes: their geometry, their coding, and objects put back together from any k shards."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore._fast import crc
from predastore.coding import erasure
from predastore.coding.erasure import Code, Slice, Stripe

CODES = st.builds(Code, st.integers(1, 10), st.integers(0, 4))
SIZES = st.one_of(st.integers(0, 40), st.integers(0, 5000))
BLOCK_SIZES = st.sampled_from([1, 2, 7, 16, 64, 100])


def stripes_of(data: bytes, code: Code, block_size: int) -> list[tuple[int, list[bytes]]]:
    """Each stripe of an object: block length and its k + m blocks."""
    stripes = []
    for number in range(erasure.stripe_count(len(data), code, block_size)):
        at = erasure.stripe_geometry(len(data), code, block_size, number)
        buffer = bytearray(b"\xee") * erasure.stripe_bytes(code, at.data_bytes)
        buffer[: at.data_bytes] = data[at.offset_bytes : at.offset_bytes + at.data_bytes]
        length, crcs = erasure.encode_stripe(code, buffer, at.data_bytes)
        assert length == at.block_bytes
        blocks = [bytes(buffer[i * length : (i + 1) * length]) for i in range(code.shards)]
        assert crcs == [crc.crc32c(block) for block in blocks]
        stripes.append((length, blocks))
    return stripes


def test_geometry_of_an_object_with_a_short_last_stripe() -> None:
    code = Code(3, 2)
    assert erasure.stripe_count(3 * 100 + 7, code, 100) == 2
    assert erasure.stripe_geometry(307, code, 100, 0) == Stripe(0, 300, 100)
    assert erasure.stripe_geometry(307, code, 100, 1) == Stripe(300, 7, 3)
    assert erasure.shard_bytes(307, code, 100) == 103
    assert erasure.stripe_bytes(code, 7) == 15


def test_an_empty_object_has_no_stripes() -> None:
    code = Code(3, 2)
    assert erasure.stripe_count(0, code, 100) == 0
    assert erasure.shard_bytes(0, code, 100) == 0
    assert list(erasure.slices(0, code, 100, 0, 0)) == []
    assert erasure.encode_stripe(code, bytearray(), 0) == (0, [0] * 5)
    with pytest.raises(ValueError, match="stripe 0 of an object that has 0"):
        erasure.stripe_geometry(0, code, 100, 0)


@given(size=SIZES, code=CODES, block_size=BLOCK_SIZES)
@settings(max_examples=60, deadline=None)
def test_stripes_tile_the_object_and_shards_are_the_sum_of_their_blocks(
    size: int, code: Code, block_size: int
) -> None:
    count = erasure.stripe_count(size, code, block_size)
    stripes = [erasure.stripe_geometry(size, code, block_size, i) for i in range(count)]
    end = 0
    for stripe in stripes:
        assert stripe.offset_bytes == end
        assert 0 < stripe.data_bytes <= code.k * block_size
        assert 0 < stripe.block_bytes <= block_size
        end += stripe.data_bytes
    assert end == size
    assert erasure.shard_bytes(size, code, block_size) == sum(s.block_bytes for s in stripes)


@given(size=SIZES, code=CODES, block_size=BLOCK_SIZES, data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_range_is_read_from_the_slices_it_touches(
    size: int, code: Code, block_size: int, data: st.DataObject
) -> None:
    content = random.Random(size).randbytes(size)
    stripes = stripes_of(content, code, block_size)
    start = data.draw(st.integers(0, size), label="start")
    end = data.draw(st.integers(start, size), label="end")
    read = bytearray()
    for part in erasure.slices(size, code, block_size, start, end):
        length, blocks = stripes[part.stripe]
        assert 0 <= part.block < code.k
        assert part.length_bytes > 0
        assert part.offset_bytes + part.length_bytes <= length
        read += blocks[part.block][part.offset_bytes : part.offset_bytes + part.length_bytes]
    assert read == content[start:end]


def test_slices_of_a_range_name_only_what_it_needs() -> None:
    code = Code(2, 1)
    found = list(erasure.slices(45, code, 10, 18, 43))
    assert found == [
        Slice(0, 1, 8, 2),
        Slice(1, 0, 0, 10),
        Slice(1, 1, 0, 10),
        Slice(2, 0, 0, 3),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 300, 307, 1000])
def test_an_object_reads_from_any_k_of_its_shards(size: int) -> None:
    code = Code(3, 2)
    content = random.Random(size).randbytes(size)
    for lost in combinations(range(5), 2):
        read = b""
        for number, (length, blocks) in enumerate(stripes_of(content, code, 100)):
            present = {i: blocks[i] for i in range(5) if i not in lost}
            back = erasure.reconstruct(code, present, lost, length)
            assert {i: bytes(b) for i, b in back.items()} == {i: blocks[i] for i in lost}
            data = b"".join(bytes(back.get(i, blocks[i])) for i in range(3))
            read += data[: erasure.stripe_geometry(size, code, 100, number).data_bytes]
        assert read == content


def test_a_stripe_that_is_reused_is_padded_with_zeros_again() -> None:
    code = Code(4, 1)
    buffer = bytearray(b"\xff" * 100)
    buffer[:5] = b"hello"
    length, _ = erasure.encode_stripe(code, buffer, 5)
    assert length == 2
    assert buffer[:8] == b"hello\0\0\0"
    assert buffer[10:] == b"\xff" * 90


def test_more_than_k_blocks_are_welcome_and_fewer_refused() -> None:
    code = Code(3, 2)
    [(length, blocks)] = stripes_of(b"abcdefghi", code, 3)
    given_all = dict(enumerate(blocks))
    assert erasure.reconstruct(code, given_all, [4], length)[4] == blocks[4]
    with pytest.raises(ValueError, match="2 blocks are present"):
        erasure.reconstruct(code, dict(enumerate(blocks[:2])), [4], length)


@pytest.mark.parametrize(("k", "m"), [(0, 1), (1, -1), (200, 57)])
def test_impossible_codes_can_not_be_made(k: int, m: int) -> None:
    with pytest.raises(ValueError, match="needs k >= 1"):
        Code(k, m)


def test_arguments_that_do_not_fit_are_refused() -> None:
    code = Code(3, 2)
    with pytest.raises(ValueError, match="14 bytes, not 15"):
        erasure.encode_stripe(code, bytearray(14), 7)
    with pytest.raises(ValueError, match="14 bytes; 3 \\+ 2 blocks need 15"):
        erasure.encode_stripe(code, bytearray(14), 9)
    with pytest.raises(ValueError, match="negative"):
        erasure.encode_stripe(code, bytearray(14), -1)
    with pytest.raises(ValueError, match=r"bytes \[3, 11\)"):
        erasure.slices(10, code, 4, 3, 11)
    for size, block_size in [(-1, 4), (1, 0)]:
        with pytest.raises(ValueError, match="in blocks of"):
            erasure.stripe_count(size, code, block_size)
        with pytest.raises(ValueError, match="in blocks of"):
            erasure.shard_bytes(size, code, block_size)
