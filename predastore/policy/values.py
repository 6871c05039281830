"""Values of conditions that are no plain text: numbers, dates, addresses, booleans.

A request's value that can not be read is None: no comparison holds for it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

from predastore.base import limits

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)
_EPOCH: Final = re.compile(r"[0-9]{5,14}", re.ASCII)
# W3C's profile of ISO 8601 (https://www.w3.org/TR/NOTE-datetime), and a zone as +0100.
_DATE: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:?\d\d))?)?)?",
    re.ASCII,
)
_BOOLS: Final = {"true": True, "false": False}


class Network(NamedTuple):
    """Addresses of one version, the bits of which under `mask` are `bits`."""

    version: int
    bits: int
    mask: int
    length: int


def number(text: str) -> Decimal | None:
    """A decimal number without an exponent."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def boolean(text: str) -> bool | None:
    """`true` or `false`, in any case."""
    return _BOOLS.get(text.lower())


def date(text: str) -> Decimal | None:
    """Seconds since 1970 of a date of ISO 8601, or of such a number of at least five digits."""
    if _EPOCH.fullmatch(text):
        return Decimal(text)
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        moment = datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    seconds = Decimal(int(moment.timestamp())) - _offset_s(zone or "Z")
    return seconds + Decimal(f"0.{fraction}") if fraction else seconds


def _offset_s(zone: str) -> int:
    if zone == "Z":
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
    return -seconds if zone[0] == "-" else seconds


def network(text: str) -> Network | None:
    """An address, or a range as of RFC 4632 (`203.0.113.0/24`, `2001:db8::/32`)."""
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        return None
    return Network(found.version, int(found.network_address), int(found.netmask), found.prefixlen)


@lru_cache(limits.POLICY_ADDRESSES_CACHED_MAX)
def address(text: str) -> tuple[int, int] | None:
    """Version and bits of an address; one of version 4 within version 6 is of version 4."""
    try:
        found: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.version, int(found)
