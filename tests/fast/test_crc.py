"""The CRC kernel against its twin, published values and another implementation, on every path."""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from awscrt import checksums
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore._fast import crc
from reference import crc as twin

KINDS = {
    "crc32c": (crc.crc32c, crc.crc32c_combine, twin.CRC32C, checksums.crc32c),
    "crc32": (crc.crc32, crc.crc32_combine, twin.CRC32, checksums.crc32),
    "crc64nvme": (crc.crc64nvme, crc.crc64nvme_combine, twin.CRC64NVME, checksums.crc64nvme),
}
NOISE = random.Random(1).randbytes(70_000)
# Around each step of the kernels: words, folds, chunks of every size, and the GIL threshold.
EDGES = sorted(
    {
        n + d
        for n in (0, 8, 64, 128, 256, 384, 512, 2048, 4096, 7168, 32768, 65536)
        for d in (-1, 0, 1, 9)
    }
    - {-1}
)

Kind = tuple[Callable[..., int], Callable[..., int], tuple[int, int], Callable[..., int]]


@pytest.fixture(params=crc.paths())
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    crc.force_path(request.param)
    yield request.param
    crc.force_path(None)


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.mark.parametrize(
    ("name", "check"),
    [("crc32c", 0xE3069283), ("crc32", 0xCBF43926), ("crc64nvme", 0xAE8B14860A799888)],
)
def test_published_check_value(path: str, name: str, check: int) -> None:
    assert KINDS[name][0](b"123456789") == check


def test_values_of_rfc_3720(path: str) -> None:
    assert crc.crc32c(bytes(32)) == 0x8A9136AA
    assert crc.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc.crc32c(bytes(range(32))) == 0x46DD794E


def test_equals_the_twin_for_every_short_length_and_alignment(path: str, kind: Kind) -> None:
    fn, _, parameters, _ = kind
    for length in range(40):
        for offset in (0, 1, 7):
            data = NOISE[offset : offset + length]
            assert fn(memoryview(NOISE)[offset : offset + length]) == twin.crc(parameters, data)


def test_equals_another_implementation_at_every_edge(path: str, kind: Kind) -> None:
    fn, _, _, other = kind
    for length in EDGES:
        for offset in (0, 3):
            data = NOISE[offset : offset + length]
            assert fn(memoryview(NOISE)[offset : offset + length]) == other(data)
            assert fn(data, 0x1234) == other(data, 0x1234)


@given(data=st.binary(max_size=1500), cuts=st.lists(st.integers(0, 1500), max_size=4))
@settings(max_examples=40, deadline=None)
def test_pieces_give_the_value_of_the_whole_on_every_path(data: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(bounds)]
    for fn, combine, parameters, _ in KINDS.values():
        expected = twin.crc(parameters, data)
        for name in crc.paths():
            crc.force_path(name)
            value = joined = 0
            for piece in pieces:
                value = fn(piece, value)
                joined = combine(joined, fn(piece), len(piece))
            crc.force_path(None)
            assert (value, joined) == (expected, expected), name


def test_combining_reaches_lengths_that_no_one_can_hash(kind: Kind) -> None:
    fn, combine, _, _ = kind
    a, b, c = fn(b"a"), fn(b"b"), fn(b"c")
    huge, larger = 5 << 40, (1 << 63) + 12345
    left = combine(combine(a, b, huge), c, larger)
    assert left == combine(a, combine(b, c, larger), huge + larger)
    assert combine(a, b, 0) == a ^ b


def test_crc32_is_that_of_zlib(path: str) -> None:
    assert crc.crc32(NOISE) == zlib.crc32(NOISE)


def test_any_contiguous_buffer_is_taken_and_nothing_else(kind: Kind) -> None:
    fn = kind[0]
    expected = fn(b"abcd")
    assert fn(bytearray(b"abcd")) == fn(memoryview(b"abcd").cast("I")) == expected
    with pytest.raises(BufferError):
        fn(memoryview(b"a-b-c-d")[::2])
    with pytest.raises(TypeError):
        fn("abcd")
    with pytest.raises(OverflowError):
        fn(b"", -1)
    with pytest.raises(OverflowError):
        fn(b"", 1 << kind[2][0])


def test_threads_do_not_disturb_each_other(kind: Kind) -> None:
    fn, _, _, other = kind
    pieces = [NOISE[i * 9000 : i * 9000 + 30_000 + i] for i in range(4)]
    expected = [other(p) for p in pieces]
    failures: list[int] = []

    def work(i: int) -> None:
        if any(fn(pieces[i]) != expected[i] for _ in range(50)):
            failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_path_that_this_cpu_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="no code path 'mmx'"):
        crc.force_path("mmx")
    assert crc.path() == crc.paths()[-1]
