"""Forms and tokens that lie: a clear error, nothing stored; and secrets that stand nowhere."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from urllib.parse import urlencode

import pytest
from botocore.exceptions import ClientError

from iam.test_iam_access import statement, trust
from predastore.base import limits
from predastore.base.errors import SignatureError
from predastore.iam.errors import Unavailable
from predastore.iam.keys import IAM, SEALING, SEALING_KEYS
from predastore.iam.sealing import SealingKeys
from predastore.iam.sealing_keys import drop_unneeded, rotate
from support.iamserver import CLUSTER_KEY, ROOT, ROOT_ACCOUNT, Cloud, Keys, credentials_of, running
from support.s3server import OpenCatalog, distributed_catalog, filesystem_catalog

FORMS = {
    "nothing": b"",
    "no action": b"Version=2010-05-08",
    "another version": b"Action=ListUsers&Version=2011-06-15",
    "an unknown action": b"Action=Nothing&Version=2010-05-08",
    "an action of the other service": b"Action=GetCallerIdentity&Version=2010-05-08",
    "no UTF-8": b"Action=CreateUser&UserName=%ff",
    "bytes": b"\x00\xff\xfe",
    "the same twice": b"Action=CreateUser&UserName=a&UserName=b",
    "too many fields": urlencode([(f"f{n}", "") for n in range(600)]).encode(),
    "no name": b"Action=CreateUser",
    "a name with a slash": b"Action=CreateUser&UserName=a/b",
    "a name with a NUL": b"Action=CreateUser&UserName=a%00b",
    "a long name": b"Action=CreateUser&UserName=" + b"a" * 65,
    "a path that climbs nowhere": b"Action=CreateUser&UserName=a&Path=etc",
    "a tag twice": b"Action=CreateUser&UserName=a&Tags.member.1.Key=k&Tags.member.2.Key=K",
    "a count that is none": b"Action=ListUsers&MaxItems=-1",
    "a huge count": b"Action=ListUsers&MaxItems=99999999999999999999",
    "a marker that is none": b"Action=ListUsers&Marker=%21%21",
    "no ARN": b"Action=GetPolicy&PolicyArn=arn:aws:iam",
    "a policy that is a bomb": urlencode(
        {
            "Action": "CreatePolicy",
            "PolicyName": "p",
            "PolicyDocument": '{"Statement":' + "[" * 100_000,
        }
    ).encode(),
    "a large policy": urlencode(
        {"Action": "CreatePolicy", "PolicyName": "p", "PolicyDocument": "x" * 200_000}
    ).encode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_is_no_form_is_refused_and_nothing_stored(cloud: Cloud, name: str) -> None:
    status, answer = cloud.post(FORMS[name])
    assert 400 <= status < 500
    assert answer["Code"]
    assert answer["Message"]
    assert answer["RequestId"]
    assert cloud.run(cloud.state.scan(IAM, b"", b"", 10)) == []


def test_a_form_that_is_too_large_is_refused(cloud: Cloud) -> None:
    status, _ = cloud.post(b"Action=ListUsers&x=" + b"x" * limits.IAM_FORM_BYTES_MAX)
    assert status == 413


def test_who_does_not_sign_is_nobody(cloud: Cloud) -> None:
    for action in ("ListUsers", "GetCallerIdentity"):
        status, answer = cloud.call("sts", action, None)
        assert status in (400, 403), answer


@pytest.mark.parametrize("service", ["iam", "sts"])
def test_a_signature_of_another_secret_is_refused(cloud: Cloud, service: str) -> None:
    action = {"iam": "ListUsers", "sts": "GetCallerIdentity"}[service]
    status, answer = cloud.call(service, action, Keys(ROOT.id, "another"))
    assert (status, answer["Code"]) == (403, "SignatureDoesNotMatch")
    status, answer = cloud.call(service, action, Keys("AKIDNOBODY", "another"))
    assert (status, answer["Code"]) == (403, "InvalidClientTokenId")


# --- tokens ---------------------------------------------------------------------------------------


def session_of(cloud: Cloud) -> Keys:
    alice = cloud.user("alice", policy=statement("Allow", "s3:*"))
    return credentials_of(cloud.client("sts", alice).get_session_token())


def refused_by(cloud: Cloud, who: Keys) -> str:
    status, answer = cloud.call("sts", "GetCallerIdentity", who)
    assert status == 403
    with pytest.raises(ClientError):
        cloud.client("s3", who).list_buckets()
    return answer["Code"]


def test_a_token_that_is_changed_is_none(cloud: Cloud) -> None:
    session = session_of(cloud)
    assert session.token is not None
    raw = base64.b64decode(session.token)
    for place in (0, 3, 4, 5, 16, 20, len(raw) - 1):
        changed = bytearray(raw)
        changed[place] ^= 1
        token = base64.b64encode(changed).decode()
        assert refused_by(cloud, session._replace(token=token)) == "InvalidClientTokenId"
    for token in ("", "AAAA", "not base64!", session.token[:-8], "A" * 20_000):
        assert refused_by(cloud, session._replace(token=token)) == "InvalidClientTokenId"


def test_a_token_goes_with_its_own_key_alone(cloud: Cloud) -> None:
    session = session_of(cloud)
    bob = credentials_of(cloud.client("sts", cloud.user("bob")).get_session_token())
    for mixed in (session._replace(id=bob.id), bob._replace(token=session.token)):
        assert refused_by(cloud, mixed) == "InvalidClientTokenId"
    assert refused_by(cloud, ROOT._replace(token=session.token)) == "InvalidClientTokenId"


def test_a_token_of_another_cluster_is_none(tmp_path: Path) -> None:
    with running(filesystem_catalog, tmp_path / "one") as one:
        session = session_of(one)
    with running(filesystem_catalog, tmp_path / "other") as other:
        session_of(other)
        assert refused_by(other, session) == "InvalidClientTokenId"


def test_sessions_and_keys_outlive_a_rotation_of_the_sealing_key(cloud: Cloud) -> None:
    session = session_of(cloud)
    bob = cloud.user("bob")
    for number in range(2, 5):
        status, answer = cloud.call("iam", "RotateSealingKey")
        assert (status, answer["SealingKey"], answer["AccessKeysSealed"]) == (200, str(number), "2")
        for who in (session, bob):
            cloud.client("sts", who).get_caller_identity()
    carol = cloud.user("carol")
    cloud.client("sts", carol).get_caller_identity()


def test_a_version_that_is_gone_has_sealed_nothing_that_is_needed(cloud: Cloud) -> None:
    bob = cloud.user("bob")
    for _ in range(limits.IAM_SEALING_KEYS_MAX + 2):
        sealing = cloud.services[0].sealing
        cloud.run(rotate(cloud.state, sealing))
    cloud.run(cloud.services[0].sealing.forget_others())
    cloud.client("sts", bob).get_caller_identity()


def test_another_cluster_key_opens_nothing_and_says_so(cloud: Cloud) -> None:
    cloud.user("alice")
    new = b"another cluster key, of 32 bytes"
    other = SealingKeys(cloud.state, lambda: (new,))
    with pytest.raises(Unavailable, match="cluster key"):
        cloud.run(other.refresh())


def test_who_knows_the_cluster_key_before_seals_anew_under_the_one_in_force(cloud: Cloud) -> None:
    alice, new = cloud.user("alice"), b"another cluster key, of 32 bytes"
    cloud.run(SealingKeys(cloud.state, lambda: (new, CLUSTER_KEY)).refresh())
    with running(filesystem_catalog, cloud.path / "other", cluster_key=new) as other:
        stored = cloud.run(cloud.state.get(SEALING, SEALING_KEYS))
        assert stored is not None
        other.run(other.state.set(SEALING, SEALING_KEYS, stored))
        other.run(other.services[0].sealing.refresh())
    cloud.client("sts", alice).get_caller_identity()


def test_hosts_with_other_keys_in_force_do_not_seal_against_each_other(cloud: Cloud) -> None:
    """While the cluster key is changed, each seals once for the key that it has in force."""
    new = b"another cluster key, of 32 bytes"
    cloud.user("alice")
    ahead = SealingKeys(cloud.state, lambda: (new, CLUSTER_KEY))
    behind = SealingKeys(cloud.state, lambda: (CLUSTER_KEY, new))

    def stored() -> bytes | None:
        return cloud.run(cloud.state.get(SEALING, SEALING_KEYS))

    assert cloud.run(behind.seal_anew())
    before = stored()
    assert cloud.run(ahead.seal_anew())
    sealed = stored()
    assert sealed != before
    assert not cloud.run(behind.seal_anew())
    cloud.run(ahead.refresh())
    assert stored() == sealed
    cloud.run(SealingKeys(cloud.state, lambda: (new,)).refresh())


def test_an_old_sealing_key_stays_while_a_session_may_need_it_and_then_goes(cloud: Cloud) -> None:
    session = session_of(cloud)
    bob, sealing = cloud.user("bob"), cloud.services[0].sealing
    cloud.call("iam", "RotateSealingKey")
    now = cloud.clock.ms()
    longest_ms = limits.IAM_USER_SESSION_S_MAX * 1000
    assert cloud.run(drop_unneeded(cloud.state, sealing, now + longest_ms)) == 0
    cloud.client("sts", session).get_caller_identity()
    later = now + limits.IAM_SEALING_KEPT_S * 1000 + 1
    assert cloud.run(drop_unneeded(cloud.state, sealing, later)) == 1
    assert cloud.run(drop_unneeded(cloud.state, sealing, later)) == 0
    assert refused_by(cloud, session) == "InvalidClientTokenId"
    cloud.client("sts", bob).get_caller_identity()


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("open_catalog", [filesystem_catalog, distributed_catalog])
def test_no_secret_stands_in_a_file_or_a_log(
    tmp_path: Path, open_catalog: OpenCatalog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = []
    with running(open_catalog, tmp_path) as cloud:
        alice = cloud.user("alice")
        tenant = cloud.account("tenant")
        arn = f"arn:aws:iam::{ROOT_ACCOUNT}:user/alice"
        cloud.client("iam").create_role(RoleName="job", AssumeRolePolicyDocument=trust(arn))
        sts = cloud.client("sts", alice)
        session = credentials_of(sts.get_session_token())
        role = f"arn:aws:iam::{ROOT_ACCOUNT}:role/job"
        job = credentials_of(sts.assume_role(RoleArn=role, RoleSessionName="night"))
        cloud.client("s3", tenant).create_bucket(Bucket="box")
        assert cloud.call("iam", "RotateSealingKey")[0] == 200
        for who in (alice, tenant, session, job):
            secrets += [who.secret, *([who.token] if who.token else [])]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(alice.id.encode() in file.read_bytes() for file in files)
    for secret in secrets:
        assert not [file for file in files if secret.encode() in file.read_bytes()]
        ours = [one for one in caplog.records if one.name.startswith("predastore")]
        assert not [one for one in ours if secret in f"{one.getMessage()} {vars(one)}"]


# --- the audit ------------------------------------------------------------------------------------


def test_each_change_has_a_line_with_who_what_and_what_came_of_it(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    alice = cloud.user("alice")
    caplog.clear()
    caplog.set_level(logging.INFO, "predastore.audit")
    cloud.client("iam").delete_access_key(UserName="alice", AccessKeyId=alice.id)
    cloud.client("iam").list_users()
    with pytest.raises(ClientError):
        cloud.client("iam", cloud.user("bob")).delete_user(UserName="alice")
    lines = [vars(one) for one in caplog.records if one.name == "predastore.audit"]
    told = [(one["principal"], one["action"], one["outcome"], one["decision"]) for one in lines]
    root, bob = f"arn:aws:iam::{ROOT_ACCOUNT}:root", f"arn:aws:iam::{ROOT_ACCOUNT}:user/bob"
    assert told == [
        (root, "iam:DeleteAccessKey", "done", "allowed"),
        (root, "iam:CreateUser", "done", "allowed"),
        (root, "iam:CreateAccessKey", "done", "allowed"),
        (bob, "iam:DeleteUser", "AccessDenied", "implicit deny"),
    ]
    assert lines[0]["target"] == f"arn:aws:iam::{ROOT_ACCOUNT}:user/alice"
    assert all(one["remote"] == "127.0.0.1" and one["request_id"] for one in lines)


def test_a_wrong_token_is_a_refusal_and_no_failure(cloud: Cloud) -> None:
    with pytest.raises(SignatureError, match="token"):
        cloud.run(cloud.services[0].identities.find("ASIANONE", "AAAAAAAA"))
