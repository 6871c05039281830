"""Who talks to whom in a simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import CipherSuite

from predastore.rpc import self_signed
from predastore.rpc.quic_core import client_configuration, server_configuration

from .ends import End, StockEnd
from .world import Pair

_CERTIFICATE = self_signed()
_IDLE_S = 120.0  # of silence, so that no weather here ends a connection


def _stock(seed: int, configuration: QuicConfiguration) -> QuicConfiguration:
    """Windows, datagram sizes and ciphers differ from seed to seed."""
    rng = Random(f"configuration {seed} {configuration.is_client}")
    suites = [CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384]
    suites.append(CipherSuite.CHACHA20_POLY1305_SHA256)
    return replace(
        configuration,
        idle_timeout=_IDLE_S,
        max_data=rng.choice([1 << 15, 1 << 18, 1 << 22]),
        max_stream_data=rng.choice([1 << 14, 1 << 17, 1 << 22]),
        max_datagram_size=rng.choice([1200, 1350, 1452]),
        cipher_suites=[rng.choice(suites)] if configuration.is_client else None,
        congestion_control_algorithm=rng.choice(["reno", "cubic"]),
    )


def stock_both(seed: int) -> tuple[End, Callable[[bytes], End]]:
    server = _stock(seed, server_configuration(_CERTIFICATE))
    client = StockEnd(_stock(seed, client_configuration()))
    return client, lambda chosen_id: StockEnd(server, chosen_id=chosen_id)


PAIRS: dict[str, Pair] = {"stock-stock": stock_both}
