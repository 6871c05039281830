"""The log in memory: the entries after a base that the state machine holds.

Invariants: entry i stands at position i - base_index - 1; terms never fall; whoever truncates
or compacts has checked that it may (`RaftLog` knows nothing of commit or sync).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from predastore.s3db.raft.messages import Entry

_ENTRY_BYTES: Final = 128  # of Python objects around an entry's data


def _size(entry: Entry) -> int:
    return _ENTRY_BYTES + len(entry.data)


class RaftLog:
    def __init__(self, base_index: int, base_term: int, entries: Iterable[Entry] = ()) -> None:
        self.base_index = base_index
        self.base_term = base_term
        self._entries: list[Entry] = list(entries)
        self.size_bytes = sum(map(_size, self._entries))  # about what they take in memory

    @property
    def first_index(self) -> int:
        return self.base_index + 1

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base_term

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None if it is not known (any more, or yet)."""
        position = index - self.base_index - 1
        if 0 <= position < len(self._entries):
            return self._entries[position].term
        return self.base_term if position == -1 else None

    def entry(self, index: int) -> Entry:
        assert self.base_index < index <= self.last_index
        return self._entries[index - self.base_index - 1]

    def between(self, first: int, last: int) -> Sequence[Entry]:
        """Entries first..last, both included."""
        assert first > self.base_index
        return self._entries[first - self.base_index - 1 : last - self.base_index]

    def after(self, index: int) -> Sequence[Entry]:
        """Entries behind `index`."""
        return self.between(index + 1, self.last_index)

    def batch(self, first: int, last: int, *, bytes_max: int, count_max: int) -> list[Entry]:
        """Entries from `first`, not beyond `last`; at least one if there is one."""
        start = first - self.base_index - 1
        assert start >= 0
        stop = min(last - self.base_index, start + count_max)
        size = 0
        for position in range(start, stop):
            size += len(self._entries[position].data)
            if size > bytes_max and position > start:
                stop = position
                break
        return self._entries[start:stop]

    def append(self, entries: Sequence[Entry]) -> None:
        if entries:
            assert entries[0].index == self.last_index + 1
            assert entries[0].term >= self.last_term
            self._entries.extend(entries)
            self.size_bytes += sum(map(_size, entries))

    def truncate(self, first: int) -> None:
        """Forget the entries from `first` on."""
        assert first > self.base_index
        self._drop(first - self.base_index - 1, len(self._entries))

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`, which becomes the base."""
        term = self.term_at(index)
        assert term is not None
        self._drop(0, index - self.base_index)
        self.base_index, self.base_term = index, term

    def rebase(self, index: int, term: int) -> None:
        """Begin after (index, term): keep what follows it if the log has it (Raft 5.3)."""
        if self.term_at(index) == term:
            self.compact(index)
        else:
            self._drop(0, len(self._entries))
            self.base_index, self.base_term = index, term

    def _drop(self, start: int, stop: int) -> None:
        self.size_bytes -= sum(map(_size, self._entries[start:stop]))
        del self._entries[start:stop]

    def index_before_last(self, size_bytes: int) -> int:
        """The index at which to compact so that about `size_bytes` of entries are left."""
        excess = self.size_bytes - size_bytes
        index = self.base_index
        while excess > 0 and index < self.last_index:
            excess -= _size(self._entries[index - self.base_index])
            index += 1
        return index

    def up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as complete as this one (Raft 3.6.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def last_at_or_below(self, index: int, term: int) -> int:
        """The last index, not beyond `index`, whose term is at most `term` (Raft 3.3).

        Never below the base: what the base covers is committed, and so the same everywhere.
        """
        index = min(index, self.last_index)
        while index > self.base_index and self._entries[index - self.base_index - 1].term > term:
            index -= 1
        return max(index, self.base_index)
