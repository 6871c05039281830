"""predastore._fast.lmdbfile in plain Python: the whole file in memory, and no thought of speed."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from predastore._fast.crc import crc32c

BRANCH, LEAF, OVERFLOW, META, DIRTY = 1, 2, 4, 8, 16
BIG, SUBTREE = 1, 2
NONE = 0xFFFF_FFFF_FFFF_FFFF


@dataclass
class Tree:
    pad: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int

    @classmethod
    def at(cls, data: bytes, offset: int = 0) -> Tree:
        return cls(*struct.unpack_from("=IHH5Q", data, offset))

    def counts(self) -> tuple[int, int, int, int]:
        return self.branch_pages, self.leaf_pages, self.overflow_pages, self.entries


def need(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


class File:
    def __init__(self, data: bytes) -> None:
        self.data = data
        metas = [self._meta(0, 0)]
        self.page_bytes = metas[0][1].pad
        metas.append(self._meta(1, self.page_bytes))
        need(metas[1][1].pad == self.page_bytes, "page size")
        _, self.free, self.main, self.last = metas[metas[0][0] < metas[1][0]]
        self.pages = len(data) // self.page_bytes
        need(self.pages >= 2 and self.last >= 1, "length")
        need(self.last <= NONE // self.page_bytes - 1, "length")
        self.seen: set[int] = set()
        self.beyond = 0

    def _meta(self, number: int, at: int) -> tuple[int, Tree, Tree, int]:
        need(len(self.data) >= at + 152, "cut short")
        found, _, flags = struct.unpack_from("=QHH", self.data, at)
        magic, version = struct.unpack_from("=II", self.data, at + 16)
        need(found == number and flags & META and (magic, version) == (0xBEEFC0DE, 1), "no meta")
        free, main = Tree.at(self.data, at + 40), Tree.at(self.data, at + 88)
        need(free.pad in {512 << n for n in range(7)}, "page size")
        last, transaction = struct.unpack_from("=QQ", self.data, at + 136)
        return transaction, free, main, last

    def take(self, first: int, count: int = 1) -> bytes:
        need(2 <= first <= self.last and first + count - 1 <= self.last, "no page of it")
        need(first + count <= self.pages, "cut short")
        pages = set(range(first, first + count))
        need(not pages & self.seen, "used twice")
        self.seen |= pages
        return self.data[first * self.page_bytes : (first + count) * self.page_bytes]

    def entries(self, tree: Tree, *, is_free: bool = False) -> Iterator[tuple[bytes, bytes, int]]:
        """Key, value and flags of each node; the counts are compared at the end."""
        need((tree.depth == 0) == (tree.root == NONE) and tree.depth <= 32, "depth")
        need(not tree.flags & ~(0x4008 if is_free else 0), "flags")
        need(tree.flags & 8 != 0 if is_free else tree.pad == 0, "flags")
        counted = Tree(0, 0, 0, 0, 0, 0, 0, 0)
        found = []
        if tree.depth:
            found = list(self._below(tree.root, tree.depth - 1, counted, is_free=is_free))
        order = [int.from_bytes(key, "little") if is_free else key for key, _, _ in found]
        need(all(a < b for a, b in itertools.pairwise(order)), "order")
        need(counted.counts() == tree.counts(), "counts")
        yield from found

    def _below(
        self, number: int, left: int, counted: Tree, *, is_free: bool
    ) -> Iterator[tuple[bytes, bytes, int]]:
        page = self.take(number)
        found, _, flags, lower, upper = struct.unpack_from("=QHHHH", page)
        need(found == number, "another's number")
        need(flags & ~DIRTY == (BRANCH if left else LEAF), "kind")
        need(18 <= lower <= upper <= self.page_bytes and lower % 2 == 0, "room")
        used = 0
        before: bytes | None = None
        for n in range((lower - 16) // 2):
            (at,) = struct.unpack_from("=H", page, 16 + 2 * n)
            need(upper <= at <= self.page_bytes - 8 and at % 2 == 0, "not within")
            low, high, kind, key_bytes = struct.unpack_from("=HHHH", page, at)
            bytes_ = low | high << 16
            value_bytes = 0 if left else 8 if kind & BIG else bytes_
            end = at + 8 + key_bytes + value_bytes
            need(end <= self.page_bytes, "not within")
            need(bool(left) or key_bytes > 0, "not within")
            need(not is_free or key_bytes == 8 or (key_bytes == 0 and n == 0), "not within")
            used += (end - at + 1) // 2 * 2
            key, value = page[at + 8 : at + 8 + key_bytes], page[at + 8 + key_bytes : end]
            if not left:
                counted.entries += 1
                yield key, self._value(value, kind, bytes_, counted), kind
                continue
            least = key if n else None
            for one in self._below(
                low | high << 16 | kind << 32, left - 1, counted, is_free=is_free
            ):
                need(least is None or not _less(one[0], least, is_free), "belongs before")
                need(least is None or before is None or _less(before, least, is_free), "order")
                before, least = one[0], None
                yield one
        need(used == self.page_bytes - upper, "gaps")
        counted.branch_pages += bool(left)
        counted.leaf_pages += not left

    def _value(self, value: bytes, kind: int, bytes_: int, counted: Tree) -> bytes:
        if kind in (0, SUBTREE):
            return value
        need(kind == BIG, "kind of entry")
        (first,) = struct.unpack("=Q", value)
        needed = (15 + bytes_) // self.page_bytes + 1
        content = self.take(first, needed)
        number, _, flags, count = struct.unpack_from("=QHHI", content)
        need((number, flags & ~DIRTY) == (first, OVERFLOW) and count >= needed, "no long value")
        if count > needed:
            self.take(first + needed, count - needed)
        counted.overflow_pages += count
        return content[16 : 16 + bytes_]


def _less(a: bytes, b: bytes, is_free: bool) -> bool:
    return int.from_bytes(a, "little") < int.from_bytes(b, "little") if is_free else a < b


def check(data: bytes, with_crcs: bool) -> int:
    """The number of entries; ValueError."""
    file = File(data)
    found = []
    tables = []
    for key, value, kind in file.entries(file.main):
        if kind == SUBTREE:
            need(len(value) == 48, "no tree")
            tables.append(Tree.at(value))
        else:
            found.append((key, value))
    for table in tables:
        for key, value, kind in file.entries(table):
            need(kind in (0, BIG), "kind of entry")
            found.append((key, value))
    for key, value in found if with_crcs else ():
        need(len(value) >= 4, "no CRC")
        need(crc32c(value[:-4], crc32c(key)) == int.from_bytes(value[-4:], "little"), "CRC")
    for _, value, kind in file.entries(file.free, is_free=True):
        need(kind in (0, BIG) and len(value) >= 8, "no list")
        (count,) = struct.unpack_from("=Q", value)
        need(count <= len(value) // 8 - 1, "list too long")
        numbers = struct.unpack_from(f"={count}Q", value, 8)
        need(all(a > b for a, b in itertools.pairwise(numbers)), "order of the list")
        for number in numbers:
            if file.pages <= number <= file.last:
                file.beyond += 1
            else:
                file.take(number)
    need(file.last < file.pages or file.beyond == file.last + 1 - file.pages, "cut short")
    return len(found)
