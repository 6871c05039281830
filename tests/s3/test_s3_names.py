"""Amazon's rules for bucket names."""

from __future__ import annotations

import pytest

from predastore.s3.names import is_bucket_name


@pytest.mark.parametrize(
    "name", ["abc", "a.b", "a-b", "1-2", "my-bucket.example", "a" * 63, "1.2.3", "a--b"]
)
def test_legal_names(name: str) -> None:
    assert is_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "ab", "a" * 64, "Abc", "a_b", "-ab", "ab-", ".ab", "ab.", "a..b", "1.2.3.4", "xn--ab",
     "a/b", "a b", "äbc", "abc-s3alias", "abc--x-s3", "sthree-abc", "..", "a\nb", "abc\n"],
)  # fmt: skip
def test_illegal_names(name: str) -> None:
    assert not is_bucket_name(name)
