"""What clients ask a bucket about, and it has not: S3's own answers, and a 501 for all the rest."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from predastore.s3.features import SUBRESOURCES
from predastore.s3.xml_write import NAMESPACE
from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import BOB, S3Server

MISSING = {
    "get_bucket_cors": ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
    "get_bucket_encryption": (
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
    ),
    "get_bucket_lifecycle_configuration": (
        "NoSuchLifecycleConfiguration",
        "The lifecycle configuration does not exist",
    ),
    "get_bucket_ownership_controls": (
        "OwnershipControlsNotFoundError",
        "The bucket ownership controls were not found",
    ),
    "get_bucket_policy": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "get_bucket_policy_status": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    "get_bucket_replication": (
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
    ),
    "get_bucket_tagging": ("NoSuchTagSet", "The TagSet does not exist"),
    "get_bucket_website": (
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
    ),
    "get_object_lock_configuration": (
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    ),
    "get_public_access_block": (
        "NoSuchPublicAccessBlockConfiguration",
        "The public access block configuration was not found",
    ),
}
EMPTY: dict[str, dict[str, Any]] = {
    "get_bucket_accelerate_configuration": {},
    "get_bucket_logging": {},
    "get_bucket_notification_configuration": {},
    "get_bucket_request_payment": {"Payer": "BucketOwner"},
    "get_bucket_versioning": {},
    "list_bucket_analytics_configurations": {"IsTruncated": False},
    "list_bucket_intelligent_tiering_configurations": {"IsTruncated": False},
    "list_bucket_inventory_configurations": {"IsTruncated": False},
    "list_bucket_metrics_configurations": {"IsTruncated": False},
}
BY_ID = ("analytics", "intelligent_tiering", "inventory", "metrics")
DELETED = (
    *("delete_bucket_cors", "delete_bucket_encryption", "delete_bucket_lifecycle"),
    *("delete_bucket_ownership_controls", "delete_bucket_policy", "delete_bucket_replication"),
    *("delete_bucket_tagging", "delete_bucket_website", "delete_public_access_block"),
)


@pytest.mark.parametrize("operation", MISSING)
def test_a_configuration_that_is_not_there_is_s3s_error(
    s3: BaseClient, bucket: str, operation: str
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(s3, operation)(Bucket=bucket)
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["Error"]["Message"]) == MISSING[operation]
    assert answer["Error"]["BucketName"] == bucket
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 404


@pytest.mark.parametrize("operation", EMPTY)
def test_a_setting_says_that_there_is_nothing(s3: BaseClient, bucket: str, operation: str) -> None:
    answer = getattr(s3, operation)(Bucket=bucket)
    del answer["ResponseMetadata"]
    assert answer == EMPTY[operation]


@pytest.mark.parametrize("name", BY_ID)
def test_a_configuration_of_many_is_not_found_by_its_id(
    s3: BaseClient, bucket: str, name: str
) -> None:
    for verb in ("get", "delete"):
        call = getattr(s3, f"{verb}_bucket_{name}_configuration")
        assert refused(call, Bucket=bucket, Id="x") == ("NoSuchConfiguration", 404)


@pytest.mark.parametrize("operation", DELETED)
def test_deleting_what_is_not_there_succeeds_and_keeps_the_bucket(
    s3: BaseClient, bucket: str, operation: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    answer = getattr(s3, operation)(Bucket=bucket)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


@pytest.mark.parametrize("operation", [*MISSING, *EMPTY, *DELETED])
def test_a_bucket_that_is_not_there_or_not_ones_own_has_no_features(
    server: S3Server, s3: BaseClient, bucket: str, operation: str
) -> None:
    assert refused(getattr(s3, operation), Bucket="not-there-at-all") == ("NoSuchBucket", 404)
    bob = server.client(BOB)
    assert refused(getattr(bob, operation), Bucket=bucket) == ("AccessDenied", 403)
    bob.close()


def test_the_documents_are_s3s(server: S3Server, bucket: str) -> None:
    signer = server.signer()
    for query, root in (
        ("logging", "BucketLoggingStatus"),
        ("accelerate=", "AccelerateConfiguration"),
        ("notification", "NotificationConfiguration"),
        ("requestPayment", "RequestPaymentConfiguration"),
        ("analytics&x-id=ListBucketAnalyticsConfigurations",
         "ListBucketAnalyticsConfigurationsResult"),
        ("inventory", "ListInventoryConfigurationsResult"),
        ("metrics", "ListMetricsConfigurationsResult"),
        ("intelligent-tiering", "ListBucketIntelligentTieringConfigurationsOutput"),
        ("abac", "AbacStatus"),
    ):  # fmt: skip
        answer = signer.send(Raw("GET", f"/{bucket}", query))
        assert answer.status == 200
        assert ET.fromstring(answer.body).tag == f"{{{NAMESPACE}}}{root}"


@pytest.mark.parametrize("query", ["lifecycle", "website",
                                   "encryption", "replication", "logging", "notification",
                                   "accelerate", "requestPayment",
                                   "inventory&id=1", "metrics&id=1", "analytics&id=1"])  # fmt: skip
def test_a_change_is_501_and_says_of_what(server: S3Server, bucket: str, query: str) -> None:
    answer = server.signer().send(Raw("PUT", f"/{bucket}", query, body=b"<X/>"))
    name = query.partition("&")[0]
    error = ET.fromstring(answer.body)
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert error.findtext("QueryParameter") == name
    message = error.findtext("Message") or ""
    assert message.startswith("A parameter you provided implies functionality that is not impl")
    assert message.endswith(f"additionalMessage: ?{name} asks for {SUBRESOURCES[name]})")


def test_other_501s_say_what_is_missing(server: S3Server, s3: BaseClient, bucket: str) -> None:
    signer = server.signer()
    for raw, words in (
        (Raw("PUT", f"/{bucket}/k", "tagging", headers={"x-amz-grant-read": "id=1"}),
         "grants of access"),
        (Raw("PUT", f"/{bucket}/k", headers={"x-amz-object-lock-event-hold": "ON"}),
         "object lock"),
        (Raw("PUT", f"/{bucket}/k", headers={"x-amz-server-side-encryption": "AES256"}),
         "server-side encryption"),
        (Raw("PUT", f"/{bucket}/k", headers={"if-none-match": '"a"'}), "If-None-Match"),
        (Raw("PUT", f"/{bucket}/k", headers={"if-unmodified-since": "x"}), "if-unmodified-since"),
        (Raw("POST", f"/{bucket}/k", "restore"), "restoring"),
        (Raw("POST", f"/{bucket}/k", "select&select-type=2"), "queries"),
        (Raw("GET", f"/{bucket}/k", "torrent"), "torrents"),
        (Raw("GET", f"/{bucket}", "frobnicate"), "?frobnicate"),
        (Raw("HEAD", f"/{bucket}", "policy"), ""),
    ):  # fmt: skip
        answer = signer.send(raw)
        assert answer.status == 501, raw
        if words:
            assert words in (ET.fromstring(answer.body).findtext("Message") or ""), raw
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


# --- versions ---------------------------------------------------------------------------------

KEYS = ["a", "d/1", "d/2", "d/3", "e \u00e9", "z"]


@pytest.fixture(scope="module")
def versions(s3: BaseClient) -> str:
    s3.create_bucket(Bucket="versions")
    for key in KEYS:
        s3.put_object(Bucket="versions", Key=key, Body=key.encode(), StorageClass="GLACIER")
    return "versions"


def test_every_object_is_the_null_version_of_itself(s3: BaseClient, versions: str) -> None:
    answer = s3.list_object_versions(Bucket=versions)
    assert [one["Key"] for one in answer["Versions"]] == KEYS
    assert "DeleteMarkers" not in answer
    first = answer["Versions"][0]
    head = s3.head_object(Bucket=versions, Key="a", VersionId=first["VersionId"])
    assert (first["VersionId"], first["IsLatest"], first["Size"]) == ("null", True, 1)
    assert (first["ETag"], first["LastModified"]) == (head["ETag"], head["LastModified"])
    assert (first["StorageClass"], first["Owner"]["ID"]) == ("GLACIER", "111111111111")
    assert (answer["Name"], answer["MaxKeys"], answer["IsTruncated"]) == (versions, 1000, False)
    assert (answer["KeyMarker"], answer["VersionIdMarker"], answer["Prefix"]) == ("", "", "")


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_versions_come_in_pages(s3: BaseClient, versions: str, delimiter: str, size: int) -> None:
    expected = KEYS if not delimiter else ["a", "d/", "e \u00e9", "z"]
    pages = list(
        s3.get_paginator("list_object_versions").paginate(
            Bucket=versions, Delimiter=delimiter, PaginationConfig={"PageSize": size}
        )
    )
    found = [
        [one["Prefix"] for one in page.get("CommonPrefixes", [])]
        + [one["Key"] for one in page.get("Versions", [])]
        for page in pages
    ]
    assert [sorted(names) for names in found] == [
        expected[at : at + size] for at in range(0, len(expected), size)
    ]
    for page in pages[:-1]:
        ends_in_prefix = page["NextKeyMarker"] == "d/"
        assert page.get("NextVersionIdMarker") == (None if ends_in_prefix else "null")


def test_markers_of_versions(s3: BaseClient, versions: str) -> None:
    def keys(**options: str) -> list[str]:
        answer = s3.list_object_versions(Bucket=versions, **options)
        return [one["Key"] for one in answer.get("Versions", [])]

    assert keys(KeyMarker="d/3") == ["e \u00e9", "z"]
    assert keys(KeyMarker="d/3", VersionIdMarker="null") == ["e \u00e9", "z"]
    assert keys(Prefix="d/") == ["d/1", "d/2", "d/3"]
    # a marker within a common prefix passes over the whole of it
    assert keys(KeyMarker="d/1", Delimiter="/") == ["e \u00e9", "z"]
    for options, why in (
        ({"VersionIdMarker": "null"}, "cannot be specified without a key marker"),
        ({"KeyMarker": "a", "VersionIdMarker": ""}, "cannot be empty"),
        ({"KeyMarker": "a", "VersionIdMarker": "other"}, "Invalid version id specified"),
    ):
        with pytest.raises(ClientError, match=why):
            keys(**options)


def test_versions_of_everybodys_bucket_alone_are_everybodys(
    server: S3Server, versions: str
) -> None:
    for who in (BOB, None):
        client = server.client(who)
        assert refused(client.list_object_versions, Bucket=versions) == ("AccessDenied", 403)
        client.close()
