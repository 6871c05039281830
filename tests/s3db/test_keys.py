"""Keys longer than lmdb's own: exact byte order, whatever they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.base.limits import DB_KEY_BYTES_MAX
from predastore.s3db import keys

# Lengths about every place where a key is cut, of bytes that sort below, at and above others.
STEMS = [0, 1, 8, 494, 495, 496, 502, 503, 504, 511, 997, 998, 999, 1006, 1190]
adversarial = st.builds(
    lambda fill, stem, tail: (fill * stem + tail)[:DB_KEY_BYTES_MAX] or b"\0",
    st.sampled_from([b"\x00", b"a", b"\xff"]),
    st.sampled_from(STEMS),
    st.lists(st.sampled_from([b"\x00", b"\x01", b"a", b"/", b"\xff"]), max_size=12).map(b"".join),
)


@contextmanager
def table() -> Iterator[tuple[lmdb.Environment, keys.Table]]:
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "x")
        with lmdb.open(path, subdir=False, map_size=1 << 28, max_dbs=4, sync=False) as env:
            yield (
                env,
                keys.Table("t", env.open_db(b"t"), env.open_db(b"long"), env.open_db(b"meta")),
            )


def walked(
    txn: lmdb.Transaction[bytes], found: keys.Table, start: bytes
) -> list[tuple[bytes, bytes]]:
    walk = keys.Walk(txn, found)
    rows = []
    more = walk.seek(start)
    while more:
        rows.append((walk.key, walk.value()))
        more = walk.next()
    return rows


steps = st.lists(st.tuples(st.sampled_from(["put", "put", "delete"]), adversarial), max_size=40)


@settings(max_examples=60, deadline=None)
@given(steps, st.lists(adversarial, max_size=5))
def test_they_are_a_sorted_dict(changes: list[tuple[str, bytes]], starts: list[bytes]) -> None:
    model: dict[bytes, bytes] = {}
    with table() as (env, found), env.begin(write=True) as txn:
        for number, (kind, key) in enumerate(changes):
            if kind == "put":
                model[key] = str(number).encode()
                keys.put(txn, found, key, model[key])
            else:
                assert keys.delete(txn, found, key) == (model.pop(key, None) is not None)
        for start in [b"", *starts, *model]:
            assert walked(txn, found, start) == sorted(
                (key, value) for key, value in model.items() if key >= start
            )
            assert keys.get(txn, found, start) == model.get(start)
            below = sum(key.startswith(start) for key in model)
            assert keys.count_below(txn, found, start, 1000) == below
            assert keys.count_below(txn, found, start, 2) == min(below, 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(adversarial, max_size=30), adversarial.map(lambda key: key[:-1]))
def test_a_prefix_is_deleted_and_nothing_else(present: list[bytes], prefix: bytes) -> None:
    with table() as (env, found), env.begin(write=True) as txn:
        for key in present:
            keys.put(txn, found, key, b"v")
        keys.delete_below(txn, found, prefix)
        rest = sorted({key for key in present if not key.startswith(prefix)})
        assert [key for key, _ in walked(txn, found, b"")] == rest


@settings(max_examples=40, deadline=None)
@given(st.lists(adversarial, max_size=30))
def test_nothing_is_left_of_what_is_deleted(present: list[bytes]) -> None:
    with table() as (env, found), env.begin(write=True) as txn:
        for key in present:
            keys.put(txn, found, key, b"v")
        for key in set(present):
            assert keys.delete(txn, found, key)
        assert txn.stat(found.entries)["entries"] == 0
        assert txn.stat(found.long)["entries"] == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=6), st.binary(max_size=6))
def test_after_all_is_the_least_bound_of_a_prefix(prefix: bytes, other: bytes) -> None:
    bound = keys.after_all(prefix)
    if bound is None:
        assert set(prefix) <= {255}
    else:
        assert bound > prefix + b"\xff" * 10
        if other >= prefix and not other.startswith(prefix):
            assert other >= bound
