"""What the operations of S3 share; the same for all requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from predastore.auth.sigv4 import Find, Verifier
from predastore.catalog.catalog import Catalog
from predastore.s3.documents import Documents
from predastore.s3.ownership import NOTHING_SAID, NewBuckets
from predastore.s3.tokens import Tokens

# Whether there is an account of a canonical id.
IsAccount: TypeAlias = Callable[[str], Awaitable[bool]]


async def anybody(_: str) -> bool:
    """For callers that do not know the accounts."""
    return True


@dataclass(frozen=True, slots=True)
class Services:
    """`is_account`: to whom ACLs may give something. `new_buckets`: what those have that are made
    without saying. `verifier`, `find`: also of what is signed within a body (auth/sigv4.py)."""

    catalog: Catalog
    region: str
    tokens: Tokens
    verifier: Verifier
    find: Find | None = None
    domains: tuple[str, ...] = ()
    is_account: IsAccount = anybody
    new_buckets: NewBuckets = NOTHING_SAID
    documents: Documents = field(default_factory=Documents)
