"""What ACLs, object ownership and public access blocks allow, by requests of everybody, of another
account, and of its users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.client import BaseClient

from predastore.s3.control import BLOCK_PATH
from support.iamserver import ROOT, ROOT_ACCOUNT, Cloud, Keys, document, statement
from support.s3raw import Answer, Raw
from support.s3server import REGION

GROUPS = "http://acs.amazonaws.com/groups/global"
SWITCHES = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
DELETED = 204


class Tenant:
    """Another account: its root, a user of its, its id."""

    def __init__(self, cloud: Cloud) -> None:
        self.root = cloud.account("tenant")
        self.eve = cloud.user("eve", of=self.root)
        self.id = cloud.client("sts", self.root).get_caller_identity()["Account"]


@pytest.fixture(scope="module")
def tenant(cloud: Cloud) -> Tenant:
    return Tenant(cloud)


@pytest.fixture(scope="module")
def alice(cloud: Cloud) -> Keys:
    """A user of the buckets' account, who may nothing by a policy."""
    return cloud.user("alice")


def read(cloud: Cloud, who: Keys | None, box: str, key: str = "k", query: str = "") -> int:
    return cloud.send(Raw("GET", f"/{box}/{key}", query), who).status


def listed(cloud: Cloud, who: Keys | None, box: str) -> int:
    return cloud.send(Raw("GET", f"/{box}", "list-type=2"), who).status


def put(cloud: Cloud, who: Keys | None, box: str, key: str, **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return cloud.send(Raw("PUT", f"/{box}/{key}", body=b"theirs", headers=fields), who)


def acl(cloud: Cloud, who: Keys | None, path: str, **headers: str) -> int:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return cloud.send(Raw("PUT", path, "acl=", headers=fields), who).status


def set_block(cloud: Cloud, bucket: str, *on: str) -> None:
    """Of a bucket, or (no name) of the account; nothing on: there is none."""
    inner = "".join(f"<{name}>{str(name in on).lower()}</{name}>" for name in SWITCHES)
    root = "PublicAccessBlockConfiguration"
    body = f"<{root}>{inner}</{root}>".encode() if on else b""
    method = "PUT" if on else "DELETE"
    raw = Raw(method, f"/{bucket}", "publicAccessBlock=", body)
    if not bucket:
        raw = Raw(method, BLOCK_PATH.decode(), "", body, {"x-amz-account-id": ROOT_ACCOUNT})
    assert cloud.send(raw).status in (200, 201, 204)


# --- grants -----------------------------------------------------------------------------------


def test_a_public_object_is_read_by_everybody_and_its_bucket_by_nobody(
    cloud: Cloud, tenant: Tenant, box: str
) -> None:
    assert put(cloud, ROOT, box, "shown", x_amz_acl="public-read").status == 200
    for who in (None, tenant.root):
        assert read(cloud, who, box, "shown") == 200
        assert read(cloud, who, box) == 403
        assert listed(cloud, who, box) == 403
        assert read(cloud, who, box, "shown", "acl=") == 403
        with cloud.unchanged():
            assert put(cloud, who, box, "shown").status == 403
            assert cloud.send(Raw("DELETE", f"/{box}/shown"), who).status == 403
    assert read(cloud, tenant.eve, box, "shown") == 403  # its own account has to let it
    cloud.allow("eve", statement("s3:GetObject"), of=tenant.root)
    assert read(cloud, tenant.eve, box, "shown") == 200
    cloud.allow("eve", of=tenant.root)


def test_a_public_bucket_is_listed_by_everybody_and_its_objects_read_by_nobody(
    cloud: Cloud, tenant: Tenant, box: str
) -> None:
    assert acl(cloud, ROOT, f"/{box}", x_amz_acl="public-read") == 200
    for who in (None, tenant.root):
        assert listed(cloud, who, box) == 200
        assert cloud.send(Raw("HEAD", f"/{box}"), who).status == 200
        assert cloud.send(Raw("GET", f"/{box}", "versions="), who).status == 200
        assert cloud.send(Raw("GET", f"/{box}", "uploads="), who).status == 200
        assert read(cloud, who, box) == 403
        assert read(cloud, who, box, "absent") == 404  # whoever may list may know
        assert cloud.send(Raw("GET", f"/{box}", "acl="), who).status == 403
        assert put(cloud, who, box, "new").status == 403


def test_who_may_write_by_an_acl_owns_what_it_writes(
    cloud: Cloud, tenant: Tenant, root: BaseClient, box: str
) -> None:
    assert acl(cloud, ROOT, f"/{box}", x_amz_acl="public-read-write") == 200
    assert put(cloud, None, box, "from-nobody").status == 200
    assert put(cloud, tenant.root, box, "theirs").status == 200
    owners = root.list_objects_v2(Bucket=box, FetchOwner=True)["Contents"]
    by_key = {one["Key"]: one["Owner"]["ID"] for one in owners}
    assert by_key["theirs"] == tenant.id
    assert by_key["from-nobody"] not in (ROOT_ACCOUNT, tenant.id)
    assert cloud.send(Raw("DELETE", f"/{box}/theirs"), None).status == 403


def test_authenticated_users_are_those_who_sign(cloud: Cloud, tenant: Tenant, box: str) -> None:
    assert put(cloud, ROOT, box, "k", x_amz_acl="authenticated-read").status == 200
    assert read(cloud, tenant.root, box) == 200
    assert read(cloud, None, box) == 403


@pytest.mark.parametrize("field", ["read", "full-control"])
def test_a_grant_to_an_account_is_its_roots_and_its_users_by_their_policies(
    cloud: Cloud, tenant: Tenant, box: str, field: str
) -> None:
    granted = {f"x_amz_grant_{field}".replace("-", "_"): f"id={tenant.id}"}
    assert put(cloud, ROOT, box, "given", **granted).status == 200
    assert read(cloud, tenant.root, box, "given") == 200
    assert read(cloud, tenant.eve, box, "given") == 403
    cloud.allow("eve", statement("s3:GetObject", f"arn:aws:s3:::{box}/given"), of=tenant.root)
    assert read(cloud, tenant.eve, box, "given") == 200
    cloud.allow("eve", of=tenant.root)
    assert read(cloud, None, box, "given") == 403
    reads_acl = 200 if field == "full-control" else 403
    assert read(cloud, tenant.root, box, "given", "acl=") == reads_acl


def test_each_permission_of_a_bucket_is_given_by_itself(
    cloud: Cloud, tenant: Tenant, root: BaseClient, box: str
) -> None:
    who = tenant.root
    tries: dict[str, Callable[[], int]] = {
        "read": lambda: listed(cloud, who, box),
        "write": lambda: put(cloud, who, box, "new").status,
        "read-acp": lambda: cloud.send(Raw("GET", f"/{box}", "acl="), who).status,
        "write-acp": lambda: acl(cloud, who, f"/{box}", x_amz_grant_write_acp=f"id={tenant.id}"),
    }
    for name in tries:
        fields = {f"x_amz_grant_{name}".replace("-", "_"): f"id={tenant.id}"}
        assert acl(cloud, ROOT, f"/{box}", **fields) == 200
        told = {one: attempt() for one, attempt in tries.items()}
        assert told == {one: 200 if one == name else 403 for one in tries}


def test_a_deny_of_the_policy_wins_over_a_grant(cloud: Cloud, tenant: Tenant, box: str) -> None:
    assert put(cloud, ROOT, box, "k", x_amz_acl="public-read").status == 200
    deny = statement("s3:GetObject", f"arn:aws:s3:::{box}/*", effect="Deny", principal="*")
    cloud.set_policy(box, deny)
    for who in (None, tenant.root, ROOT):
        assert read(cloud, who, box) == 403


# --- whose an object is -----------------------------------------------------------------------


@pytest.fixture
def shared(cloud: Cloud, tenant: Tenant, box: str) -> str:
    """A bucket with the object `theirs`, which the tenant has written and owns."""
    arn = f"arn:aws:iam::{tenant.id}:root"
    own = [f"arn:aws:s3:::{box}", f"arn:aws:s3:::{box}/*"]
    cloud.set_policy(box, statement("s3:*", own, principal=arn))
    assert put(cloud, tenant.root, box, "theirs").status == 200
    return box


def test_the_bucket_owner_can_delete_and_not_read_what_another_owns(
    cloud: Cloud, tenant: Tenant, alice: Keys, shared: str
) -> None:
    cloud.set_policy(shared)
    cloud.allow("alice", statement("s3:*"))
    assert read(cloud, tenant.root, shared, "theirs") == 200
    tagging = b"<Tagging><TagSet/></Tagging>"
    for who in (ROOT, alice):
        for query in ("", "acl=", "tagging="):
            assert read(cloud, who, shared, "theirs", query) == 403
        assert cloud.send(Raw("HEAD", f"/{shared}/theirs"), who).status == 403
        with cloud.unchanged():
            assert acl(cloud, who, f"/{shared}/theirs", x_amz_acl="public-read") == 403
            raw = Raw("PUT", f"/{shared}/theirs", "tagging=", tagging)
            assert cloud.send(raw, who).status == 403
            raw = Raw("DELETE", f"/{shared}/theirs", "tagging=")
            assert cloud.send(raw, who).status == 403
            source = {"x-amz-copy-source": f"{shared}/theirs"}
            assert cloud.send(Raw("PUT", f"/{shared}/copy", headers=source), who).status == 403
    assert cloud.send(Raw("DELETE", f"/{shared}/theirs"), alice).status == DELETED
    cloud.allow("alice")


def test_the_bucket_owner_reads_with_a_grant(
    cloud: Cloud, tenant: Tenant, alice: Keys, shared: str
) -> None:
    given = "bucket-owner-full-control"
    assert put(cloud, tenant.root, shared, "given", x_amz_acl=given).status == 200
    assert read(cloud, ROOT, shared, "given") == 200
    assert read(cloud, alice, shared, "given") == 403
    cloud.allow("alice", statement("s3:GetObject"))
    assert read(cloud, alice, shared, "given") == 200
    cloud.allow("alice")
    assert acl(cloud, ROOT, f"/{shared}/given", x_amz_acl="public-read") == 200
    assert read(cloud, None, shared, "given") == 200


def test_the_buckets_policy_gives_nobody_what_another_owns(
    cloud: Cloud, tenant: Tenant, shared: str
) -> None:
    anybody = statement("s3:GetObject", f"arn:aws:s3:::{shared}/*", principal="*")
    cloud.set_policy(shared, anybody)
    assert read(cloud, None, shared) == 200
    assert read(cloud, None, shared, "theirs") == 403
    deny = statement("s3:GetObject", f"arn:aws:s3:::{shared}/*", effect="Deny", principal="*")
    cloud.set_policy(shared, deny)
    assert read(cloud, tenant.root, shared, "theirs") == 403


def test_where_ownership_is_enforced_all_is_the_bucket_owners(
    cloud: Cloud, tenant: Tenant, root: BaseClient, shared: str
) -> None:
    given = f"id={tenant.id}"
    assert put(cloud, ROOT, shared, "given", x_amz_grant_read=given).status == 200
    cloud.set_policy(shared)
    assert read(cloud, tenant.root, shared, "given") == 200
    rules = [{"ObjectOwnership": "BucketOwnerEnforced"}]
    root.put_bucket_ownership_controls(Bucket=shared, OwnershipControls={"Rules": rules})
    assert read(cloud, tenant.root, shared, "given") == 403
    assert read(cloud, tenant.root, shared, "theirs") == 403
    assert read(cloud, ROOT, shared, "theirs") == 200
    raw = Raw("PUT", f"/{shared}/theirs", "tagging=", b"<Tagging><TagSet/></Tagging>")
    assert cloud.send(raw).status == 200


# --- public access blocks ---------------------------------------------------------------------


@pytest.fixture(params=["bucket", "account"])
def block(request: pytest.FixtureRequest, cloud: Cloud) -> Any:
    """Sets the switches of the bucket, or those of its account."""
    of_account = request.param == "account"
    yield lambda box, *on: set_block(cloud, "" if of_account else box, *on)
    if of_account:
        set_block(cloud, "")


def open_up(cloud: Cloud, box: str) -> None:
    """Public by an ACL (`shown`, and the list) and by a policy (`k`)."""
    assert put(cloud, ROOT, box, "shown", x_amz_acl="public-read").status == 200
    assert acl(cloud, ROOT, f"/{box}", x_amz_acl="public-read") == 200
    cloud.set_policy(box, statement("s3:GetObject", f"arn:aws:s3:::{box}/k", principal="*"))


def seen(cloud: Cloud, who: Keys | None, box: str) -> tuple[int, int, int]:
    """By the ACL of an object, by that of the bucket, by its policy."""
    return read(cloud, who, box, "shown"), listed(cloud, who, box), read(cloud, who, box)


def test_public_acls_are_ignored(
    cloud: Cloud, tenant: Tenant, alice: Keys, box: str, block: Any
) -> None:
    open_up(cloud, box)
    cloud.allow("alice")
    everybody = (None, tenant.root, alice)
    assert [seen(cloud, who, box) for who in everybody] == [(200, 200, 200)] * 3
    block(box, "IgnorePublicAcls")
    assert [seen(cloud, who, box) for who in everybody] == [(403, 403, 200)] * 3
    assert seen(cloud, ROOT, box) == (200, 200, 200)
    given = f"id={tenant.id}"
    assert put(cloud, ROOT, box, "shown", x_amz_grant_read=given).status == 200
    assert seen(cloud, tenant.root, box) == (200, 403, 200)  # it is no public one
    block(box)
    assert seen(cloud, None, box) == (403, 200, 200)


def test_public_policies_are_for_the_account_alone(
    cloud: Cloud, tenant: Tenant, alice: Keys, box: str, block: Any
) -> None:
    open_up(cloud, box)
    cloud.allow("alice")
    block(box, "RestrictPublicBuckets")
    assert [seen(cloud, who, box) for who in (None, tenant.root)] == [(200, 200, 403)] * 2
    assert seen(cloud, alice, box) == (200, 200, 200)
    arn = f"arn:aws:iam::{tenant.id}:root"
    own = f"arn:aws:s3:::{box}/k"
    cloud.set_policy(box, statement("s3:GetObject", own, principal=arn))
    assert read(cloud, tenant.root, box) == 200  # it is no public one


def test_public_policies_are_refused(cloud: Cloud, tenant: Tenant, box: str, block: Any) -> None:
    block(box, "BlockPublicPolicy")
    own = f"arn:aws:s3:::{box}/*"
    public = Raw("PUT", f"/{box}", "policy=")
    narrow = statement(
        "s3:GetObject", own, principal="*", IpAddress={"aws:SourceIp": "127.0.0.0/8"}
    )
    cloud.set_policy(box, narrow)
    for wide in (
        statement("s3:GetObject", own, principal="*"),
        statement("s3:GetObject", own, principal="*", IpAddress={"aws:SourceIp": "0.0.0.0/1"}),
    ):
        public.body = document(narrow, wide).encode()
        with cloud.unchanged():
            answer = cloud.send(public)
            assert (answer.status, answer.code) == (403, "AccessDenied")
    cloud.set_policy(
        box, statement("s3:GetObject", own, principal=f"arn:aws:iam::{tenant.id}:root")
    )
    block(box)
    assert cloud.send(public).status == DELETED


def test_public_acls_are_refused(cloud: Cloud, tenant: Tenant, box: str, block: Any) -> None:
    block(box, "BlockPublicAcls")
    with cloud.unchanged():
        for name in ("public-read", "public-read-write", "authenticated-read"):
            assert put(cloud, ROOT, box, "new", x_amz_acl=name).status == 403
            assert acl(cloud, ROOT, f"/{box}", x_amz_acl=name) == 403
            assert acl(cloud, ROOT, f"/{box}/k", x_amz_acl=name) == 403
        uri = f"uri={GROUPS}/AllUsers"
        assert put(cloud, ROOT, box, "new", x_amz_grant_read=uri).status == 403
    assert put(cloud, ROOT, box, "new", x_amz_grant_read=f"id={tenant.id}").status == 200


# --- `public` of the configuration --------------------------------------------------------------


def test_a_bucket_that_the_file_makes_public_is_read_by_all(
    cloud: Cloud, tenant: Tenant, alice: Keys, root: BaseClient, box: str
) -> None:
    name = f"{box}-open"
    cloud.run(cloud.catalog.create_bucket(name, ROOT_ACCOUNT, REGION, public=True))
    root.put_object(Bucket=name, Key="k", Body=b"for all")
    cloud.allow("alice")
    for who in (None, tenant.root, alice):
        assert (read(cloud, who, name), listed(cloud, who, name)) == (200, 200)
        with cloud.unchanged():
            assert put(cloud, who, name, "new").status == 403
            assert cloud.send(Raw("DELETE", f"/{name}/k"), who).status == 403
            assert cloud.send(Raw("GET", f"/{name}", "policy="), who).status in (403, 405)
    assert read(cloud, tenant.eve, name) == 403
    deny = statement("s3:GetObject", f"arn:aws:s3:::{name}/*", effect="Deny", principal="*")
    cloud.set_policy(name, deny)
    assert read(cloud, None, name) == 403
    cloud.set_policy(name)
    set_block(cloud, name, "RestrictPublicBuckets")
    assert (read(cloud, None, name), read(cloud, tenant.root, name)) == (403, 403)
    assert read(cloud, alice, name) == 200
