"""A set that remembers far more than it could hold, and never forgets what it was given.

A Bloom filter (Bloom, 1970): of what was never added, about one in 400 is taken for known, as long
as there are 16 bits for each member; each new one errs about others. Here an error keeps an orphan
until the next pass.
"""

from __future__ import annotations

import secrets

from xxhash import xxh3_128_intdigest

from predastore.base.limits import ORPHAN_SIEVE_BYTES_MAX, ORPHAN_SIEVE_BYTES_MIN

_BITS_PER_MEMBER = 16
_PROBES = 4


class Sieve:
    """For about `expected_count` members; more of them only cost precision."""

    def __init__(self, expected_count: int) -> None:
        wanted_bytes = expected_count * _BITS_PER_MEMBER // 8
        wanted_bytes = min(max(wanted_bytes, ORPHAN_SIEVE_BYTES_MIN), ORPHAN_SIEVE_BYTES_MAX)
        self._mask = (1 << (8 * wanted_bytes - 1).bit_length()) - 1
        self._bits = bytearray((self._mask + 1) // 8)
        self._seed = secrets.randbits(64)

    def add(self, member: bytes) -> None:
        digest, bits, mask = xxh3_128_intdigest(member, self._seed), self._bits, self._mask
        for shift in range(0, 32 * _PROBES, 32):
            place = digest >> shift & mask
            bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, member: bytes) -> bool:
        digest, bits, mask = xxh3_128_intdigest(member, self._seed), self._bits, self._mask
        return all(
            bits[(place := digest >> shift & mask) >> 3] & 1 << (place & 7)
            for shift in range(0, 32 * _PROBES, 32)
        )
