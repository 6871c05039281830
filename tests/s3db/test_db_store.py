"""The store: a dict of dicts that is atomic, deterministic, and outlives its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from predastore.base.errors import (
    CorruptData,
    FormatError,
    MemberFailed,
    NodeFull,
    PreconditionFailed,
    StoreFailed,
    TooLarge,
    UnsupportedFormat,
)
from predastore.base.limits import COMMIT_BYTES_MAX, MIB, RAFT_RESERVE_BYTES, TABLES_MAX
from predastore.s3db import LEVEL, apply, checkpoint, commands, environment
from predastore.s3db.commands import (
    Absent,
    Applied,
    Batch,
    Delete,
    DeletePrefix,
    Equals,
    Exists,
    Keep,
    NoPrefix,
    Put,
)
from predastore.s3db.procedures import Procedures, Question, ReadView
from predastore.s3db.store import FILE_NAME, Store
from reference.database import Database
from support.waiting import eventually

tables = st.sampled_from(["objects", "buckets"])
some_keys = st.sampled_from([b"a", b"a/1", b"a/2", b"b", b"L" * 600, b"L" * 600 + b"/x", b"\xff"])
some_values = st.sampled_from([b"", b"1", b"2", b"v" * 5000])
some_prefixes = st.sampled_from([b"a/", b"L", b"L" * 600 + b"/", b"z"])
some_checks = st.one_of(
    st.builds(Exists, tables, some_keys),
    st.builds(Absent, tables, some_keys),
    st.builds(Equals, tables, some_keys, some_values),
    st.builds(NoPrefix, tables, some_prefixes),
)
some_ops = st.one_of(
    st.builds(Put, tables, some_keys, some_values),
    st.builds(Put, tables, some_keys, some_values),
    st.builds(Delete, tables, some_keys),
    st.builds(DeletePrefix, tables, some_prefixes),
    st.builds(Keep, tables, some_keys, some_keys),
)
some_batches = st.builds(
    Batch,
    checks=st.lists(some_checks, max_size=2).map(tuple),
    ops=st.lists(some_ops, max_size=5).map(tuple),
    request_id=st.binary(min_size=16, max_size=16),
    stamp_ms=st.just(0),
)


def open_store(path: Path | str, *, durable: bool = False) -> Store:
    return Store(path, durable=durable, map_bytes_initial=16 * MIB)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def commit(store: Store, *ops: commands.Op, checks: tuple[commands.Check, ...] = ()) -> object:
    encoded = commands.encode(commands.batch(*ops, checks=checks))
    return store.apply([(store.applied_index + 1, encoded)])[0]


class StoreIsADict(RuleBasedStateMachine):
    """Batches in groups, reads, snapshots and reopenings, against the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.store = open_store(self.folder.name)
        self.model = Database()
        self.index = 0
        self.answers: dict[bytes, object] = {}

    @rule(batches=st.lists(some_batches, min_size=1, max_size=4))
    def apply(self, batches: list[Batch]) -> None:
        expected = []
        entries = []
        for batch in batches:
            self.index += 1
            entries.append((self.index, commands.encode(batch)))
            if batch.request_id not in self.answers:
                self.answers[batch.request_id] = self.model.apply(batch)
            expected.append(self.answers[batch.request_id])
        for outcome, answer in zip(self.store.apply(entries), expected, strict=True):
            if isinstance(answer, int):
                assert isinstance(outcome, PreconditionFailed)
                assert outcome.check == answer
            else:
                assert outcome == Applied(tuple(answer))

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.folder.name)

    @rule()
    def go_on_from_a_snapshot(self) -> None:
        before = self.store.digest()
        snapshot = Path(self.folder.name) / "snapshot"
        assert self.store.snapshot_to(snapshot) == self.index
        commit(self.store, Put("objects", b"lost", b"1"))
        self.store.replace_from(snapshot)
        assert self.store.digest() == before

    @rule(name=tables, prefix=some_prefixes, after=some_keys, limit=st.integers(0, 5))
    def list(self, name: str, prefix: bytes, after: bytes, limit: int) -> None:
        found = self.store.list(name, prefix, b"/", after, limit)
        assert found == self.model.list(name, prefix, b"/", after, limit)

    @invariant()
    def holds_the_same(self) -> None:
        assert self.store.applied_index == self.index
        for name in ("objects", "buckets", "parts"):
            rows = sorted(self.model.table(name).items())
            assert self.store.scan(name, b"", b"", 1000) == rows
            assert self.store.list_keys(name, b"a", 1000) == [
                key for key, _ in rows if key.startswith(b"a")
            ]
            assert self.store.read([(name, key) for key, _ in rows]) == [row[1] for row in rows]

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


StoreIsADict.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestStoreIsADict = StoreIsADict.TestCase


@settings(max_examples=25, deadline=None)
@given(st.lists(some_batches, max_size=10), st.integers(1, 5))
def test_same_commands_same_state_however_grouped(batches: list[Batch], size: int) -> None:
    entries = [(index, commands.encode(batch)) for index, batch in enumerate(batches, 1)]
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        first, second = open_store(one), open_store(other)
        answers = [str(answer) for entry in entries for answer in first.apply([entry])]
        again = []
        for start in range(0, len(entries), size):
            again += [str(answer) for answer in second.apply(entries[start : start + size])]
        assert answers == again
        assert first.digest() == second.digest()
        first.close()
        second.close()


def test_a_different_state_has_a_different_digest(store: Store) -> None:
    digests = {store.digest()}
    commit(store, Put("t", b"a", b"bc"))
    digests.add(store.digest())
    commit(store, Delete("t", b"a"), Put("t", b"ab", b"c"))
    digests.add(store.digest())
    assert len(digests) == 3


def test_a_failed_check_changes_nothing_and_is_named(store: Store) -> None:
    commit(store, Put("t", b"a", b"1"))
    outcome = commit(
        store,
        Put("t", b"a", b"2"),
        DeletePrefix("t", b"a"),
        checks=(Exists("t", b"a"), Equals("t", b"a", b"x")),
    )
    assert isinstance(outcome, PreconditionFailed)
    assert outcome.check == 1
    assert store.get("t", b"a") == b"1"


def test_keep_returns_and_moves_the_value_of_its_moment(store: Store) -> None:
    commit(store, Put("t", b"a", b"old"))
    outcome = commit(
        store, Keep("t", b"a", b"kept"), Keep("t", b"none", b"x"), Put("t", b"a", b"new")
    )
    assert outcome == Applied(((b"kept", b"old"),))
    assert store.read([("t", b"kept"), ("t", b"a"), ("t", b"x")]) == [b"old", b"new", None]


def test_a_request_is_applied_once_and_answered_alike(store: Store, tmp_path: Path) -> None:
    commit(store, Put("t", b"a", b"old"))
    overwrite = commands.encode(commands.batch(Keep("t", b"a", b"k"), Put("t", b"a", b"new")))
    first = store.apply([(2, overwrite)])
    commit(store, Put("t", b"a", b"newest"))
    assert store.apply([(4, overwrite), (5, overwrite)]) == first * 2
    assert store.get("t", b"a") == b"newest"

    refused = commands.encode(commands.batch(checks=(Absent("t", b"a"),)))
    assert isinstance(store.apply([(6, refused)])[0], PreconditionFailed)
    commit(store, Delete("t", b"a"))
    assert isinstance(store.apply([(8, refused)])[0], PreconditionFailed)


def test_a_batch_that_was_too_large_is_not_done_when_it_comes_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "KEPT_BYTES_MAX", 100)
    commit(store, Put("t", b"a", bytes(200)))
    keep = commands.encode(commands.batch(Keep("t", b"a", b"b")))
    assert isinstance(store.apply([(2, keep)])[0], TooLarge)
    commit(store, Put("t", b"a", b"short"))
    assert isinstance(store.apply([(4, keep)])[0], TooLarge)
    assert store.get("t", b"b") is None


def test_requests_are_forgotten_oldest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "REQUESTS_REMEMBERED_MAX", 3)
    batches = [
        commands.encode(commands.batch(Put("t", bytes([65 + number]), b"first")))
        for number in range(5)
    ]
    store.apply(list(enumerate(batches, 1)))
    commit(store, DeletePrefix("t", b""))  # 2, 3 and 4 were remembered; now 3, 4 and this
    store.apply([(10, batches[4]), (11, batches[3])])
    assert store.list_keys("t", b"", 10) == []
    store.apply([(20, batches[0])])
    assert store.list_keys("t", b"", 10) == [b"A"]


def test_a_command_that_breaks_a_bound_is_answered_with_its_error(store: Store) -> None:
    short = commands.batch(Put("t", b"a", b"1"), request_id=b"short")
    batch = b"\x01" + msgspec.msgpack.encode(short)
    outcomes = store.apply([(1, batch), (2, b""), (3, b"\x01" + bytes(COMMIT_BYTES_MAX))])
    assert isinstance(outcomes[0], FormatError)
    assert outcomes[1] == Applied()
    assert isinstance(outcomes[2], TooLarge)
    assert store.applied_index == 3


@pytest.mark.parametrize("command", [b"\x01junk", b"\x09", b"\x02\x90"])
def test_a_command_that_this_program_can_not_read_is_never_passed_over(
    store: Store, command: bytes
) -> None:
    readable = commands.encode(commands.batch(Put("t", b"a", b"1")))
    with pytest.raises(MemberFailed, match=rf"entry 2 can not be read.*level {LEVEL}.*install"):
        store.apply([(1, readable), (2, command)])
    assert store.applied_index == 0
    with pytest.raises(MemberFailed):
        store.try_apply([(1, command)])
    assert store.apply([(1, readable)]) == [Applied()]


def test_indices_only_rise(store: Store) -> None:
    store.apply([(5, b"")])
    with pytest.raises(ValueError, match="command 5 after 5"):
        store.apply([(5, b"")])
    with pytest.raises(ValueError, match="command 6 after 7"):
        store.apply([(7, b""), (6, b"")])
    assert store.applied_index == 5


def test_trying_to_apply_does_the_same_or_nothing(store: Store) -> None:
    command = commands.encode(commands.batch(Put("objects", b"a", b"1")))
    assert store.try_apply([(1, command)]) == [Applied(())]
    assert store.get("objects", b"a") == b"1"
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with store._writer:
            held.set()
            let_go.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    assert store.try_apply([(2, b"")]) is None  # another writes
    let_go.set()
    holder.join()
    assert store.applied_index == 1


def test_trying_to_apply_makes_no_room(tmp_path: Path) -> None:
    store = Store(tmp_path, durable=False, map_bytes_initial=MIB, map_bytes_max=8 * MIB)
    value = bytes(700_000)
    first, second = [
        (n, commands.encode(commands.batch(Put("objects", bytes([n]), value)))) for n in (1, 2)
    ]
    store.apply([first])
    assert store.try_apply([second]) is None
    assert store.applied_index == 1
    assert store.apply([second]) == [Applied(())]
    store.close()


def test_tables_have_a_bound_that_changes_nothing_when_met(store: Store) -> None:
    for number in range(TABLES_MAX - 1):
        assert commit(store, Put(f"t{number}", b"a", b"1")) == Applied()
    outcome = commit(store, Put("t0", b"b", b"1"), Put("x", b"a", b"1"), Put("y", b"a", b"1"))
    assert isinstance(outcome, TooLarge)
    assert store.get("t0", b"b") is None
    assert commit(store, Put("x", b"a", b"1")) == Applied()
    assert commit(store, Delete("unknown", b"a"), Put("x", b"b", b"1")) == Applied()


def test_a_prefix_with_too_many_keys_is_not_deleted_in_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "DELETE_PREFIX_KEYS_MAX", 10)
    commit(store, *[Put("t", b"p%d" % number, b"") for number in range(11)])
    both = (DeletePrefix("t", b"p1"), DeletePrefix("t", b"p"))
    assert isinstance(commit(store, *both), TooLarge)
    assert len(store.list_keys("t", b"", 100)) == 11
    assert commit(store, DeletePrefix("t", b"p1")) == Applied()
    assert commit(store, DeletePrefix("t", b"p")) == Applied()


def test_what_is_kept_has_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "KEPT_BYTES_MAX", 100)
    chain = (Put("t", b"a", bytes(40)), Keep("t", b"a", b"b"), Keep("t", b"b", b"c"))
    assert isinstance(commit(store, *chain, Keep("t", b"c", b"d")), TooLarge)
    assert store.list_keys("t", b"", 10) == []
    assert isinstance(commit(store, *chain), Applied)


def test_the_map_grows_as_it_fills_and_says_when_it_may_not(tmp_path: Path) -> None:
    store = Store(tmp_path, durable=False, map_bytes_initial=MIB, map_bytes_max=8 * MIB)
    written = 0
    with suppress(NodeFull):
        while written < 16:
            commit(store, Put("t", b"%d" % written, bytes(MIB // 2)))
            written += 1
    assert 8 <= written < 16
    assert len(store.list_keys("t", b"", 100)) == written == store.applied_index
    assert commit(store, DeletePrefix("t", b"")) == Applied()
    store.close()


def test_the_map_grows_under_readers(tmp_path: Path) -> None:
    store = Store(tmp_path, durable=False, map_bytes_initial=MIB)
    commit(store, *[Put("t", b"%04d" % number, b"v" * 100) for number in range(50)])
    stop = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.wait(0.0005):
                assert len(store.scan("t", b"", b"", 1000)) == 50
        except BaseException as failure:
            failures.append(failure)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(40):
        commit(store, Put("u", b"%d" % number, bytes(MIB // 2)))
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert store.status()["file_bytes"] > 20 * MIB
    store.close()


def test_a_commit_that_makes_a_table_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    def look(view: ReadView, _: bytes) -> bytes:
        table = (view.get("first", b"latest") or b"").decode()
        return b"" if not table or view.get(table, b"k") else table.encode()

    questions = Procedures(questions=(Question("test.look", 1, look),))
    store = Store(tmp_path, durable=True, procedures=questions)
    stop = threading.Event()
    halves: list[object] = []

    def read() -> None:
        wanted = [("first", b"latest"), *((f"t{number}", b"k") for number in range(40))]
        while not stop.is_set():
            together = store.ask_all([("test.look", b"")] * 2)
            halves.extend(filter(None, [store.ask("test.look", b""), *together]))
            latest, *values = store.read(wanted)
            if latest and not values[int(latest[1:])]:
                halves.append(latest)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(40):
            name = f"t{number}"
            commit(store, Put("first", b"latest", name.encode()), Put(name, b"k", b"v"))
    finally:
        stop.set()
        for reader in readers:
            reader.join()
        store.close()
    assert halves == []


def test_a_commit_is_seen_whole_or_not_at_all_by_readers(store: Store) -> None:
    stop = threading.Event()
    torn: list[list[bytes | None]] = []

    def read() -> None:
        while not stop.wait(0.0002):
            pair = store.read([("t", b"a"), ("u", b"b" * 700)])
            if pair[0] != pair[1]:
                torn.append(pair)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        value = b"%d" % number
        commit(store, Put("t", b"a", value), Put("u", b"b" * 700, value))
    stop.set()
    reader.join()
    assert torn == []


_WRITER = """
import sys
from predastore.s3db import commands
from predastore.s3db.commands import Put
from predastore.s3db.store import Store
store = Store(sys.argv[1], durable=sys.argv[2] == "durable")
for n in range(1, 1_000_000):
    batch = commands.batch(Put("t", b"last", b"%d" % n), Put("t", b"%d" % n + b"x" * 600, b""))
    store.apply([(n, commands.encode(batch))])
    if n == 200:
        store.sync()
    print(n, flush=True)
"""


@pytest.mark.parametrize("durable", [True, False])
def test_a_killed_process_leaves_what_it_had_synced(tmp_path: Path, durable: bool) -> None:
    mode = "durable" if durable else "not"
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path), mode], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    acknowledged = 0
    for line in child.stdout:
        acknowledged = int(line)
        if acknowledged == 300:
            os.kill(child.pid, signal.SIGKILL)
    child.stdout.close()
    child.wait()
    store = open_store(tmp_path, durable=durable)
    last = store.applied_index
    assert last >= acknowledged >= 300 if durable else last == store.durable_index == 200
    assert store.get("t", b"last") == b"%d" % last
    assert len(store.list_keys("t", b"", 10_000)) == last + 1
    assert commit(store, Put("t", b"more", b"")) == Applied()
    store.close()


def test_a_file_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with lmdb.open(str(tmp_path / FILE_NAME), subdir=False, max_dbs=9) as env:
        meta = env.open_db(b"~meta")
        with env.begin(write=True) as txn:
            txn.put(b"format", (3).to_bytes(4, "big"), db=meta)
    with pytest.raises(UnsupportedFormat, match="format 3"):
        open_store(tmp_path)


def test_files_that_are_not_a_store_are_refused(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    for foreign in (b"", b"\x00" * 100, b"\x00" * 10_000, b"not lmdb" * 10_000):
        file.write_bytes(foreign)
        with pytest.raises(CorruptData):
            open_store(tmp_path)
    file.unlink()
    with lmdb.open(str(file), subdir=False) as env, env.begin(write=True) as txn:
        txn.put(b"of", b"another program")
    with pytest.raises(FormatError, match="not a store"):
        open_store(tmp_path)


def test_its_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = Store(tmp_path, durable=False)
        commit(store, Put("t", b"a", b"1"))
        store.sync()
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    store.close()
    names = (FILE_NAME, FILE_NAME + "-lock", checkpoint.FILE_NAME)
    assert modes == dict.fromkeys(names, 0o600)


def test_a_store_that_was_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / (FILE_NAME + ".part")).write_bytes(b"x" * 5_000)
    store = open_store(tmp_path)
    assert commit(store, Put("t", b"a", b"1")) == Applied()
    store.close()


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, Put("t", b"a", bytes(MIB)))
    store.close()
    os.truncate(tmp_path / FILE_NAME, MIB // 2)
    with pytest.raises(CorruptData, match="cut short"):
        open_store(tmp_path)


def test_a_bad_snapshot_leaves_the_state_as_it_was(store: Store, tmp_path: Path) -> None:
    commit(store, Put("t", b"a", b"1"))
    snapshot = tmp_path / "snapshot"
    store.snapshot_to(snapshot)
    whole = snapshot.read_bytes()
    for damaged in (b"", whole[:5000], whole[: len(whole) - 4096], b"x" * len(whole)):
        snapshot.write_bytes(damaged)
        with pytest.raises(FormatError):
            store.replace_from(snapshot)
        assert store.get("t", b"a") == b"1"
    assert commit(store, Put("t", b"b", b"1")) == Applied()


def test_a_snapshot_is_of_one_moment_while_writes_go_on(store: Store, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.0002):
            number += 1
            commit(store, Put("t", b"a", b"%d" % number), Put("u", b"b", b"%d" % number))

    writer = threading.Thread(target=write)
    writer.start()
    eventually(lambda: store.applied_index > 10)
    for number in range(5):
        folder = tmp_path / f"copy{number}"
        folder.mkdir()
        index = store.snapshot_to(folder / FILE_NAME)
        copy = open_store(folder)
        assert copy.applied_index == index
        assert copy.read([("t", b"a"), ("u", b"b")]) == [b"%d" % index] * 2
        copy.close()
    stop.set()
    writer.join()


def test_after_a_failed_write_nothing_more_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    commit(store, Put("t", b"a", b"1"))

    def broken(*_: object) -> list[apply.Outcome]:
        raise lmdb.Error("mdb_txn_commit: Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_apply_once", broken)
        with pytest.raises(StoreFailed, match="Input/output"):
            commit(store, Put("t", b"a", b"2"))
    with pytest.raises(StoreFailed):
        commit(store, Put("t", b"a", b"3"))
    with pytest.raises(StoreFailed):
        store.sync()
    assert store.get("t", b"a") == b"1"
    store.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path, durable=True)
    commit(store, Put("t", b"a", b"1"))
    store.close()
    store.close()
    with pytest.raises(StoreFailed, match="closed"):
        store.get("t", b"a")
    with pytest.raises(StoreFailed, match="closed"):
        store.apply([(9, b"")])


def test_no_copy_is_begun_that_would_use_up_the_reserve(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a member finds no room for its journal, it ends."""
    monkeypatch.setattr(environment, "free_bytes_of", lambda _: RAFT_RESERVE_BYTES)
    with pytest.raises(NodeFull, match="MiB are free"):
        store.snapshot_to(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    monkeypatch.undo()
    store.snapshot_to(tmp_path / "copy")
