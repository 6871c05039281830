"""S3's features that are not here, as data: what asks for each, and what S3 answers without it.

Clients look around before they work: Terraform reads all that a bucket may have. S3 has an answer
for a bucket that has no such thing, and it is given here: an error that says so, or an empty
document. Deleting what is not there succeeds where it does with S3. All else that names such a
feature is 501, and says which one it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from predastore.s3.xml_write import tag


class AbsentFeature(NamedTuple):
    """What `operation` (S3's name for it) answers in a bucket that lacks the feature, to whom a
    policy allows `action`.

    `code`: an error of the table, `message` its text where it is not the table's; else a document,
    `root` with `body` in it; without either, 204. `by`: the query parameters that name it.
    """

    method: str
    by: tuple[str, ...]
    operation: str
    action: str
    code: str = ""
    message: str = ""
    root: str = ""
    body: str = ""


def _configuration(
    query: str, name: str, action: str, code: str, *, delete: str = "", may_delete: str = ""
) -> Iterator[AbsentFeature]:
    """One that a bucket has or has not, and whose absence is an error. `action`: without "s3:Get";
    deleting it is allowed to who may put it, or by `may_delete`."""
    yield AbsentFeature("GET", (query,), f"Get{name}", f"s3:Get{action}", code)
    if delete:
        yield AbsentFeature("DELETE", (query,), delete, f"s3:{may_delete or f'Put{action}'}")


def _configurations(query: str, name: str, root: str) -> Iterator[AbsentFeature]:
    """One of which a bucket has any number, each with an id."""
    get, put = (f"s3:{verb}{name}Configuration" for verb in ("Get", "Put"))
    code = "NoSuchConfiguration"
    yield AbsentFeature("GET", (query, "id"), f"GetBucket{name}Configuration", get, code)
    yield AbsentFeature("DELETE", (query, "id"), f"DeleteBucket{name}Configuration", put, code)
    empty = tag("IsTruncated", False)
    yield AbsentFeature(
        "GET", (query,), f"ListBucket{name}Configurations", get, root=root, body=empty
    )


def _setting(
    query: str, name: str, action: str, root: str, body: str = ""
) -> Iterator[AbsentFeature]:
    """One that every bucket has, and that says that there is nothing."""
    yield AbsentFeature(
        "GET", (query,), f"GetBucket{name}", f"s3:Get{action}", root=root, body=body
    )


OF_BUCKETS: Final = (
    *_configurations("analytics", "Analytics", "ListBucketAnalyticsConfigurationsResult"),
    *_configurations(
        "intelligent-tiering",
        "IntelligentTiering",
        "ListBucketIntelligentTieringConfigurationsOutput",
    ),
    *_configurations("inventory", "Inventory", "ListInventoryConfigurationsResult"),
    *_configurations("metrics", "Metrics", "ListMetricsConfigurationsResult"),
    *_configuration(
        "encryption",
        "BucketEncryption",
        "EncryptionConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        delete="DeleteBucketEncryption",
    ),
    *_configuration(
        "lifecycle",
        "BucketLifecycleConfiguration",
        "LifecycleConfiguration",
        "NoSuchLifecycleConfiguration",
        delete="DeleteBucketLifecycle",
    ),
    *_configuration(
        "metadataConfiguration",
        "BucketMetadataConfiguration",
        "BucketMetadataTableConfiguration",
        "MetadataConfigurationNotFound",
    ),
    *_configuration(
        "metadataTable",
        "BucketMetadataTableConfiguration",
        "BucketMetadataTableConfiguration",
        "MetadataConfigurationNotFound",
    ),
    *_configuration(
        "replication",
        "BucketReplication",
        "ReplicationConfiguration",
        "ReplicationConfigurationNotFoundError",
        delete="DeleteBucketReplication",
    ),
    *_configuration(
        "website",
        "BucketWebsite",
        "BucketWebsite",
        "NoSuchWebsiteConfiguration",
        delete="DeleteBucketWebsite",
        may_delete="DeleteBucketWebsite",
    ),
    *_setting("abac", "Abac", "BucketAbac", "AbacStatus", tag("Status", "Disabled")),
    *_setting(
        "accelerate",
        "AccelerateConfiguration",
        "AccelerateConfiguration",
        "AccelerateConfiguration",
    ),
    *_setting("logging", "Logging", "BucketLogging", "BucketLoggingStatus"),
    *_setting(
        "notification",
        "NotificationConfiguration",
        "BucketNotification",
        "NotificationConfiguration",
    ),
    *_setting(
        "requestPayment",
        "RequestPayment",
        "BucketRequestPayment",
        "RequestPaymentConfiguration",
        tag("Payer", "BucketOwner"),
    ),
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
    "versioning": "versioning",
    "versions": "versions of objects",
    "website": "static websites",
}
