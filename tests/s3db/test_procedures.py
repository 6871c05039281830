"""Procedures: one step, seen by itself, the same on every member; questions: one snapshot."""

from __future__ import annotations

import dataclasses
import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lmdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.base.errors import (
    FormatError,
    LevelTooLow,
    MemberFailed,
    NodeFull,
    PreconditionFailed,
    PredastoreError,
    ProcedureFailed,
    StoreFailed,
    TooLarge,
)
from predastore.base.limits import (
    DB_KEY_BYTES_MAX,
    DB_VALUE_BYTES_MAX,
    MIB,
    PROCEDURE_ANSWER_BYTES_MAX,
    PROCEDURE_READ_BYTES_MAX,
    PROCEDURE_READS_MAX,
    PROCEDURE_WRITES_MAX,
    PROCEDURE_WRITTEN_BYTES_MAX,
    READ_BYTES_MAX,
    TABLES_MAX,
)
from predastore.s3db import LEVEL, commands, views
from predastore.s3db.commands import Absent, Applied, Call, Delete, Equals, Put
from predastore.s3db.procedures import (
    Procedure,
    Procedures,
    Question,
    ReadView,
    Refusal,
    Rows,
    View,
)
from predastore.s3db.store import Store
from reference.database import Database, ModelView

# --- a procedure that does what its arguments say, and answers with what it saw -------------------


def steps_of(view: View, arguments: bytes) -> bytes:
    seen: list[Any] = []
    for name, *rest in msgspec.msgpack.decode(arguments):
        if name == "refuse":
            raise Refusal(msgspec.msgpack.encode(seen))
        if name == "stumble":
            raise KeyError("not what was expected")
        seen.append(getattr(view, name)(*rest))
    return msgspec.msgpack.encode(seen)


def look_of(view: ReadView, arguments: bytes) -> bytes:
    seen: list[Any] = []
    for name, *rest in msgspec.msgpack.decode(arguments):
        if name == "walk":
            table, start, count = rest
            walk = view.walk(table)
            more = walk.seek(start)
            while more and count:
                seen.append((walk.key, walk.value()))
                count -= 1
                more = walk.next()
        else:
            seen.append(getattr(view, name)(*rest))
    return msgspec.msgpack.encode(seen)


SCRIPT = Procedures([Procedure("test.steps", 1, steps_of)], [Question("test.look", 1, look_of)])

tables = st.sampled_from(["t", "u", "none"])
some_keys = st.sampled_from([b"a", b"a/1", b"a/2", b"b", b"L" * 600, b"L" * 600 + b"/x", b"\xff"])
prefixes = st.sampled_from([b"", b"a", b"a/", b"a/1", b"L", b"L" * 600 + b"/", b"z", b"\xff"])
starts = st.one_of(st.just(b""), some_keys, st.sampled_from([b"a/", b"a0", b"z"]))
values = st.sampled_from([b"", b"1", b"v" * 5000])
reads = st.one_of(
    st.tuples(st.just("get"), tables, some_keys),
    st.tuples(st.just("first"), tables, prefixes),
    st.tuples(st.just("first"), tables, prefixes, starts),
)
writes = st.one_of(
    st.tuples(st.just("put"), tables, some_keys, values),
    st.tuples(st.just("put"), tables, some_keys, values),
    st.tuples(st.just("delete"), tables, some_keys),
)
ends = st.one_of(
    st.tuples(st.just("delete_prefix"), tables, prefixes),
    st.tuples(st.just("refuse")),
    st.tuples(st.just("stumble")),
)
scripts = st.builds(
    lambda *parts: [*parts[0], *parts[1], *parts[2]],
    st.lists(st.one_of(reads, writes), max_size=12),
    st.lists(ends, max_size=2),
    st.lists(st.one_of(reads, writes), max_size=2),
)
looks = st.lists(
    st.one_of(reads, st.tuples(st.just("walk"), tables, starts, st.integers(0, 4))), max_size=6
)


def open_store(path: Path | str, procedures: Procedures = SCRIPT, **options: Any) -> Store:
    options = {"durable": False, "map_bytes_initial": 16 * MIB, **options}
    return Store(path, procedures=procedures, **options)


def called(store: Store, call: Call) -> object:
    return store.apply([(store.applied_index + 1, commands.encode(call))])[0]


def call(store: Store, arguments: bytes = b"", *checks: commands.Check) -> object:
    """Of the store's only procedure."""
    return called(store, commands.call(next(iter(store.procedures)), arguments, checks))


def put(store: Store, *ops: commands.Op) -> None:
    command = commands.encode(commands.batch(*ops))
    assert store.apply([(store.applied_index + 1, command)]) == [Applied()]


def rows(store: Store, *names: str) -> dict[str, list[tuple[bytes, bytes]]]:
    return {name: store.scan(name, b"", b"", 1000) for name in names or ("t", "u", "none")}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    stores: list[Store] = []

    def of(run: Callable[[View, bytes], bytes] = steps_of, **options: Any) -> Store:
        procedures = Procedures([Procedure("test.run", 1, run)])
        stores.append(open_store(tmp_path / str(len(stores)), procedures, **options))
        return stores[-1]

    yield of
    for store in stores:
        store.close()


# --- what a procedure does ------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.lists(scripts, min_size=1, max_size=6), st.lists(looks, max_size=2))
def test_a_procedure_does_what_the_model_does(scripts: list[Any], looks: list[Any]) -> None:
    model = Database()
    with TemporaryDirectory() as folder:
        store = open_store(folder)
        for script in scripts:
            arguments = msgspec.msgpack.encode(script)
            outcome = call(store, arguments)
            try:
                expected: object = Applied((), model.call(steps_of, arguments))
            except (ProcedureFailed, KeyError):
                assert isinstance(outcome, ProcedureFailed)
            else:
                assert outcome == expected
            for name, found in rows(store).items():
                assert found == sorted(model.table(name).items())
        for look in looks:
            arguments = msgspec.msgpack.encode(look)
            answer = look_of(ModelView(model.tables), arguments)
            assert store.ask("test.look", arguments) == answer
        store.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(scripts, max_size=8), st.integers(1, 4))
def test_same_calls_same_state_however_grouped(scripts: list[Any], size: int) -> None:
    entries = [
        (index, commands.encode(commands.call("test.steps", msgspec.msgpack.encode(script))))
        for index, script in enumerate(scripts, 1)
    ]
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        first, second = open_store(one), open_store(other, durable=True)
        answers = [str(answer) for entry in entries for answer in first.apply([entry])]
        again: list[str] = []
        for start in range(0, len(entries), size):
            again += [str(answer) for answer in second.apply(entries[start : start + size])]
        assert answers == again
        assert first.digest() == second.digest()
        first.close()
        second.close()


def test_checks_come_first_and_are_named(opened: Callable[..., Store]) -> None:
    store = opened(lambda view, _: view.put("t", b"k", b"done") or b"answer")
    put(store, Put("t", b"lease", b"mine"))
    outcome = call(store, b"", Equals("t", b"lease", b"mine"), Absent("t", b"lease"))
    assert isinstance(outcome, PreconditionFailed)
    assert outcome.check == 1
    assert store.get("t", b"k") is None
    assert call(store, b"", Equals("t", b"lease", b"mine")) == Applied((), b"answer")
    assert store.get("t", b"k") == b"done"


def test_a_retry_has_the_same_answer_and_does_nothing(opened: Callable[..., Store]) -> None:
    def count(view: View, _: bytes) -> bytes:
        number = b"%d" % (int(view.get("t", b"n") or 0) + 1)
        view.put("t", b"n", number)
        return number

    store = opened(count)
    first = commands.call("test.run", b"")
    assert called(store, first) == Applied((), b"1")
    assert call(store) == Applied((), b"2")
    assert called(store, first) == Applied((), b"1")
    assert store.get("t", b"n") == b"2"


@pytest.mark.parametrize("error", [TooLarge, ProcedureFailed, FormatError])
def test_what_broke_off_is_not_done_after_all_when_it_comes_again(
    opened: Callable[..., Store], error: type[PredastoreError]
) -> None:
    """A try that the caller gave up may come after the one that was answered."""

    def run(view: View, _: bytes) -> bytes:
        if view.get("t", b"k") is not None:
            raise KeyError if error is ProcedureFailed else error("not now")
        view.put("t", b"done", b"")
        return b"done"

    store = opened(run)
    put(store, Put("t", b"k", b""))
    again = commands.call("test.run", b"")
    assert isinstance(called(store, again), error)
    put(store, Delete("t", b"k"))
    assert isinstance(called(store, again), error)
    assert store.get("t", b"done") is None
    assert call(store) == Applied((), b"done")


def test_a_refusal_does_nothing_and_is_remembered(opened: Callable[..., Store]) -> None:
    def run(view: View, _: bytes) -> bytes:
        view.put("t", b"k", b"1")
        view.delete_prefix("t", b"other")
        if view.get("u", b"held") is not None:
            raise Refusal(b"it is held")
        return b"done"

    store = opened(run)
    put(store, Put("u", b"held", b""), Put("t", b"other/1", b""))
    refused = commands.call("test.run", b"")
    assert called(store, refused) == Applied((), b"it is held")
    assert rows(store, "t") == {"t": [(b"other/1", b"")]}
    put(store, Delete("u", b"held"))
    assert called(store, refused) == Applied((), b"it is held")
    assert call(store) == Applied((), b"done")
    assert rows(store, "t") == {"t": [(b"k", b"1")]}


def test_an_error_of_its_own_does_nothing_on_any_member(
    opened: Callable[..., Store], caplog: pytest.LogCaptureFixture
) -> None:
    def run(view: View, arguments: bytes) -> bytes:
        view.put("t", b"k", b"1")
        return b"%d" % (1 // len(arguments))

    one, other = opened(run), opened(run)
    failing = commands.call("test.run", b"")
    for store in (one, other):
        with caplog.at_level(logging.ERROR):
            outcome = called(store, failing)
        assert isinstance(outcome, ProcedureFailed)
        assert "ZeroDivisionError" in str(outcome)
        assert store.applied_index == 1
        assert rows(store, "t") == {"t": []}
    assert "test.run broke off" in caplog.text
    assert one.digest() == other.digest()
    assert call(one, b"x") == Applied((), b"1")


@pytest.mark.parametrize(
    "trouble", [MemoryError(), RecursionError(), OSError(errno.EIO, "disk"), lmdb.Error("page")]
)
def test_what_other_members_need_not_have_is_no_outcome(
    opened: Callable[..., Store], trouble: Exception
) -> None:
    def run(view: View, _: bytes) -> bytes:
        view.put("t", b"k", b"1")
        raise trouble

    store = opened(run)
    expected = StoreFailed if isinstance(trouble, lmdb.Error) else type(trouble)
    with pytest.raises(expected):
        call(store)
    assert store.applied_index == 0
    assert rows(store, "t") == {"t": []}


def test_an_unknown_procedure_stops_the_member_and_is_not_passed_over(
    opened: Callable[..., Store],
) -> None:
    store = opened()
    unknown = commands.encode(commands.call("catalog.new", b""))
    with pytest.raises(
        MemberFailed, match=rf'entry 7 needs the procedure "catalog.new".*level {LEVEL}'
    ):
        store.apply([(7, unknown)])
    assert store.applied_index == 0


def test_a_call_waits_for_a_larger_map_and_is_done_once(opened: Callable[..., Store]) -> None:
    def run(view: View, _: bytes) -> bytes:
        number = int(view.get("t", b"n") or 0) + 1
        view.put("t", b"n", b"%d" % number)
        view.put("t", b"v%d" % number, bytes(700_000))
        return b"%d" % number

    store = opened(run, map_bytes_initial=MIB, map_bytes_max=8 * MIB)
    answers = []
    with suppress(NodeFull):
        while len(answers) < 20:
            answers.append(call(store))
    assert answers == [Applied((), b"%d" % (n + 1)) for n in range(len(answers))]
    assert 4 < len(answers) < 20
    assert store.get("t", b"n") == b"%d" % len(answers)


# --- bounds ---------------------------------------------------------------------------------------


def _read_often(view: Rows, over: int) -> None:
    for _ in range(PROCEDURE_READS_MAX + over):
        view.get("t", b"none")


def _look_often(view: Rows, over: int) -> None:
    for _ in range(PROCEDURE_READS_MAX + over):
        view.first("t", b"none")


def _read_much(view: Rows, over: int) -> None:
    for _ in range(PROCEDURE_READ_BYTES_MAX // MIB + over):
        view.get("t", b"large")


def _write_often(view: View, over: int) -> None:
    for number in range(PROCEDURE_WRITES_MAX + over):
        view.delete("t", b"%d" % number)


def _write_much(view: View, over: int) -> None:
    for number in range(PROCEDURE_WRITTEN_BYTES_MAX // MIB):
        view.put("u", b"%d" % number, bytes(MIB - 1))
    if over:
        view.put("u", b"x", b"")


def _write_a_large_value(view: View, over: int) -> None:
    view.put("u", b"k", bytes(DB_VALUE_BYTES_MAX + over))


def _write_a_long_key(view: View, over: int) -> None:
    view.put("u", b"k" * (DB_KEY_BYTES_MAX + over), b"")


def _delete_a_long_prefix(view: View, over: int) -> None:
    view.delete_prefix("u", b"k" * (DB_KEY_BYTES_MAX + over))


def _delete_many(view: View, over: int) -> None:
    view.delete_prefix("u", b"p")
    if over:
        view.delete_prefix("u", b"p1")


def _delete_and_look(view: View, over: int) -> None:
    """What is deleted is passed over, and each time is a read."""
    for number in range(1000):
        view.delete("u", b"p%03d" % number)
    for _ in range(PROCEDURE_READS_MAX // 1001 + over):
        assert view.first("u", b"p") is None


BOUNDED: list[Callable[[View, int], None]] = [
    _read_often, _look_often, _read_much, _write_often, _write_much, _write_a_large_value,
    _write_a_long_key, _delete_a_long_prefix, _delete_many, _delete_and_look,
]  # fmt: skip


@pytest.mark.parametrize("catches", [False, True])
@pytest.mark.parametrize("act", BOUNDED, ids=lambda act: act.__name__)
def test_each_bound_holds_and_breaking_it_does_nothing(
    opened: Callable[..., Store],
    act: Callable[[View, int], None],
    catches: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(views, "DELETE_PREFIX_KEYS_MAX", 1000)

    def run(view: View, arguments: bytes) -> bytes:
        view.put("t", b"before", b"1")
        try:
            act(view, len(arguments))
        except PredastoreError:
            if not catches:
                raise
        return b"done"

    store = opened(run)
    put(store, Put("t", b"large", bytes(MIB)), *[Put("u", b"p%03d" % n, b"") for n in range(1000)])
    before = rows(store)
    assert isinstance(call(store, b"x"), TooLarge)
    assert rows(store) == before
    monkeypatch.setattr(views, "PROCEDURE_WRITES_MAX", PROCEDURE_WRITES_MAX + 1)  # `before`
    monkeypatch.setattr(views, "PROCEDURE_WRITTEN_BYTES_MAX", PROCEDURE_WRITTEN_BYTES_MAX + 100)
    at_the_bound = call(store)
    if act is not _write_much:  # the bytes of its keys are over it
        assert at_the_bound == Applied((), b"done")


@pytest.mark.parametrize("bad", [("t", b""), ("~meta", b"k"), ("T", b"k")])
@pytest.mark.parametrize("catches", [False, True])
def test_what_can_not_be_a_key_or_a_table_does_nothing(
    opened: Callable[..., Store], bad: tuple[str, bytes], catches: bool
) -> None:
    def run(view: View, _: bytes) -> bytes:
        view.put("t", b"before", b"1")
        try:
            view.put(*bad, b"1")
        except PredastoreError:
            if not catches:
                raise
        return b""

    store = opened(run)
    assert isinstance(call(store), FormatError)
    assert rows(store, "t") == {"t": []}


def test_an_answer_has_its_bound(opened: Callable[..., Store]) -> None:
    store = opened(lambda view, arguments: bytes(int(arguments)))
    most = PROCEDURE_ANSWER_BYTES_MAX
    assert call(store, b"%d" % most) == Applied((), bytes(most))
    assert isinstance(call(store, b"%d" % (most + 1)), TooLarge)


def test_an_answer_that_is_not_bytes_is_an_error(opened: Callable[..., Store]) -> None:
    def forgetful(view: View, arguments: bytes) -> Any:
        view.put("t", b"k", b"1")

    store = opened(forgetful)
    assert isinstance(call(store), ProcedureFailed)
    assert rows(store, "t") == {"t": []}


def test_no_more_tables_than_there_may_be(opened: Callable[..., Store]) -> None:
    def run(view: View, arguments: bytes) -> bytes:
        view.put("t0", b"k", arguments)
        view.put(arguments.decode(), b"k", b"")
        view.delete("never", b"k")
        return b""

    store = opened(run)
    put(store, *[Put(f"t{number}", b"k", b"") for number in range(TABLES_MAX)])
    assert isinstance(call(store, b"new"), TooLarge)
    assert store.get("t0", b"k") == b""
    assert call(store, b"t1") == Applied()


# --- questions ------------------------------------------------------------------------------------


def test_a_question_sees_one_moment_and_has_bounds(tmp_path: Path) -> None:
    def much(view: ReadView, arguments: bytes) -> bytes:
        if arguments == b"long":
            return bytes(READ_BYTES_MAX + 1)
        if arguments == b"stumble":
            raise KeyError("x")
        walk = view.walk("t")
        more, count = walk.seek(b""), 0
        while more or arguments == b"for ever":
            count += 1
            more = walk.next()
        return b"%d" % count

    store = open_store(tmp_path, Procedures(questions=[Question("test.count", 1, much, 0)]))
    put(store, Put("t", b"a", b""), Put("t", b"b" * 600, b""))
    assert store.ask("test.count", b"") == b"2"
    for arguments, error in (
        (b"long", TooLarge),
        (b"for ever", TooLarge),
        (b"stumble", ProcedureFailed),
    ):
        with pytest.raises(error):
            store.ask("test.count", arguments)
    with pytest.raises(LevelTooLow, match=r"test\.other"):
        store.ask("test.other", b"")
    assert store.ask("test.count", b"") == b"2"
    store.close()


# --- the registry ---------------------------------------------------------------------------------


def test_a_registry_is_a_mapping_that_names_once_and_not_above_its_level() -> None:
    one = Procedure("test.one", 1, steps_of)
    two = dataclasses.replace(one, name="test.two", level=2)
    both = Procedures([one, two], [Question("test.look", 1, look_of)], level=2)
    assert dict(both) == {"test.one": one, "test.two": two}
    assert both.level == 2
    assert list(both.questions) == ["test.look"]
    for bad in ([one, one], [dataclasses.replace(one, level=0)]):
        with pytest.raises(ValueError, match=r"test\.one"):
            Procedures(bad)
    with pytest.raises(ValueError, match="its level is 2, the program's is 1"):
        Procedures([two], level=1)
    with pytest.raises(FormatError):
        Procedures([dataclasses.replace(one, name="Test")])


def test_what_may_take_long_is_known_before_it_is_done() -> None:
    slow = Procedure("test.slow", 1, steps_of, quick_bytes=0)
    each = Procedure("test.each", 1, steps_of, quick_bytes=200)
    procedures = Procedures([slow, each, Procedure("test.quick", 1, steps_of)])

    def takes_long(name: str, size: int) -> bool:
        return procedures.may_take_long(commands.encode(commands.call(name, bytes(size))))

    assert takes_long("test.slow", 0)
    assert not takes_long("test.each", 10)
    assert takes_long("test.each", 300)
    assert not takes_long("test.quick", 8_000)
    assert procedures.may_take_long(b"\x02junk")
    assert not procedures.may_take_long(b"")
    assert procedures.may_take_long(
        commands.encode(commands.batch(commands.DeletePrefix("t", b"")))
    )
