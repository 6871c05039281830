"""Continuation tokens can not be made by anyone else, nor used for another listing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predastore.base.errors import S3Error
from predastore.s3.tokens import Tokens

TOKENS = Tokens(lambda: (b"key",))
OTHERS = Tokens(lambda: (b"no",))
SCOPE = ("objects", "bucket", "prefix", "/")


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_a_token_opens_to_its_place(place: str) -> None:
    assert TOKENS.open(TOKENS.make(place, *SCOPE), *SCOPE) == place


@pytest.mark.parametrize(
    "scope",
    [
        ("objects", "bucket2", "prefix", "/"),
        ("objects", "bucket", "prefix/", ""),
        ("objects", "bucketp", "refix", "/"),
        ("buckets", "bucket", "prefix", "/"),
    ],
)
def test_a_token_is_bound_to_its_listing(scope: tuple[str, ...]) -> None:
    token = TOKENS.make("place", *SCOPE)
    with pytest.raises(S3Error):
        TOKENS.open(token, *scope)


@pytest.mark.parametrize(
    "token",
    ["", "x", "place", "cGxhY2U=", "é", "A" * 10_000, OTHERS.make("p", *SCOPE)],
)
def test_a_forged_token_is_invalid(token: str) -> None:
    with pytest.raises(S3Error) as caught:
        TOKENS.open(token, *SCOPE)
    assert caught.value.s3_code == "InvalidArgument"


def test_a_changed_token_is_invalid() -> None:
    token = TOKENS.make("place", *SCOPE)
    for at in range(len(token)):
        changed = token[:at] + ("B" if token[at] == "A" else "A") + token[at + 1 :]
        with pytest.raises(S3Error):
            TOKENS.open(changed, *SCOPE)


def test_a_token_of_another_key_that_is_known_is_good() -> None:
    """While the cluster key is changed."""
    assert Tokens(lambda: (b"key", b"no")).open(OTHERS.make("p", *SCOPE), *SCOPE) == "p"
