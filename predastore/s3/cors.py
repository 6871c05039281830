"""CORS: the rules of a bucket for scripts of other origins, as XML, as a document, and applied.

Limits, texts and choices are Amazon's (User Guide, "Using cross-origin resource sharing"; API
Reference, "CORSRule"; what the service is known to answer). Rules are tried in their order, and the
first that fits decides. A `*` stands for any text, or none, once in an origin or a header. Origins
are compared as they are written, names of header fields without regard to case.

Rules are read once for each generation of a bucket (`KIND`), and kept in a form that takes little
memory: anybody with a bucket may have them kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from predastore.base import limits
from predastore.base.errors import PredastoreError, S3Error, anew
from predastore.catalog.buckets import CORS
from predastore.catalog.documents import DocumentKind, Meanings
from predastore.s3.xml_read import Element
from predastore.s3.xml_write import optional, tag
from predastore.storage.formats import decode, encode

ROOT: Final = "CORSConfiguration"
METHODS: Final = ("GET", "PUT", "POST", "DELETE", "HEAD")
VARY: Final = ("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")

_ANY: Final = "*"
_SECONDS_DIGITS_MAX: Final = 10


class CorsRule(msgspec.Struct, frozen=True, array_like=True):
    """As the bucket's owner wrote it. `id` and `max_age_s`: None where nothing is said of them.
    `exposed`: names of header fields that a script may see."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_s: int | None = None
    id: str | None = None


class BucketCors(msgspec.Struct, frozen=True, array_like=True):
    """The document CORS of a bucket."""

    rules: tuple[CorsRule, ...]


# --- documents ----------------------------------------------------------------------------------


def of_xml(document: Element) -> BucketCors:
    """Of a CORSConfiguration; MalformedXML, InvalidRequest."""
    rules = tuple(_rule(child) for child in document.children)
    if not rules:
        raise S3Error("MalformedXML")
    if len(rules) > limits.S3_CORS_RULES_MAX:
        raise S3Error(
            "InvalidRequest",
            "The number of CORS rules should not exceed allowed limit of "
            f"{limits.S3_CORS_RULES_MAX} rules.",
        )
    for rule in rules:
        _check(rule)
    return BucketCors(rules)


def elements(document: BucketCors) -> list[str]:
    """The rules of an answer."""
    return [
        "<CORSRule>"
        + optional("ID", rule.id)
        + "".join(tag("AllowedHeader", name) for name in rule.headers)
        + "".join(tag("AllowedMethod", name) for name in rule.methods)
        + "".join(tag("AllowedOrigin", origin) for origin in rule.origins)
        + "".join(tag("ExposeHeader", name) for name in rule.exposed)
        + ("" if rule.max_age_s is None else tag("MaxAgeSeconds", rule.max_age_s))
        + "</CORSRule>"
        for rule in document.rules
    ]


def to_document(cors: BucketCors) -> bytes:
    """What a bucket keeps."""
    return encode(cors)


def of_stored(stored: bytes) -> BucketCors:
    return decode(BucketCors, stored)


def _rule(element: Element) -> CorsRule:
    many: dict[str, list[str]] = {
        name: [] for name in ("AllowedOrigin", "AllowedMethod", "AllowedHeader", "ExposeHeader")
    }
    once: dict[str, str] = {}
    if element.name != "CORSRule":
        raise S3Error("MalformedXML")
    for child in element.children:
        if child.children:
            raise S3Error("MalformedXML")
        if child.name in many:
            many[child.name].append(child.text)
        elif child.name in ("ID", "MaxAgeSeconds") and child.name not in once:
            once[child.name] = child.text
        else:
            raise S3Error("MalformedXML")
    if not many["AllowedOrigin"] or not many["AllowedMethod"]:
        raise S3Error("MalformedXML")
    return CorsRule(
        tuple(many["AllowedOrigin"]),
        tuple(many["AllowedMethod"]),
        tuple(many["AllowedHeader"]),
        tuple(many["ExposeHeader"]),
        _seconds(once["MaxAgeSeconds"]) if "MaxAgeSeconds" in once else None,
        once.get("ID"),
    )


def _seconds(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _SECONDS_DIGITS_MAX):
        raise S3Error("MalformedXML")
    if int(digits) > limits.S3_CORS_MAX_AGE_S_MAX:
        raise S3Error("MalformedXML")
    return int(digits)


def _check(rule: CorsRule) -> None:
    if rule.id is not None and len(rule.id) > limits.S3_CORS_ID_CHARS_MAX:
        raise _invalid(f"The ID of a rule may have {limits.S3_CORS_ID_CHARS_MAX} characters.")
    for method in rule.methods:
        if method not in METHODS:
            raise _invalid(
                f"Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            )
    for name, texts in (("AllowedOrigin", rule.origins), ("AllowedHeader", rule.headers)):
        for text in texts:
            if text.count(_ANY) > 1:
                raise _invalid(f'{name} "{text}" can not have more than one wildcard.')
    for text in rule.exposed:
        if _ANY in text:
            raise _invalid(
                f'ExposeHeader "{text}" contains wildcard. We currently do not support wildcard '
                "for ExposeHeader."
            )
        if not (text.isascii() and text.isprintable()):  # it could not stand in an answer's field
            raise _invalid(f'ExposeHeader "{text}" contains invalid character.')


def _invalid(why: str) -> S3Error:
    return S3Error("InvalidRequest", why)


# --- rules, as they are applied -----------------------------------------------------------------


class _Patterns:
    """Texts of which each may have one `*`."""

    __slots__ = ("_exact", "_heads", "_prefixes", "_tails", "is_any")

    def __init__(self, patterns: Iterable[str]) -> None:
        exact, prefixes, heads, tails = [], [], [], []
        for pattern in patterns:
            head, star, tail = pattern.partition(_ANY)
            if not star:
                exact.append(pattern)
            elif tail:
                heads.append(head)
                tails.append(tail)
            else:
                prefixes.append(head)
        self.is_any = "" in prefixes
        self._exact, self._prefixes = tuple(exact), tuple(prefixes)
        self._heads, self._tails = tuple(heads), tuple(tails)

    def fit(self, text: str) -> bool:
        if self.is_any or text in self._exact or text.startswith(self._prefixes):
            return True
        return any(
            text.startswith(head) and text.endswith(tail) and len(text) >= len(head) + len(tail)
            for head, tail in zip(self._heads, self._tails, strict=True)
        )


_NOTHING: Final = _Patterns(())
_EVERYTHING: Final = _Patterns((_ANY,))


def _patterns(texts: tuple[str, ...]) -> _Patterns:
    if not texts:
        return _NOTHING
    return _EVERYTHING if _ANY in texts else _Patterns(texts)


class _Rule:
    """One that is ready to be applied."""

    __slots__ = ("_headers", "_methods", "_origins", "_said")

    def __init__(self, rule: CorsRule) -> None:
        self._origins = _patterns(rule.origins)
        self._methods = ", ".join(rule.methods)
        self._headers = _patterns(tuple(map(str.lower, rule.headers)))
        said = []
        if rule.exposed:
            said.append(("Access-Control-Expose-Headers", ", ".join(rule.exposed)))
        if rule.max_age_s is not None:
            said.append(("Access-Control-Max-Age", str(rule.max_age_s)))
        self._said = tuple(said)

    def fits(self, origin: str, method: str, headers: Iterable[str]) -> bool:
        return (
            method in self._methods.split(", ")
            and self._origins.fit(origin)
            and all(self._headers.fit(name) for name in headers)
        )

    def fields(self, origin: str, headers: list[str]) -> list[tuple[str, str]]:
        is_any = self._origins.is_any
        fields = [
            ("Access-Control-Allow-Origin", _ANY if is_any else origin),
            ("Access-Control-Allow-Methods", self._methods),
        ]
        if headers:
            fields.append(("Access-Control-Allow-Headers", ", ".join(headers)))
        fields += self._said
        if not is_any:
            fields.append(("Access-Control-Allow-Credentials", "true"))
        fields.append(VARY)
        return fields


class CorsRules:
    """What a bucket's document means."""

    __slots__ = ("_rules",)

    def __init__(self, document: BucketCors) -> None:
        self._rules = tuple(_Rule(rule) for rule in document.rules)

    def fields(self, origin: str, method: str, asked: str) -> list[tuple[str, str]] | None:
        """The header fields of an answer to a script of `origin`, by the first rule that fits;
        None: none does. `method`: that which is, or is to be, used. `asked`: the value of
        Access-Control-Request-Headers, or ""."""
        headers = [name for name in (part.strip().lower() for part in asked.split(",")) if name]
        if len(headers) > limits.S3_CORS_ASKED_HEADERS_MAX:
            return None
        for rule in self._rules:
            if rule.fits(origin, method, headers):
                return rule.fields(origin, headers)
        return None


def _read(stored: bytes) -> CorsRules | PredastoreError:
    """Rules that can not be read are in the way of preflights, and of nothing else."""
    try:
        return CorsRules(of_stored(stored))
    except PredastoreError as error:
        return error


KIND: Final = DocumentKind(CORS, _read, memory_ratio=40)


def rules_in(meanings: Meanings) -> CorsRules | None:
    """The rules of a bucket whose documents mean that, None: it has none. CorruptData,
    UnsupportedFormat."""
    found = meanings.of(KIND)
    if isinstance(found, PredastoreError):
        raise anew(found)
    return found
