"""XML bodies take bounded memory, however many come at once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Coroutine
from typing import Any

import pytest

from predastore.auth.sigv4 import Credential, Verified, Verifier
from predastore.base.errors import HttpError, Overloaded, S3Error
from predastore.base.limits import S3_XML_BYTES_MAX, S3_XML_FREE_BYTES, S3_XML_TREES_MAX
from predastore.catalog.documents import Meanings
from predastore.catalog.permits import Permit, anybody
from predastore.catalog.rows import BucketRow, UploadRow
from predastore.catalog.uploads import Upload
from predastore.catalog.values import Deleted, Stored, Wanted
from predastore.httpd.message import Body, BytesBody, Headers, Request
from predastore.iam.identities import of_file
from predastore.s3 import documents as documents_module
from predastore.s3.access import KINDS, Access, Basis
from predastore.s3.condition_keys import ConditionKeys
from predastore.s3.context import Context
from predastore.s3.documents import Documents
from predastore.s3.ops import complete_multipart_upload, delete_objects
from predastore.s3.services import Services
from predastore.s3.tokens import Tokens
from support.waiting import eventually_async

LARGE = S3_XML_BYTES_MAX // 4


class Stalled(Body):
    """Says its length, and then nothing until `proceed` is set."""

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.proceed = asyncio.Event()

    async def readinto(self, buffer: memoryview) -> int:
        await self.proceed.wait()
        return 0


async def receive(documents: Documents, body: Body) -> bytes:
    async with documents.room(body, LARGE) as watched:
        return await watched.read(LARGE)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def cancelled(*tasks: asyncio.Task[bytes]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("length", [LARGE, None])
def test_large_bodies_share_a_budget(length: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.storage.buffers.BACKEND_BUFFER_WAIT_MS_MAX", 1)

    async def main() -> None:
        documents = Documents()
        held = [asyncio.ensure_future(receive(documents, Stalled(length))) for _ in range(4)]
        await eventually_async(lambda: documents.held_bytes == S3_XML_BYTES_MAX)
        with pytest.raises(Overloaded):
            await receive(documents, Stalled(length))
        assert await receive(documents, BytesBody(b"x" * S3_XML_FREE_BYTES))
        await cancelled(*held)
        assert documents.held_bytes == 0

    run(main())


def test_a_client_that_stalls_loses_its_share_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.storage.buffers.BACKEND_IDLE_MS_MAX", 0)
    monkeypatch.setattr("predastore.storage.buffers.BACKEND_IDLE_CHECK_MS", 1)

    async def main() -> None:
        documents = Documents()
        held = [asyncio.ensure_future(receive(documents, Stalled(LARGE))) for _ in range(4)]
        await eventually_async(lambda: documents.held_bytes == S3_XML_BYTES_MAX)
        data = b"x" * LARGE
        assert await receive(documents, BytesBody(data)) == data
        assert [task.cancelled() for task in held].count(True) == 1
        await cancelled(*held)

    run(main())


def test_a_body_that_is_too_long_is_refused_and_holds_nothing() -> None:
    async def main() -> None:
        documents = Documents()
        with pytest.raises(HttpError):
            await receive(documents, BytesBody(bytes(LARGE + 1)))
        assert documents.held_bytes == 0

    run(main())


def test_few_trees_are_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bytes] = []
    parse = documents_module.parse

    async def noted(data: bytes, root: str) -> Any:
        begun.append(data)
        return await parse(data, root)

    monkeypatch.setattr(documents_module, "parse", noted)

    async def main() -> None:
        documents = Documents()
        proceed = asyncio.Event()

        async def look(data: bytes) -> None:
            async with documents.tree(data, "a"):
                await proceed.wait()

        looking = [asyncio.ensure_future(look(b"<a/>")) for _ in range(3 * S3_XML_TREES_MAX)]
        await eventually_async(lambda: len(begun) >= S3_XML_TREES_MAX)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(begun) == S3_XML_TREES_MAX
        proceed.set()
        await asyncio.gather(*looking)
        assert len(begun) == 3 * S3_XML_TREES_MAX

        for _ in range(2 * S3_XML_TREES_MAX):  # a malformed one gives its turn back
            with pytest.raises(S3Error):
                await look(b"<a>")

    run(main())


class FakeCatalog:
    """What operations do takes until `proceed` is set; `running`: how many are at it."""

    def __init__(self) -> None:
        self.running = 0
        self.proceed = asyncio.Event()

    async def permit(self, *_: object, **__: object) -> Permit:
        return Permit(BucketRow("b", b"", "1", "eu-test-1", 1), anybody)

    async def upload(self, *_: object, permit: Permit) -> Upload:
        return Upload(permit, UploadRow("b", "k", "0", "1", 1, "t"))

    async def complete(self, *_: object, **__: object) -> Stored:
        await self._work()
        return Stored("0", 1, 0, (), "")

    async def delete_many(self, _: str, wanted: list[Wanted], **__: object) -> list[Deleted]:
        await self._work()
        return [Deleted() for _ in wanted]

    async def _work(self) -> None:
        self.running += 1
        await self.proceed.wait()
        self.running -= 1


def asking(documents: Documents, catalog: Any, body: bytes) -> Context:
    md5 = base64.b64encode(hashlib.md5(body).digest())
    headers = Headers([(b"content-md5", md5), (b"host", b"x")])
    request = Request("POST", b"/b/k", b"", headers, BytesBody(body))
    verifier = Verifier(lambda _: None, region="eu-test-1")
    services = Services(
        catalog, "eu-test-1", Tokens(lambda: (b"key",)), verifier, documents=documents
    )
    query = {"uploadId": "0"}
    identity = of_file(Credential("key", "secret", "1"))
    facts = ConditionKeys(request, query, Verified(None, None), identity, "eu-test-1")
    access = Access(request, facts, identity, "b", "k")
    meanings = Meanings(b"", 1)
    for kind in KINDS:
        meanings.add(kind, None)
    access.check(Basis(BucketRow("b", b"", "1", "eu-test-1", 0), meanings))
    return Context(services, request, "b", "k", query, access)


PART = b"<Part><PartNumber>1</PartNumber><ETag>0</ETag></Part>"


def test_few_objects_are_put_together_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % PART
    monkeypatch.setattr(documents_module, "S3_XML_ASSEMBLIES_BYTES_MAX", 3 * len(body) + 1)

    async def main() -> None:
        documents, catalog = Documents(), FakeCatalog()
        work = [
            asyncio.ensure_future(complete_multipart_upload.run(asking(documents, catalog, body)))
            for _ in range(10)
        ]
        await eventually_async(lambda: catalog.running == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert catalog.running == 3
        catalog.proceed.set()
        assert {answer.status for answer in await asyncio.gather(*work)} == {200}

    run(main())


@pytest.mark.parametrize("operation", [complete_multipart_upload, delete_objects])
def test_what_is_made_of_a_large_document_is_counted_as_long_as_it_lives(operation: Any) -> None:
    parts = b"".join(PART.replace(b">1<", b">%d<" % n) for n in range(1, 2001))
    keys = b"".join(b"<Object><Key>%s</Key></Object>" % (b"k" * 900) for _ in range(100))
    body = (
        b"<Delete>%s</Delete>" % keys
        if operation is delete_objects
        else b"<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % parts
    )
    assert len(body) > S3_XML_FREE_BYTES

    async def main() -> None:
        documents, catalog = Documents(), FakeCatalog()
        work = asyncio.ensure_future(operation.run(asking(documents, catalog, body)))
        await eventually_async(lambda: catalog.running == 1)
        assert documents.held_bytes == len(body)
        catalog.proceed.set()
        assert (await work).status == 200
        assert documents.held_bytes == 0

    run(main())
