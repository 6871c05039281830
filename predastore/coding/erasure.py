"""Stripes and blocks: how an object's bytes become k + m shards, and come back from any k.

Geometry. An object is cut into stripes. A full stripe holds k x block_size bytes of data,
the last one what is left. The n data bytes of a stripe fill k data blocks of L = ceil(n / k) bytes,
one after the other, zeros behind the last byte; m parity blocks of L bytes follow. So a stripe in
memory is one buffer,

    data 0 | data 1 | ... | data k-1 | parity 0 | ... | parity m-1      each L bytes

in which the first n bytes are the object's own. An object of no bytes has no stripes. Shard i is
the sequence of the i-th blocks of all stripes; its offset of stripe s is s x block_size.

All functions are pure. Those that touch block contents release the GIL while they do; at a full
stripe they take some hundreds of microseconds, so call them in a worker thread. ValueError for
arguments that do not fit.

The code itself: `_fast.gf256`. Reed, Solomon: "Polynomial Codes over Certain Finite Fields", 1960.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from predastore._fast import gf256
from predastore.base.limits import SHARDS_MAX

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Code(msgspec.Struct, frozen=True):
    """k data and m parity blocks a stripe: any m may be lost."""

    k: int
    m: int

    def __post_init__(self) -> None:
        if self.k < 1 or self.m < 0 or self.k + self.m > SHARDS_MAX:
            raise ValueError(f"RS({self.k}, {self.m}): needs k >= 1, m >= 0, k + m <= {SHARDS_MAX}")

    @property
    def shards(self) -> int:
        return self.k + self.m


class Stripe(msgspec.Struct, frozen=True):
    """Where a stripe lies in its object, and the length of each of its k + m blocks."""

    offset_bytes: int
    data_bytes: int
    block_bytes: int


class Slice(msgspec.Struct, frozen=True):
    """A run of an object's bytes within one data block."""

    stripe: int
    block: int
    offset_bytes: int
    length_bytes: int


def stripe_count(size: int, code: Code, block_size: int) -> int:
    """Stripes of an object of `size` bytes."""
    _check_sizes(size, block_size)
    return -(-size // (code.k * block_size))


def stripe_geometry(size: int, code: Code, block_size: int, stripe: int) -> Stripe:
    """ValueError where the object has no such stripe."""
    count = stripe_count(size, code, block_size)
    if not 0 <= stripe < count:
        raise ValueError(f"stripe {stripe} of an object that has {count}")
    offset = stripe * code.k * block_size
    data = min(code.k * block_size, size - offset)
    return Stripe(offset, data, block_bytes(code, data))


def block_bytes(code: Code, data_bytes: int) -> int:
    """Length of each block of a stripe with so many bytes of data."""
    return -(-data_bytes // code.k)


def stripe_bytes(code: Code, data_bytes: int) -> int:
    """Length of the buffer that `encode_stripe` needs: k + m blocks."""
    return code.shards * block_bytes(code, data_bytes)


def shard_bytes(size: int, code: Code, block_size: int) -> int:
    """Length of each shard of an object: the sum of its blocks."""
    _check_sizes(size, block_size)
    full, rest = divmod(size, code.k * block_size)
    return full * block_size + block_bytes(code, rest)


def encode_stripe(code: Code, buffer: Buffer, data_bytes: int) -> tuple[int, list[int]]:
    """Pads and codes, in place, a stripe whose first `data_bytes` bytes are filled.

    Gives the length of each block and the CRC32C of each of the k + m.
    """
    if data_bytes < 0:
        raise ValueError(f"data_bytes is negative: {data_bytes}")
    length = block_bytes(code, data_bytes)
    padding = code.k * length - data_bytes
    if padding:
        with memoryview(buffer) as view, view.cast("B") as octets:
            if octets.nbytes < code.shards * length:
                raise ValueError(f"buffer has {octets.nbytes} bytes, not {code.shards * length}")
            octets[data_bytes : data_bytes + padding] = bytes(padding)
    return length, gf256.encode_with_crcs(code.k, code.m, buffer, length)


def reconstruct(
    code: Code, present: Mapping[int, Buffer], wanted: Sequence[int], block_bytes: int
) -> dict[int, bytearray]:
    """The `wanted` blocks of a stripe, data or parity, from any k or more `present` ones.

    Where there are more than k the first k in shard order are used: data blocks are the cheapest.
    """
    if len(present) < code.k:
        raise ValueError(f"{len(present)} blocks are present; {code.k} are needed")
    chosen = sorted(present)[: code.k]
    blocks = {shard: bytearray(block_bytes) for shard in wanted}
    inputs = [(shard, present[shard]) for shard in chosen]
    gf256.reconstruct(code.k, code.m, inputs, blocks.items(), block_bytes)
    return blocks


def slices(size: int, code: Code, block_size: int, start: int, end: int) -> Iterator[Slice]:
    """The runs of data blocks that hold the bytes [start, end) of an object, in their order."""
    _check_sizes(size, block_size)
    if not 0 <= start <= end <= size:
        raise ValueError(f"bytes [{start}, {end}) of an object of {size} bytes")
    return _slices(size, code, block_size, start, end)


def _slices(size: int, code: Code, block_size: int, start: int, end: int) -> Iterator[Slice]:
    full_stripe = code.k * block_size
    while start < end:
        stripe, within = divmod(start, full_stripe)
        length = block_bytes(code, min(full_stripe, size - stripe * full_stripe))
        block, offset = divmod(within, length)
        run = min(length - offset, end - start)
        yield Slice(stripe, block, offset, run)
        start += run


def _check_sizes(size: int, block_size: int) -> None:
    if size < 0 or block_size < 1:
        raise ValueError(f"an object of {size} bytes in blocks of {block_size}")
