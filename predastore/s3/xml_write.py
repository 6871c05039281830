"""XML out: escaping, elements, and the documents' frame. Strings here, bytes at the very end.

A key may hold characters that XML 1.0 can not, not even as numeric references: a parser refuses the
whole document for one (&#x1;), and the client takes an answer that it can not read for a failure.
In their place stands U+FFFD. Clients that list such keys ask for encoding-type=url, as SDKs do;
where one is what the next page begins after, another in its place would skip keys (is_exact).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from predastore.base.limits import S3_NAMES_CACHED_MAX
from predastore.httpd.message import Response

DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
CONTROL_NAMESPACE: Final = "http://awss3control.amazonaws.com/doc/2018-08-20/"

# XML 1.0, 2.2: Char
_NO_CHARACTERS: Final = (*range(9), 0xB, 0xC, *range(0xE, 0x20), 0xFFFE, 0xFFFF)
_ESCAPES: Final[dict[int, str]] = {
    **dict.fromkeys(_NO_CHARACTERS, "\ufffd"),
    ord("\r"): "&#xd;",  # a parser makes a line end of it
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
}
_SPECIAL: Final = frozenset(map(chr, _ESCAPES))


_LOST: Final = frozenset(map(chr, _NO_CHARACTERS))


def is_exact(text: str) -> bool:
    """Whether XML can say it as it is."""
    return _LOST.isdisjoint(text)


def escape(text: str) -> str:
    """`text` as element content."""
    return text if _SPECIAL.isdisjoint(text) else text.translate(_ESCAPES)


def tag(name: str, text: str | int | bool) -> str:
    """<name>text</name>; booleans as S3 writes them."""
    if text is True or text is False:
        return f"<{name}>{'true' if text else 'false'}</{name}>"
    return f"<{name}>{escape(str(text))}</{name}>"


def optional(name: str, text: str | None) -> str:
    """`tag`, or nothing for None."""
    return "" if text is None else tag(name, text)


@lru_cache(maxsize=S3_NAMES_CACHED_MAX)
def owner(account: str, name: str = "Owner") -> str:
    """The element that names an account."""
    shown = escape(account)
    return f"<{name}><ID>{shown}</ID><DisplayName>{shown}</DisplayName></{name}>"


def document(root: str, parts: Iterable[str], namespace: str = NAMESPACE) -> bytes:
    """The whole document, in S3's namespace, or in S3 Control's."""
    return f'{DECLARATION}<{root} xmlns="{namespace}">{"".join(parts)}</{root}>'.encode()


def xml_response(
    root: str,
    parts: Iterable[str],
    headers: Iterable[tuple[str, str]] = (),
    *,
    namespace: str = NAMESPACE,
) -> Response:
    """200 with that document."""
    body = document(root, parts, namespace)
    return Response(200, [("Content-Type", "application/xml"), *headers], body, len(body))
