"""What an ELF file says of itself, as far as hardening goes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_PT_DYNAMIC, _PT_GNU_STACK, _PT_GNU_RELRO = 2, 0x6474E551, 0x6474E552
_PF_X = 1
_DT_TEXTREL, _DT_BIND_NOW, _DT_FLAGS, _DT_FLAGS_1 = 22, 24, 30, 0x6FFFFFFB
_DF_BIND_NOW, _DF_1_NOW = 8, 1


@dataclass
class Elf:
    """A 64-bit little-endian file. `segments`: type to (flags, content); `sections`: by name."""

    segments: dict[int, tuple[int, bytes]]
    sections: dict[str, bytes]
    dynamic: dict[int, int]

    @classmethod
    def read(cls, file: Path) -> Elf:
        data = file.read_bytes()
        assert data[:6] == b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file"
        phoff, shoff = struct.unpack_from("<QQ", data, 32)
        phsize, phnum, shsize, shnum, shstrndx = struct.unpack_from("<HHHHH", data, 54)
        segments = {}
        for number in range(phnum):
            kind, flags, at = struct.unpack_from("<IIQ", data, phoff + number * phsize)
            (size,) = struct.unpack_from("<Q", data, phoff + number * phsize + 32)
            segments[kind] = (flags, data[at : at + size])
        heads = [
            struct.unpack_from("<I20xQQ", data, shoff + number * shsize) for number in range(shnum)
        ]
        _, names_at, names_bytes = heads[shstrndx]
        names = data[names_at : names_at + names_bytes]
        sections = {
            names[name : names.index(0, name)].decode(): data[at : at + size]
            for name, at, size in heads
        }
        _, raw = segments[_PT_DYNAMIC]
        dynamic = dict(struct.iter_unpack("<QQ", raw[: len(raw) // 16 * 16]))
        return cls(segments, sections, dynamic)

    @property
    def symbols(self) -> set[str]:
        return {name.decode() for name in self.sections[".dynstr"].split(b"\0")}


def is_bound_at_start(elf: Elf) -> bool:
    """Full RELRO: the tables of addresses are filled in at the start, and then read-only."""
    flags, more = elf.dynamic.get(_DT_FLAGS, 0), elf.dynamic.get(_DT_FLAGS_1, 0)
    is_now = _DT_BIND_NOW in elf.dynamic or flags & _DF_BIND_NOW or more & _DF_1_NOW
    return bool(is_now) and _PT_GNU_RELRO in elf.segments


def has_data_that_runs(elf: Elf) -> bool:
    return bool(elf.segments[_PT_GNU_STACK][0] & _PF_X) or _DT_TEXTREL in elf.dynamic
