"""Procedures and questions: what a program does to the database where a command is applied.

A `Procedure` is called: it reads, decides and writes in one step of the log, on every member, in
the transaction of its command, and answers. A `Question` is asked: it only reads, on one snapshot
of one member. Both are pure functions `(view, arguments) -> answer`, registered under a name by
whoever wires the process; s3db knows their names, and nothing of what they mean.

A procedure is deterministic: what it does follows from its view and its arguments. No clock (the
view has the time), no randomness, no I/O, nothing that is kept between two calls, no order of a
set. What it puts and deletes is seen by its own reads at once, and done when it has returned:

- it returns an answer: all is done, and the answer is remembered with the request id;
- it raises `Refusal`: nothing is done, and the refusal's answer is remembered in the same way;
- it breaks a bound of limits.py (TooLarge), or gives the view a key or a name that can not be
  (FormatError): nothing is done, even if it has caught the error;
- it raises anything else: nothing is done, ProcedureFailed, on every member alike. Only errors
  that other members need not have (memory, disk, the depth of the stack) stop the member.

`quick_bytes` in place of a flag: a procedure that does its work for each of many keys is quick for
some of them, and the size of its arguments says for how many.

A name means one thing for ever, with one level (the level of a program that first had it): another
meaning gets another name, and a program goes on running the old ones, since a journal or a member
behind may still have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol, TypeVar

from predastore.base.errors import FormatError, LevelTooLow
from predastore.base.limits import PROCEDURE_QUICK_BYTES
from predastore.s3db import LEVEL, commands

_CALL: Final = bytes([commands.CALL])


class Rows(Protocol):
    """What procedures and questions read alike. A table that nobody has put to is empty."""

    @property
    def time_ms(self) -> int:
        """Cluster time, Unix milliseconds, as of this command; 0 until there was a first tick."""
        ...

    @property
    def reads_left(self) -> int:
        """How many more reads the bound allows; each `get` and `first` is one, and so is each
        entry that `first` passes over because it was deleted by this procedure."""
        ...

    @property
    def read_bytes_left(self) -> int:
        """How many more bytes may be read, keys that were found and values together."""
        ...

    def get(self, table: str, key: bytes) -> bytes | None: ...

    def first(self, table: str, prefix: bytes, start: bytes = b"") -> tuple[bytes, bytes] | None:
        """The first entry that begins with `prefix` and is not less than `start`."""
        ...


class View(Rows, Protocol):
    """The state as a procedure sees it: with what it has put and deleted itself."""

    @property
    def written_bytes_left(self) -> int:
        """How many more bytes may be written: keys, also of what is deleted, and values."""
        ...

    def put(self, table: str, key: bytes, value: bytes) -> None: ...

    def delete(self, table: str, key: bytes) -> None:
        """Also where there is no such key."""
        ...

    def delete_prefix(self, table: str, prefix: bytes) -> None:
        """Of all keys that begin with `prefix`; at most DELETE_PREFIX_KEYS_MAX of one procedure.
        It is for the end: ProcedureFailed for whatever touches a key below `prefix` afterwards."""
        ...


class Cursor(Protocol):
    """Walks over the keys of a table in byte order; each step is a read."""

    key: bytes

    def seek(self, key: bytes) -> bool:
        """Go to the first key that is not less than `key`; False: there is none."""
        ...

    def next(self) -> bool: ...

    def value(self) -> bytes: ...


class ReadView(Rows, Protocol):
    """A snapshot, as a question sees it."""

    def walk(self, table: str) -> Cursor: ...


class Refusal(Exception):
    """Raised by a procedure that does nothing after all; `answer` is what the caller gets."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Procedure:
    """`level`: of the first program that had it. `quick_bytes`: with arguments up to so many bytes
    it takes microseconds, and is run on the event loop; 0: never."""

    name: str
    level: int
    run: Callable[[View, bytes], bytes]
    quick_bytes: int = PROCEDURE_QUICK_BYTES


@dataclass(frozen=True, slots=True)
class Question:
    """As `Procedure`. It may change from one program to the next: nothing of it is in a journal."""

    name: str
    level: int
    run: Callable[[ReadView, bytes], bytes]
    quick_bytes: int = PROCEDURE_QUICK_BYTES


_Row = TypeVar("_Row", Procedure, Question)


class Procedures(Mapping[str, Procedure]):
    """All that a program has: its procedures by name, its `questions` by name, its `level`."""

    def __init__(
        self,
        procedures: Iterable[Procedure] = (),
        questions: Iterable[Question] = (),
        *,
        level: int = LEVEL,
    ) -> None:
        """ValueError for a name that is there twice, or one of s3db's own ("s3db."), and for a
        level above the program's."""
        self.level = level
        self._procedures = _by_name(procedures, level)
        self._quick_bytes = min((one.quick_bytes for one in self._procedures.values()), default=0)
        self.questions: Mapping[str, Question] = MappingProxyType(_by_name(questions, level))

    def may_take_long(self, command: bytes) -> bool:
        """Whether doing an encoded command is work for a thread; sometimes said of what is not."""
        if len(command) <= self._quick_bytes and command[:1] == _CALL:
            return False
        try:
            name = commands.procedure_of(command)
        except FormatError:
            return True
        if name is None:
            return commands.deletes_prefixes(command)
        procedure = self._procedures.get(name)
        return procedure is not None and len(command) > procedure.quick_bytes

    def unknown(self, name: str) -> LevelTooLow:
        """What is told of a procedure that this program does not have."""
        return LevelTooLow(
            f'this program (level {self.level}) does not have the procedure "{name}"; nothing was '
            "changed"
        )

    def __getitem__(self, name: str) -> Procedure:
        return self._procedures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._procedures)

    def __len__(self) -> int:
        return len(self._procedures)


def _by_name(rows: Iterable[_Row], level: int) -> dict[str, _Row]:
    named: dict[str, _Row] = {}
    for row in rows:
        commands.check_procedure(row.name)
        if row.name in named or row.name.startswith(commands.OWN_PREFIX):
            raise ValueError(f"{row.name}: there are two of this name, or it is one of s3db's own")
        if not 0 < row.level <= level:
            raise ValueError(f"{row.name}: its level is {row.level}, the program's is {level}")
        named[row.name] = row
    return named


NO_PROCEDURES: Final = Procedures()
