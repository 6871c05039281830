"""Policy documents of identities: judged when they are given, read again when they are used."""

from __future__ import annotations

from functools import lru_cache

from predastore.base.limits import IAM_DOCUMENT_CHARS_MAX, IAM_PRINCIPALS_CACHED_MAX
from predastore.iam.errors import LimitExceeded, MalformedDocument, Unavailable
from predastore.iam.procedures.attachments import size_of
from predastore.policy import PolicyDocument, PolicyError, PolicyKind, parse


def checked(
    text: str, kind: PolicyKind, *, chars_max: int, quota: str, name: str = ""
) -> PolicyDocument:
    """A document that a client gives. MalformedDocument, with what is wrong; LimitExceeded, where
    it has more than `chars_max` characters that are no white space."""
    if len(text) > IAM_DOCUMENT_CHARS_MAX or size_of(text) > chars_max:
        raise LimitExceeded(f"Cannot exceed quota for {quota}: {chars_max}")
    try:
        return parse(text.encode(), kind, name=name)
    except PolicyError as error:
        raise MalformedDocument(str(error)) from None


@lru_cache(maxsize=IAM_PRINCIPALS_CACHED_MAX)
def compiled(text: str, kind: PolicyKind, name: str) -> PolicyDocument:
    """A document that was stored. Unavailable where this program can not read it: what it denies
    is not passed over."""
    try:
        return parse(text.encode(), kind, name=name)
    except PolicyError as error:
        raise Unavailable(f"The policy {name} can not be read by this program: {error}") from None
