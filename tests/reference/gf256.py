"""Plain-Python twin of the GF(256) kernel: schoolbook arithmetic, its products in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

POLY = 0x11D


def multiply(a: int, b: int) -> int:
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= POLY << (bit - 8)
    return product


PRODUCT = [bytes(multiply(a, b) for b in range(256)) for a in range(256)]
_INVERSE = {a: PRODUCT[a].index(1) for a in range(1, 256)}


def divide(a: int, b: int) -> int:
    return PRODUCT[a][_INVERSE[b]]


def generator(k: int, m: int) -> list[list[int]]:
    """Identity over a Cauchy matrix 1 / (x_i + y_j), scaled to ones in row and column 0."""
    cauchy = [[_INVERSE[(k + i) ^ j] for j in range(k)] for i in range(m)]
    scaled = [[divide(row[j], cauchy[0][j]) for j in range(k)] for row in cauchy]
    parity = [[divide(c, row[0]) for c in row] for row in scaled]
    return [[int(i == j) for j in range(k)] for i in range(k)] + parity


def combine(row: Sequence[int], blocks: Sequence[bytes], length: int) -> bytes:
    """The sum of row[j] * blocks[j], byte by byte."""
    out = bytearray(length)
    for factor, block in zip(row, blocks, strict=True):
        for i, b in enumerate(block[:length].translate(PRODUCT[factor])):
            out[i] ^= b
    return bytes(out)


def encode(k: int, m: int, data: Sequence[bytes], length: int) -> list[bytes]:
    return [combine(row, data, length) for row in generator(k, m)[k:]]


def invert(matrix: Sequence[Sequence[int]]) -> list[list[int]]:
    """Gauss-Jordan; ValueError for a singular matrix."""
    n = len(matrix)
    work = [[*row, *(int(i == j) for j in range(n))] for i, row in enumerate(matrix)]
    for col in range(n):
        pivot = next((r for r in range(col, n) if work[r][col]), None)
        if pivot is None:
            raise ValueError("singular")
        work[col], work[pivot] = work[pivot], work[col]
        work[col] = [divide(v, work[col][col]) for v in work[col]]
        for r in range(n):
            if r != col and work[r][col]:
                product = PRODUCT[work[r][col]]
                work[r] = [v ^ product[p] for v, p in zip(work[r], work[col], strict=True)]
    return [row[n:] for row in work]


def reconstruct(
    k: int, m: int, present: Mapping[int, bytes], wanted: Sequence[int], length: int
) -> list[bytes]:
    rows = generator(k, m)
    inverse = invert([rows[i] for i in present])
    data = [combine(row, list(present.values()), length) for row in inverse]
    return [combine(rows[i], data, length) for i in wanted]


def affine(matrix: int, byte: int) -> int:
    """VGF2P8AFFINEQB with a zero constant, as Intel's manual writes it down."""
    out = 0
    for bit in range(8):
        row = matrix >> 8 * (7 - bit) & 0xFF
        out |= ((row & byte).bit_count() & 1) << bit
    return out
