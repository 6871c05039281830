"""Reed-Solomon and CRC kernels: against Intel's ISA-L on the same buffers, and memory copy.

MB/s are of an object's data (k blocks), so that codes compare; for CRCs of the bytes hashed.
Without ISA-L (Debian: libisal2) its rows have memory copy as their yardstick.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence

from benchmarks.measure import Row, throughput_row
from predastore._fast import crc, gf256

BLOCK_BYTES = 1 << 20
CODES = ((3, 2), (10, 4))
CRC_BYTES = (4096, 1 << 20)
ISAL_CRC_BYTES_MIN = 1 << 18
COPY = "memory copy"

Call = Callable[[], object]


def rows() -> list[Row]:
    isal = _isal()
    found = []
    for k, m in CODES:
        found += _encode_rows(isal, k, m)
        found += [_reconstruct_row(isal, k, m, losses) for losses in (1, m)]
    for size in CRC_BYTES:
        found += _crc_rows(isal, size)
    return found


def _isal() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libisal.so.2")
    except OSError:
        return None


class _Shards:
    """k + m blocks in one buffer, their addresses, and a copy of the data for the yardstick."""

    def __init__(self, k: int, m: int) -> None:
        self.k, self.m = k, m
        self.buffer = bytearray(os.urandom((k + m) * BLOCK_BYTES))
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self.data = memoryview(self.buffer)[: k * BLOCK_BYTES]
        self.target = memoryview(bytearray(len(self.data)))

    def copy(self) -> None:
        self.target[:] = self.data

    def pointers(self, shards: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
        addresses = [self.address + shard * BLOCK_BYTES for shard in shards]
        return (ctypes.c_void_p * len(addresses))(*addresses)


def _encode_rows(isal: ctypes.CDLL | None, k: int, m: int) -> list[Row]:
    shards = _Shards(k, m)
    label: str = COPY
    peer: Call = shards.copy
    if isal is not None:
        label = "ISA-L ec_encode_data"
        peer = _isal_product(isal, shards, list(range(k)), list(range(k, k + m)))
    plain = f"rs.encode.{k}+{m}"
    with_crcs = f"rs.encode_with_crcs.{k}+{m}"
    size = k * BLOCK_BYTES

    def encode() -> None:
        gf256.encode(k, m, shards.buffer, BLOCK_BYTES)

    def encode_with_crcs() -> None:
        gf256.encode_with_crcs(k, m, shards.buffer, BLOCK_BYTES)

    return [
        throughput_row(plain, size, encode, label, peer),
        throughput_row(with_crcs, size, encode_with_crcs, COPY, shards.copy),
    ]


def _reconstruct_row(isal: ctypes.CDLL | None, k: int, m: int, losses: int) -> Row:
    shards = _Shards(k, m)
    gf256.encode(k, m, shards.buffer, BLOCK_BYTES)
    lost = list(range(losses))
    present = list(range(losses, k + losses))
    view = memoryview(shards.buffer)
    inputs = [(i, view[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES]) for i in present]
    outputs = [(i, view[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES]) for i in lost]
    label: str = COPY
    peer: Call = shards.copy
    if isal is not None:
        label, peer = "ISA-L ec_encode_data", _isal_product(isal, shards, present, lost)
    return throughput_row(
        f"rs.reconstruct.{k}+{m}.{losses}-lost",
        k * BLOCK_BYTES,
        lambda: gf256.reconstruct(k, m, inputs, outputs, BLOCK_BYTES),
        label,
        peer,
    )


def _isal_product(
    isal: ctypes.CDLL, shards: _Shards, present: Sequence[int], wanted: Sequence[int]
) -> Call:
    """ISA-L making the `wanted` shards from the `present`, with tables made beforehand."""
    k, m = shards.k, shards.m
    encode = ctypes.create_string_buffer((k + m) * k)
    isal.gf_gen_cauchy1_matrix(encode, k + m, k)
    rows = [encode.raw[i * k : (i + 1) * k] for i in range(k + m)]
    inverse = ctypes.create_string_buffer(k * k)
    source = ctypes.create_string_buffer(b"".join(rows[i] for i in present), k * k)
    if isal.gf_invert_matrix(source, inverse, k):
        raise RuntimeError("ISA-L finds its matrix singular")
    # A data shard's row of the inverse makes it; encoding has all data, so rows make parity.
    making = [inverse.raw[i * k : (i + 1) * k] if i < k else rows[i] for i in wanted]
    matrix = ctypes.create_string_buffer(b"".join(making), len(wanted) * k)
    tables = ctypes.create_string_buffer(len(wanted) * k * 32)
    isal.ec_init_tables(k, len(wanted), matrix, tables)
    inputs, outputs = shards.pointers(present), shards.pointers(wanted)
    return lambda: isal.ec_encode_data(BLOCK_BYTES, k, len(wanted), tables, inputs, outputs)


def _crc_rows(isal: ctypes.CDLL | None, size: int) -> list[Row]:
    data = os.urandom(size)
    target = memoryview(bytearray(size))

    def copy() -> None:
        target[:] = data

    ours: dict[str, Call] = {
        "crc32c": lambda: crc.crc32c(data),
        "crc32": lambda: crc.crc32(data),
        "crc64nvme": lambda: crc.crc64nvme(data),
    }
    # A call through ctypes takes as long as the CRC of some KiB: no yardstick for short inputs.
    peers = {} if isal is None or size < ISAL_CRC_BYTES_MIN else _isal_crcs(isal, data)
    found = []
    for name, fn in ours.items():
        row_name = f"crc.{name}.{size}"
        found.append(throughput_row(row_name, size, fn, COPY, copy))
        if name in peers:
            label, peer = peers[name]
            found.append(throughput_row(row_name, size, fn, label, peer))
    return found


def _isal_crcs(isal: ctypes.CDLL, data: bytes) -> dict[str, tuple[str, Call]]:
    size = len(data)
    isal.crc32_iscsi.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_uint]
    isal.crc32_gzip_refl.argtypes = [ctypes.c_uint, ctypes.c_char_p, ctypes.c_uint64]
    isal.crc64_ecma_refl.argtypes = [ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint64]
    return {
        "crc32c": ("ISA-L crc32_iscsi", lambda: isal.crc32_iscsi(data, size, 0)),
        "crc32": ("ISA-L crc32_gzip_refl", lambda: isal.crc32_gzip_refl(0, data, size)),
        # ISA-L has CRC64NVME (as "rocksoft") from 2.31 on; all 64-bit CRCs cost it the same.
        "crc64nvme": ("ISA-L crc64_ecma_refl", lambda: isal.crc64_ecma_refl(0, data, size)),
    }
