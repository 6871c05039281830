"""How a row is stored, and how it is changed without loss.

    row     2 | msgpack array of the struct's fields in their order

The first byte is the format's version. Within one, fields are only appended, each with a default:
an older program reads a newer row, and `rewritten` keeps what it does not know. Any other change is
a new version, with a decoder for each one that was released. Golden files in tests/formats/ pin
each row.

A struct that has fields more than in the first release says how many (`APPENDED`). Of those, the
ones at its end that have their defaults are not written: members of two programs, that do the same
to the same rows, write the same bytes.
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
    return _ENCODER.encode(shortened(value))


def encode(row: msgspec.Struct) -> bytes:
    """The stored form of a row."""
    return _VERSION_BYTE + pack(row)


def shortened(value: object) -> object:
    """What is to be encoded of a value: of a struct with fields that were appended, those that have
    something to say, and all before them."""
    if not isinstance(value, msgspec.Struct) or not hasattr(value, "APPENDED"):
        return value
    fields = msgspec.structs.astuple(value)
    return fields[: len(fields) - _silent_count(value)]


def _silent_count(value: msgspec.Struct) -> int:
    """How many of the appended fields, from the last one on, have their defaults."""
    kind = type(value)
    appended = getattr(kind, "APPENDED", 0)
    for count in range(appended):
        name = kind.__struct_fields__[-1 - count]
        if getattr(value, name) != kind.__struct_defaults__[-1 - count]:
            return count
    return int(appended)


def decode(kind: type[S], stored: bytes) -> S:
    """The row of type `kind` in `stored`; UnsupportedFormat or CorruptData."""
    try:
        row: S = _decoder(kind).decode(_body(kind, stored))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptData(f"{kind.__name__}: {error}") from error
    return row


def unpack(kind: type[S], packed: bytes | memoryview | msgspec.Raw) -> S:
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
    return _VERSION_BYTE + repacked(_body(type(row), stored), row)


def repacked(packed: bytes | memoryview | msgspec.Raw, value: msgspec.Struct) -> bytes:
    """The same for what `pack` made of a struct; CorruptData."""
    kind = type(value)
    before = unpack(kind, packed)
    fields = _ARRAYS.decode(packed)
    for number, own in enumerate(_ARRAYS.decode(_ENCODER.encode(value))):
        name = kind.__struct_fields__[number]
        if number >= len(fields):
            fields.append(own)
        elif getattr(before, name) != getattr(value, name):
            fields[number] = own
    if len(fields) == len(kind.__struct_fields__):
        del fields[len(fields) - _silent_count(value) :]
    return _ENCODER.encode(fields)


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
