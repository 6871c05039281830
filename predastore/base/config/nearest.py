"""What somebody meant who wrote a name that is nearly one that there is."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

_LIKE: Final = 0.7  # "prot" is 0.75 of "port"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like `name`, whatever its case and its dashes; "" where none
    is like it."""
    plain = _plain(name)
    found, best = "", _LIKE
    for one in known:
        other = _plain(one)
        is_same = sorted(plain) == sorted(other)  # its letters, in another order
        likeness = 1.0 if is_same else SequenceMatcher(None, plain, other).ratio()
        if likeness > best or (likeness == best and not found):
            found, best = one, likeness
    return found


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
