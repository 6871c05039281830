"""Who may do what: accounts, anonymous requests, presigned URLs."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config

from predastore.catalog import keys
from predastore.catalog.rows import BucketRow
from predastore.s3db.commands import Put, batch
from predastore.storage.formats import encode
from support.s3raw import Raw
from support.s3refusals import refused
from support.s3server import ALICE, BOB, DOMAIN, HOST, REGION, S3Server

DENIED = ("AccessDenied", 403)


@pytest.fixture(scope="module")
def nobody(server: S3Server) -> Iterator[BaseClient]:
    client = server.client(None)
    yield client
    client.close()


@pytest.fixture(scope="module")
def public(server: S3Server, s3: BaseClient) -> str:
    server.run(server.catalog.create_bucket("public", ALICE.account_id, REGION, public=True))
    s3.put_object(Bucket="public", Key="k", Body=b"for all")
    return "public"


def not_deleted(client: BaseClient, bucket: str) -> str:
    """Why DeleteObjects does not delete "k": it answers for each key by itself."""
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})
    code: str = answer["Errors"][0]["Code"]
    return code


def test_another_accounts_bucket_is_closed(s3: BaseClient, bob: BaseClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"mine")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    where = {"Bucket": bucket, "Key": "k"}
    part = {**where, "UploadId": upload}
    assert refused(bob.get_object, **where) == DENIED
    assert refused(bob.head_object, **where) == ("403", 403)
    assert refused(bob.put_object, **where, Body=b"theirs") == DENIED
    assert refused(bob.delete_object, **where) == DENIED
    assert not_deleted(bob, bucket) == "AccessDenied"
    assert refused(bob.list_objects, Bucket=bucket) == DENIED
    assert refused(bob.list_objects_v2, Bucket=bucket) == DENIED
    assert refused(bob.head_bucket, Bucket=bucket) == ("403", 403)
    assert refused(bob.get_bucket_location, Bucket=bucket) == DENIED
    assert refused(bob.get_bucket_acl, Bucket=bucket) == DENIED
    assert refused(bob.get_object_acl, **where) == DENIED
    assert refused(bob.get_object_tagging, **where) == DENIED
    assert refused(bob.get_bucket_versioning, Bucket=bucket) == DENIED
    assert refused(bob.delete_bucket, Bucket=bucket) == DENIED
    assert refused(bob.create_multipart_upload, **where) == DENIED
    assert refused(bob.upload_part, **part, PartNumber=1, Body=b"x") == DENIED
    assert refused(bob.list_parts, **part) == DENIED
    assert refused(bob.list_multipart_uploads, Bucket=bucket) == DENIED
    assert refused(bob.abort_multipart_upload, **part) == DENIED
    assert refused(
        bob.complete_multipart_upload,
        **part,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": "x"}]},
    ) == DENIED  # fmt: skip
    assert s3.get_object(**where)["Body"].read() == b"mine"


def test_nobody_may_nothing_in_a_private_bucket(
    s3: BaseClient, nobody: BaseClient, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"mine")
    where = {"Bucket": bucket, "Key": "k"}
    assert refused(nobody.list_buckets) == DENIED
    assert refused(nobody.create_bucket, Bucket="by-nobody") == DENIED
    assert refused(nobody.delete_bucket, Bucket=bucket) == DENIED
    assert refused(nobody.get_object, **where) == DENIED
    assert refused(nobody.head_object, **where) == ("403", 403)
    assert refused(nobody.put_object, **where, Body=b"") == DENIED
    assert refused(nobody.put_object, Bucket="no-such-bucket", Key="k", Body=b"") == DENIED
    assert refused(nobody.delete_object, **where) == DENIED
    assert refused(nobody.list_objects_v2, Bucket=bucket) == DENIED


def test_a_public_bucket_is_read_by_all_and_written_by_its_owner(
    s3: BaseClient, bob: BaseClient, nobody: BaseClient, public: str
) -> None:
    where = {"Bucket": public, "Key": "k"}
    for client in (bob, nobody):
        assert client.get_object(**where)["Body"].read() == b"for all"
        assert client.head_object(**where)["ContentLength"] == 7
        assert client.list_objects_v2(Bucket=public)["KeyCount"] == 1
        assert refused(client.get_object, Bucket=public, Key="other") == ("NoSuchKey", 404)
        assert refused(client.put_object, **where, Body=b"") == DENIED
        assert refused(client.delete_object, **where) == DENIED
        assert refused(client.create_multipart_upload, **where) == DENIED
        assert refused(client.list_multipart_uploads, Bucket=public) == DENIED
        assert refused(client.get_bucket_acl, Bucket=public) == DENIED
    assert refused(nobody.get_object, **where, ResponseContentType="text/html") == (
        "InvalidRequest",
        400,
    )
    permissions = [one["Permission"] for one in s3.get_bucket_acl(Bucket=public)["Grants"]]
    assert permissions == ["FULL_CONTROL", "READ"]
    assert s3.get_object(**where)["Body"].read() == b"for all"


def test_a_public_buckets_versions_are_its_owners(
    server: S3Server, s3: BaseClient, bob: BaseClient, nobody: BaseClient, bucket: str
) -> None:
    name = f"{bucket}-public"
    server.run(server.catalog.create_bucket(name, ALICE.account_id, REGION, public=True))
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    where = {"Bucket": name, "Key": "k"}
    hidden = s3.put_object(**where, Body=b"no more")["VersionId"]
    s3.put_object(**where, Body=b"for all", Tagging="a=b")
    for client in (bob, nobody):
        answer = client.get_object(**where)
        assert answer["Body"].read() == b"for all"
        assert "TagCount" not in answer
        assert refused(client.get_object, **where, VersionId=hidden) == DENIED
        assert refused(client.get_object_tagging, **where) == DENIED
        assert refused(client.list_object_versions, Bucket=name) == DENIED
    bob.create_bucket(Bucket=f"{name}-bobs")
    to = {"Bucket": f"{name}-bobs", "Key": "k"}
    assert refused(bob.copy_object, **to, CopySource={**where, "VersionId": hidden}) == DENIED
    assert s3.get_object(**where, VersionId=hidden)["Body"].read() == b"no more"


def test_the_expected_owner(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k", "Body": b"x"}
    s3.put_object(**where, ExpectedBucketOwner=ALICE.account_id)
    assert refused(s3.put_object, **where, ExpectedBucketOwner=BOB.account_id) == DENIED
    assert refused(s3.list_objects_v2, Bucket=bucket, ExpectedBucketOwner="x") == DENIED


def fetch(url: str, method: str = "GET", data: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_presigned_urls(s3: BaseClient, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "a b/é+%"}
    put = s3.generate_presigned_url("put_object", where)
    assert fetch(put, "PUT", b"hello")[0] == 200
    get = s3.generate_presigned_url("get_object", {**where, "ResponseContentType": "text/html"})
    assert fetch(get) == (200, b"hello")
    assert fetch(get, "DELETE")[0] == 403
    assert fetch(get + "&response-expires=0")[0] == 403
    assert fetch(get.replace("a%20b", "a%20c"))[0] == 403
    listing = s3.generate_presigned_url("list_objects_v2", {"Bucket": bucket})
    assert b"<KeyCount>1</KeyCount>" in fetch(listing)[1]


def test_presigned_urls_with_the_digest_of_no_bytes(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    """As aws-sdk-js makes them."""
    where = {"Bucket": bucket, "Key": "k"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    sums = "x-amz-checksum-crc32={}&x-amz-sdk-checksum-algorithm=CRC32"
    nothing, other = sums.format("AAAAAA%3D%3D"), sums.format("NhCmhg%3D%3D")  # of "hello"
    for before in ("", f"partNumber=1&uploadId={upload}&"):
        for digest, data, status in (
            (nothing, b"hello", 200),
            (nothing, b"", 200),
            (other, b"hello", 200),
            (other, b"hallo", 400),
        ):
            raw = Raw("PUT", f"/{bucket}/k", f"{before}{digest}")
            query = server.signer().presigned(raw)
            assert fetch(f"{server.url}{raw.path}?{query}", "PUT", data)[0] == status
    assert read_part(s3, where, upload) == 5
    assert s3.get_object(**where)["Body"].read() == b"hello"


def read_part(s3: BaseClient, where: dict[str, str], upload: str) -> int:
    """The size of the only part."""
    (part,) = s3.list_parts(**where, UploadId=upload)["Parts"]
    return part["Size"]


def test_a_client_that_is_set_to_another_region_finds_this_one(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello")
    answer = server.signer(region="us-west-9").send(Raw("HEAD", f"/{bucket}/k"))
    assert (answer.status, answer.headers["x-amz-bucket-region"]) == (400, REGION)
    for name, arguments in (
        ("head_object", {"Key": "k"}),
        ("head_bucket", {}),
        ("get_object", {"Key": "k"}),
    ):
        astray = boto3.client(
            "s3",
            endpoint_url=server.url,
            region_name="us-west-9",
            aws_access_key_id=ALICE.access_key_id,
            aws_secret_access_key=ALICE.secret_access_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        getattr(astray, name)(Bucket=bucket, **arguments)
        astray.close()


def test_a_presigned_url_expires(server: S3Server, s3: BaseClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello")
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"}, ExpiresIn=1000)
    server.clock.offset_s = 999
    try:
        assert fetch(url) == (200, b"hello")
        server.clock.offset_s = 1002
        status, body = fetch(url)
    finally:
        server.clock.offset_s = 0
    assert status == 403
    assert b"<Code>AccessDenied</Code>" in body


def test_virtual_host_style(server: S3Server, s3: BaseClient, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"hello")
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a/b"})
    assert fetch(url) == (200, b"hello")
    hosted = server.client(url=f"http://{DOMAIN}:{server.port}", s3={"addressing_style": "virtual"})
    signed = hosted.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a/b"})
    hosted.close()
    assert signed.startswith(f"http://{bucket}.{DOMAIN}:{server.port}/a/b?")
    local = signed.replace(f"{bucket}.{DOMAIN}", HOST)
    request = urllib.request.Request(local, headers={"Host": f"{bucket}.{DOMAIN}:{server.port}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.read() == b"hello"


def test_health(server: S3Server) -> None:
    assert fetch(f"{server.url}/-/health/live") == (200, b"ok\n")
    assert fetch(f"{server.url}/-/health/ready") == (200, b"ok\n")
    server.ready = False
    try:
        assert fetch(f"{server.url}/-/health/ready")[0] == 503
        assert fetch(f"{server.url}/-/health/live")[0] == 200
    finally:
        server.ready = True
    assert fetch(f"{server.url}/-/health/live", "POST", b"")[0] == 405


def test_readiness_for_writes_is_asked_for(server: S3Server) -> None:
    ready = f"{server.url}/-/health/ready"
    assert fetch(f"{ready}?writes") == (200, b"ok\n")
    server.obstacle = "2 of 3 nodes take shards, and a write needs 3"
    try:
        for query in ("?writes", "?writes=1", "?x=1&writes"):
            assert fetch(ready + query) == (503, f"{server.obstacle}\n".encode())
        assert fetch(ready) == fetch(f"{ready}?reads") == (200, b"ok\n"), "reads go on"
        assert fetch(f"{server.url}/-/health/live?writes")[0] == 200
    finally:
        server.obstacle = ""


MINIO = ("live", "ready", "cluster", "cluster/read")


def test_the_health_paths_of_minio(server: S3Server) -> None:
    for path in MINIO:
        assert fetch(f"{server.url}/minio/health/{path}") == (200, b"ok\n")
        assert fetch(f"{server.url}/minio/health/{path}?maintenance=true")[0] == 200
        assert fetch(f"{server.url}/minio/health/{path}", "HEAD")[0] == 200
    server.ready = False
    try:
        statuses = [fetch(f"{server.url}/minio/health/{path}")[0] for path in MINIO]
    finally:
        server.ready = True
    assert statuses == [200, 503, 503, 503]
    server.obstacle = "too few nodes take shards"
    try:
        statuses = [fetch(f"{server.url}/minio/health/{path}")[0] for path in MINIO]
    finally:
        server.obstacle = ""
    assert statuses == [200, 200, 503, 200], "reads go on"
    assert fetch(f"{server.url}/minio/health/other")[0] == 404


def test_a_bucket_may_be_called_minio(server: S3Server, s3: BaseClient) -> None:
    s3.create_bucket(Bucket="minio")
    where = {"Bucket": "minio", "Key": "health/live"}
    s3.put_object(**where, Body=b"of a client")
    assert s3.get_object(**where)["Body"].read() == b"of a client"
    assert fetch(s3.generate_presigned_url("get_object", where)) == (200, b"of a client")
    assert fetch(f"{server.url}/minio/health/live") == (200, b"ok\n")


def test_a_key_may_be_called_like_health_where_the_host_names_the_bucket(
    server: S3Server, s3: BaseClient, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="-/health/live", Body=b"of a client")
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "-/health/live"})
    assert fetch(url) == (200, b"of a client")
    hosted = server.client(url=f"http://{DOMAIN}:{server.port}", s3={"addressing_style": "virtual"})
    signed = hosted.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "-/health/live"})
    hosted.close()
    local = signed.replace(f"{bucket}.{DOMAIN}", HOST)
    request = urllib.request.Request(local, headers={"Host": f"{bucket}.{DOMAIN}:{server.port}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.read() == b"of a client"


def test_a_bucket_that_changed_hands_is_its_new_owners_at_once(
    server: S3Server, s3: BaseClient, bob: BaseClient, bucket: str
) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"alice's")
    s3.delete_object(**where)
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"alice's")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    row = BucketRow(bucket, b"\x80 another bucket", BOB.account_id, REGION, 1)
    remade = batch(Put(keys.BUCKETS, keys.bucket(bucket), encode(row)))
    server.run(server.catalog._state.commit(remade))  # as another gateway would, unseen by this one
    assert refused(s3.put_object, **where, Body=b"alice's") == DENIED
    assert refused(s3.delete_object, **where) == DENIED
    assert not_deleted(s3, bucket) == "AccessDenied"
    assert refused(s3.create_multipart_upload, **where) == DENIED
    assert refused(s3.upload_part, **upload, PartNumber=2, Body=b"alice's") == DENIED
    assert refused(s3.list_parts, **upload) == DENIED
    assert refused(s3.complete_multipart_upload, **upload, MultipartUpload=parts) == DENIED
    assert refused(s3.abort_multipart_upload, **upload) == DENIED
    assert refused(s3.delete_bucket, Bucket=bucket) == DENIED
    assert refused(bob.list_parts, **upload) == ("NoSuchUpload", 404)
    bob.put_object(**where, Body=b"bob's")
    assert bob.get_object(**where)["Body"].read() == b"bob's"
    bob.delete_object(**where)
    bob.delete_bucket(Bucket=bucket)
    assert refused(bob.put_object, **where, Body=b"bob's") == ("NoSuchBucket", 404)
