"""The rows of identities: their bytes are pinned."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from predastore.iam import rows
from predastore.iam.rows import (
    AccessKeyRow,
    AccountRow,
    CountsRow,
    EntityKind,
    EntityRow,
    InlineRow,
    NameRow,
    PolicyRow,
    PolicyVersionRow,
    PrincipalRow,
    SealingKey,
    SealingRow,
    UsedRow,
)
from predastore.storage.formats import decode, encode

FORMATS = Path(__file__).parent.parent / "formats"
NOON_MS = 1_790_000_000_000
TAGS = (("team", "caf\u00e9"), ("empty", ""))

GOLDEN: dict[str, msgspec.Struct] = {
    "account": AccountRow("123456789012", "0a" * 32, "tenant", NOON_MS),
    "counts": CountsRow(5, 4, 3, 2, 1),
    "entity": EntityRow(
        *(EntityKind.ROLE, "AROA" + "A" * 16, "job", "/night/", NOON_MS, TAGS),
        *("arn:aws:iam::aws:policy/AdministratorAccess", NOON_MS + 1, "{}", "of the night", 7200),
    ),
    "name": NameRow(EntityKind.USER, "Alice"),
    "policy": PolicyRow(
        *("ANPA" + "A" * 16, "Read", "/p/", "reads", NOON_MS, NOON_MS + 1, 3, 7, 2, 1, TAGS)
    ),
    "policy_version": PolicyVersionRow("{}", NOON_MS),
    "inline": InlineRow("Own", "{}"),
    "access_key": AccessKeyRow("123456789012", "AIDA" + "A" * 16, b"sealed", NOON_MS, False),
    "principal": PrincipalRow(7),
    "sealing": SealingRow((SealingKey(1, b"sealed", NOON_MS), SealingKey(2, b"other", NOON_MS))),
    "used": UsedRow(NOON_MS, "s3", "eu-north-1"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_rows_of_identities_are_read_and_written_as_ever(name: str) -> None:
    stored = bytes.fromhex((FORMATS / f"iam_{name}_v2.hex").read_text())
    row = GOLDEN[name]
    assert encode(row) == stored
    assert decode(type(row), stored) == row


def test_each_row_of_identities_is_pinned() -> None:
    kinds = {name for name in vars(rows) if name.endswith("Row")}
    assert {type(row).__name__ for row in GOLDEN.values()} == kinds
