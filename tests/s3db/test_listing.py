"""Pages of a listing against the plain meaning of the words."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given, settings
from hypothesis import strategies as st

from predastore.s3db import commands
from predastore.s3db.commands import Page, Put
from predastore.s3db.store import Store
from reference.database import Database

letters = st.lists(st.sampled_from(["a", "b", "/", "//", "é", "\x00", "\U0010ffff"]), max_size=6)
keys = st.builds(
    lambda stem, tail: (stem + "".join(tail)).encode() or b"a",
    st.sampled_from(["", "", "a/", "p" * 500 + "/", "p" * 503, "p" * 1000]),
    letters,
)
prefixes = st.one_of(st.just(b""), keys)
delimiters = st.sampled_from([b"", b"/", b"//", "é".encode(), b"a", b"zz"])


def filled(folder: str, present: set[bytes]) -> tuple[Store, Database]:
    store = Store(folder, durable=False, map_bytes_initial=1 << 24)
    batch = commands.batch(*[Put("t", key, key[-3:]) for key in sorted(present)])
    store.apply([(1, commands.encode(batch))])
    model = Database()
    model.apply(batch)
    return store, model


@settings(max_examples=150, deadline=None)
@given(st.sets(keys, max_size=25), prefixes, delimiters, prefixes, st.integers(0, 6))
@example({b"a/b", b"a/c", b"b"}, b"", b"/", b"a/b", 5)
def test_a_page_is_what_the_words_say(
    present: set[bytes], prefix: bytes, delimiter: bytes, after: bytes, limit: int
) -> None:
    with TemporaryDirectory() as folder:
        store, model = filled(folder, present)
        try:
            page = store.list("t", prefix, delimiter, after, limit)
            assert page == model.list("t", prefix, delimiter, after, limit)
        finally:
            store.close()


@settings(max_examples=60, deadline=None)
@given(st.sets(keys, max_size=25), prefixes, delimiters, st.integers(1, 4), st.integers(1, 900))
def test_pages_in_a_row_are_the_whole_listing(
    present: set[bytes], prefix: bytes, delimiter: bytes, limit: int, bytes_max: int
) -> None:
    with TemporaryDirectory() as folder:
        store, model = filled(folder, present)
        try:
            whole = model.list("t", prefix, delimiter, b"", 10_000)
            entries, common, after = [], [], b""
            for _ in range(100):
                page = store.list("t", prefix, delimiter, after, limit, bytes_max=bytes_max)
                entries += page.entries
                common += page.prefixes
                if not page.truncated:
                    break
                assert page.next > after
                after = page.next
            assert (entries, common) == (whole.entries, whole.prefixes)
        finally:
            store.close()


def test_a_page_of_bytes_has_at_least_one_entry(tmp_path: Path) -> None:
    store, _ = filled(str(tmp_path), {b"a", b"b"})
    page = store.list("t", b"", b"", b"", 10, bytes_max=1)
    assert page == Page([(b"a", b"a")], [], True, b"a")
    store.close()


def test_a_table_that_is_not_there_lists_nothing(tmp_path: Path) -> None:
    store, _ = filled(str(tmp_path), {b"a"})
    assert store.list("other", b"", b"", b"", 10) == Page([], [], False, b"")
    assert store.list_keys("other", b"", 10) == []
    store.close()
