"""The GF(256) kernel against its twin: every path, shape, length and alignment."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore._fast import crc, gf256
from reference import gf256 as twin

RANDOM = random.Random(7)
# Rows in groups of four, with and without the row of ones, the last group of every size.
SHAPES = [(1, 0), (1, 1), (2, 1), (3, 2), (10, 4), (4, 5), (5, 6), (6, 7), (7, 8), (17, 3)]
# Around the 64-byte step, the portable path's 32 bytes and the edges of a tile.
LENGTHS = [0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 200, 1023, 1024, 1025, 8193, 20_000]


@pytest.fixture(params=gf256.paths())
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    gf256.force_path(request.param)
    yield request.param
    gf256.force_path(None)


def coded(k: int, m: int, length: int, rng: random.Random = RANDOM) -> list[bytes]:
    """k random data blocks and the parity that the twin gives them."""
    data = [rng.randbytes(length) for _ in range(k)]
    return data + twin.encode(k, m, data, length)


def unaligned(size: int, offset: int, fill: int = 0xEE) -> memoryview:
    return memoryview(bytearray([fill]) * (size + offset))[offset:]


# --- matrices ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "m"), [*SHAPES, (1, 255), (255, 1), (256, 0), (100, 56)])
def test_generator_is_that_of_the_twin(k: int, m: int) -> None:
    assert [list(row) for row in gf256.generator_matrix(k, m)] == twin.generator(k, m)


def test_generator_is_pinned_because_stored_shards_depend_on_it() -> None:
    assert [row.hex() for row in gf256.generator_matrix(3, 2)[3:]] == ["010101", "01c453"]
    everything = b"".join(b"".join(gf256.generator_matrix(k, 256 - k)) for k in range(1, 257))
    assert hashlib.sha256(everything).hexdigest() == (
        "61516bc8c86966bb2c55c68d8d4f2ae85a54018c2fce5ac9c03aaf2fa7c9a970"
    )


@pytest.mark.parametrize(("k", "m"), [(3, 2), (4, 4), (10, 4), (20, 12), (30, 226)])
def test_any_k_rows_are_invertible(k: int, m: int) -> None:
    rows = twin.generator(k, m)
    rng = random.Random(k * 1000 + m)
    for _ in range(12 if k < 15 else 2):
        chosen = rng.sample(range(k + m), k)
        twin.invert([rows[i] for i in chosen])  # ValueError if singular


def test_every_square_part_of_the_parity_of_every_small_code_is_invertible() -> None:
    for k, m in [(2, 2), (3, 3), (4, 3)]:
        for mask in range(1 << (k + m)):
            chosen = [i for i in range(k + m) if mask >> i & 1]
            if len(chosen) == k:
                twin.invert([twin.generator(k, m)[i] for i in chosen])


def test_affine_matrices_multiply_by_all_256_coefficients() -> None:
    for c in range(256):
        matrix = gf256.affine_matrix(c)
        for byte in (*(1 << bit for bit in range(8)), 0, 0x53, 0xCA, 0xFF):
            assert twin.affine(matrix, byte) == twin.multiply(c, byte)


# --- encode -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "m"), SHAPES)
def test_encode_equals_the_twin_at_every_length(path: str, k: int, m: int) -> None:
    for length in LENGTHS[:13]:
        blocks = coded(k, m, length)
        buffer = unaligned((k + m) * length + 5, offset=length % 3)
        buffer[: k * length] = b"".join(blocks[:k])
        gf256.encode(k, m, buffer, length)
        assert buffer[: (k + m) * length] == b"".join(blocks)
        assert buffer[(k + m) * length :] == b"\xee" * 5


@pytest.mark.parametrize("length", LENGTHS)
def test_crcs_are_those_of_the_blocks(path: str, length: int) -> None:
    for k, m in [(3, 2), (1, 0), (6, 7)]:
        blocks = coded(k, m, length)
        buffer = bytearray(b"".join(blocks[:k]) + b"\xee" * (m * length))
        crcs = gf256.encode_with_crcs(k, m, buffer, length)
        assert bytes(buffer) == b"".join(blocks)
        assert crcs == [crc.crc32c(block) for block in blocks]


def test_all_byte_values_meet_all_coefficients(path: str) -> None:
    k, m = 4, 252
    block = bytes(range(256))
    buffer = bytearray(block * k + bytes(m * 256))
    gf256.encode(k, m, buffer, 256)
    assert set(b"".join(gf256.generator_matrix(k, m))) == set(range(256))
    assert bytes(buffer[k * 256 :]) == b"".join(twin.encode(k, m, [block] * k, 256))


def test_widest_codes(path: str) -> None:
    for k, m in [(1, 255), (128, 128), (255, 1), (256, 0)]:
        blocks = coded(k, m, 3)
        buffer = bytearray(b"".join(blocks[:k]) + bytes(m * 3))
        gf256.encode(k, m, buffer, 3)
        assert bytes(buffer) == b"".join(blocks)


# --- reconstruct ------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_k_blocks_give_back_any_others_on_every_path(data: st.DataObject) -> None:
    k = data.draw(st.integers(1, 12), label="k")
    m = data.draw(st.integers(0, 9), label="m")
    length = data.draw(st.sampled_from([0, 1, 5, 63, 64, 100, 259]), label="length")
    shards = data.draw(st.permutations(range(k + m)), label="shards")
    wanted = data.draw(
        st.lists(st.integers(0, k + m - 1), unique=True, max_size=m + 2), label="wanted"
    )
    blocks = coded(k, m, length, random.Random(data.draw(st.integers(0, 9), label="seed")))
    for name in gf256.paths():
        gf256.force_path(name)
        out = {i: unaligned(length + 3, offset=i % 2) for i in wanted}
        gf256.reconstruct(k, m, [(i, blocks[i]) for i in shards[:k]], out.items(), length)
        gf256.force_path(None)
        for i in wanted:
            assert out[i][:length] == blocks[i], (name, i)
            assert out[i][length:] == b"\xee" * 3, (name, i)


def test_reconstruct_of_long_blocks(path: str) -> None:
    for k, m, lost in [(3, 2, {0, 4}), (10, 4, {1, 3, 9, 12}), (2, 1, {0})]:
        for length in LENGTHS[-4:]:
            blocks = coded(k, m, length)
            present = [(i, blocks[i]) for i in range(k + m) if i not in lost][:k]
            out = {i: bytearray(length) for i in lost}
            gf256.reconstruct(k, m, present, out.items(), length)
            assert {i: bytes(b) for i, b in out.items()} == {i: blocks[i] for i in lost}


def test_widest_code_survives_the_loss_of_half(path: str) -> None:
    blocks = coded(128, 128, 2)
    present = [(i, blocks[i]) for i in range(255, 0, -2)]
    wanted = {i: bytearray(2) for i in range(0, 256, 2)}
    gf256.reconstruct(128, 128, present, wanted.items(), 2)
    assert all(bytes(wanted[i]) == blocks[i] for i in wanted)


def test_prepared_matrices_are_bounded() -> None:
    blocks = [bytes(8)] * 24
    rng = random.Random(3)
    for _ in range(700):
        chosen = rng.sample(range(24), 16)
        gf256.reconstruct(16, 8, [(i, blocks[i]) for i in chosen], [(0, bytearray(8))], 8)
    for k in range(60, 124):
        gf256.encode(k, 256 - k, bytearray(256), 1)
    count, size = gf256.plans_cached()
    assert 0 < count <= 512
    assert size <= 8 * 1024 * 1024


def test_threads_share_prepared_matrices() -> None:
    blocks = coded(5, 3, 700)
    failures: list[int] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            chosen = rng.sample(range(8), 5)
            out = bytearray(700)
            gf256.reconstruct(5, 3, [(i, blocks[i]) for i in chosen], [(seed, out)], 700)
            if out != blocks[seed]:
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "m"), [(0, 1), (-1, 3), (3, -1), (200, 57), (2**62, 2**62)])
def test_impossible_codes_are_refused(k: int, m: int) -> None:
    with pytest.raises(ValueError, match="k >= 1"):
        gf256.encode(k, m, bytearray(10), 1)


def test_buffers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="49 bytes; 3 \\+ 2 blocks need 50"):
        gf256.encode(3, 2, bytearray(49), 10)
    with pytest.raises(ValueError, match="negative"):
        gf256.encode(3, 2, bytearray(49), -1)
    with pytest.raises(BufferError):
        gf256.encode(3, 2, bytes(50), 10)
    block, out = bytes(10), bytearray(10)
    good = [(i, block) for i in range(3)]
    refusals = {
        "exactly 3": (good[:2], [(4, out)]),
        "given twice": ([*good[:2], good[0]], [(4, out)]),
        "not one of 5": (good, [(5, out)]),
        "has 9 bytes": (good, [(4, bytearray(9))]),
        "wanted blocks overlap": (good, [(4, out), (3, out)]),
        "overlaps a present": ([(0, out), *good[1:]], [(4, out)]),
    }
    for message, (present, wanted) in refusals.items():
        with pytest.raises(ValueError, match=message):
            gf256.reconstruct(3, 2, present, wanted, 10)
    with pytest.raises(BufferError):
        gf256.reconstruct(3, 2, good, [(4, block)], 10)
    out.append(0)  # BufferError if a refusal had kept hold of the buffer


def test_a_path_that_this_cpu_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="no code path 'mmx'"):
        gf256.force_path("mmx")
    assert gf256.path() == gf256.paths()[-1]
