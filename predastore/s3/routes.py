"""The whole route table, on one page.

A route is picked by method, by level (service, account, resource, bucket, object), and by the query
parameters and the header that mark its operation; the first that fits, in the table's order. Then
the rule that keeps data safe: a query parameter that the operation does not know is never ignored
where it could mean something. Sub-resources of S3 that are not in the table are 501 NotImplemented,
and so is any parameter without a value; on a request that changes something, every other unknown
parameter is 400 InvalidArgument. Reads ignore an unknown parameter that has a value, as S3 does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from predastore.auth.presigned_v2 import CONTENT_FIELDS
from predastore.base.errors import S3Error
from predastore.httpd.message import Headers, is_field_name
from predastore.s3 import acl_request, lock
from predastore.s3.access import OF_A_VERSION
from predastore.s3.checksums import OF_NOTHING
from predastore.s3.conditions import COPY_SOURCE
from predastore.s3.context import Operation
from predastore.s3.control import TAG_KEYS
from predastore.s3.errors import not_implemented
from predastore.s3.features import OF_BUCKETS, SUBRESOURCES, AbsentFeature
from predastore.s3.headers import check_unimplemented
from predastore.s3.ops import (
    abort_multipart_upload,
    absent_feature,
    complete_multipart_upload,
    copy_object,
    create_bucket,
    create_multipart_upload,
    delete_account_public_access_block,
    delete_bucket,
    delete_bucket_cors,
    delete_bucket_ownership_controls,
    delete_bucket_policy,
    delete_bucket_tagging,
    delete_object,
    delete_object_tagging,
    delete_objects,
    delete_public_access_block,
    get_account_public_access_block,
    get_bucket_acl,
    get_bucket_cors,
    get_bucket_location,
    get_bucket_ownership_controls,
    get_bucket_policy,
    get_bucket_policy_status,
    get_bucket_tagging,
    get_bucket_versioning,
    get_object,
    get_object_acl,
    get_object_attributes,
    get_object_legal_hold,
    get_object_lock_configuration,
    get_object_retention,
    get_object_tagging,
    get_public_access_block,
    head_bucket,
    head_object,
    list_buckets,
    list_multipart_uploads,
    list_object_versions,
    list_objects,
    list_objects_v2,
    list_parts,
    list_tags_for_resource,
    post_object,
    put_account_public_access_block,
    put_bucket_acl,
    put_bucket_cors,
    put_bucket_ownership_controls,
    put_bucket_policy,
    put_bucket_tagging,
    put_bucket_versioning,
    put_object,
    put_object_acl,
    put_object_legal_hold,
    put_object_lock_configuration,
    put_object_retention,
    put_object_tagging,
    put_public_access_block,
    tag_resource,
    untag_resource,
    upload_part,
    upload_part_copy,
)
from predastore.s3.representation import OVERRIDES

SERVICE: Final = 0
BUCKET: Final = 1
OBJECT: Final = 2
ACCOUNT: Final = 3  # of S3 Control: what an account has
RESOURCE: Final = 4  # of S3 Control: a bucket, by its ARN


@dataclass(frozen=True, slots=True)
class Route:
    """`by`: the query parameters that must be there; `marker`: the header that must.

    `action`: what has to be allowed, of the bucket or object that is addressed; `actions_of` tells
    a request's. What an operation does besides (a copy reads its source), it asks for itself; where
    `is_of_each`, it asks for the action itself, of each key that its body names.
    `query`: further parameters that the operation understands. `headers`: the x-amz-* fields that
    it obeys, of those that not every operation does. `called`: its name, where its module has not.
    """

    method: str
    level: int
    by: tuple[str, ...]
    marker: str
    operation: Operation
    action: str
    query: frozenset[str] = frozenset()
    headers: frozenset[bytes] = frozenset()
    called: str = ""
    is_of_each: bool = False

    @property
    def name(self) -> str:
        """What S3 calls the operation: GetObject."""
        return self.called or _NAMES[self.operation]

    def actions_of(self, query: dict[str, str]) -> tuple[str, ...]:
        """What has to be allowed for a request of this route."""
        if self.is_of_each:
            return ()
        action = self.action
        return (OF_A_VERSION.get(action, action) if "versionId" in query else action,)

    @property
    def mutating(self) -> bool:
        return self.method in ("PUT", "POST", "DELETE")

    @property
    def needs_account(self) -> bool:
        """Whether nobody anonymous may do it, whatever a policy allows: what makes, changes or
        deletes a bucket."""
        return self.level != OBJECT and self.mutating and not self.is_of_each


_PAGE = frozenset({"prefix", "delimiter", "encoding-type"})
_V1 = _PAGE | {"marker", "max-keys"}
_V2 = _PAGE | {"max-keys", "start-after", "continuation-token", "fetch-owner"}
_VERSIONS = _PAGE | {"key-marker", "version-id-marker", "max-keys"}
_UPLOADS = _PAGE | {"key-marker", "upload-id-marker", "max-uploads"}
_PARTS = frozenset({"max-parts", "part-number-marker"})
_BUCKETS = frozenset({"prefix", "max-buckets", "continuation-token", "bucket-region"})
_READ = frozenset({"partNumber", "versionId", *OVERRIDES})
_VERSION = frozenset({"versionId"})
_NO_QUERY: frozenset[str] = frozenset()

_ACL = acl_request.FIELDS
_MAKE = _ACL | frozenset({b"x-amz-bucket-object-lock-enabled", b"x-amz-object-ownership"})
_LOCK = frozenset(name.encode() for name in (lock.MODE, lock.UNTIL, lock.LEGAL_HOLD))
_BYPASS = frozenset({lock.BYPASS.encode()})
_WRITE = (
    _LOCK
    | _ACL
    | frozenset({b"x-amz-storage-class", b"x-amz-tagging", b"x-amz-website-redirect-location"})
)
_SOURCE = frozenset({b"x-amz-copy-source", *(name.encode() for name in COPY_SOURCE)})
_COPY = _WRITE | _SOURCE | {b"x-amz-tagging-directive"}
_COPY_PART = _SOURCE | {b"x-amz-copy-source-range"}
_COPIES = "x-amz-copy-source"


def _absent(features: Iterable[AbsentFeature]) -> tuple[Route, ...]:
    """The routes of what is not here, and has an answer."""
    return tuple(
        Route(
            one.method,
            BUCKET,
            one.by,
            "",
            absent_feature.answers(one),
            one.action,
            called=one.operation,
        )
        for one in features
    )


ROUTES: Final = (
    Route("GET", SERVICE, (), "", list_buckets.run, "s3:ListAllMyBuckets", _BUCKETS),
    # --- accounts
    Route("GET", ACCOUNT, (), "", get_account_public_access_block.run,
          "s3:GetAccountPublicAccessBlock"),
    Route("PUT", ACCOUNT, (), "", put_account_public_access_block.run,
          "s3:PutAccountPublicAccessBlock"),
    Route("DELETE", ACCOUNT, (), "", delete_account_public_access_block.run,
          "s3:PutAccountPublicAccessBlock"),
    # --- tags of a bucket by S3 Control
    Route("GET", RESOURCE, (), "", list_tags_for_resource.run, "s3:ListTagsForResource"),
    Route("POST", RESOURCE, (), "", tag_resource.run, "s3:TagResource"),
    Route("DELETE", RESOURCE, (TAG_KEYS,), "", untag_resource.run, "s3:UntagResource"),
    # --- buckets
    Route("GET", BUCKET, ("location",), "", get_bucket_location.run, "s3:GetBucketLocation"),
    Route("GET", BUCKET, ("versioning",), "", get_bucket_versioning.run, "s3:GetBucketVersioning"),
    Route("GET", BUCKET, ("acl",), "", get_bucket_acl.run, "s3:GetBucketAcl"),
    Route("GET", BUCKET, ("ownershipControls",), "", get_bucket_ownership_controls.run,
          "s3:GetBucketOwnershipControls"),
    Route("GET", BUCKET, ("policy",), "", get_bucket_policy.run, "s3:GetBucketPolicy"),
    Route("GET", BUCKET, ("policyStatus",), "", get_bucket_policy_status.run,
          "s3:GetBucketPolicyStatus"),
    Route("GET", BUCKET, ("publicAccessBlock",), "", get_public_access_block.run,
          "s3:GetBucketPublicAccessBlock"),
    Route("GET", BUCKET, ("uploads",), "", list_multipart_uploads.run,
          "s3:ListBucketMultipartUploads", _UPLOADS),
    Route("GET", BUCKET, ("versions",), "", list_object_versions.run,
          "s3:ListBucketVersions", _VERSIONS),
    Route("GET", BUCKET, ("tagging",), "", get_bucket_tagging.run, "s3:GetBucketTagging"),
    Route("GET", BUCKET, ("cors",), "", get_bucket_cors.run, "s3:GetBucketCORS"),
    Route("GET", BUCKET, ("object-lock",), "", get_object_lock_configuration.run,
          "s3:GetBucketObjectLockConfiguration"),
    *_absent(OF_BUCKETS),
    Route("GET", BUCKET, ("list-type",), "", list_objects_v2.run, "s3:ListBucket", _V2),
    Route("GET", BUCKET, (), "", list_objects.run, "s3:ListBucket", _V1),
    Route("HEAD", BUCKET, (), "", head_bucket.run, "s3:ListBucket"),
    Route("PUT", BUCKET, ("acl",), "", put_bucket_acl.run, "s3:PutBucketAcl", _NO_QUERY, _ACL),
    Route("PUT", BUCKET, ("ownershipControls",), "", put_bucket_ownership_controls.run,
          "s3:PutBucketOwnershipControls"),
    Route("PUT", BUCKET, ("policy",), "", put_bucket_policy.run, "s3:PutBucketPolicy"),
    Route("PUT", BUCKET, ("publicAccessBlock",), "", put_public_access_block.run,
          "s3:PutBucketPublicAccessBlock"),
    Route("PUT", BUCKET, ("versioning",), "", put_bucket_versioning.run,
          "s3:PutBucketVersioning"),
    Route("PUT", BUCKET, ("tagging",), "", put_bucket_tagging.run, "s3:PutBucketTagging"),
    Route("PUT", BUCKET, ("cors",), "", put_bucket_cors.run, "s3:PutBucketCORS"),
    Route("PUT", BUCKET, ("object-lock",), "", put_object_lock_configuration.run,
          "s3:PutBucketObjectLockConfiguration"),
    Route("PUT", BUCKET, (), "", create_bucket.run, "s3:CreateBucket", _NO_QUERY, _MAKE),
    Route("POST", BUCKET, ("delete",), "", delete_objects.run, "s3:DeleteObject",
          _NO_QUERY, _BYPASS, is_of_each=True),
    Route("POST", BUCKET, (), "", post_object.run, "s3:PutObject", is_of_each=True),
    Route("DELETE", BUCKET, ("tagging",), "", delete_bucket_tagging.run, "s3:PutBucketTagging"),
    Route("DELETE", BUCKET, ("cors",), "", delete_bucket_cors.run, "s3:PutBucketCORS"),
    Route("DELETE", BUCKET, ("ownershipControls",), "", delete_bucket_ownership_controls.run,
          "s3:PutBucketOwnershipControls"),
    Route("DELETE", BUCKET, ("policy",), "", delete_bucket_policy.run, "s3:DeleteBucketPolicy"),
    Route("DELETE", BUCKET, ("publicAccessBlock",), "", delete_public_access_block.run,
          "s3:PutBucketPublicAccessBlock"),
    Route("DELETE", BUCKET, (), "", delete_bucket.run, "s3:DeleteBucket"),
    # --- objects
    Route("GET", OBJECT, ("uploadId",), "", list_parts.run, "s3:ListMultipartUploadParts", _PARTS),
    Route("GET", OBJECT, ("acl",), "", get_object_acl.run, "s3:GetObjectAcl", _VERSION),
    Route("GET", OBJECT, ("tagging",), "", get_object_tagging.run, "s3:GetObjectTagging", _VERSION),
    Route("GET", OBJECT, ("attributes",), "", get_object_attributes.run, "s3:GetObjectAttributes",
          _VERSION),
    Route("GET", OBJECT, ("retention",), "", get_object_retention.run, "s3:GetObjectRetention",
          _VERSION),
    Route("GET", OBJECT, ("legal-hold",), "", get_object_legal_hold.run, "s3:GetObjectLegalHold",
          _VERSION),
    Route("GET", OBJECT, (), "", get_object.run, "s3:GetObject", _READ),
    Route("HEAD", OBJECT, (), "", head_object.run, "s3:GetObject", _READ),
    Route("PUT", OBJECT, ("acl",), "", put_object_acl.run, "s3:PutObjectAcl", _VERSION, _ACL),
    Route("PUT", OBJECT, ("tagging",), "", put_object_tagging.run, "s3:PutObjectTagging",
          _VERSION),
    Route("PUT", OBJECT, ("retention",), "", put_object_retention.run, "s3:PutObjectRetention",
          _VERSION, _BYPASS),
    Route("PUT", OBJECT, ("legal-hold",), "", put_object_legal_hold.run, "s3:PutObjectLegalHold",
          _VERSION),
    Route("PUT", OBJECT, ("partNumber", "uploadId"), _COPIES, upload_part_copy.run, "s3:PutObject",
          _NO_QUERY, _COPY_PART),
    Route("PUT", OBJECT, ("partNumber", "uploadId"), "", upload_part.run, "s3:PutObject"),
    Route("PUT", OBJECT, (), _COPIES, copy_object.run, "s3:PutObject", _NO_QUERY, _COPY),
    Route("PUT", OBJECT, (), "", put_object.run, "s3:PutObject", _NO_QUERY, _WRITE),
    Route("POST", OBJECT, ("uploads",), "", create_multipart_upload.run, "s3:PutObject",
          _NO_QUERY, _WRITE),
    Route("POST", OBJECT, ("uploadId",), "", complete_multipart_upload.run, "s3:PutObject"),
    Route("DELETE", OBJECT, ("uploadId",), "", abort_multipart_upload.run,
          "s3:AbortMultipartUpload"),
    Route("DELETE", OBJECT, ("tagging",), "", delete_object_tagging.run, "s3:DeleteObjectTagging",
          _VERSION),
    Route("DELETE", OBJECT, (), "", delete_object.run, "s3:DeleteObject", _VERSION, _BYPASS),
)  # fmt: skip

_NAMES: Final = {
    route.operation: route.operation.__module__.rpartition(".")[2].title().replace("_", "")
    for route in ROUTES
    if not route.called
}

# Parameters that say nothing about the operation: its name, as SDKs send it, and the signature.
_ANYWHERE: Final = frozenset({"x-id", "AWSAccessKeyId", "Expires", "Signature"})
_SIGNATURE: Final = frozenset(
    {
        *("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires"),
        *("x-amz-signedheaders", "x-amz-signature", "x-amz-security-token"),
        *("x-amz-content-sha256", "x-amz-user-agent"),
    }
)


def _index() -> dict[tuple[str, int], tuple[Route, ...]]:
    found: dict[tuple[str, int], tuple[Route, ...]] = {}
    for route in ROUTES:
        where = (route.method, route.level)
        found[where] = (*found.get(where, ()), route)
    return found


_INDEX: Final = _index()


def _refuse_unknown(route: Route, query: dict[str, str]) -> None:
    for name, value in query.items():
        if name in route.by or name in route.query or name in _ANYWHERE:
            continue
        if name[:6].lower() == "x-amz-" and name.lower() in _SIGNATURE:
            continue
        if name == "versionId":
            why = "This operation does not accept a version-id."
            raise S3Error("InvalidArgument", why, ArgumentName=name, ArgumentValue=value)
        if name in SUBRESOURCES or not value:
            raise _unimplemented(name)
        if route.mutating:
            raise S3Error(
                "InvalidArgument",
                "This request has a query parameter that its operation does not know.",
                ArgumentName=name,
                ArgumentValue=value,
            )


def _unimplemented(name: str) -> S3Error:
    """501 for the query parameter `name`."""
    what = SUBRESOURCES.get(name, "a sub-resource that is not known here")
    return not_implemented(f"?{name} asks for {what}", parameter=name)


def _unroutable(method: str, level: int, query: dict[str, str]) -> S3Error:
    """Why there is no operation for these."""
    for name in query:
        if name in SUBRESOURCES:
            return _unimplemented(name)
    return S3Error("MethodNotAllowed", Method=method)


def _is_field(name: str, *, v2: bool) -> bool:
    """Whether a parameter is a header field in disguise; `v2`: in a URL of Version 2."""
    lowered = name.lower()
    if lowered.startswith("x-amz-"):
        return lowered not in _SIGNATURE
    return v2 and lowered in CONTENT_FIELDS


def hoisted_headers(query: dict[str, str], headers: Headers) -> Headers:
    """The header fields with those that a presigned URL carries as parameters (x-amz-acl=...).

    They then are fields like any other: obeyed or refused, and never overlooked. The parameters
    are taken out of `query`. What the header says too counts once. One thing that they say is
    known to be meant for no body: SDKs sign a URL before there is one, and put the digest of no
    bytes into it, with the algorithm's name.
    """
    v2 = "AWSAccessKeyId" in query
    names = [name for name in query if _is_field(name, v2=v2)]
    if not names:
        return headers
    for name in names:
        if not (is_field_name(name.encode()) and query[name].isprintable()):
            raise S3Error("InvalidArgument", ArgumentName=name, ArgumentValue=query[name])
    moved = [(name.lower(), query.pop(name)) for name in names]
    kept = [
        (name.encode(), value.strip().encode())
        for name, value in moved
        if name != "x-amz-sdk-checksum-algorithm" and OF_NOTHING.get(name) != value
    ]
    return Headers([*headers.raw, *(field for field in kept if field not in headers.raw)])


def select(method: str, level: int, query: dict[str, str], headers: Headers) -> Route:
    """The route of a request, all that it asks for known to be understood.

    S3Error NotImplemented, InvalidArgument, MethodNotAllowed.
    """
    for route in _INDEX.get((method, level), ()):
        if all(name in query for name in route.by) and (
            not route.marker or route.marker in headers
        ):
            break
    else:
        raise _unroutable(method, level, query)
    if query:
        _refuse_unknown(route, query)
    check_unimplemented(headers, route.headers, mutating=route.mutating)
    return route
