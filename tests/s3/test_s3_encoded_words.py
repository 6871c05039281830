"""User metadata beyond ASCII, by RFC 2047 and without."""

from __future__ import annotations

import email.header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predastore.s3.encoded_words import decode, encode


def independently(value: str) -> str:
    """What the standard library makes of it."""
    return str(email.header.make_header(email.header.decode_header(value)))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        ("\u00fc\u20ac".encode(), "\u00fc\u20ac"),
        (b"caf\xe9", "caf\u00e9"),  # Latin-1, as it is not UTF-8
        (b"=?UTF-8?B?w7w=?=", "\u00fc"),
        (b"=?UTF-8?B?w7w?=", "\u00fc"),
        (b"=?utf-8?b?w7w=?=", "\u00fc"),
        (b"=?UTF-8?Q?=C3=BC_=c3=bc?=", "\u00fc \u00fc"),
        (b"=?utf8?q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?caf=E9?=", "caf\u00e9"),
        (b"=?iso-8859-15?Q?=A4?=", "\u20ac"),
        (b"=?windows-1252?B?gA==?=", "\u20ac"),
        (b"=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "\u65e5\u672c"),
        (b"=?UTF-8*de?Q?=C3=BC?=", "\u00fc"),
        (b"a =?UTF-8?Q?b?= c", "a b c"),
        (b"=?UTF-8?Q?a?= =?UTF-8?Q?b?=", "ab"),
        (b"=?UTF-8?Q?a?=\t =?ISO-8859-1?Q?=FC?=", "a\u00fc"),
        (b"=?UTF-8?B?w7?= =?UTF-8?B?w?=", "=?UTF-8?B?w7?= =?UTF-8?B?w?="),
        (b"=?UTF-8?Q?=C3?= =?UTF-8?Q?=BC?=", "\u00fc"),  # one character in two words
        # none: they stay as they are
        (b"=?UTF-8?X?abc?=", "=?UTF-8?X?abc?="),
        (b"=?no-charset?Q?abc?=", "=?no-charset?Q?abc?="),
        (b"=?rot13?Q?abc?=", "=?rot13?Q?abc?="),
        (b"=?UTF-8?Q?=FF?=", "=?UTF-8?Q?=FF?="),
        (b"=?UTF-8?Q?a=G?=", "=?UTF-8?Q?a=G?="),
        (b"=?UTF-8?B?*?=", "=?UTF-8?B?*?="),
        (b"=?UTF-8?Q?a b?=", "=?UTF-8?Q?a b?="),
        (b"=?UTF-8?Q?a", "=?UTF-8?Q?a"),
        (b"x =?UTF-8?Q?=FF?= y =?UTF-8?Q?z?=", "x =?UTF-8?Q?=FF?= y z"),
    ],
)
def test_what_is_taken_in(raw: bytes, text: str) -> None:
    assert decode(raw) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ('plain, 100% = "text"?', 'plain, 100% = "text"?'),
        ("a\tb", "a\tb"),
        ("=? is no word", "=? is no word"),
        ("\u00fc x", "=?UTF-8?Q?=C3=BC_x?="),
        ("a_b?=\u00e9", "=?UTF-8?Q?a=5Fb=3F=3D=C3=A9?="),
        ("\r\nX-Evil: 1", "=?UTF-8?B?DQpYLUV2aWw6IDE=?="),
        ("\0", "=?UTF-8?B?AA==?="),
        (" padded ", "=?UTF-8?Q?_padded_?="),
        ("=?UTF-8?Q?a?=", "=?UTF-8?Q?=3D=3FUTF-8=3FQ=3Fa=3F=3D?="),
    ],
)
def test_what_is_given_out(text: str, value: str) -> None:
    assert encode(text) == value
    assert decode(value.encode()) == text


TEXTS = st.text(st.characters(codec="utf-8")) | st.text("=?UTF-8QB_ \t\u00fc\u20ac\r\n\U0001f600")


@given(TEXTS)
def test_every_text_comes_back(text: str) -> None:
    value = encode(text)
    assert value.isascii()
    assert value.replace("\t", " ").isprintable()
    assert value == value.strip()
    assert decode(value.encode()) == text
    if value != text:
        assert all(len(word) <= 75 for word in value.split(" "))
        assert independently(value) == text


@given(st.binary())
def test_every_value_is_a_text_that_comes_back(raw: bytes) -> None:
    text = decode(raw)
    assert decode(encode(text).encode()) == text
