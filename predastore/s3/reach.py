"""The ways to a bucket, to leave to change it, and to an object: each decides first.

Whatever a decision needs that is not at hand is read, and the decision made again: documents of a
bucket that was looked up, the public access block of another account, the object that a change is
about. Each of these is read at most once for a request, but where the bucket changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.catalog.catalog import Catalog
from predastore.catalog.documents import DocumentKind, Meanings
from predastore.catalog.errors import BucketChanged
from predastore.catalog.permits import Permit
from predastore.catalog.procedures.arguments import Condition
from predastore.catalog.rows import BucketRow
from predastore.catalog.values import Finding, ObjectVersion
from predastore.httpd.message import Headers, Request
from predastore.s3 import cors, lock
from predastore.s3.access import (
    BYPASS_GOVERNANCE,
    GET_OBJECT,
    KINDS,
    LIST_BUCKET,
    OF_A_VERSION,
    Access,
    Basis,
    VersionUnknown,
    check_expected,
)
from predastore.s3.conditions import write_condition
from predastore.s3.cross_origin import Crossing
from predastore.s3.public_access import BLOCK, of_document
from predastore.s3.services import Services
from predastore.s3.target import CopySource
from predastore.s3.versions import check_version_id, is_marker, marker_fields

_CROSSING: Final = (*KINDS, cors.KIND)
_NO_MEANINGS: Final = Meanings(b"", 0)  # of no bucket


@dataclass(slots=True)
class Reach:
    """Of one request. `query`: decoded parameters. `access`: what it may do. `crossing`: told of
    the bucket's row, where the request has an origin. `payload_sha256`: what the body's digest must
    be, where x-amz-content-sha256 says so."""

    services: Services
    request: Request
    bucket_name: str
    key: str
    query: dict[str, str]
    access: Access
    payload_sha256: bytes | None = None
    crossing: Crossing | None = None

    @property
    def catalog(self) -> Catalog:
        return self.services.catalog

    @property
    def headers(self) -> Headers:
        return self.request.headers

    @property
    def version_id(self) -> str:
        """The version that the request names, or ""; InvalidArgument for what can be none."""
        named = self.query.get("versionId")
        return "" if named is None else check_version_id(named)

    @property
    def account(self) -> str | None:
        """The account that asks; None: an anonymous request."""
        return self.access.account

    def may(self, action: str, key: str | None = None) -> bool:
        """Whether the requester may do that, too, in the bucket that was looked up. `key`: another
        than the request's."""
        return self.access.may(action, key)

    def write_condition(self) -> Condition:
        """If-Match and If-None-Match of a write; the first tells what is there, and so needs the
        permission to read it."""
        condition = write_condition(self.headers, may_be_any=self.request.method == "DELETE")
        if condition.if_match not in (None, "*"):
            self.access.require(GET_OBJECT)
        return condition

    async def bypasses_governance(self) -> bool:
        """Whether the request asks to remove what GOVERNANCE keeps, and may; with a permit."""
        return bool(await self.bypassed(self.key))

    async def bypassed(self, *keys: str) -> frozenset[str]:
        """The same of several keys: those of which it may. It is looked at again if the bucket
        changes before the commit."""
        if self.headers.get(lock.BYPASS, "").lower() != "true":
            return frozenset()
        if not all(self.may(BYPASS_GOVERNANCE, key) for key in keys):
            await self.bucket()  # what refuses it may be of a moment ago
        found = frozenset(key for key in keys if self.may(BYPASS_GOVERNANCE, key))
        for key in found:
            self.access.require(BYPASS_GOVERNANCE, key)
        return found

    def absent(self, key: str, found: Finding, version_id: str = "") -> S3Error:
        """What to raise where there is no such object: only who may list is told so."""
        if not self.may(LIST_BUCKET):
            return S3Error("AccessDenied")
        return _absent(key, found, version_id)

    def signer(self) -> str:
        """The account that signed; AccessDenied for an anonymous request."""
        if self.account is None:
            raise S3Error("AccessDenied")
        return self.account

    async def bucket(self) -> BucketRow:
        """The bucket, if this request may do in it what it wants."""
        row, meanings = await self.catalog.documents.now(self.bucket_name, *self._kinds)
        if self.crossing is not None:
            self.crossing.row = row
        await self._judge_knowing(row, meanings)
        assert row is not None, "it is judged"
        return row

    async def permit(self, check: Callable[[BucketRow], object] | None = None) -> Permit:
        """Leave to do to the bucket what the request wants: to be given to what does it, which
        checks it again. `check`: raises unless the bucket is fit for it."""

        def judge(row: BucketRow | None, meanings: Meanings) -> Coroutine[Any, Any, None] | None:
            if self.crossing is not None:
                self.crossing.permitted = row
            if row is not None and self.access.needs_block(Basis(row, meanings)):
                return later(row, meanings)
            try:
                self._judge(row, meanings)
            except VersionUnknown:
                return later(row, meanings)
            if row is not None and check is not None:
                check(row)
            return None

        async def later(row: BucketRow | None, meanings: Meanings) -> None:
            await self._judge_knowing(row, meanings)
            if row is not None and check is not None:
                check(row)

        identity = self.access.identity
        ground = None if identity is None else identity.ground
        checks = () if ground is None else (ground.check,)
        return await self.catalog.permit(self.bucket_name, judge, *self._kinds, checks=checks)

    async def object(
        self, *, needs_bytes: bool = False, tells_marker: bool = False
    ) -> ObjectVersion:
        """The version that is named, or the current one, if this request may do with it what it
        wants; one round trip, with its bucket. NoSuchKey, NoSuchVersion, MethodNotAllowed for a
        delete marker. `needs_bytes`: they, or its parts, will be read. `tells_marker`: also one
        that is current, and not as no object."""
        for _ in range(limits.S3_READ_TRIES_MAX):
            found = await self.catalog.find(
                self.bucket_name, self.key, self.version_id, needs_bytes=needs_bytes
            )
            row, version = found.bucket, found.version
            if self.crossing is not None:
                self.crossing.row = row
            if row is None:
                self._judge(None, _NO_MEANINGS)
                continue
            try:
                meanings = self.catalog.documents.known(row, *self._kinds)
                if meanings is None:
                    meanings = await self.catalog.documents.of(row, *self._kinds)
            except BucketChanged:
                continue
            await self._know(Basis(row, meanings, version))
            if version is not None:
                self._judge(row, meanings, version)
                return version
            self._judge_absent(row, meanings)
            raise self._absent(found, tells_marker=tells_marker)
        raise S3Error("ConditionalRequestConflict")

    def check_anew(self, version: ObjectVersion) -> None:
        """After a permit: AccessDenied where the object that is to be changed is another by now,
        and may not be changed so."""
        assert self.access.basis is not None, "a permit was given"
        self.access.check(self.access.basis._replace(version=version))

    # --- deciding -----------------------------------------------------------------------------

    @property
    def _kinds(self) -> tuple[DocumentKind[Any], ...]:
        """The documents that are looked at: those of decisions, and the rules for browsers."""
        return KINDS if self.crossing is None else _CROSSING

    def _judge(
        self, row: BucketRow | None, meanings: Meanings, version: ObjectVersion | None = None
    ) -> None:
        """Whether the request may do in the bucket what it wants: NoSuchBucket, AccessDenied."""
        if row is None:
            self.access.check_absent()
            raise S3Error("NoSuchBucket", BucketName=self.bucket_name)
        self.access.check(Basis(row, meanings, version))
        check_expected(row, self.headers)

    async def _judge_knowing(self, row: BucketRow | None, meanings: Meanings) -> None:
        """The same, where something may have to be read first."""
        if row is not None:
            await self._know(Basis(row, meanings))
        try:
            self._judge(row, meanings)
        except VersionUnknown:
            assert row is not None
            version = await self._version_to_change(row, meanings)
            await self._know(Basis(row, meanings, version))
            self._judge(row, meanings, version)

    def _judge_absent(self, row: BucketRow, meanings: Meanings) -> None:
        """AccessDenied for who may not know that there is no such object: who may not list, and who
        is of the bucket's account and may not do it to any."""
        basis = Basis(row, meanings)
        if self.access.account == row.owner:
            with suppress(VersionUnknown):
                self.access.check(basis)
        if not self.access.decide(LIST_BUCKET, "", basis).allowed:
            raise S3Error("AccessDenied")
        check_expected(row, self.headers)

    async def _version_to_change(self, row: BucketRow, meanings: Meanings) -> ObjectVersion:
        """The object that a change is about, as far as that is decided by it."""
        where = self.bucket_name, self.key, self.version_id
        found = await self.catalog.find(*where, needs_bytes=False)
        if found.version is not None:
            return found.version
        self._judge_absent(row, meanings)
        raise self._absent(found, tells_marker=True)

    def _absent(self, found: Finding, *, tells_marker: bool = False) -> S3Error:
        if (self.version_id or tells_marker) and found.marker is not None:
            return is_marker(found.marker, self.request.method)
        return _absent(self.key, found, self.version_id)

    async def _know(self, basis: Basis) -> None:
        """Reads the public access block of the account, where a decision needs it."""
        if self.access.needs_block(basis):
            owner = basis.row.owner
            stored = await self.catalog.account_document(owner, BLOCK)
            self.access.blocks[owner] = of_document(stored)

    # --- the source of a copy -----------------------------------------------------------------

    async def copy_source(self, source: CopySource) -> ObjectVersion:
        """The object that a copy reads, if the request may read it."""
        found = await self.catalog.find(source.bucket, source.key, source.version)
        row, version = found.bucket, found.version
        if row is None:
            self.access.demand_own(LIST_BUCKET, bucket=source.bucket)
            raise S3Error("NoSuchBucket", BucketName=source.bucket)
        action = OF_A_VERSION[GET_OBJECT] if source.version else GET_OBJECT
        if version is None:
            await self._check_other(row, LIST_BUCKET, "", None)
        else:
            await self.check_source(version, action)
        check_expected(row, self.headers, "x-amz-source-expected-bucket-owner")
        if version is not None:
            return version
        if source.version and found.marker is not None:
            raise S3Error(
                "InvalidRequest",
                "The source of a copy request may not specifically refer to a delete marker by "
                "version id.",
            )
        raise _absent(source.key, found, source.version)

    async def check_source(self, version: ObjectVersion, action: str) -> None:
        """AccessDenied unless the requester may do that to the version that a copy reads."""
        await self._check_other(version.bucket, action, version.key, version)

    async def _check_other(
        self, row: BucketRow, action: str, key: str, version: ObjectVersion | None
    ) -> None:
        meanings = await self.catalog.documents.of(row, *KINDS)
        basis = Basis(row, meanings, version)
        await self._know(basis)
        self.access.demand(action, key, basis)


def _absent(key: str, found: Finding, version_id: str) -> S3Error:
    """What who may list the bucket is told of an object that is not there."""
    if version_id:
        return S3Error("NoSuchVersion", Key=key, VersionId=version_id)
    fields = marker_fields(found.marker) if found.marker is not None else ()
    return S3Error("NoSuchKey", headers=dict(fields), Key=key)
