"""The digests that come with a request, and how they are told of in answers.

A body may be declared by Content-MD5, by one x-amz-checksum-* field or trailer, and by
x-amz-content-sha256 (which the signature verifier has read). All that is declared becomes one
`Expectation`: the backend computes the digests while the bytes pass, and commits nothing that
does not match. Multipart checksums are composite (a digest of the parts' digests, "-n") or of
the full object; which algorithms can do which is Amazon's table (User Guide, "Checking object
integrity").
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Final

from predastore.base.errors import BodyMismatch, S3Error
from predastore.catalog.rows import Checksum, PartSize
from predastore.catalog.values import Expectation, ObjectVersion
from predastore.coding import checksum
from predastore.httpd.message import Body, Headers
from predastore.s3.errors import not_implemented
from predastore.s3.xml_write import tag

COMPOSITE: Final = "COMPOSITE"
FULL_OBJECT: Final = "FULL_OBJECT"

# algorithm -> the field that carries its digest, and the XML element of the same
FIELDS: Final = {name: one.header for name, one in checksum.ALGORITHMS.items()}
ELEMENTS: Final = {name: one.xml_name for name, one in checksum.ALGORITHMS.items()}
# a field -> the digest of no bytes, which SDKs put into a URL that they sign without its body
OF_NOTHING: Final = {
    one.header: checksum.encode(one.make().digest()) for one in checksum.ALGORITHMS.values()
}
_BY_FIELD: Final = {field: name for name, field in FIELDS.items()}
_BY_FIELD_RAW: Final = {field.encode(): name for field, name in _BY_FIELD.items()}
_PREFIX: Final = b"x-amz-checksum-"
_NO_DIGESTS: Final = frozenset(_PREFIX + one for one in (b"algorithm", b"type", b"mode"))


def parse_digest(algorithm: str, value: str) -> bytes:
    """The raw digest of a checksum field; InvalidRequest where it can not be one."""
    try:
        return checksum.decode(algorithm, value.strip())
    except ValueError:
        raise S3Error(
            "InvalidRequest", f"Value for {FIELDS[algorithm]} header is invalid."
        ) from None


def content_md5(headers: Headers) -> dict[str, bytes]:
    """What Content-MD5 declares, if it is there."""
    value = headers.get("content-md5")
    if value is None:
        return {}
    try:
        return {"md5": checksum.decode("md5", value.strip())}
    except ValueError:
        raise S3Error("InvalidDigest", "The Content-MD5 you specified was invalid.") from None


def has_digest(headers: Headers) -> bool:
    """Whether the body comes with a digest of its own, in a field or a trailer."""
    return "content-md5" in headers or "x-amz-trailer" in headers or declared(headers) is not None


def declared(headers: Headers) -> tuple[str, str] | None:
    """(algorithm, value) of the one x-amz-checksum-* digest of a request, if there is one."""
    found: tuple[str, str] | None = None
    for name, value in headers.raw:
        if name.startswith(_PREFIX) and name not in _NO_DIGESTS:
            if name not in _BY_FIELD_RAW:
                shown = name.decode("latin-1")
                raise not_implemented(f"{shown} asks for an unknown checksum", header=shown)
            if found is not None:
                raise S3Error(
                    "InvalidRequest",
                    "Expecting a single x-amz-checksum- header. Multiple checksum Types are not "
                    "allowed.",
                )
            found = _BY_FIELD_RAW[name], value.decode("latin-1")
    return found


def _trailer_algorithm(headers: Headers) -> str | None:
    """The algorithm whose digest x-amz-trailer announces."""
    announced = headers.get("x-amz-trailer")
    if announced is None:
        return None
    found = [name for one in announced.split(",") if (name := _BY_FIELD.get(one.strip().lower()))]
    if len(found) != 1:
        raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer is not supported")
    return found[0]


def _check_announced(headers: Headers, algorithm: str | None) -> None:
    """x-amz-sdk-checksum-algorithm says what the digest is of, and it must be there."""
    announced = headers.get("x-amz-sdk-checksum-algorithm")
    if not announced:
        return
    if announced.lower() not in FIELDS:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
    if algorithm is None:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or "
            "x-amz-trailer headers were found.",
        )
    if announced.lower() != algorithm:
        raise S3Error("InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")


class _Trailer:
    """Reads the announced digest once the body has ended."""

    def __init__(self, body: Body, algorithm: str) -> None:
        self._body = body
        self._algorithm = algorithm

    def __call__(self) -> Mapping[str, bytes]:
        value = self._body.trailers.get(FIELDS[self._algorithm])
        if value is None:
            raise S3Error("MalformedTrailerError")
        return {self._algorithm: parse_digest(self._algorithm, value)}


def expectation(headers: Headers, body: Body, payload_sha256: bytes | None = None) -> Expectation:
    """All that the request declares about its body."""
    digests = content_md5(headers)
    if payload_sha256 is not None:
        digests["sha256"] = payload_sha256
    compute: frozenset[str] = frozenset()
    given = declared(headers)
    trailer = _trailer_algorithm(headers)
    if given is not None:
        algorithm, value = given
        if trailer is not None:
            raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header or trailer.")
        raw = parse_digest(algorithm, value)
        if digests.get(algorithm, raw) != raw:
            raise S3Error("BadDigest")
        digests[algorithm] = raw
        compute = frozenset({algorithm})
    elif trailer is not None:
        compute = frozenset({trailer})
    _check_announced(headers, given[0] if given is not None else trailer)
    late = _Trailer(body, trailer) if trailer is not None else None
    return Expectation(digests=digests, compute=compute, late=late)


def verify(data: bytes, expected: Expectation) -> None:
    """BodyMismatch unless a body that was read whole is what was declared."""
    wanted = dict(expected.digests)
    if expected.late is not None:
        wanted.update(expected.late())
    computed = checksum.Digests(wanted)
    computed.update(data)
    for name, value in wanted.items():
        if not hmac.compare_digest(computed.digest(name), value):
            raise BodyMismatch(f"the {name} of the body is not what was declared", name)


def is_of_payload(error: BodyMismatch, headers: Headers) -> bool:
    """Was it x-amz-content-sha256 that did not match, rather than x-amz-checksum-sha256?"""
    payload = headers.get("x-amz-content-sha256", "")
    if error.what != "sha256" or len(payload) != 64:
        return False
    given = headers.get(FIELDS["sha256"])
    return given is None or given.strip() == checksum.encode(bytes.fromhex(payload))


# --- multipart --------------------------------------------------------------------------------


def parse_upload_checksum(headers: Headers) -> tuple[str, str]:
    """(algorithm, type) of CreateMultipartUpload; ("", "") where none is asked for."""
    wanted = headers.get("x-amz-checksum-algorithm", "").lower()
    kind = headers.get("x-amz-checksum-type", "").upper()
    if not wanted:
        if kind:
            raise S3Error(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the "
                "x-amz-checksum-algorithm header.",
            )
        return "", ""
    if wanted not in FIELDS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    possible = checksum.ALGORITHMS[wanted].multipart_types
    if not kind:
        return wanted, possible[0]
    if kind not in possible:
        raise S3Error(
            "InvalidRequest",
            f"The {kind} checksum type cannot be used with the {wanted} checksum algorithm.",
        )
    return wanted, kind


def parse_copy_algorithm(headers: Headers) -> str:
    """x-amz-checksum-algorithm of a copy, or ""."""
    wanted = headers.get("x-amz-checksum-algorithm", "").lower()
    if wanted and wanted not in FIELDS:
        raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported.")
    return wanted


# --- answers ----------------------------------------------------------------------------------


def text_of(one: Checksum) -> str:
    """The digest as S3 shows it: base64, with "-n" where it is composite."""
    value = checksum.encode(one.value)
    return f"{value}-{one.part_count}" if one.part_count else value


def type_of(one: Checksum) -> str:
    return COMPOSITE if one.part_count else FULL_OBJECT


def answer_headers(checksums: Iterable[Checksum], *, with_type: bool) -> list[tuple[str, str]]:
    """The fields that tell of stored checksums."""
    fields: list[tuple[str, str]] = []
    for one in checksums:
        fields.append((FIELDS[one.algorithm], text_of(one)))
        if with_type and len(fields) == 1:
            fields.append(("x-amz-checksum-type", type_of(one)))
    return fields


def part_headers(version: ObjectVersion, part: PartSize) -> list[tuple[str, str]]:
    """The same of a part of a completed object. As with S3, parts of a composite checksum have
    their own, and those of a full object's have none, but for one that is all of the object."""
    if part.checksum:
        algorithm = version.checksums[0].algorithm
        return [
            (FIELDS[algorithm], checksum.encode(part.checksum)),
            ("x-amz-checksum-type", COMPOSITE),
        ]
    return answer_headers(version.checksums, with_type=True) if version.part_count == 1 else []


def answer_elements(checksums: Iterable[Checksum], *, with_type: bool) -> str:
    """The same as XML."""
    parts: list[str] = []
    for one in checksums:
        parts.append(tag(ELEMENTS[one.algorithm], text_of(one)))
        if with_type and len(parts) == 1:
            parts.append(tag("ChecksumType", type_of(one)))
    return "".join(parts)
