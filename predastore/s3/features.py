"""S3's features that are not here, as data: what asks for each, and what S3 answers without it.

Clients look around before they work: Terraform reads all that a bucket may have, backup programs
ask for versions and locks. S3 has an answer for a bucket that has no such thing, and it is given
here: an error that says so, or an empty document. Deleting what is not there succeeds where it
does with S3. All else that names such a feature is 501, and says which one it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from predastore.s3.xml_write import tag


class Absent(NamedTuple):
    """What `operation` (S3's name for it) answers in a bucket that lacks the feature.

    `code`: an error of the table, `message` its text where it is not the table's; else a document,
    `root` with `body` in it; without either, 204. `by`: the query parameters that name it.
    """

    method: str
    by: tuple[str, ...]
    operation: str
    code: str = ""
    message: str = ""
    root: str = ""
    body: str = ""


def _configuration(query: str, name: str, code: str, *, delete: str = "") -> Iterator[Absent]:
    """One that a bucket has or has not, and whose absence is an error."""
    yield Absent("GET", (query,), f"Get{name}", code)
    if delete:
        yield Absent("DELETE", (query,), delete)


def _configurations(query: str, name: str, root: str) -> Iterator[Absent]:
    """One of which a bucket has any number, each with an id."""
    yield Absent("GET", (query, "id"), f"GetBucket{name}Configuration", "NoSuchConfiguration")
    yield Absent("DELETE", (query, "id"), f"DeleteBucket{name}Configuration", "NoSuchConfiguration")
    empty = tag("IsTruncated", False)
    yield Absent("GET", (query,), f"ListBucket{name}Configurations", root=root, body=empty)


def _setting(query: str, name: str, root: str, body: str = "") -> Iterator[Absent]:
    """One that every bucket has, and that says that there is nothing."""
    yield Absent("GET", (query,), f"GetBucket{name}", root=root, body=body)


OF_BUCKETS: Final = (
    *_configurations("analytics", "Analytics", "ListBucketAnalyticsConfigurationsResult"),
    *_configurations(
        "intelligent-tiering",
        "IntelligentTiering",
        "ListBucketIntelligentTieringConfigurationsOutput",
    ),
    *_configurations("inventory", "Inventory", "ListInventoryConfigurationsResult"),
    *_configurations("metrics", "Metrics", "ListMetricsConfigurationsResult"),
    *_configuration("cors", "BucketCors", "NoSuchCORSConfiguration", delete="DeleteBucketCors"),
    *_configuration(
        "encryption",
        "BucketEncryption",
        "ServerSideEncryptionConfigurationNotFoundError",
        delete="DeleteBucketEncryption",
    ),
    *_configuration(
        "lifecycle",
        "BucketLifecycleConfiguration",
        "NoSuchLifecycleConfiguration",
        delete="DeleteBucketLifecycle",
    ),
    *_configuration(
        "metadataConfiguration", "BucketMetadataConfiguration", "MetadataConfigurationNotFound"
    ),
    *_configuration(
        "metadataTable", "BucketMetadataTableConfiguration", "MetadataConfigurationNotFound"
    ),
    *_configuration(
        "object-lock", "ObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"
    ),
    *_configuration(
        "ownershipControls",
        "BucketOwnershipControls",
        "OwnershipControlsNotFoundError",
        delete="DeleteBucketOwnershipControls",
    ),
    *_configuration("policy", "BucketPolicy", "NoSuchBucketPolicy", delete="DeleteBucketPolicy"),
    *_configuration("policyStatus", "BucketPolicyStatus", "NoSuchBucketPolicy"),
    *_configuration(
        "publicAccessBlock",
        "PublicAccessBlock",
        "NoSuchPublicAccessBlockConfiguration",
        delete="DeletePublicAccessBlock",
    ),
    *_configuration(
        "replication",
        "BucketReplication",
        "ReplicationConfigurationNotFoundError",
        delete="DeleteBucketReplication",
    ),
    *_configuration("tagging", "BucketTagging", "NoSuchTagSet", delete="DeleteBucketTagging"),
    *_configuration(
        "website", "BucketWebsite", "NoSuchWebsiteConfiguration", delete="DeleteBucketWebsite"
    ),
    *_setting("abac", "Abac", "AbacStatus", tag("Status", "Disabled")),
    *_setting("accelerate", "AccelerateConfiguration", "AccelerateConfiguration"),
    *_setting("logging", "Logging", "BucketLoggingStatus"),
    *_setting("notification", "NotificationConfiguration", "NotificationConfiguration"),
    *_setting(
        "requestPayment",
        "RequestPayment",
        "RequestPaymentConfiguration",
        tag("Payer", "BucketOwner"),
    ),
)

_NO_LOCK = "Bucket is missing Object Lock Configuration"

OF_OBJECTS: Final = (
    Absent("GET", ("legal-hold",), "GetObjectLegalHold", "InvalidRequest", _NO_LOCK),
    Absent("GET", ("retention",), "GetObjectRetention", "InvalidRequest", _NO_LOCK),
    Absent("DELETE", ("tagging",), "DeleteObjectTagging"),
)

# Query parameters of S3 that name something else than the plain bucket or object -> what it is.
SUBRESOURCES: Final = {
    "abac": "access by attributes",
    "accelerate": "transfer acceleration",
    "acl": "access control lists",
    "analytics": "analytics",
    "annotation": "annotations",
    "append": "appending to an object",
    "attributes": "an object's attributes",
    "cors": "cross-origin resource sharing",
    "delete": "deleting objects by a list",
    "encryption": "server-side encryption",
    "intelligent-tiering": "intelligent tiering",
    "inventory": "inventories",
    "legal-hold": "object lock",
    "lifecycle": "lifecycle rules",
    "list-type": "a kind of listing",
    "location": "a bucket's region",
    "logging": "access logs",
    "metadataAnnotationTable": "metadata tables",
    "metadataConfiguration": "metadata tables",
    "metadataInventoryTable": "metadata tables",
    "metadataJournalTable": "metadata tables",
    "metadataTable": "metadata tables",
    "metrics": "request metrics of a bucket",
    "notification": "event notifications",
    "object-lock": "object lock",
    "ownershipControls": "ownership controls",
    "partNumber": "a part of an object",
    "policy": "bucket policies",
    "policyStatus": "bucket policies",
    "publicAccessBlock": "blocks of public access",
    "renameObject": "renaming an object",
    "replication": "replication",
    "requestPayment": "payment by the requester",
    "restore": "restoring archived objects",
    "retention": "object lock",
    "select": "queries over an object",
    "select-type": "queries over an object",
    "session": "sessions of directory buckets",
    "tagging": "tags",
    "torrent": "torrents",
    "uploadId": "a multipart upload",
    "uploads": "multipart uploads",
    "versionId": "a version of an object",
    "versioning": "versioning",
    "versions": "versions of objects",
    "website": "static websites",
}
