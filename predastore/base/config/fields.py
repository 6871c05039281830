"""The tables and keys that a configuration file may have, each with the reader of its value.

A reader takes the raw TOML value and returns the value to keep, or raises ValueError with "what
is wrong; what to write instead".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from predastore.base import limits
from predastore.base.config.model import (
    BACKENDS,
    BUCKET_TYPES,
    LOG_LEVELS,
    NODE_STATES,
    OWNERSHIPS,
)
from predastore.base.config.policy import read_policy


@dataclass(frozen=True)
class Field:
    read: Callable[[Any], Any]
    required: bool = False
    attribute: str = ""  # name in the struct where it differs from the key
    takes_tables: bool = False


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a text in quotes, got {value!r:.80}")
    return value


def _secret(value: Any) -> str:
    """As `_text`, but what was got is not shown."""
    if not isinstance(value, str) or not value:
        raise ValueError("expected a text in quotes")
    return value


def _secrets(value: Any) -> tuple[str, ...]:
    most = limits.CLUSTER_SECRETS_MAX - 1
    is_list = isinstance(value, list) and len(value) <= most
    if not is_list or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"expected a list of texts in quotes, {most} at most")
    return tuple(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r:.80}")
    return value


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, got {value!r:.80}")
        return value

    return read


def _one_of(words: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(words)}, got {value!r:.80}")
        return str(value)

    return read


def _path(value: Any) -> Path:
    return Path(_text(value))


def _number(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}, got {value!r:.80}")
        return float(value)

    return read


_HOST = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)


def _host(value: Any) -> str:
    text = _text(value)
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # Four numbers that are no address are a slip of the pen, never a host's name.
        if _HOST.fullmatch(text) is None or all(part.isdigit() for part in text.split(".")):
            raise ValueError(f'expected a host name or an IP address, got "{text}"') from None
    return text


def _domains(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(
            f'expected a list of host names, such as ["s3.example.com"], got {value!r:.80}'
        )
    names = tuple(_host(one).lower() for one in value)
    for name in names:
        if ":" in name or all(part.isdigit() for part in name.split(".")):
            raise ValueError(f'"{name}" is an address, and a bucket can not stand before one')
    return names


def _umask(value: Any) -> str:
    """Permissions that what is made does not get; the owner's are always given."""
    text = _text(value)
    if re.fullmatch(r"0?0[0-7]{2}", text) is None:
        raise ValueError(
            f'expected permissions that others shall not have, such as "0077" (nobody else may '
            f'read) or "0027" (the group may), got "{text}"'
        )
    return text


_SIZES: Final = {"KiB": limits.KIB, "MiB": limits.MIB, "GiB": limits.GIB}


def size_bytes(value: Any) -> int:
    """Bytes of 65536 or "64KiB"; ValueError says what to write."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, str):
        for unit, scale in _SIZES.items():
            number = value.removesuffix(unit).strip()
            if value.endswith(unit) and number.isdigit() and int(number) > 0:
                return int(number) * scale
    raise ValueError(f'expected a size such as "1MiB" or 1048576, got {value!r:.80}')


def _block_size(value: Any) -> int:
    size = size_bytes(value)
    low, high = limits.BLOCK_BYTES_MIN, limits.BLOCK_BYTES_MAX
    if not low <= size <= high:
        raise ValueError(f"expected a block size from {low} to {high} bytes, got {size}")
    return size


def _inline_max(value: Any) -> int:
    """0: nothing is inline."""
    size = 0 if value == 0 and not isinstance(value, bool) else size_bytes(value)
    if size > limits.INLINE_BYTES_MAX:
        raise ValueError(f"expected 0 to {limits.INLINE_BYTES_MAX} bytes, got {size}")
    return size


def _addresses(value: Any) -> tuple[tuple[str, int], ...]:
    """One "host:port", or several with commas; an IPv6 address in brackets."""
    found = []
    for text in _text(value).split(","):
        host, colon, port = text.strip().rpartition(":")
        if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(
                f'expected "host:port" of a process of the cluster, such as "10.0.0.1:9991", '
                f'got "{text.strip()}"'
            )
        found.append((host.removeprefix("[").removesuffix("]"), int(port)))
    return tuple(found)


_BUCKET_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{1,61})[a-z0-9]")


def _bucket_name(value: Any) -> str:
    text = _text(value)
    if _BUCKET_NAME.fullmatch(text) is None:
        raise ValueError(
            f'"{text}" is no bucket name; write 3 to 63 lower-case letters, digits, dots or hyphens'
        )
    return text


_ISSUER: Final = re.compile(
    r"(https://|http://(127\.\d+\.\d+\.\d+|localhost|\[::1\]))[!-~]*", re.ASCII
)


def _issuer(value: Any) -> str:
    text = _text(value)
    if len(text) > 255 or _ISSUER.fullmatch(text) is None or "?" in text or "#" in text:
        raise ValueError(
            'expected the issuer as its tokens name it, such as "https://id.example.com/realm", '
            f'got "{text:.80}"'
        )
    return text


def _audiences(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or len(value) > limits.OIDC_AUDIENCES_MAX:
        raise ValueError(
            f"expected a list of 1 to {limits.OIDC_AUDIENCES_MAX} client ids, got {value!r:.80}"
        )
    return tuple(map(_text, value))


def _pathname(value: Any) -> Path | None:
    """A directory; "" is as none."""
    return None if value == "" else _path(value)


_PORT: Final = _integer(1, 65535)
_ID: Final = _integer(0, limits.NODE_IDS_MAX - 1)

FIELDS: Final[Mapping[str, Mapping[str, Field]]] = {
    "": {
        "region": Field(_text),
        "host": Field(_host),
        "port": Field(_PORT),
        "domains": Field(_domains),
        "base_path": Field(_path),
        "umask": Field(_umask),
        "backend": Field(_one_of(BACKENDS)),
        "log_level": Field(_one_of(LOG_LEVELS)),
        "tls": Field(_flag),
        "tls_cert": Field(_path),
        "tls_key": Field(_path),
        "access_log": Field(_text),
        "metrics_host": Field(_host),
        "metrics_port": Field(_PORT),
    },
    "rs": {
        "data": Field(_integer(1, limits.SHARDS_MAX)),
        "parity": Field(_integer(0, limits.SHARDS_MAX - 1)),
        "block_size": Field(_block_size, attribute="block_bytes"),
        "write_min": Field(_integer(1, limits.SHARDS_MAX)),
        "inline_max": Field(_inline_max),
    },
    "s3": {
        "object_ownership": Field(_one_of(OWNERSHIPS)),
        "block_public_access": Field(_flag),
    },
    "cluster": {
        "name": Field(_text),
        "secret": Field(_secret),
        "secrets_accepted": Field(_secrets),
        "join": Field(_addresses),
        "scrub_days": Field(_number(limits.NODE_SCRUB_DAYS_MIN, limits.NODE_SCRUB_DAYS_MAX)),
    },
    "db": {
        "id": Field(_ID, required=True),
        "host": Field(_host, required=True),
        "port": Field(_PORT, required=True),
        "raft_port": Field(_PORT),
        "path": Field(_path),
        "advertise_host": Field(_host),
        "access_key_id": Field(_text),
        "secret_access_key": Field(_secret),
    },
    "nodes": {
        "id": Field(_ID, required=True),
        "host": Field(_host, required=True),
        "port": Field(_PORT, required=True),
        "path": Field(_path),
        "advertise_host": Field(_host),
        "weight": Field(_number(limits.RING_WEIGHT_MIN, limits.RING_WEIGHT_MAX)),
        "state": Field(_one_of(NODE_STATES)),
    },
    "auth": {
        "access_key_id": Field(_text, required=True),
        "secret_access_key": Field(_secret, required=True),
        "account_id": Field(_text),
        "policy": Field(read_policy, takes_tables=True),
    },
    "buckets": {
        "name": Field(_bucket_name, required=True),
        "public": Field(_flag),
        "account_id": Field(_text),
        "region": Field(_text),
        "type": Field(_one_of(tuple(BUCKET_TYPES))),
        "pathname": Field(_pathname),
    },
    "oidc": {
        "issuer": Field(_issuer, required=True),
        "audiences": Field(_audiences, required=True),
        "ca": Field(_path),
    },
}
SINGLE: Final = ("rs", "s3", "cluster")
REPEATED: Final = ("db", "nodes", "auth", "buckets", "oidc")
