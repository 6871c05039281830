"""A policy document, and the kinds that there are."""

from __future__ import annotations

import enum


class PolicyKind(enum.Enum):
    """Where a document stands, which decides what it may have."""

    IDENTITY = "identity"  # of a user, group, role; a boundary: no Principal
    BUCKET = "bucket"  # Principal; resources of the bucket; actions of S3
    TRUST = "trust"  # of a role: Principal; actions of STS; no Resource
    SESSION = "session"  # given when a role is taken on: as IDENTITY
