"""`Catalog`: every operation on buckets, objects, versions and multipart uploads.

The one class that the S3 layer calls. Keys and names are `str`, checked by the caller (length,
legal bucket name); ETags have no quotes. One commit per changing call. What a request may not have
is raised as a CatalogError; NotEnoughNodes, ObjectUnreadable, BodyMismatch, NodeFull, Overloaded,
NoLeader and OutcomeUnknown are for the caller to map, too.

Changing calls take the `Permit` that the request was given (`permit`), and are bound to the bucket
that it is for; without one, anybody may change the bucket that is there.
"""

from __future__ import annotations

from predastore.catalog.buckets import Buckets
from predastore.catalog.deletes import Deletes
from predastore.catalog.listings import Listings
from predastore.catalog.uploads import Uploads


class Catalog(Buckets, Listings, Deletes, Uploads):
    """Constructed over a GlobalState, a ByteStore and what collects garbage; `close` it."""
