"""The part of the REST API that is for operators: who leads, who belongs to it, status, backup."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any, Protocol

import msgspec

from predastore.base.errors import NoLeader, PredastoreError
from predastore.base.limits import KIB
from predastore.httpd.message import Response
from predastore.s3db.backup import Backup
from predastore.s3db.client import Client
from predastore.s3db.freshness import Freshness
from predastore.s3db.raft.messages import UNKNOWN_LEVEL, Address, Configuration
from predastore.s3db.rest_call import Refused, RestCall, json_response
from predastore.s3db.service import Consensus, status

_log = logging.getLogger(__name__)

_BODY_BYTES_MAX = 4 * KIB
_RAFT_PORT_OFFSET = 1000  # where the body has no raft_port, as in the configuration file

_Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_Port = Annotated[int, msgspec.Meta(ge=1, lt=1 << 16)]
_Host = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class _Joining(msgspec.Struct, frozen=True):
    id: _Id
    host: _Host
    port: _Port
    raft_port: _Port | None = None


class _Leaving(msgspec.Struct, frozen=True):
    id: _Id


class _SettingTime(msgspec.Struct, frozen=True):
    confirm: bool
    backwards: bool = False


class Named(Consensus, Protocol):
    """A Member: consensus with an id, and what operators ask of it."""

    @property
    def id(self) -> int: ...

    @property
    def freshness(self) -> Freshness: ...

    async def backup(self) -> Backup: ...


class Operators:
    def __init__(self, client: Client, member: Named) -> None:
        self._client = client
        self._member = member

    async def leader(self, _: RestCall) -> Response:
        if self._member.leader is None:
            raise NoLeader("no leader is known")
        return json_response(200, {"leader": self._member.leader, "self": self._member.id})

    async def join(self, call: RestCall) -> Response:
        asked = _decoded(_Joining, await call.body(_BODY_BYTES_MAX))
        raft_port = asked.raft_port or asked.port + _RAFT_PORT_OFFSET
        if raft_port >= 1 << 16:
            raise Refused(400, "bad-request", "give a raft_port: port + 1000 is none")
        address = Address(asked.id, asked.host, asked.port, raft_port, UNKNOWN_LEVEL)
        return self._members(await self._client.join(asked.id, address, is_new=False))

    async def leave(self, call: RestCall) -> Response:
        asked = _decoded(_Leaving, await call.body(_BODY_BYTES_MAX))
        return self._members(await self._client.leave(asked.id))

    async def step_down(self, call: RestCall) -> Response:
        await call.body(0)
        return self._members(await self._client.step_down())

    async def set_time(self, call: RestCall) -> Response:
        asked = _decoded(_SettingTime, await call.body(_BODY_BYTES_MAX))
        if not asked.confirm:
            raise Refused(400, "bad-request", 'retention depends on it: "confirm" has to be true')
        done = await self._client.set_time(backwards=asked.backwards)
        credential = call.verified.credential
        _log.warning(
            "s3db rest: cluster time was set by an operator",
            extra={
                "access_key_id": "" if credential is None else credential.access_key_id,
                "remote": call.request.remote,
                "before_ms": done.before_ms,
                "after_ms": done.after_ms,
                "backwards": asked.backwards,
            },
        )
        return json_response(200, {"before_ms": done.before_ms, "after_ms": done.after_ms})

    def _members(self, configuration: Configuration) -> Response:
        return json_response(
            200,
            {
                "members": sorted(configuration.members()),
                "voters": sorted(configuration.voters),
                "learners": sorted(configuration.learners),
                "leader": self._member.leader,
            },
        )

    async def status(self, call: RestCall) -> Response:
        digest = call.wants("digest", b"1")
        own = await status(self._member, digest=digest)
        if not call.wants("members", b"all"):
            return json_response(200, own)
        others = sorted({*own["voters"], *own["learners"]} - {self._member.id})
        found = await asyncio.gather(*(self._status_of(other, digest) for other in others))
        members = {str(member): content for member, content in zip(others, found, strict=True)}
        return json_response(200, {**own, "members": {str(self._member.id): own, **members}})

    async def _status_of(self, member: int, digest: bool) -> dict[str, Any]:
        try:
            return await self._client.status(member, digest=digest)
        except PredastoreError as error:
            return {"id": member, "error": str(error)}

    async def backup(self, _: RestCall) -> Response:
        made = await self._member.backup()
        headers = [("Content-Type", "application/octet-stream")]
        return Response(200, headers, made.stream(), made.header.total_bytes)


def _decoded(kind: type[Any], body: bytes) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        fields = ", ".join(f'"{name}"' for name in kind.__struct_fields__)
        raise Refused(400, "bad-request", f"the body is JSON with {fields}: {error}") from error
