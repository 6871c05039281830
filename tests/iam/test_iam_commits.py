"""A right that goes between a decision and its commit: the change is not made, or decided anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from iam.test_iam_access import statement
from predastore.auth.signing import sign_request
from predastore.auth.sigv4 import Credential
from predastore.httpd.message import BytesBody, Headers, Request, Response
from predastore.iam.procedures.arguments import ChangeKey, PutInline
from predastore.iam.query.service import QueryService
from predastore.iam.rows import EntityKind
from predastore.s3db.commands import Applied, Check
from predastore.s3db.global_state import GlobalState
from support.iamserver import ROOT_ACCOUNT, Cloud, Keys


class Between:
    """A state in which something happens just before the first commit."""

    def __init__(self, state: GlobalState, happens: Callable[[], Awaitable[Any]]) -> None:
        self._state = state
        self._happens: Callable[[], Awaitable[Any]] | None = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    async def call(self, name: str, arguments: bytes, checks: tuple[Check, ...] = ()) -> Applied:
        happens, self._happens = self._happens, None
        if happens is not None:
            await happens()
        return await self._state.call(name, arguments, checks)


async def nobody(_: Request) -> Response:
    raise AssertionError("it is for IAM")


def answered(cloud: Cloud, who: Keys, happens: Callable[[], Awaitable[Any]]) -> Response:
    """The answer to CreateUser of eve, where something happens just before its commit."""
    body = urlencode({"Action": "CreateUser", "UserName": "eve"}).encode()
    signed = sign_request(
        Credential(who.id, who.secret, ""),
        method="POST",
        raw_path=b"/",
        raw_query=b"",
        headers=[("host", "iam")],
        payload=body,
        region="us-east-1",
        service="iam",
    )
    state: Any = Between(cloud.state, happens)
    service = QueryService(replace(cloud.services[0], state=state), nobody)
    request = Request("POST", b"/", b"", Headers.of(signed), BytesBody(body), id="0" * 16)
    return cloud.run(service.handle(request))


def put(cloud: Cloud, document: str) -> Callable[[], Awaitable[Applied]]:
    args = PutInline(ROOT_ACCOUNT, EntityKind.USER, "alice", "own", document)
    return lambda: cloud.state.call("iam.inline.put", args.encode())


def users(cloud: Cloud) -> set[str]:
    return {one["UserName"] for one in cloud.client("iam").list_users()["Users"]}


def test_a_right_that_goes_before_the_commit_makes_no_change(cloud: Cloud) -> None:
    alice = cloud.user("alice", policy=statement("Allow", "iam:*"))
    answer = answered(cloud, alice, put(cloud, statement("Allow", "iam:Get*")))
    assert (answer.status, b"AccessDenied" in answer.body) == (403, True)
    assert users(cloud) == {"alice"}


def test_a_key_that_goes_before_the_commit_makes_no_change(cloud: Cloud) -> None:
    alice = cloud.user("alice", policy=statement("Allow", "iam:*"))
    args = ChangeKey(ROOT_ACCOUNT, "alice", alice.id, False)
    answer = answered(cloud, alice, lambda: cloud.state.call("iam.key.change", args.encode()))
    assert (answer.status, b"InvalidClientTokenId" in answer.body) == (403, True)
    assert users(cloud) == {"alice"}


def test_a_change_that_leaves_the_right_is_no_failure(cloud: Cloud) -> None:
    alice = cloud.user("alice", policy=statement("Allow", "iam:*"))
    answer = answered(cloud, alice, put(cloud, statement("Allow", ["iam:CreateUser", "s3:*"])))
    assert answer.status == 200
    assert users(cloud) == {"alice", "eve"}
