"""User metadata beyond ASCII: text in records, encoded words (RFC 2047) in answers.

Header fields carry bytes. What clients send is taken in all forms that they have: encoded words,
UTF-8, and Latin-1 where it is not UTF-8. What they get is ASCII, as S3 sends it: the text as it
is, else `=?UTF-8?Q?...?=`, or `?B?` where characters are unprintable, in words of at most 75
characters with a blank between. Nothing that a client stored can end a field or begin another: all
that is not printable is encoded. `decode(encode(text))` is `text`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

_WORD: Final = re.compile(r"=\?([A-Za-z0-9_-]+)(?:\*[^?\s]*)?\?([bBqQ])\?([!->@-~]*)\?=")
_WORD_CHARS_MAX: Final = 75  # RFC 2047, section 2
_ENCODED_CHARS_MAX: Final = _WORD_CHARS_MAX - len("=?UTF-8?Q??=")
_Q_CODE: Final = re.compile(r"=([0-9A-Fa-f]{2})")
_Q_PLAIN: Final = frozenset(b"!\"#$%&'()*+,-./:;<>@[\\]^`{|}~") | frozenset(
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

# Charsets by name -> Python's codec. Python is asked for no other: it remembers each name.
_CHARSETS: Final = {
    **dict.fromkeys(("utf-8", "utf8"), "utf-8"),
    **dict.fromkeys(("us-ascii", "ascii"), "ascii"),
    **{f"iso-8859-{n}": f"iso8859_{n}" for n in (*range(1, 12), *range(13, 17))},
    **{f"windows-{n}": f"cp{n}" for n in range(1250, 1259)},
    **{name: name.replace("-", "_") for name in ("koi8-r", "koi8-u", "euc-jp", "euc-kr")},
    **{name: name for name in ("big5", "gb2312", "gbk", "gb18030", "shift_jis", "iso-2022-jp")},
}


def decode(raw: bytes) -> str:
    """The text that a field's value means."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return _decode_words(text) if "=?" in text else text


def _decode_words(text: str) -> str:
    """`text` with its encoded words decoded; a word that can not be stays as it is."""
    found: list[str] = []
    run: list[re.Match[str]] = []  # words of one charset with nothing but blanks between them
    end = 0
    for match in _WORD.finditer(text):
        between = text[end : match.start()]
        if run and (between.strip() or match[1].lower() != run[0][1].lower()):
            decoded = _decode_run(text, run)
            found.append(decoded if decoded is not None else _as_sent(text, run))
            run = []
            if between.strip() or decoded is None:
                found.append(between)
        elif not run:
            found.append(between)
        run.append(match)
        end = match.end()
    if run:
        decoded = _decode_run(text, run)
        found.append(decoded if decoded is not None else _as_sent(text, run))
    found.append(text[end:])
    return "".join(found)


def _as_sent(text: str, run: list[re.Match[str]]) -> str:
    return text[run[0].start() : run[-1].end()]


def _decode_run(text: str, run: list[re.Match[str]]) -> str | None:
    """Words side by side: a character may be cut in two between them."""
    codec = _CHARSETS.get(run[0][1].lower())
    if codec is None:
        return None
    try:
        return b"".join(_bytes_of(match[2], match[3]) for match in run).decode(codec)
    except (ValueError, binascii.Error):
        return None


def _bytes_of(encoding: str, content: str) -> bytes:
    if encoding in "bB":
        return binascii.a2b_base64(content + "=" * (-len(content) % 4), strict_mode=True)
    if "=" in _Q_CODE.sub("", content):
        raise ValueError("a broken code")
    plain = content.replace("_", " ").encode("ascii")
    return re.sub(rb"=([0-9A-Fa-f]{2})", lambda code: bytes.fromhex(code[1].decode()), plain)


def encode(text: str) -> str:
    """`text` as ASCII that may stand in a field."""
    if text.isascii() and text.isprintable() and "=?" not in text and text == text.strip():
        return text
    if _is_plain(text):
        return text
    return " ".join(_words(text, "Q" if text.isprintable() else "B"))


def _is_plain(text: str) -> bool:
    """Whether it can stand as it is, and means itself there."""
    visible = text.isascii() and text.replace("\t", " ").isprintable()
    return visible and text == text.strip() and _decode_words(text) == text


def _words(text: str, encoding: str) -> Iterator[str]:
    """The encoded words of `text`, each with whole characters (section 5)."""
    pending = b""
    for character in text:
        piece = character.encode()
        if len(_content(pending + piece, encoding)) > _ENCODED_CHARS_MAX:
            yield f"=?UTF-8?{encoding}?{_content(pending, encoding)}?="
            pending = b""
        pending += piece
    yield f"=?UTF-8?{encoding}?{_content(pending, encoding)}?="


def _content(data: bytes, encoding: str) -> str:
    if encoding == "B":
        return base64.b64encode(data).decode()
    return "".join(
        chr(byte) if byte in _Q_PLAIN else "_" if byte == 0x20 else f"={byte:02X}" for byte in data
    )
