"""What a form claims about the signature of its policy.

Formats: "Browser-Based Uploads Using POST (AWS Signature Version 4)" in the Amazon S3 API
Reference. The string to sign is the field `policy` as it stands in the form, which is base64.

    Version 4   x-amz-algorithm x-amz-credential x-amz-date x-amz-signature (64 hex digits)
    Version 2   AWSAccessKeyId signature (base64 of HMAC-SHA1): so boto3 does in the oldest regions

Nothing here is believed yet; auth.sigv4 decides.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final, NamedTuple

from predastore.auth.authorization import ALGORITHM, Claim, parse_scope, parse_stamp
from predastore.base.errors import SignatureError
from predastore.base.limits import SIGV4_PRESIGNED_S_MAX

POLICY: Final = "policy"
TOKEN: Final = "x-amz-security-token"

# What signs a form, as S3 writes it in errors.
_VERSION_4: Final = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature")
_VERSION_2: Final = ("AWSAccessKeyId", "signature")


class ClaimOfPolicy(NamedTuple):
    """`claim`: of Version 4; None: `access_key_id` and `signature` are of Version 2."""

    policy: bytes
    claim: Claim | None
    access_key_id: str
    signature: bytes

    def is_signed_v2(self, secret: str) -> bool:
        """Whether the signature of Version 2 is that of `secret`."""
        digest = hmac.digest(secret.encode(), self.policy, hashlib.sha1)
        return hmac.compare_digest(base64.b64encode(digest), self.signature)


def missing(name: str) -> SignatureError:
    """A field that a form needs, or that comes behind the file."""
    return SignatureError(
        "InvalidArgument",
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the "
        "order of the fields.",
        ArgumentName=name,
        ArgumentValue="",
    )


def parse_claim_of_policy(fields: Mapping[str, str]) -> ClaimOfPolicy | None:
    """The claim of a form, whose `fields` have lower-case names; None where it has no policy and
    nothing that signs one. SignatureError where it is malformed."""
    v4 = [name for name in _VERSION_4 if name.lower() in fields]
    v2 = [name for name in _VERSION_2 if name.lower() in fields]
    policy = fields.get(POLICY)
    if policy is None:
        if v4 or v2:
            raise missing(POLICY)
        return None
    if v4 and v2:
        raise SignatureError("InvalidArgument", "Only one auth mechanism allowed.")
    wanted = _VERSION_2 if v2 else _VERSION_4
    for name in wanted:
        if name.lower() not in fields:
            raise missing(name)
    signed = policy.encode()
    if v2:
        signature = fields["signature"].encode("ascii", "replace")
        return ClaimOfPolicy(signed, None, fields["awsaccesskeyid"], signature)
    claim = _claim(*(fields[name.lower()] for name in _VERSION_4))
    return ClaimOfPolicy(signed, claim, claim.scope.access_key_id, claim.signature)


def _claim(algorithm: str, credential: str, stamp: str, signature: str) -> Claim:
    if algorithm.startswith("AWS4-ECDSA"):
        raise SignatureError("NotImplemented", "SigV4A (ECDSA) signatures are not supported.")
    if algorithm != ALGORITHM:
        raise _invalid(f'X-Amz-Algorithm only supports "{ALGORITHM}"', "X-Amz-Algorithm", algorithm)
    scope = parse_scope(credential)
    if scope is None:
        why = (
            "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; "
            'expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
        )
        raise _invalid(why, "X-Amz-Credential", credential)
    time_s = parse_stamp(stamp)
    if time_s is None:
        why = "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        raise _invalid(why, "X-Amz-Date", stamp)
    signed = signature.encode("ascii", "replace")
    # A signing key is good for as long as a presigned URL may be; the policy has its own end.
    return Claim(
        scope, b"", signed, stamp.encode("ascii"), time_s, SIGV4_PRESIGNED_S_MAX, payload=None
    )


def _invalid(why: str, name: str, value: str) -> SignatureError:
    return SignatureError("InvalidArgument", why, ArgumentName=name, ArgumentValue=value)
