"""A request of each route, as it is when all that it needs is there: a bucket with the object `k`.

What a route's operation asks for besides its action, and what it says of a bucket and an object
that have not what it is about.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from botocore.client import BaseClient

from predastore.s3.access import OF_A_VERSION
from predastore.s3.control import BLOCK_PATH, TAGS_PATH
from predastore.s3.routes import ACCOUNT, BUCKET, OBJECT, RESOURCE, ROUTES, Route
from support.s3raw import Answer, Raw

ACTIONS = sorted({route.action for route in ROUTES} | set(OF_A_VERSION.values()))
Prepare = Callable[[BaseClient, str], Raw]


def _copy(bucket: str) -> dict[str, str]:
    return {"x-amz-copy-source": f"{bucket}/k"}


def _upload(s3: BaseClient, bucket: str) -> str:
    return s3.create_multipart_upload(Bucket=bucket, Key="up")["UploadId"]


def _completed(s3: BaseClient, bucket: str) -> Raw:
    upload = _upload(s3, bucket)
    part = s3.upload_part(Bucket=bucket, Key="up", UploadId=upload, PartNumber=1, Body=b"x")
    tag = part["ETag"].strip('"')
    body = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>"
    return Raw("POST", f"/{bucket}/up", f"uploadId={upload}", body.encode())


def delete_objects_of(bucket: str, inner: str = "<Object><Key>k</Key></Object>") -> Raw:
    body = f"<Delete>{inner}</Delete>".encode()
    digest = b64encode(hashlib.md5(body).digest()).decode()
    return Raw("POST", f"/{bucket}", "delete=", body, {"content-md5": digest})


def _part(s3: BaseClient, bucket: str, **more: Any) -> Raw:
    return Raw("PUT", f"/{bucket}/up", f"partNumber=1&uploadId={_upload(s3, bucket)}", **more)


RESOURCE_TAGS = (
    b"<TagResourceRequest><Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags></TagResourceRequest>"
)
TAGGING = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
CORS = (
    b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin>"
    b"<AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
)
VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
LOCK = (
    b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>"
    b"</ObjectLockConfiguration>"
)

ACL = {"x-amz-acl": "private"}
OWNERSHIP = (
    b"<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>"
    b"</OwnershipControls>"
)
BLOCK = (
    b"<PublicAccessBlockConfiguration><IgnorePublicAcls>false</IgnorePublicAcls>"
    b"</PublicAccessBlockConfiguration>"
)

# What a route's request is, where it is more than its method, level and parameters.
POLICY = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*",'
    '"Action":"s3:GetObjectTorrent","Resource":"arn:aws:s3:::%s/*"}]}'
)

REQUESTS: dict[str, Prepare] = {
    "PutBucketPolicy": lambda _, b: Raw("PUT", f"/{b}", "policy=", (POLICY % b).encode()),
    "CreateBucket": lambda _, bucket: Raw("PUT", f"/{bucket}-new"),
    "DeleteObjects": lambda _, bucket: delete_objects_of(bucket),
    "ListParts": lambda s3, b: Raw("GET", f"/{b}/up", f"uploadId={_upload(s3, b)}"),
    "AbortMultipartUpload": lambda s3, b: Raw("DELETE", f"/{b}/up", f"uploadId={_upload(s3, b)}"),
    "UploadPart": lambda s3, bucket: _part(s3, bucket, body=b"x"),
    "UploadPartCopy": lambda s3, bucket: _part(s3, bucket, headers=_copy(bucket)),
    "CopyObject": lambda _, bucket: Raw("PUT", f"/{bucket}/to", headers=_copy(bucket)),
    "CompleteMultipartUpload": _completed,
    "ListObjectsV2": lambda _, bucket: Raw("GET", f"/{bucket}", "list-type=2"),
    "GetObjectAttributes": lambda _, bucket: Raw(
        "GET", f"/{bucket}/k", "attributes=", headers={"x-amz-object-attributes": "ETag"}
    ),
    "PutBucketCors": lambda _, bucket: Raw("PUT", f"/{bucket}", "cors=", CORS),
    "PutBucketTagging": lambda _, bucket: Raw("PUT", f"/{bucket}", "tagging=", TAGGING),
    "PutObjectTagging": lambda _, bucket: Raw("PUT", f"/{bucket}/k", "tagging=", TAGGING),
    "PutBucketVersioning": lambda _, bucket: Raw("PUT", f"/{bucket}", "versioning=", VERSIONING),
    "PutBucketAcl": lambda _, bucket: Raw("PUT", f"/{bucket}", "acl=", headers=ACL),
    "PutObjectAcl": lambda _, bucket: Raw("PUT", f"/{bucket}/k", "acl=", headers=ACL),
    "PutBucketOwnershipControls": lambda _, bucket: Raw(
        "PUT", f"/{bucket}", "ownershipControls=", OWNERSHIP
    ),
    "PutPublicAccessBlock": lambda _, bucket: Raw("PUT", f"/{bucket}", "publicAccessBlock=", BLOCK),
    "PutObjectLockConfiguration": lambda _, bucket: Raw("PUT", f"/{bucket}", "object-lock=", LOCK),
}
# What a route's operation asks for besides.
FURTHER = {
    "CopyObject": "s3:GetObject",
    "UploadPartCopy": "s3:GetObject",
    "GetObjectAttributes": "s3:GetObject",
}
# What says a request that is allowed, of a bucket and object without the feature.
NOTHING_THERE = {
    "GetBucketCors": "NoSuchCORSConfiguration",
    "GetBucketPolicy": "NoSuchBucketPolicy",
    "GetBucketPolicyStatus": "NoSuchBucketPolicy",
    "GetBucketTagging": "NoSuchTagSet",
    "GetBucketOwnershipControls": "OwnershipControlsNotFoundError",
    "GetPublicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
    "GetAccountPublicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
    "GetObjectLockConfiguration": "ObjectLockConfigurationNotFoundError",
    "GetObjectRetention": "InvalidRequest",
    "GetObjectLegalHold": "InvalidRequest",
    "PutObjectRetention": "InvalidRequest",
    "PutObjectLegalHold": "InvalidRequest",
    "PutObjectLockConfiguration": "InvalidBucketState",
}


def request_of(route: Route, s3: BaseClient, bucket: str, account: str) -> Raw:
    """`account`: whose bucket it is."""
    special = REQUESTS.get(route.name)
    if special is not None:
        return special(s3, bucket)
    if route.level == ACCOUNT:
        own = {"x-amz-account-id": account}
        body = BLOCK if route.method == "PUT" else b""
        return Raw(route.method, BLOCK_PATH.decode(), body=body, headers=own)
    if route.level == RESOURCE:
        own = {"x-amz-account-id": account}
        body = RESOURCE_TAGS if route.method == "POST" else b""
        path = f"{TAGS_PATH.decode()}arn%3Aaws%3As3%3A%3A%3A{bucket}"
        return Raw(route.method, path, "&".join(f"{name}=a" for name in route.by), body, own)
    path = {BUCKET: f"/{bucket}", OBJECT: f"/{bucket}/k"}.get(route.level, "/")
    return Raw(route.method, path, "&".join(f"{name}=" for name in route.by))


def is_denied(answer: Answer) -> bool:
    """DeleteObjects answers for each key by itself."""
    of_each = b"<Code>AccessDenied</Code>" in answer.body and b"<Deleted>" not in answer.body
    return answer.status == 403 or of_each


def by_name(route: Route) -> str:
    return f"{route.name}-{route.level}"
