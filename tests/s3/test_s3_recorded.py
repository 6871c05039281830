"""Errors as Amazon S3 has answered them, by recordings that others have made of it.

Source: the recorded answers of LocalStack's tests of S3 (tests/aws/services/s3/*.snapshot.json), of
2023 to 2025. A row has what was asked for, and the code, status, text and further elements that S3
gave. A text may go on, in brackets, with elements that the address does not say (errors.py).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.s3raw import exchange
from support.s3server import S3Server

NO_BUCKET: Final = "the-bucket-that-is-not-there"
NOT_A_VERSION: Final = "HPniJFCxqTsMuIH9KX8K8wEjNUgmABCD"
MALFORMED: Final = (
    "The XML you provided was not well-formed or did not validate against our published schema"
)
NOT_ALLOWED: Final = "The specified method is not allowed against this resource."
NO_UPLOAD: Final = (
    "The specified upload does not exist. The upload ID may be invalid, or the upload may have "
    "been aborted or completed."
)
NO_PART: Final = (
    "One or more of the specified parts could not be found.  The part may not have been "
    "uploaded, or the specified entity tag may not match the part's entity tag."
)
NO_HEADER: Final = "A header you provided implies functionality that is not implemented"
FAILED: Final = "At least one of the pre-conditions you specified did not hold"
NO_LOCK: Final = "Bucket is missing Object Lock Configuration"
NO_BYPASS: Final = (
    "x-amz-bypass-governance-retention is only applicable to Object Lock enabled buckets."
)
COPY_RANGE: Final = (
    "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last "
    "are the zero-based offsets of the first and last bytes to copy"
)
TAG_HEADER: Final = (
    "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters "
    "without tag name duplicates."
)
_NUMBERS: Final = itertools.count(1)


@dataclass
class Scene:
    """A bucket, as S3 was asked in: `key` has "0123456789"; `versioned` has versions, and "gone" in
    it has a delete marker as its newest; `locked` has object lock."""

    s3: BaseClient
    bucket: str
    versioned: str
    locked: str
    version: str
    marker: str

    @property
    def upload(self) -> dict[str, Any]:
        """A new upload of "up", with one part of four bytes."""
        where = {"Bucket": self.bucket, "Key": "up"}
        where["UploadId"] = self.s3.create_multipart_upload(**where)["UploadId"]
        self.s3.upload_part(**where, PartNumber=1, Body=b"data")
        return where

    def complete(self, *parts: tuple[int, str], **more: Any) -> Any:
        told = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
        return self.s3.complete_multipart_upload(
            **self.upload, MultipartUpload={"Parts": told}, **more
        )


@pytest.fixture(scope="module")
def scene(s3: BaseClient) -> Scene:
    names = [f"{name}-{next(_NUMBERS)}" for name in ("plain", "versioned", "locked")]
    plain, versioned, locked = names
    s3.create_bucket(Bucket=plain)
    s3.create_bucket(Bucket=versioned)
    s3.create_bucket(Bucket=locked, ObjectLockEnabledForBucket=True)
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=plain, Key="key", Body=b"0123456789")
    s3.put_object(Bucket=locked, Key="key", Body=b"x")
    version = s3.put_object(Bucket=versioned, Key="gone", Body=b"x")["VersionId"]
    marker = s3.delete_object(Bucket=versioned, Key="gone")["VersionId"]
    return Scene(s3, plain, versioned, locked, version, marker)


def lock(**configuration: Any) -> Callable[[Scene], Any]:
    return lambda at: at.s3.put_object_lock_configuration(
        Bucket=at.locked, ObjectLockConfiguration=configuration
    )


def bucket_tags(*tags: tuple[str, str]) -> Callable[[Scene], Any]:
    return lambda at: at.s3.put_bucket_tagging(Bucket=at.bucket, Tagging=tagging(*tags))


def object_tags(*tags: tuple[str, str]) -> Callable[[Scene], Any]:
    return lambda at: at.s3.put_object_tagging(Bucket=at.bucket, Key="key", Tagging=tagging(*tags))


def tagging(*tags: tuple[str, str]) -> Any:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags]}


def part_copy(asked: str) -> Callable[[Scene], Any]:
    return lambda at: at.s3.upload_part_copy(
        **at.upload,
        PartNumber=2,
        CopySource=f"{at.bucket}/key",
        CopySourceRange=asked,
    )


def no_such_bucket(call: str, **more: Any) -> Callable[[Scene], Any]:
    return lambda at: getattr(at.s3, call)(Bucket=NO_BUCKET, **more)


def plain(call: str, **more: Any) -> Callable[[Scene], Any]:
    """Of the bucket without anything."""
    return lambda at: getattr(at.s3, call)(Bucket=at.bucket, **more)


def of_marker(call: str, *, by_id: bool, **more: Any) -> Callable[[Scene], Any]:
    def asked(at: Scene) -> Any:
        named = {"VersionId": at.marker} if by_id else {}
        return getattr(at.s3, call)(Bucket=at.versioned, Key="gone", **named, **more)

    return asked


def copy_range_error(value: str) -> tuple[Any, ...]:
    told = {"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": value}
    return (part_copy(value), 400, "InvalidArgument", COPY_RANGE, told)


def marker_error(call: str, method: str, *, by_id: bool, **more: Any) -> tuple[Any, ...]:
    told = {"Method": method, "ResourceType": "DeleteMarker"}
    return (of_marker(call, by_id=by_id, **more), 405, "MethodNotAllowed", NOT_ALLOWED, told)


def two_small_parts(at: Scene) -> Any:
    where = at.upload
    at.s3.upload_part(**where, PartNumber=2, Body=b"data")
    etag = '"8d777f385d3dfec8815d20f7496026dc"'
    parts = [{"PartNumber": number, "ETag": etag} for number in (1, 2)]
    return at.s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})


ROWS: Final[dict[str, tuple[Any, ...]]] = {
    # --- what is not there
    **{
        f"{call} of no bucket": (
            no_such_bucket(call, **more),
            404,
            "NoSuchBucket",
            "The specified bucket does not exist",
            {"BucketName": NO_BUCKET},
        )
        for call, more in {
            "get_bucket_tagging": {},
            "delete_bucket_tagging": {},
            "put_bucket_tagging": {"Tagging": tagging(("a", "b"))},
            "get_object_tagging": {"Key": "k"},
            "put_object_tagging": {"Key": "k", "Tagging": tagging(("a", "b"))},
            "delete_object_tagging": {"Key": "k"},
            "get_bucket_versioning": {},
            "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Enabled"}},
            "get_object_lock_configuration": {},
            "get_object": {"Key": "k"},
            "delete_bucket": {},
            "get_bucket_notification_configuration": {},
            "put_object_legal_hold": {"Key": "k", "LegalHold": {"Status": "ON"}},
            "get_bucket_encryption": {},
        }.items()
    },
    "tags of a bucket": (
        plain("get_bucket_tagging"),
        404,
        "NoSuchTagSet",
        "The TagSet does not exist",
        {"BucketName": "plain"},
    ),
    "a policy": (
        plain("get_bucket_policy"),
        404,
        "NoSuchBucketPolicy",
        "The bucket policy does not exist",
        {"BucketName": "plain"},
    ),
    "a lock": (
        plain("get_object_lock_configuration"),
        404,
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
        {"BucketName": "plain"},
    ),
    "a website": (
        plain("get_bucket_website"),
        404,
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
        {"BucketName": "plain"},
    ),
    "a metrics configuration": (
        plain("get_bucket_metrics_configuration", Id="x"),
        404,
        "NoSuchConfiguration",
        "The specified configuration does not exist.",
        {},
    ),
    "an inventory": (
        plain("get_bucket_inventory_configuration", Id="x"),
        404,
        "NoSuchConfiguration",
        "The specified configuration does not exist.",
        {},
    ),
    "a metrics configuration to delete": (
        plain("delete_bucket_metrics_configuration", Id="x"),
        404,
        "NoSuchConfiguration",
        "The specified configuration does not exist.",
        {},
    ),
    "a key": (
        plain("get_object", Key="none"),
        404,
        "NoSuchKey",
        "The specified key does not exist.",
        {"Key": "none"},
    ),
    "a key to tag": (
        plain("put_object_tagging", Key="none", Tagging=tagging(("a", "b"))),
        404,
        "NoSuchKey",
        "The specified key does not exist.",
        {"Key": "none"},
    ),
    "a key to hold": (
        lambda at: at.s3.put_object_legal_hold(
            Bucket=at.locked, Key="none", LegalHold={"Status": "ON"}
        ),
        404,
        "NoSuchKey",
        "The specified key does not exist.",
        {"Key": "none"},
    ),
    "a version that can be none": (
        plain("get_object", Key="key", VersionId=NOT_A_VERSION),
        400,
        "InvalidArgument",
        "Invalid version id specified",
        {"ArgumentName": "versionId", "ArgumentValue": NOT_A_VERSION},
    ),
    "an upload": (
        lambda at: at.s3.upload_part(
            Bucket=at.bucket, Key="up", UploadId="fakeid", PartNumber=1, Body=b"x"
        ),
        404,
        "NoSuchUpload",
        NO_UPLOAD,
        {"UploadId": "fakeid"},
    ),
    # --- delete markers
    "marker by id, get": marker_error("get_object", "GET", by_id=True),
    "marker by id, get tags": marker_error("get_object_tagging", "GET", by_id=True),
    "marker by id, delete tags": marker_error("delete_object_tagging", "DELETE", by_id=True),
    "marker by id, put tags": marker_error(
        "put_object_tagging", "PUT", by_id=True, Tagging=tagging(("a", "b"))
    ),
    "marker by id, get acl": marker_error("get_object_acl", "GET", by_id=True),
    "marker by id, put acl": marker_error("put_object_acl", "PUT", by_id=True, ACL="private"),
    "marker, get tags": marker_error("get_object_tagging", "GET", by_id=False),
    "marker, delete tags": marker_error("delete_object_tagging", "DELETE", by_id=False),
    "marker, put tags": marker_error(
        "put_object_tagging", "PUT", by_id=False, Tagging=tagging(("a", "b"))
    ),
    "marker, put acl": marker_error("put_object_acl", "PUT", by_id=False, ACL="private"),
    "marker, get acl": (
        of_marker("get_object_acl", by_id=False),
        404,
        "NoSuchKey",
        "The specified key does not exist.",
        {"Key": "gone"},
    ),
    "marker, attributes": (
        of_marker("get_object_attributes", by_id=False, ObjectAttributes=["ETag"]),
        404,
        "NoSuchKey",
        "The specified key does not exist.",
        {"Key": "gone"},
    ),
    # --- buckets
    "a bucket with objects": (
        plain("delete_bucket"),
        409,
        "BucketNotEmpty",
        "The bucket you tried to delete is not empty",
        {"BucketName": "plain"},
    ),
    "a bucket with versions": (
        lambda at: at.s3.delete_bucket(Bucket=at.versioned),
        409,
        "BucketNotEmpty",
        "The bucket you tried to delete is not empty. You must delete all versions in the bucket.",
        {"BucketName": "versioned"},
    ),
    "an ownership that is none": (
        lambda at: at.s3.create_bucket(Bucket="owned", ObjectOwnership="RandomValue"),
        400,
        "InvalidArgument",
        "Invalid x-amz-object-ownership header: RandomValue",
        {"ArgumentName": "x-amz-object-ownership"},
    ),
    "ownership by two rules": (
        plain(
            "put_bucket_ownership_controls",
            OwnershipControls={
                "Rules": [
                    {"ObjectOwnership": "BucketOwnerPreferred"},
                    {"ObjectOwnership": "ObjectWriter"},
                ]
            },
        ),
        400,
        "MalformedXML",
        MALFORMED,
        {},
    ),
    "versioning that is none": (
        plain("put_bucket_versioning", VersioningConfiguration={"Status": "enabled"}),
        400,
        "MalformedXML",
        MALFORMED,
        {},
    ),
    "versioning of nothing": (
        plain("put_bucket_versioning", VersioningConfiguration={}),
        400,
        "IllegalVersioningConfigurationException",
        "The Versioning element must be specified",
        {},
    ),
    "a policy that is empty": (
        plain("put_bucket_policy", Policy=""),
        400,
        "MalformedPolicy",
        "Policies must be valid JSON and the first byte must be '{'",
        {},
    ),
    "a policy that is none": (
        plain("put_bucket_policy", Policy="invalid json"),
        400,
        "MalformedPolicy",
        "Policies must be valid JSON and the first byte must be '{'",
        {},
    ),
    "a policy of nothing": (
        plain("put_bucket_policy", Policy="{}"),
        400,
        "MalformedPolicy",
        "Missing required field Statement",
        {},
    ),
    "an acl with a wrong group": (
        plain("put_bucket_acl", GrantWrite='uri="http://acs.amazonaws.com/groups/s3/FakeGroup"'),
        400,
        "InvalidArgument",
        "Invalid group uri",
        {"ArgumentName": "uri", "ArgumentValue": "http://acs.amazonaws.com/groups/s3/FakeGroup"},
    ),
    "an acl with a wrong field": (
        plain("put_bucket_acl", GrantWrite='fakekey="1234"'),
        400,
        "InvalidArgument",
        "Argument format not recognized",
        {"ArgumentName": "x-amz-grant-write", "ArgumentValue": 'fakekey="1234"'},
    ),
    "an acl for nobody": (
        plain("put_bucket_acl", GrantWrite='id="wrong-id"'),
        400,
        "InvalidArgument",
        "Invalid id",
        {"ArgumentName": "id", "ArgumentValue": "wrong-id"},
    ),
    # --- tags
    "tags of a bucket twice": (
        bucket_tags(("Key1", "a"), ("Key1", "b")),
        400,
        "InvalidTag",
        "Cannot provide multiple Tags with the same key",
        {"TagKey": "Key1"},
    ),
    "tags of a bucket with a comma": (
        bucket_tags(("Key1,Key2", "a")),
        400,
        "InvalidTag",
        "The TagKey you have provided is invalid",
        {"TagKey": "Key1,Key2"},
    ),
    "tags of a bucket with a comma in a value": (
        bucket_tags(("Key1", "Val1,Val2")),
        400,
        "InvalidTag",
        "The TagValue you have provided is invalid",
        {"TagKey": "Key1", "TagValue": "Val1,Val2"},
    ),
    "tags of a bucket of the system": (
        bucket_tags(("aws:prefixed", "a")),
        400,
        "InvalidTag",
        "System tags cannot be added/updated by requester",
        {"TagKey": "aws:prefixed"},
    ),
    "tags of an object of the system": (
        object_tags(("aws:prefixed", "a")),
        400,
        "InvalidTag",
        "Your TagKey cannot be prefixed with aws:",
        {"TagKey": "aws:prefixed"},
    ),
    "tags of an object twice": (
        object_tags(("Key1", "a"), ("Key1", "b")),
        400,
        "InvalidTag",
        "Cannot provide multiple Tags with the same key",
        {"TagKey": "Key1"},
    ),
    "tags in a header twice": (
        plain("put_object", Key="t", Tagging="key1=val1&key1=val2"),
        400,
        "InvalidArgument",
        TAG_HEADER,
        {"ArgumentName": "x-amz-tagging", "ArgumentValue": "key1=val1&key1=val2"},
    ),
    "tags in a header with a comma": (
        plain("put_object", Key="t", Tagging="key1=val1,key2=val2"),
        400,
        "InvalidArgument",
        TAG_HEADER,
        {"ArgumentName": "x-amz-tagging", "ArgumentValue": "key1=val1,key2=val2"},
    ),
    # --- locks
    "a lock without versions": (
        plain(
            "put_object_lock_configuration",
            ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"},
        ),
        409,
        "InvalidBucketState",
        "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
        {},
    ),
    "a lock whose versions are to end": (
        lambda at: at.s3.put_bucket_versioning(
            Bucket=at.locked, VersioningConfiguration={"Status": "Suspended"}
        ),
        409,
        "InvalidBucketState",
        "An Object Lock configuration is present on this bucket, so the versioning state cannot be "
        "changed.",
        {},
    ),
    **{
        f"a lock {name}": (lock(**said), 400, "MalformedXML", MALFORMED, {})
        for name, said in {
            "that is not enabled": {
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
            },
            "of nothing": {},
            "with an empty rule": {"ObjectLockEnabled": "Enabled", "Rule": {}},
            "with an empty retention": {
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {}},
            },
            "without a period": {
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE"}},
            },
            "with two periods": {
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1, "Years": 1}},
            },
        }.items()
    },
    "a hold without a lock": (
        plain("put_object_legal_hold", Key="key", LegalHold={"Status": "ON"}),
        400,
        "InvalidRequest",
        NO_LOCK,
        {},
    ),
    "a hold of nothing": (
        lambda at: at.s3.put_object_legal_hold(Bucket=at.locked, Key="key", LegalHold={}),
        400,
        "MalformedXML",
        MALFORMED,
        {},
    ),
    "a hold that is asked for without a lock": (
        plain("get_object_legal_hold", Key="key"),
        400,
        "InvalidRequest",
        NO_LOCK,
        {},
    ),
    **{
        f"a bypass without a lock, {name}": (
            call,
            400,
            "InvalidArgument",
            NO_BYPASS,
            {"ArgumentName": "x-amz-bypass-governance-retention"},
        )
        for name, call in {
            "one": plain("delete_object", Key="key", BypassGovernanceRetention=True),
            "one, not": plain("delete_object", Key="key", BypassGovernanceRetention=False),
            "many": plain(
                "delete_objects",
                Delete={"Objects": [{"Key": "key"}]},
                BypassGovernanceRetention=True,
            ),
        }.items()
    },
    # --- ranges, parts
    "a range beyond the end": (
        plain("get_object", Key="key", Range="bytes=100-200"),
        416,
        "InvalidRange",
        "The requested range is not satisfiable",
        {"ActualObjectSize": "10", "RangeRequested": "bytes=100-200"},
    ),
    "a range of nothing": (
        plain("get_object", Key="key", Range="bytes=-0"),
        416,
        "InvalidRange",
        "The requested range is not satisfiable",
        {"ActualObjectSize": "10", "RangeRequested": "bytes=-0"},
    ),
    "a part that is not there": (
        plain("get_object", Key="key", PartNumber=2),
        416,
        "InvalidPartNumber",
        "The requested partnumber is not satisfiable",
        {"ActualPartCount": "1", "PartNumberRequested": "2"},
    ),
    "a part and a range": (
        plain("get_object", Key="key", PartNumber=1, Range="bytes=0-1"),
        400,
        "InvalidRequest",
        "Cannot specify both Range header and partNumber query parameter",
        {},
    ),
    **{
        f"a copied range of {value}": copy_range_error(value)
        for value in ("0-8", "bytes=1-0", "bytes=-1-", "bytes=0-1,3-4,7-9", "bytes=1-", "bytes=-2")
    },
    "a copied range that ends too late": (
        part_copy("bytes=0-100"),
        400,
        "InvalidArgument",
        "Range specified is not valid for source object of size: 10",
        {"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": "bytes=0-100"},
    ),
    "a copied range that begins too late": (
        part_copy("bytes=100-200"),
        400,
        "InvalidRequest",
        "The specified copy range is invalid for the source object size",
        {},
    ),
    "an upload of no parts": (
        lambda at: at.s3.complete_multipart_upload(**at.upload),
        400,
        "InvalidRequest",
        "You must specify at least one part",
        {},
    ),
    "an upload of a small part": (
        two_small_parts,
        400,
        "EntityTooSmall",
        "Your proposed upload is smaller than the minimum allowed size",
        {
            "ETag": "8d777f385d3dfec8815d20f7496026dc",
            "MinSizeAllowed": "5242880",
            "PartNumber": "1",
            "ProposedSize": "4",
        },
    ),
    "an upload of a part that is not there": (
        lambda at: at.complete((2, '"8d777f385d3dfec8815d20f7496026dc"')),
        400,
        "InvalidPart",
        NO_PART,
        {"ETag": "8d777f385d3dfec8815d20f7496026dc", "PartNumber": "2"},
    ),
    # --- conditions
    "If-None-Match where it is": (
        plain("put_object", Key="key", IfNoneMatch="*"),
        412,
        "PreconditionFailed",
        FAILED,
        {"Condition": "If-None-Match"},
    ),
    "If-Match of another": (
        plain("put_object", Key="key", IfMatch='"d41d8cd98f00b204e9800998ecf8427e"'),
        412,
        "PreconditionFailed",
        FAILED,
        {"Condition": "If-Match"},
    ),
    "If-Match of nothing": (
        plain("put_object", Key="none", IfMatch='"d41d8cd98f00b204e9800998ecf8427e"'),
        404,
        "NoSuchKey",
        "The specified key does not exist.",
        {"Key": "none"},
    ),
    "If-None-Match with a tag": (
        plain("put_object", Key="key", IfNoneMatch='"d41d8cd98f00b204e9800998ecf8427e"'),
        501,
        "NotImplemented",
        NO_HEADER,
        {
            "Header": "If-None-Match",
            "additionalMessage": "We don't accept the provided value of If-None-Match header for "
            "this API",
        },
    ),
    "If-Match with a star": (
        plain("put_object", Key="key", IfMatch="*"),
        501,
        "NotImplemented",
        NO_HEADER,
        {
            "Header": "If-Match",
            "additionalMessage": "We don't accept the provided value of If-Match header for this "
            "API",
        },
    ),
    "both conditions": (
        plain(
            "put_object",
            Key="key",
            IfNoneMatch="*",
            IfMatch='"d41d8cd98f00b204e9800998ecf8427e"',
        ),
        501,
        "NotImplemented",
        NO_HEADER,
        {
            "Header": "If-Match,If-None-Match",
            "additionalMessage": "Multiple conditional request headers present in the request",
        },
    ),
    "If-Match on a read": (
        plain("get_object", Key="key", IfMatch='"other"'),
        412,
        "PreconditionFailed",
        FAILED,
        {"Condition": "If-Match"},
    ),
    "a checksum that can be none": (
        plain("put_object", Key="c", Body=b"x", ChecksumCRC32="wrong"),
        400,
        "InvalidRequest",
        "Value for x-amz-checksum-crc32 header is invalid.",
        {},
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_an_error_is_what_amazon_s3_was_recorded_to_answer(scene: Scene, name: str) -> None:
    call, status, code, text, elements = ROWS[name]
    with pytest.raises(ClientError) as caught:
        call(scene)
    answer = caught.value.response
    error: dict[str, Any] = dict(answer["Error"])
    said = error.pop("Message")
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], error.pop("Code")) == (status, code)
    assert said == text or said.startswith(f"{text} (")
    if elements.get("BucketName") in ("plain", "versioned", "locked"):
        elements = {
            "BucketName": getattr(
                scene, {"plain": "bucket"}.get(elements["BucketName"], elements["BucketName"])
            )
        }
    assert {key: error.get(key) for key in elements} == elements


def test_a_version_that_can_be_none_is_deleted_as_one_that_is_not_there(scene: Scene) -> None:
    """DeleteObjects says of such a version what it says of any that is not there."""
    doomed: Any = {"Objects": [{"Key": "gone", "VersionId": NOT_A_VERSION}]}
    (error,) = scene.s3.delete_objects(Bucket=scene.versioned, Delete=doomed)["Errors"]
    assert error == {
        "Key": "gone",
        "VersionId": NOT_A_VERSION,
        "Code": "NoSuchVersion",
        "Message": "The specified version does not exist.",
    }


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_a_presigned_url_that_has_expired_tells_both_times(server: S3Server, version: str) -> None:
    client = server.client(signature_version=version)
    url = client.generate_presigned_url(
        "get_object", {"Bucket": "b", "Key": "k"}, ExpiresIn=1 - 9 * (version == "s3")
    )
    client.close()
    if version == "s3v4":
        old = re.search("X-Amz-Date=([0-9TZ]+)", url)
        assert old is not None
        url = url.replace(old[1], "20200101T000000Z").replace(old[1][:8], "20200101")
    path, _, query = url.removeprefix(server.url).partition("?")
    fields = [("host", server.url.partition("//")[2])]
    answer = exchange(server.address, "GET", path, query, fields)
    error = ElementTree.fromstring(answer.body)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert (error.findtext("Message") or "").startswith("Request has expired")
    names = {"Expires", "ServerTime", *(["X-Amz-Expires"] if version == "s3v4" else [])}
    assert names <= {one.tag for one in error}
