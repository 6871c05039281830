"""Gateways with identities over one state, in a thread of this process: S3, IAM and STS by HTTP.

with running(filesystem_catalog, tmp_path, gateways=2) as cloud:
    cloud.client("iam", cloud.root).create_user(UserName="alice")
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode
from xml.etree import ElementTree

import boto3
import uvloop
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError

from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential, Verifier
from predastore.base.config import Oidc
from predastore.base.config.policy import Policy, Rule
from predastore.catalog.catalog import Catalog
from predastore.httpd.server import Server
from predastore.iam.identities import Identities
from predastore.iam.identity import Identified
from predastore.iam.oidc import OidcProviders
from predastore.iam.query.call import IamServices
from predastore.iam.query.service import QueryService
from predastore.iam.sealing import SealingKeys
from predastore.iam.sessions import SessionTokens
from predastore.iam.used import LastUsed
from predastore.s3.server import S3Service
from predastore.s3db.global_state import GlobalState
from support.s3raw import Answer, Raw, Signer, exchange
from support.s3server import HOST, REGION, OpenCatalog, rows_of

T = TypeVar("T")

_SESSION = boto3.session.Session()  # one, as each would read the models of AWS anew

_WAIT_S = 30.0
_FORM = "application/x-www-form-urlencoded"
CLUSTER_KEY = b"the cluster key of the iam tests"


class Keys(NamedTuple):
    """An access key, as its holder has it."""

    id: str
    secret: str
    token: str | None = None

    @property
    def credential(self) -> Credential:
        return Credential(self.id, self.secret, "")


def statement(
    actions: str | list[str],
    resources: str | list[str] = "*",
    *,
    effect: str = "Allow",
    principal: Any = None,
    **conditions: Any,
) -> dict[str, Any]:
    """Of a policy. `principal`: of a bucket's, an ARN or "*". `conditions`: operators."""
    one: dict[str, Any] = {"Effect": effect, "Action": actions, "Resource": resources}
    if principal is not None:
        one["Principal"] = "*" if principal == "*" else {"AWS": principal}
    if conditions:
        one["Condition"] = conditions
    return one


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


ROOT = Keys("AKIDROOT", "the-secret-of-the-root")
LIMITED = Keys("AKIDLIMITED", "the-secret-of-the-limited")
ROOT_ACCOUNT = "000000000000"
_FILE = {
    ROOT.id: Credential(ROOT.id, ROOT.secret, ROOT_ACCOUNT),
    LIMITED.id: Credential(
        LIMITED.id, LIMITED.secret, ROOT_ACCOUNT, Policy((Rule("open-*", ("s3:getobject",)),))
    ),
}


class TestClock:
    """Milliseconds since the epoch; a test may set it forth."""

    __test__ = False
    offset_s = 0.0

    def s(self) -> float:
        return time.time() + self.offset_s

    def ms(self) -> int:
        return int(self.s() * 1000)


@dataclass
class Cloud:
    """`ports`: of each gateway. `file`: the credentials of the configuration."""

    catalog: Catalog
    state: GlobalState
    loop: asyncio.AbstractEventLoop
    clock: TestClock
    path: Path
    services: list[IamServices]
    ports: list[int] = field(default_factory=list)
    _made: list[BaseClient] = field(default_factory=list)

    def client(self, service: str, who: Keys = ROOT, *, gateway: int = 0, **config: Any) -> Any:
        """boto3 of a service, as it comes."""
        options: dict[str, Any] = {"retries": {"total_max_attempts": 1}, **config}
        if service == "s3":
            options["s3"] = {"addressing_style": "path"}
        made = _SESSION.client(
            service,
            endpoint_url=f"http://{HOST}:{self.ports[gateway]}",
            region_name=REGION,
            aws_access_key_id=who.id,
            aws_secret_access_key=who.secret,
            aws_session_token=who.token,
            config=Config(**options),
        )
        self._made.append(made)
        return made

    def user(self, name: str, *, path: str = "/", policy: str = "", of: Keys = ROOT) -> Keys:
        """A user of an account, by default of the root's, with its key."""
        iam = self.client("iam", of)
        iam.create_user(UserName=name, Path=path)
        if policy:
            iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=policy)
        return self.key(name, of=of)

    def key(self, user: str, *, of: Keys = ROOT) -> Keys:
        made = self.client("iam", of).create_access_key(UserName=user)["AccessKey"]
        return Keys(made["AccessKeyId"], made["SecretAccessKey"])

    def allow(self, user: str, *statements: dict[str, Any], of: Keys = ROOT) -> None:
        """The user may do this and nothing else."""
        if statements:
            form = {"PolicyName": "own", "PolicyDocument": document(*statements)}
            status, said = self.call("iam", "PutUserPolicy", of, UserName=user, **form)
            assert status == 200, said
        else:
            self.call("iam", "DeleteUserPolicy", of, UserName=user, PolicyName="own")

    # --- S3 by hand -----------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        """Of the first gateway."""
        return HOST, self.ports[0]

    def signer(self, who: Keys, *, gateway: int = 0) -> Signer:
        return Signer(HOST, self.ports[gateway], who.id, who.secret, REGION)

    def send(self, raw: Raw, who: Keys | None = ROOT, *, gateway: int = 0) -> Answer:
        """The answer to a request of S3; `who`: None for one without a signature."""
        if who is None:
            port = self.ports[gateway]
            fields = {"host": f"{HOST}:{port}", "content-length": str(len(raw.body))}
            fields |= {name.lower(): value for name, value in raw.headers.items()}
            where = (HOST, port), raw.method, raw.path, raw.query
            return exchange(*where, fields.items(), raw.body)
        token = {"x-amz-security-token": who.token} if who.token else {}
        sent = replace(raw, headers={**raw.headers, **token})
        return self.signer(who, gateway=gateway).send(sent)

    def set_policy(self, bucket: str, *statements: dict[str, Any], who: Keys = ROOT) -> None:
        """The bucket's policy; without a statement it has none."""
        method, body = ("PUT", document(*statements)) if statements else ("DELETE", "")
        answer = self.send(Raw(method, f"/{bucket}", "policy=", body.encode()), who)
        assert answer.status == 204, answer.body

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Nothing that the block does may change what the catalog keeps."""
        before = self.run(rows_of(self.state))
        yield
        assert self.run(rows_of(self.state)) == before

    # --- IAM and STS by hand --------------------------------------------------------------

    def call(
        self, service: str, action: str, who: Keys | None = ROOT, *, gateway: int = 0, **form: str
    ) -> tuple[int, dict[str, str]]:
        """Status, and the texts of the answer by the names of their elements, of a call by hand."""
        version = {"iam": "2010-05-08", "sts": "2011-06-15"}[service]
        body = urlencode({"Action": action, "Version": version, **form}).encode()
        return self.post(body, service, who, gateway=gateway)

    def post(
        self, body: bytes, service: str = "iam", who: Keys | None = ROOT, *, gateway: int = 0
    ) -> tuple[int, dict[str, str]]:
        """The same of a body as it is. `who`: None for one without a signature."""
        port = self.ports[gateway]
        headers = [("host", f"{HOST}:{port}"), ("content-type", _FORM)]
        if who is not None:
            if who.token:
                headers.append(("x-amz-security-token", who.token))
            headers = sign_request(
                Credential(who.id, who.secret, ""),
                method="POST",
                raw_path=b"/",
                raw_query=b"",
                headers=headers,
                payload=body,
                region="us-east-1",
                service=service,
                now_s=self.clock.s(),
            )
        connection = http.client.HTTPConnection(HOST, port, timeout=_WAIT_S)
        try:
            connection.request("POST", "/", body, dict(headers))
            answer = connection.getresponse()
            root = ElementTree.fromstring(answer.read())
        finally:
            connection.close()
        texts = {one.tag.rpartition("}")[2]: one.text or "" for one in root.iter()}
        return answer.status, texts

    def account(self, name: str, who: Keys = ROOT) -> Keys:
        """The key of the root of an account that is made by the operator's API."""
        status, made = self.call("iam", "CreateAccount", who, AccountName=name)
        assert status == 200, made
        return Keys(made["AccessKeyId"], made["SecretAccessKey"])

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_WAIT_S)

    def close(self) -> None:
        for client in self._made:
            client.close()


def credentials_of(answer: dict[str, Any]) -> Keys:
    """Those of an answer of STS."""
    made = answer["Credentials"]
    return Keys(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


def code_of(error: ClientError) -> tuple[str, int]:
    """The code, and the status, of what was refused."""
    answer = error.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def services_over(
    state: GlobalState, clock: TestClock, cluster_key: bytes, oidc: tuple[Oidc, ...] = ()
) -> IamServices:
    """What a process has of its own."""
    sealing = SealingKeys(state, lambda: (cluster_key,))
    return IamServices(
        state,
        Identities(state, sealing, _FILE.get, clock.ms),
        sealing,
        SessionTokens(sealing),
        LastUsed(state),
        OidcProviders(lambda: oidc, clock.s, clock.s),
        operator=lambda: ROOT_ACCOUNT,
        is_taken=lambda account: account == ROOT_ACCOUNT,
    )


@contextlib.contextmanager
def running(
    open_catalog: OpenCatalog,
    path: Path,
    *,
    gateways: int = 1,
    cluster_key: bytes = CLUSTER_KEY,
    oidc: tuple[Oidc, ...] = (),
) -> Iterator[Cloud]:
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="iam-server")
    thread.start()

    def run(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(_WAIT_S)

    stack = contextlib.AsyncExitStack()

    async def start() -> Cloud:
        catalog, state = await stack.enter_async_context(open_catalog(path))
        clock = TestClock()
        every = [services_over(state, clock, cluster_key, oidc) for _ in range(gateways)]
        cloud = Cloud(catalog, state, loop, clock, path, every)
        for services in every:
            identities = services.identities

            async def find(
                key: str, token: str, identities: Identities = identities
            ) -> Identified | None:
                found = await identities.find(key, token)
                return None if found is None else await identities.current(found, token)

            async def is_account(account: str, identities: Identities = identities) -> bool:
                return account == ROOT_ACCOUNT or await identities.has_account(account)

            s3 = S3Service(
                catalog,
                Verifier(_FILE.get, region=REGION, now=clock.s),
                region=REGION,
                token_keys=lambda: (b"a key of the tests",),
                find=find,
                is_account=is_account,
            )
            query = QueryService(services, s3.handle, clock.s)
            server = Server(query.handle, host=HOST, port=0, on_error=s3.on_error)
            await server.start()
            stack.push_async_callback(server.close)
            cloud.ports.append(server.port)
        return cloud

    try:
        cloud = run(start())
        try:
            yield cloud
        finally:
            cloud.close()
            run(stack.aclose())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
