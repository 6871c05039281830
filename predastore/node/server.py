"""The rpc methods of a shard node: each one a call of its store.

Errors cross as themselves. A block is at most BLOCK_BYTES_MAX; more is refused before it is read.
"""

from __future__ import annotations

from collections.abc import Callable

from predastore.base.limits import BLOCK_BYTES_MAX
from predastore.node import messages
from predastore.node.store import ShardStore
from predastore.rpc import CallContext, Method, Reply, Service

_DONE = Reply(messages.Done())


class _Handlers:
    def __init__(self, opened: Callable[[], ShardStore]) -> None:
        self._opened = opened

    @property
    def _store(self) -> ShardStore:
        return self._opened()

    async def put(self, request: messages.PutRequest, payload: memoryview, _: CallContext) -> Reply:
        await self._store.put(request.ref, payload, request.crc)
        return _DONE

    async def append(
        self, request: messages.AppendRequest, payload: memoryview, _: CallContext
    ) -> Reply:
        await self._store.append(request.ref, request.stripe, payload, request.crc)
        return _DONE

    async def commit(
        self, request: messages.CommitShardRequest, _: memoryview, __: CallContext
    ) -> Reply:
        await self._store.commit(request.ref, request.block_count, request.byte_count)
        return _DONE

    async def read(self, request: messages.Read, _: memoryview, __: CallContext) -> Reply:
        found = await self._store.read(request.ref, request.stripe, request.offset, request.length)
        return Reply(messages.Done(), [found])

    async def stat(self, request: messages.Stat, _: memoryview, __: CallContext) -> Reply:
        return Reply(await self._store.stat(request.ref))

    async def delete(
        self, request: messages.DeleteRequest, _: memoryview, __: CallContext
    ) -> Reply:
        await self._store.delete(request.refs)
        return _DONE

    async def abort(self, request: messages.AbortRequest, _: memoryview, __: CallContext) -> Reply:
        await self._store.abort(request.ref)
        return _DONE

    async def status(
        self, _: messages.StoreStatusRequest, __: memoryview, ___: CallContext
    ) -> Reply:
        return Reply(await self._store.status())

    async def shards(self, request: messages.ListShards, _: memoryview, __: CallContext) -> Reply:
        return Reply(await self._store.shards(request.after, request.limit))

    async def bad(self, request: messages.ListBad, _: memoryview, __: CallContext) -> Reply:
        return Reply(self._store.bad(request.after, request.limit))

    async def locate(self, request: messages.Locate, _: memoryview, __: CallContext) -> Reply:
        return Reply(await self._store.locate(request.ref, request.first))

    async def scrub(self, request: messages.Scrub, _: memoryview, __: CallContext) -> Reply:
        return Reply(self._store.scrub(start=request.start))


def service(store: ShardStore) -> Service:
    """The methods that a node offers under its peer name ("node/3")."""
    return service_of(lambda: store)


def service_of(opened: Callable[[], ShardStore]) -> Service:
    """The same of a store that may not be open: `opened` raises then what the callers get."""
    to = _Handlers(opened)
    done = messages.Done
    return {
        "shard.put": Method(messages.PutRequest, done, to.put, BLOCK_BYTES_MAX),
        "shard.append": Method(messages.AppendRequest, done, to.append, BLOCK_BYTES_MAX),
        "shard.commit": Method(messages.CommitShardRequest, done, to.commit, 0),
        "shard.read": Method(messages.Read, done, to.read, 0),
        "shard.stat": Method(messages.Stat, messages.ShardStat, to.stat, 0),
        "shard.delete": Method(messages.DeleteRequest, done, to.delete, 0),
        "shard.abort": Method(messages.AbortRequest, done, to.abort, 0),
        "shard.locate": Method(messages.Locate, messages.ShardPlaces, to.locate, 0),
        "node.status": Method(messages.StoreStatusRequest, messages.NodeStatus, to.status, 0),
        "node.shards": Method(messages.ListShards, messages.ShardRows, to.shards, 0),
        "node.scrub": Method(messages.Scrub, messages.ScrubStatus, to.scrub, 0),
        "node.bad": Method(messages.ListBad, messages.BadShards, to.bad, 0),
    }
