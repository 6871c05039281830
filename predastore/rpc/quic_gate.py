"""Who may begin a connection to a listener: judged by single datagrams, before anything is made.

What comes from somebody whom nobody knows may be forged, as many times a second as a network
carries, and a handshake costs milliseconds. So:

| datagram | while few are new | while many are |
|---|---|---|
| Initial without a token | a connection | Retry (RFC 9000, 8.1.2); who is there comes again |
| Initial with a token of ours | a connection, if its address has a place | the same |
| Initial with another token, or that of another address | nothing | nothing |
| Initial of another version | Version Negotiation | the same |
| anything else with a long header | nothing | nothing |

Few are: RPC_FREE_HANDSHAKES at once, RPC_FREE_HANDSHAKES_S each second; whoever comes beyond that
counts, too, so that a flood keeps the gate shut for as long as it lasts. No answer is longer than
what it answers, and of both kinds of answers there is a most in each second.

A connection has a place until it has proven the cluster key, or RPC_HANDSHAKE_TIMEOUT_MS are over,
even if it ends before that: else whoever breaks handshakes off could begin them without end.
Places are counted for each address that has shown itself, for each prefix, and in all; those who
have not shown an address have a share of their own, so that nobody can take places in the name of
another.

A token is good for as long as a place, for its address, port and Retry.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import socket
from collections import Counter
from typing import Final, NamedTuple

from aioquic.quic.packet import (
    RETRY_AEAD_KEY_VERSION_1,
    RETRY_AEAD_KEY_VERSION_2,
    RETRY_AEAD_NONCE_VERSION_1,
    RETRY_AEAD_NONCE_VERSION_2,
    QuicProtocolVersion,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from predastore.base import metrics
from predastore.base.limits import (
    RPC_CONNECTIONS_UNPROVEN_MAX,
    RPC_FLOOD_QUIET_S,
    RPC_FLOOD_RETRIES,
    RPC_FREE_HANDSHAKES,
    RPC_FREE_HANDSHAKES_S,
    RPC_HANDSHAKE_TIMEOUT_MS,
    RPC_STATELESS_ANSWERS_S,
    RPC_UNPROVEN_ADDRESS_MAX,
    RPC_UNPROVEN_PREFIX_MAX,
)
from predastore.rpc.quic_core import CONNECTION_ID_BYTES, Address

logger = logging.getLogger(__name__)

_STRANGERS = metrics.counter(
    "predastore_rpc_strangers_total",
    "Datagrams that wanted to begin a connection to a node or member of this process, by answer.",
    *("peer", "answer"),
)  # fmt: skip

_LONG, _FIXED = 0x80, 0x40
_IDS_BYTES_MAX: Final = 20  # RFC 9000, 17.2; other versions may have longer ones
_FIRST_ID_BYTES_MIN: Final = 8  # RFC 9000, 7.2
_TIME_BYTES, _MAC_BYTES = 8, 16


class Retrying(NamedTuple):
    """How a version writes the first byte of its Initials and Retries, and seals a Retry."""

    initial: int
    retry: int
    aead: AESGCM
    nonce: bytes


_VERSIONS: Final = {
    int(QuicProtocolVersion.VERSION_1): Retrying(
        0x00, 0x30, AESGCM(RETRY_AEAD_KEY_VERSION_1), RETRY_AEAD_NONCE_VERSION_1
    ),
    int(QuicProtocolVersion.VERSION_2): Retrying(
        0x10, 0x00, AESGCM(RETRY_AEAD_KEY_VERSION_2), RETRY_AEAD_NONCE_VERSION_2
    ),
}
VERSIONS: Final = tuple(_VERSIONS)


class LongHeader(NamedTuple):
    """Of a packet of the handshake, as far as no version differs, and the token of an Initial."""

    version: int
    is_initial: bool
    destination: bytes
    source: bytes
    token: bytes


def long_header(datagram: bytes) -> LongHeader | None:
    """None where it is none, or cut short, or no packet of its version."""
    at = 6 + datagram[5] if len(datagram) > 5 else len(datagram)
    if at >= len(datagram):
        return None
    end = at + 1 + datagram[at]
    if end > len(datagram):
        return None
    version = int.from_bytes(datagram[1:5], "big")
    destination, source = datagram[6:at], datagram[at + 1 : end]
    kind = _VERSIONS.get(version)
    if kind is None:
        return LongHeader(version, False, destination, source, b"")
    if (
        not datagram[0] & _FIXED
        or len(destination) > _IDS_BYTES_MAX
        or len(source) > _IDS_BYTES_MAX
    ):
        return None
    if datagram[0] & 0x30 != kind.initial:
        return LongHeader(version, False, destination, source, b"")
    token = _token(datagram, end)
    return None if token is None else LongHeader(version, True, destination, source, token)


def _token(datagram: bytes, at: int) -> bytes | None:
    """After a length of variable size (RFC 9000, 16); None where it is cut short."""
    if at >= len(datagram):
        return None
    width = 1 << (datagram[at] >> 6)
    length = int.from_bytes(datagram[at : at + width], "big") & ((1 << (8 * width - 2)) - 1)
    end = at + width + length
    return None if end > len(datagram) else datagram[at + width : end]


class GatePlace(NamedTuple):
    """Of a connection that has proven nothing yet. `whose`: an address and its prefix, where it has
    shown that it is there."""

    whose: tuple[bytes, ...]
    until: float


class Admitted(NamedTuple):
    """`original_id`: what the caller called the listener first; `retry_id`: what it was told to
    say instead, if it was."""

    place: GatePlace
    original_id: bytes
    retry_id: bytes | None


class _Allowance:
    """So many at once, and so many a second. `debt`: how many of those that ask in vain count."""

    def __init__(self, burst: float, per_s: float, debt: float = 0.0) -> None:
        self._burst = self._left = burst
        self._per_s = per_s
        self._least = -debt
        self._at = 0.0

    def take(self, now: float) -> bool:
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        is_there = self._left >= 1
        if is_there or self._least:
            self._left = max(self._least, self._left - 1)
        return is_there


class QuicGate:
    """`served`: the peer that the listener is, for people. Times are those of one clock."""

    def __init__(self, served: str) -> None:
        self._served = served
        self._key = os.urandom(32)
        self._free = _Allowance(RPC_FREE_HANDSHAKES, RPC_FREE_HANDSHAKES_S, RPC_FREE_HANDSHAKES)
        self._retries = _Allowance(RPC_STATELESS_ANSWERS_S, RPC_STATELESS_ANSWERS_S)
        self._answers = _Allowance(RPC_STATELESS_ANSWERS_S, RPC_STATELESS_ANSWERS_S)
        self._places: Counter[bytes] = Counter()
        self._shown_count = self._unshown_count = 0
        self._retried = 0  # in this flood
        self._retried_at = 0.0
        children = (_STRANGERS.child(served, answer) for answer in ("taken", "retry", "none"))
        self._taken, self._told, self._dropped = children

    @property
    def unproven_count(self) -> int:
        return self._shown_count + self._unshown_count

    def admit(self, header: LongHeader, address: Address, now: float) -> Admitted | bytes | None:
        """Of an Initial of a caller that is not known: what a connection begins with; or a Retry
        to send; or nothing is to be done."""
        answer = self._judged(header, address, now)
        if answer is None:
            self._dropped.value += 1
        elif isinstance(answer, bytes):
            self._told.value += 1
        else:
            self._taken.value += 1
        return answer

    def _judged(self, header: LongHeader, address: Address, now: float) -> Admitted | bytes | None:
        until = now + RPC_HANDSHAKE_TIMEOUT_MS / 1000
        if header.token:
            original_id = self._original_id(header, address, now)
            if original_id is None:
                return None
            whose = _whose(address)
            if (
                self._places[whose[0]] >= RPC_UNPROVEN_ADDRESS_MAX
                or self._places[whose[1]] >= RPC_UNPROVEN_PREFIX_MAX
                or self.unproven_count >= RPC_CONNECTIONS_UNPROVEN_MAX
            ):
                return None
            self._places.update(whose)
            self._shown_count += 1
            return Admitted(GatePlace(whose, until), original_id, header.destination)
        if len(header.destination) < _FIRST_ID_BYTES_MIN:
            return None
        if self._free.take(now) and self._unshown_count < RPC_CONNECTIONS_UNPROVEN_MAX // 4:
            self._unshown_count += 1
            return Admitted(GatePlace((), until), header.destination, None)
        if not self._retries.take(now):
            return None
        self._note_retry(now)
        return self._retry(header, address, now)

    def leave(self, place: GatePlace) -> None:
        """Once for each place."""
        if not place.whose:
            self._unshown_count -= 1
            return
        self._shown_count -= 1
        for key in place.whose:
            self._places[key] -= 1
            if not self._places[key]:
                del self._places[key]

    def may_answer(self, now: float) -> bool:
        """Whether a datagram that costs its sender nothing may have an answer that is no Retry."""
        return self._answers.take(now)

    # --- tokens

    def _mac(self, made_at: bytes, retry_id: bytes, original_id: bytes, address: Address) -> bytes:
        ids = b"%s%s%c%s" % (made_at, retry_id, len(original_id), original_id)
        said = b"%s%d %s" % (ids, address[1], address[0].encode())
        return hashlib.blake2b(said, key=self._key, digest_size=_MAC_BYTES).digest()

    def _retry(self, header: LongHeader, address: Address, now: float) -> bytes:
        kind = _VERSIONS[header.version]
        retry_id = os.urandom(CONNECTION_ID_BYTES)
        made_at = int(now * 1000).to_bytes(_TIME_BYTES, "big")
        original_id = header.destination
        mac = self._mac(made_at, retry_id, original_id, address)
        packet = b"".join(
            (
                bytes((_LONG | _FIXED | kind.retry,)),
                header.version.to_bytes(4, "big"),
                bytes((len(header.source),)),
                header.source,
                bytes((CONNECTION_ID_BYTES,)),
                retry_id,
                made_at,
                mac,
                original_id,
            )
        )
        pseudo = bytes((len(original_id),)) + original_id + packet  # RFC 9001, 5.8
        return packet + kind.aead.encrypt(kind.nonce, b"", pseudo)

    def _original_id(self, header: LongHeader, address: Address, now: float) -> bytes | None:
        made_at, rest = header.token[:_TIME_BYTES], header.token[_TIME_BYTES:]
        mac, original_id = rest[:_MAC_BYTES], rest[_MAC_BYTES:]
        if len(header.destination) != CONNECTION_ID_BYTES or len(original_id) > _IDS_BYTES_MAX:
            return None
        wanted = self._mac(made_at, header.destination, original_id, address)
        if not hmac.compare_digest(mac, wanted):
            return None
        age_s = now - int.from_bytes(made_at, "big") / 1000
        return original_id if age_s <= RPC_HANDSHAKE_TIMEOUT_MS / 1000 else None

    # --- what is said of it

    def _note_retry(self, now: float) -> None:
        if now - self._retried_at > RPC_FLOOD_QUIET_S:
            self._retried = 0
        self._retried_at = now
        self._retried += 1
        if self._retried == RPC_FLOOD_RETRIES:
            logger.warning(
                "many begin a connection and do not prove the cluster key; from now on each has to "
                "show its address first",
                extra={"peer": self._served},
            )


def _whose(address: Address) -> tuple[bytes, bytes]:
    """What counts as one address, and as one network: 32 and 24 bits of IPv4, 64 and 48 of IPv6."""
    if len(address) == 2:
        packed = socket.inet_pton(socket.AF_INET, address[0])
        return packed, packed[:3]
    packed = socket.inet_pton(socket.AF_INET6, address[0].partition("%")[0])
    if packed[:12] == bytes(10) + b"\xff\xff":
        return packed[12:], packed[12:15]
    return packed[:8], packed[:6]
