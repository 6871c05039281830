"""What is taken away through one gateway is gone with the next request through another one: access
keys, policies of users, sessions of roles and statements of buckets, a thousand times each, and
with a gateway that was stopped meanwhile.

Each kind has workers with a user, a role or a bucket of their own, which all race with each other.
Beside each worker somebody writes with the same rights all the time, so that the other gateway
always has what it knows of them at hand; none of these writes may be done that began after
something was taken away, and ended before it was given again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, NamedTuple
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest

from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential
from support.processes import PORT, S3d, production
from support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RACES, WORKERS = 1_000, 2  # of each kind
FEW = 50
SECRET = '[cluster]\nsecret = "a secret of the cluster"\n'
REGION = "us-east-1"
FORM = "application/x-www-form-urlencoded"
VERSIONS = {"iam": "2010-05-08", "sts": "2011-06-15"}
WAIT_S = 60.0


class Keys(NamedTuple):
    """`token`: of a session, or ""."""

    id: str
    secret: str
    token: str = ""


class Line:
    """One connection to a gateway."""

    def __init__(self, server: S3d) -> None:
        context = ssl.create_default_context(cafile=str(server.ca))
        self._host = server.host
        self._connection = http.client.HTTPSConnection(
            server.host, PORT, timeout=WAIT_S, context=context
        )

    def send(
        self,
        who: Keys,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        service: str = "s3",
        **more: str,
    ) -> None:
        """`more`: further fields (`_` for `-`)."""
        raw_path, _, query = path.partition("?")
        fields = [("host", f"{self._host}:{PORT}")]
        fields += [(name.replace("_", "-"), value) for name, value in more.items()]
        if service != "s3":
            fields.append(("content-type", FORM))
        if who.token:
            fields.append(("x-amz-security-token", who.token))
        signed = sign_request(
            Credential(who.id, who.secret, ""), method=method, raw_path=raw_path.encode(),
            raw_query=query.encode(), headers=fields, payload=body, region=REGION,
            service=service,
        )  # fmt: skip
        self._connection.request(method, path, body, dict(signed))

    def answer(self) -> tuple[int, bytes]:
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def ask(
        self, who: Keys, method: str, path: str, body: bytes = b"", **more: str
    ) -> tuple[int, bytes]:
        self.send(who, method, path, body, **more)
        return self.answer()

    def call(self, who: Keys, service: str, action: str, **form: str) -> dict[str, str]:
        """The texts of the answer of IAM or STS by the names of their elements."""
        fields = {"Action": action, "Version": VERSIONS[service], **form}
        self.send(who, "POST", "/", urlencode(fields).encode(), service=service)
        status, text = self.answer()
        assert status == 200, text
        root = ElementTree.fromstring(text)
        return {one.tag.rpartition("}")[2]: one.text or "" for one in root.iter()}

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def refusal_of(told: tuple[int, bytes]) -> tuple[int, str]:
    """Status, and the code of the error."""
    status, text = told
    assert status != 200, "it was done"
    return status, ElementTree.fromstring(text).findtext("Code", "")


class Right:
    """Something that one worker's principal has by one kind of grant, and that is taken away and
    given again by `line`. `refusal`: what who has it no more is told."""

    refusal: ClassVar = (403, "AccessDenied")

    def __init__(self, line: Line, root: Keys, name: str) -> None:
        self.line = line
        self.root = root
        self.name = name
        self.keys = self.made()

    @property
    def path(self) -> str:
        """What it is a right to put."""
        return f"/shelf/{self.name}"

    def iam(self, action: str, **form: str) -> dict[str, str]:
        return self.line.call(self.root, "iam", action, **form)

    def made(self) -> Keys:
        """A user, who may put objects, with a key."""
        self.iam("CreateUser", UserName=self.name)
        self.iam("PutUserPolicy", UserName=self.name, PolicyName="own", PolicyDocument=ALLOW)
        key = self.iam("CreateAccessKey", UserName=self.name)
        return Keys(key["AccessKeyId"], key["SecretAccessKey"])

    def take(self) -> None:
        raise NotImplementedError

    def give(self) -> None:
        raise NotImplementedError


def policy(effect: str, action: str, resource: str = "*", **more: str) -> str:
    one = {"Effect": effect, "Action": action, "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [one]})


ALLOW = policy("Allow", "s3:*")


class OfKey(Right):
    refusal = (403, "InvalidAccessKeyId")

    def take(self) -> None:
        self.iam("UpdateAccessKey", AccessKeyId=self.keys.id, UserName=self.name, Status="Inactive")

    def give(self) -> None:
        self.iam("UpdateAccessKey", AccessKeyId=self.keys.id, UserName=self.name, Status="Active")


class OfPolicy(Right):
    def take(self) -> None:
        self.iam("DeleteUserPolicy", UserName=self.name, PolicyName="own")

    def give(self) -> None:
        self.iam("PutUserPolicy", UserName=self.name, PolicyName="own", PolicyDocument=ALLOW)


class OfSession(Right):
    """The session of a role, which is begun anew each time."""

    refusal = (400, "InvalidToken")

    def made(self) -> Keys:
        user = super().made()
        arn = self.line.call(user, "sts", "GetCallerIdentity")["Arn"]
        trust = {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        made = self.iam("CreateRole", RoleName=self.name, AssumeRolePolicyDocument=document)
        self._arn, self._user = made["Arn"], user
        self.iam("PutRolePolicy", RoleName=self.name, PolicyName="own", PolicyDocument=ALLOW)
        return self._session()

    def _session(self) -> Keys:
        form = {"RoleArn": self._arn, "RoleSessionName": "night"}
        made = self.line.call(self._user, "sts", "AssumeRole", **form)
        return Keys(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])

    def take(self) -> None:
        self.iam("RevokeSessions", RoleName=self.name)

    def give(self) -> None:
        self.keys = self._session()


class OfStatement(Right):
    """In a bucket of its own, whose policy denies to put objects, or not."""

    def made(self) -> Keys:
        assert self.line.ask(self.root, "PUT", f"/{self.name}")[0] == 200
        return super().made()

    @property
    def path(self) -> str:
        return f"/{self.name}/k"

    def take(self) -> None:
        text = policy("Deny", "s3:PutObject", f"arn:aws:s3:::{self.name}/*", Principal="*")
        told = self.line.ask(self.root, "PUT", f"/{self.name}?policy=", text.encode())
        assert told[0] == 204, told

    def give(self) -> None:
        assert self.line.ask(self.root, "DELETE", f"/{self.name}?policy=")[0] == 204


KINDS: dict[str, type[Right]] = {
    "key": OfKey,
    "policy": OfPolicy,
    "session": OfSession,
    "statement": OfStatement,
}


class Writer(threading.Thread):
    """Puts with a right, one object after the other. `done`: when each that was done began and
    ended."""

    def __init__(self, server: S3d, right: Right) -> None:
        super().__init__(name=f"writer-{right.name}")
        self._server, self._right = server, right
        self._ends = threading.Event()
        self.done: list[tuple[float, float]] = []

    def run(self) -> None:
        with Line(self._server) as line:
            while not self._ends.is_set():
                began_s = time.monotonic()
                status, _ = line.ask(self._right.keys, "PUT", f"{self._right.path}-w", b"x")
                if status == 200:
                    self.done.append((began_s, time.monotonic()))

    def stop(self) -> None:
        self._ends.set()
        self.join(WAIT_S)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[S3d]]:
    folder = tmp_path_factory.mktemp("revocation")
    with production(folder, count=3, members=3, extra=SECRET, code=(2, 1)) as running:
        root = Keys(*running[0].credentials())
        with Line(running[0]) as line:
            assert line.ask(root, "PUT", "/shelf")[0] == 200
            eventually(lambda: has_users(line, root), within_s=WAIT_S, what="users can be made")
        yield running


def has_users(line: Line, root: Keys) -> bool:
    """Whether all members have said that they know users."""
    fields = {"Action": "CreateUser", "Version": VERSIONS["iam"], "UserName": "first"}
    line.send(root, "POST", "/", urlencode(fields).encode(), service="iam")
    return line.answer()[0] == 200


def race(servers: list[S3d], kind: str, number: int, count: int) -> int:
    """How often it was taken away."""
    with Line(servers[0]) as line, Line(servers[1]) as there:
        right = KINDS[kind](line, Keys(*servers[0].credentials()), f"{kind}-{number}")
        writer = Writer(servers[1], right)
        taken: list[tuple[float, float]] = []  # when it was gone, and when it was to be back
        writer.start()
        try:
            for at in range(count):
                told = there.ask(right.keys, "PUT", right.path, b"x")
                assert told[0] == 200, (kind, at, told)
                right.take()
                gone_s = time.monotonic()
                told = there.ask(right.keys, "PUT", right.path, b"y")
                assert refusal_of(told) == right.refusal, (kind, at, told)
                taken.append((gone_s, time.monotonic()))
                right.give()
        finally:
            writer.stop()
    assert writer.done
    for began_s, ended_s in writer.done:
        assert not [1 for gone_s, back_s in taken if gone_s < began_s and ended_s < back_s]
    return len(taken)


def test_what_is_taken_away_is_gone_with_the_next_request_elsewhere(servers: list[S3d]) -> None:
    with ThreadPoolExecutor(len(KINDS) * WORKERS) as pool:
        work = {
            (kind, number): pool.submit(race, servers, kind, number, RACES // WORKERS)
            for kind in KINDS
            for number in range(WORKERS)
        }
        count = dict.fromkeys(KINDS, 0)
        for (kind, _), one in work.items():
            count[kind] += one.result()
    assert count == dict.fromkeys(KINDS, RACES)


def test_a_gateway_that_was_stopped_obeys_with_the_first_request_after(
    servers: list[S3d],
) -> None:
    """Each in turn, so that one of them leads the metadata when it is stopped. The requests wait
    for it when it goes on."""
    root = Keys(*servers[0].credentials())
    for number, stopped in enumerate(servers):
        with contextlib.ExitStack() as stack:
            line = stack.enter_context(Line(servers[number - 1]))
            rights = [make(line, root, f"{kind}-stopped-{number}") for kind, make in KINDS.items()]
            lines = [stack.enter_context(Line(stopped)) for _ in rights]
            for there, right in zip(lines, rights, strict=True):
                assert there.ask(right.keys, "PUT", right.path, b"x")[0] == 200
            stopped.pause()
            try:
                for there, right in zip(lines, rights, strict=True):
                    right.take()
                    there.send(right.keys, "PUT", right.path, b"y")
            finally:
                stopped.resume()
            told = [there.answer() for there in lines]
            assert [refusal_of(one) for one in told] == [right.refusal for right in rights]


# --- what is decided beside the right to a request ---------------------------------------------


def md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def test_what_a_list_may_delete_is_as_the_bucket_has_it_now(servers: list[S3d]) -> None:
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    with Line(servers[0]) as line, Line(servers[1]) as there:
        right = OfStatement(line, Keys(*servers[0].credentials()), "list")
        deny = policy("Deny", "s3:DeleteObject", "arn:aws:s3:::list/*", Principal="*").encode()
        for at in range(FEW):
            for text, is_done in ((deny, False), (b"", True)):
                method = "PUT" if text else "DELETE"
                assert line.ask(right.root, method, "/list?policy=", text)[0] == 204
                told = there.ask(right.keys, "POST", "/list?delete=", body, content_md5=md5(body))
                assert (b"<Deleted>" in told[1]) is is_done, (at, told)


def test_a_retention_is_bypassed_as_the_bucket_has_it_now(servers: list[S3d]) -> None:
    root = Keys(*servers[0].credentials())
    kept = {
        "x_amz_object_lock_mode": "GOVERNANCE",
        "x_amz_object_lock_retain_until_date": "2099-01-01T00:00:00Z",
        "content_md5": md5(b"x"),
    }
    action, bypass = "s3:BypassGovernanceRetention", {"x_amz_bypass_governance_retention": "true"}
    deny = policy("Deny", action, "arn:aws:s3:::kept/*", Principal="*").encode()
    with Line(servers[0]) as line, Line(servers[1]) as there:
        lock = {"x_amz_bucket_object_lock_enabled": "true"}
        assert line.ask(root, "PUT", "/kept", **lock)[0] == 200
        for at in range(FEW):
            assert there.ask(root, "PUT", "/kept/k", b"x", **kept)[0] == 200
            listed = there.ask(root, "GET", "/kept?versions=&prefix=k")[1]
            version = listed.partition(b"<VersionId>")[2].partition(b"<")[0].decode()
            for text, status in ((deny, 403), (b"", 204)):
                method = "PUT" if text else "DELETE"
                assert line.ask(root, method, "/kept?policy=", text)[0] == 204
                told = there.ask(root, "DELETE", f"/kept/k?versionId={version}", **bypass)
                assert told[0] == status, (at, told)


def test_what_comes_by_tls_is_known_to_be_secure(servers: list[S3d]) -> None:
    root = Keys(*servers[0].credentials())
    with Line(servers[0]) as line:
        assert line.ask(root, "PUT", "/tls")[0] == 200
        for said, status in (("false", 200), ("true", 403)):
            document = json.loads(policy("Deny", "s3:PutObject", "arn:aws:s3:::tls/*"))
            document["Statement"][0] |= {
                "Principal": "*",
                "Condition": {"Bool": {"aws:SecureTransport": said}},
            }
            text = json.dumps(document).encode()
            assert line.ask(root, "PUT", "/tls?policy=", text)[0] == 204
            assert line.ask(root, "PUT", "/tls/k", b"x")[0] == status
