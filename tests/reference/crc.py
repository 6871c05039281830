"""Plain-Python twin of the CRC kernel: one bit at a time."""

from __future__ import annotations

CRC32C = (32, 0x82F63B78)
CRC32 = (32, 0xEDB88320)
CRC64NVME = (64, 0x9A6C9329AC4BC9B5)


def crc(kind: tuple[int, int], data: bytes, value: int = 0) -> int:
    """`kind`: width in bits, and polynomial with its bits reversed."""
    width, polynomial = kind
    inverted = (1 << width) - 1
    state = value ^ inverted
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (polynomial if state & 1 else 0)
    return state ^ inverted
