"""The condition keys of a request of S3: what policies may ask about it.

From the Service Authorization Reference ("Actions, resources, and condition keys for Amazon S3")
and the IAM User Guide ("AWS global condition context keys"). A key is worked out when a policy asks
for it, and so costs nothing where none does. Who asks, and who owns the resource, the evaluator
knows itself (policy/decision.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from predastore.auth.sigv4 import Credential, Verified
from predastore.base.errors import S3Error
from predastore.catalog.rows import Tags
from predastore.catalog.values import ObjectVersion
from predastore.httpd.message import Request
from predastore.iam.identity import Identity
from predastore.policy import Lookup
from predastore.s3 import lock, tags
from predastore.s3.dates import iso8601

Values = tuple[str, ...] | None

_EXISTING_TAG: Final = "s3:ExistingObjectTag/"
_REQUEST_TAG: Final = "s3:RequestObjectTag/"
_PRINCIPAL_TAG: Final = "aws:PrincipalTag/"
# key -> the header field that has it
_FIELDS: Final = {
    "aws:UserAgent": "user-agent",
    "aws:referer": "referer",
    "s3:if-match": "if-match",
    "s3:if-none-match": "if-none-match",
    "s3:object-lock-legal-hold": lock.LEGAL_HOLD,
    "s3:object-lock-mode": lock.MODE,
    "s3:object-lock-retain-until-date": lock.UNTIL,
    **{
        f"s3:{name}": name
        for name in (
            *("x-amz-acl", "x-amz-content-sha256", "x-amz-metadata-directive"),
            *("x-amz-grant-full-control", "x-amz-grant-read", "x-amz-grant-read-acp"),
            *("x-amz-grant-write", "x-amz-grant-write-acp", "x-amz-object-ownership"),
            *("x-amz-storage-class", "x-amz-website-redirect-location"),
        )
    },
}
# key -> the query parameter that has it
_PARAMETERS: Final = {"s3:VersionId": "versionId", "s3:max-keys": "max-keys"}
# the same, of lists, which have "" where the request says nothing
_OF_LISTS: Final = {"s3:prefix": "prefix", "s3:delimiter": "delimiter"}


class ConditionKeys:
    """Of one request. `region`: of the service; `token_ms`: when its session began, if it is one's.
    `tagged`: tags that it gives beside those of x-amz-tagging."""

    __slots__ = ("_identity", "_query", "_region", "_request", "_verified", "tagged")

    def __init__(
        self,
        request: Request,
        query: dict[str, str],
        verified: Verified,
        identity: Identity | None,
        region: str,
    ) -> None:
        self._request = request
        self._query = query
        self._verified = verified
        self._identity = identity
        self._region = region
        self.tagged: Tags = ()

    @property
    def credential(self) -> Credential | None:
        """By which the request was signed; None: an anonymous request."""
        return self._verified.credential

    def lookup(self, version: ObjectVersion | None) -> Lookup:
        """`version`: the object that is addressed, where it was looked up."""

        def look(key: str) -> Values:
            if key.startswith(_EXISTING_TAG):
                row_tags = () if version is None else version.row.tags
                return _tag(row_tags, key.removeprefix(_EXISTING_TAG))
            if key in _FIELDS:
                return _one(self._request.headers.get(_FIELDS[key]))
            if key in _PARAMETERS:
                return _one(self._query.get(_PARAMETERS[key]))
            if key in _OF_LISTS:
                return (self._query.get(_OF_LISTS[key], ""),)
            return self._other(key)

        return look

    def _other(self, key: str) -> Values:
        if key.startswith(_REQUEST_TAG):
            return _tag(self._tags(), key.removeprefix(_REQUEST_TAG))
        if key.startswith(_PRINCIPAL_TAG):
            own = () if self._identity is None else self._identity.tags
            return _tag(own, key.removeprefix(_PRINCIPAL_TAG))
        told = _TOLD.get(key)
        return None if told is None else told(self)

    def _tags(self) -> Tags:
        try:
            return (*tags.of_field(self._request.headers.get(tags.HEADER, "")), *self.tagged)
        except S3Error:  # it is refused for that, by whoever reads it
            return ()

    # --- keys of which each has a function ----------------------------------------------------

    def source_ip(self) -> Values:
        return _one(self._request.remote)

    def secure_transport(self) -> Values:
        return ("true" if self._request.secure else "false",)

    def current_time(self) -> Values:
        return (datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),)

    def epoch_time(self) -> Values:
        return (str(int(time.time())),)

    def requested_region(self) -> Values:
        return (self._region,)

    def copy_source(self) -> Values:
        value = self._request.headers.get("x-amz-copy-source")
        return None if value is None else (value.removeprefix("/"),)

    def tag_keys(self) -> Values:
        return tuple(name for name, _ in self._tags()) or None

    def signature_version(self) -> Values:
        if self._identity is None:
            return None
        return ("AWS" if self._verified.is_v2 else "AWS4-HMAC-SHA256",)

    def auth_type(self) -> Values:
        if self._identity is None:
            return None
        if self._verified.is_form:
            return ("POST",)
        return ("REST-QUERY-STRING" if self._verified.presigned else "REST-HEADER",)

    def signature_age_ms(self) -> Values:
        signed_s = self._verified.signed_s
        return None if signed_s is None else (str(max(0, int((time.time() - signed_s) * 1000))),)

    def retention_days(self) -> Values:
        said = self._request.headers.get(lock.UNTIL)
        if said is None:
            return None
        try:
            until = datetime.fromisoformat(said)
        except ValueError:
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return (str(max(0, -(-int((until - datetime.now(UTC)).total_seconds()) // 86_400))),)

    def token_issue_time(self) -> Values:
        session = None if self._identity is None else self._identity.session
        return None if session is None else (iso8601(session.began_ms),)

    def mfa_present(self) -> Values:
        session = None if self._identity is None else self._identity.session
        return None if session is None else ("false",)


_TOLD: Final[dict[str, Callable[[ConditionKeys], Values]]] = {
    "aws:CurrentTime": ConditionKeys.current_time,
    "aws:EpochTime": ConditionKeys.epoch_time,
    "aws:MultiFactorAuthPresent": ConditionKeys.mfa_present,
    "aws:RequestedRegion": ConditionKeys.requested_region,
    "aws:SecureTransport": ConditionKeys.secure_transport,
    "aws:SourceIp": ConditionKeys.source_ip,
    "aws:TokenIssueTime": ConditionKeys.token_issue_time,
    "s3:RequestObjectTagKeys": ConditionKeys.tag_keys,
    "s3:authType": ConditionKeys.auth_type,
    "s3:object-lock-remaining-retention-days": ConditionKeys.retention_days,
    "s3:signatureAge": ConditionKeys.signature_age_ms,
    "s3:signatureversion": ConditionKeys.signature_version,
    "s3:x-amz-copy-source": ConditionKeys.copy_source,
}


def _one(value: str | None) -> Values:
    return None if value is None else (value,)


def _tag(own: Tags, name: str) -> Values:
    return next(((value,) for key, value in own if key == name), None)
