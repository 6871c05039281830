"""Who talks to whom in a simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import CipherSuite

from predastore.rpc import self_signed
from predastore.rpc.quic_core import client_configuration, server_configuration

from .core_end import CoreEnd
from .ends import End, StockEnd
from .world import Pair

_CERTIFICATE = self_signed()
_IDLE_S = 120.0  # of silence, so that no weather here ends a connection


def _configured(seed: int, configuration: QuicConfiguration) -> QuicConfiguration:
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


def _core(seed: int, configuration: QuicConfiguration) -> QuicConfiguration:
    """Of the product's end, where a stream's limit never grows: a message fits it."""
    return replace(_configured(seed, configuration), max_stream_data=1 << 22)


def stock_client(seed: int) -> End:
    return StockEnd(_configured(seed, client_configuration()))


def core_client(seed: int) -> End:
    return CoreEnd(_core(seed, client_configuration()))


def stock_server(seed: int) -> Callable[[bytes], End]:
    configuration = _configured(seed, server_configuration(_CERTIFICATE))
    return lambda chosen_id: StockEnd(configuration, chosen_id=chosen_id)


def core_server(seed: int) -> Callable[[bytes], End]:
    configuration = _core(seed, server_configuration(_CERTIFICATE))
    return lambda chosen_id: CoreEnd(configuration, chosen_id=chosen_id)


# By name: the client, then the server.
PAIRS: dict[str, Pair] = {
    "stock-stock": lambda seed: (stock_client(seed), stock_server(seed)),
    "engine-stock": lambda seed: (core_client(seed), stock_server(seed)),
    "stock-engine": lambda seed: (stock_client(seed), core_server(seed)),
    "engine-engine": lambda seed: (core_client(seed), core_server(seed)),
}
