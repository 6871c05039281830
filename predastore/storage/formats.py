"""How a row is stored, and how it is changed without loss.

    row     2 | msgpack array of the struct's fields in their order

The first byte is the format's version. Within one, fields are only appended, each with a default:
an older program reads a newer row, and `rewritten` keeps what it does not know. Any other change is
a new version, with a decoder for each one that was released. Golden files in tests/formats/ pin
each row.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from predastore.base.errors import CorruptData, UnsupportedFormat

VERSION: Final = 2

_VERSION_BYTE: Final = bytes([VERSION])
_ENCODER: Final = msgspec.msgpack.Encoder()
_ARRAYS: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_DECODERS: Final[dict[type[msgspec.Struct], msgspec.msgpack.Decoder[Any]]] = {}

S = TypeVar("S", bound=msgspec.Struct)


def pack(value: object) -> bytes:
    """msgpack, without a version: for what stands within rows, arguments and answers."""
    return _ENCODER.encode(value)


def encode(row: msgspec.Struct) -> bytes:
    """The stored form of a row."""
    return _VERSION_BYTE + _ENCODER.encode(row)


def decode(kind: type[S], stored: bytes) -> S:
    """The row of type `kind` in `stored`; UnsupportedFormat or CorruptData."""
    try:
        row: S = _decoder(kind).decode(_body(kind, stored))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptData(f"{kind.__name__}: {error}") from error
    return row


def unpack(kind: type[S], packed: bytes | msgspec.Raw) -> S:
    """What `pack` made of a struct of type `kind`; CorruptData."""
    try:
        value: S = _decoder(kind).decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptData(f"{kind.__name__}: {error}") from error
    return value


def rewritten(stored: bytes, row: msgspec.Struct) -> bytes:
    """`row` in the place of `stored`, which is a row of the same type: with the fields behind
    those of this program that `stored` has, its own and those of structs within it that `row` does
    not change. UnsupportedFormat or CorruptData."""
    kind = type(row)
    before = decode(kind, stored)
    fields = _ARRAYS.decode(_body(kind, stored))
    for number, own in enumerate(_ARRAYS.decode(_ENCODER.encode(row))):
        name = kind.__struct_fields__[number]
        if number >= len(fields):
            fields.append(own)
        elif getattr(before, name) != getattr(row, name):
            fields[number] = own
    return _VERSION_BYTE + _ENCODER.encode(fields)


def _decoder(kind: type[S]) -> msgspec.msgpack.Decoder[S]:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.msgpack.Decoder(kind)
    return decoder


def _body(kind: type[msgspec.Struct], stored: bytes) -> memoryview:
    if not stored or stored[0] != VERSION:
        raise UnsupportedFormat(
            f"{kind.__name__} of version {stored[:1].hex() or 'none'}; this program reads {VERSION}"
        )
    return memoryview(stored)[1:]
