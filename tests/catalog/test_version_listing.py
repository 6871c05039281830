"""`version.list`: pages, put together, are the whole, for whatever prefix, delimiter and marker."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.catalog import keys
from predastore.catalog.procedures import questions
from predastore.catalog.procedures.questions import ListedVersions, ListVersions
from predastore.catalog.rows import Detail, Kind, Summary, VersionRow
from predastore.storage.formats import encode, pack, unpack
from reference.database import ModelView
from reference.version_listing import Item, Versions, listing

BUCKET, BEFORE, BEHIND = b"\x80" + bytes(15), b"\x80" * 16, b"\x7f" * 16
ALPHABET = "a/\u00e9\u0001\U0001f600\uffff"
DETAIL = msgspec.Raw(pack(Detail("")))
PAGE_BYTES = 800  # a page ends after some rows

texts = st.text(ALPHABET, max_size=4)
delimiters = st.sampled_from(["", "/", "a", "aa", "/a", "\U0001f600"])
orders = st.integers(0, 4)
contents = st.dictionaries(
    st.text(ALPHABET, min_size=1, max_size=4),
    st.lists(orders, min_size=1, max_size=4, unique=True),
    max_size=12,
)


def view_of(versions: Versions) -> ModelView:
    rows = {}
    for bucket_id in (BUCKET, BEFORE, BEHIND):  # others have the same
        for key, each in versions.items():
            for order in each:
                row = VersionRow(
                    *(order.to_bytes(8, "big"), not order, order == 2, Kind.NOWHERE, b""),
                    *(Summary(order, key, 5, "1"), DETAIL),
                )
                rows[keys.version(bucket_id, key, order)] = encode(row)
    return ModelView({"versions": rows})


def ask(
    view: ModelView,
    limit: int,
    prefix: str = "",
    delimiter: str = "",
    key_marker: str = "",
    order_marker: int | None = None,
) -> tuple[list[Item], ListedVersions]:
    """What a page has, in order, and the page."""
    args = ListVersions(BUCKET, prefix, delimiter, key_marker, order_marker, limit)
    page = unpack(ListedVersions, questions.list_versions(view, args.encode())[1:])
    for one in page.versions:
        assert (one.summary.size, one.summary.etag) == (one.order, one.key)
        assert one.random == one.order.to_bytes(8, "big")
        assert (one.is_null, one.is_marker) == (one.order == 0, one.order == 2)
    items = [Item(one.key, one.order, one.is_newest) for one in page.versions]
    items += [Item(common) for common in page.prefixes]
    items.sort(key=lambda item: (item.key.encode(), -(item.order or 0)))
    return items, page


@settings(max_examples=400, deadline=None)
@given(
    versions=contents,
    prefix=texts,
    delimiter=delimiters,
    marker=texts,
    order=st.none() | orders,
    limit=st.integers(1, 12),
)
def test_a_page_is_the_first_of_what_the_model_lists(
    versions: Versions, prefix: str, delimiter: str, marker: str, order: int | None, limit: int
) -> None:
    expected = listing(versions, prefix, delimiter, marker, order if marker else None)
    items, page = ask(view_of(versions), limit, prefix, delimiter, marker, order)
    assert items == expected[:limit]
    assert page.is_truncated is (len(expected) > limit)


@pytest.mark.parametrize("is_short", [False, True])
@settings(max_examples=200, deadline=None)
@given(versions=contents, prefix=st.sampled_from(["", "a", "a/"]), delimiter=delimiters,
       limit=st.integers(1, 5))  # fmt: skip
def test_pages_put_together_are_the_whole(
    is_short: bool, versions: Versions, prefix: str, delimiter: str, limit: int
) -> None:
    view = view_of(versions)
    found: list[Item] = []
    key, order, more = "", None, True
    with pytest.MonkeyPatch.context() as patch:
        if is_short:
            limit = 1000
            patch.setattr(questions, "LISTED_BYTES_MAX", PAGE_BYTES)
        while more:
            items, page = ask(view, limit, prefix, delimiter, key, order)
            assert items or not found
            found += items
            key, order, more = page.next_key, page.next_order, page.is_truncated
    assert found == listing(versions, prefix, delimiter)


def test_the_next_version_is_the_newest_once_the_marker_is_deleted() -> None:
    versions = {"k": [1, 2, 3]}
    _, page = ask(view_of(versions), 1)
    assert (page.next_key, page.next_order) == ("k", 3)
    items, _ = ask(view_of({"k": [1, 2]}), 1, key_marker="k", order_marker=3)
    assert items == [Item("k", 2, is_newest=True)]


def test_no_rows_are_wanted_and_none_come() -> None:
    items, page = ask(view_of({"k": [1]}), 0)
    assert items == []
    assert not page.is_truncated
