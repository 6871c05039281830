"""What is sealed opens with the cluster key, for its purpose, in its place; and not otherwise."""

from __future__ import annotations

import pytest

from predastore.base.errors import CorruptData, UnsupportedFormat
from predastore.base.sealing import seal, unseal

KEY = b"k" * 32
SECRET = b"a private key"


def test_what_is_sealed_opens_again_and_shows_nothing() -> None:
    sealed = seal(KEY, "tests", SECRET, bound_to=b"x")
    assert unseal(KEY, "tests", sealed, bound_to=b"x") == SECRET
    assert SECRET not in sealed
    assert seal(KEY, "tests", SECRET, bound_to=b"x") != sealed, "a nonce of its own each time"
    assert unseal(KEY, "tests", seal(KEY, "tests", b"", bound_to=b""), bound_to=b"") == b""


@pytest.mark.parametrize(
    ("key", "purpose", "bound_to"),
    [(b"K" * 32, "tests", b"x"), (KEY, "other", b"x"), (KEY, "tests", b"y")],
)
def test_nobody_else_opens_it(key: bytes, purpose: str, bound_to: bytes) -> None:
    sealed = seal(KEY, "tests", SECRET, bound_to=b"x")
    with pytest.raises(CorruptData, match="another cluster key, or damaged"):
        unseal(key, purpose, sealed, bound_to=bound_to)


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    sealed = seal(KEY, "tests", SECRET, bound_to=b"")
    for place in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[place] ^= 1
        with pytest.raises(CorruptData if place else UnsupportedFormat):
            unseal(KEY, "tests", bytes(damaged), bound_to=b"")
    for size in range(1, len(sealed)):
        with pytest.raises(CorruptData):
            unseal(KEY, "tests", sealed[:size], bound_to=b"")


def test_the_form_is_as_ever() -> None:
    """Version 1, sealed once: whoever changes how keys are derived loses what is stored."""
    sealed = bytes.fromhex(
        "0132112020cb2766800ffe9c880b5c68c0f6849348e401b8a8e83d9c370d8f33f100b97dc0c37b59cdee"
    )
    assert unseal(KEY, "tests", sealed, bound_to=b"x") == SECRET
