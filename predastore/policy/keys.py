"""The condition keys that policies may name, each with its type and its one spelling.

From the IAM User Guide, "AWS global condition context keys", and the Service Authorization
Reference. Keys that Amazon documents and no request has here count as absent in every request.
Names are compared without regard to case, but for what stands behind a slash, the name of a tag.
"""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple


class KeyType(enum.Enum):
    """What the values of a key are; operators of another type are refused."""

    STRING = "string"
    NUMERIC = "numeric"
    DATE = "date"
    EPOCH = "epoch"  # seconds: a date and a number
    BOOL = "bool"
    IP = "ip"
    ARN = "arn"
    TAG = "tag"  # a text that may be any of these


class KeyFacts(NamedTuple):
    """`name`: its one spelling; a slash at its end is followed by the name of a tag. `many`:
    whether a request may have several values of it. `actions`: the actions of S3 that have it, in
    lower case; None where it does not matter."""

    name: str
    type: KeyType
    many: bool = False
    actions: frozenset[str] | None = None


_LISTS: Final = frozenset(
    {"s3:listbucket", "s3:listbucketversions", "s3:listbucketmultipartuploads"}
)
_COPIES: Final = frozenset({"s3:putobject"})
_ACLS: Final = frozenset(
    {
        "s3:createbucket",
        "s3:putbucketacl",
        "s3:putobject",
        "s3:putobjectacl",
        "s3:putobjectversionacl",
    }
)
_BY_ACTIONS: Final = {
    "s3:prefix": _LISTS,
    "s3:delimiter": _LISTS,
    "s3:max-keys": _LISTS,
    "s3:x-amz-copy-source": _COPIES,
    "s3:x-amz-metadata-directive": _COPIES,
    "s3:x-amz-acl": _ACLS,
    "s3:x-amz-grant-full-control": _ACLS,
    "s3:x-amz-grant-read": _ACLS,
    "s3:x-amz-grant-read-acp": _ACLS,
    "s3:x-amz-grant-write": _ACLS,
    "s3:x-amz-grant-write-acp": _ACLS,
}

_NAMES: Final = {
    KeyType.STRING: """
        aws:AssumedRoot aws:CalledViaFirst aws:CalledViaLast aws:Ec2InstanceSourceVpc
        aws:FederatedProvider aws:PrincipalAccount aws:PrincipalOrgID aws:PrincipalServiceName
        aws:PrincipalType aws:RequestedRegion aws:ResourceAccount aws:ResourceOrgID
        aws:SourceAccount aws:SourceIdentity aws:SourceOrgID aws:SourceOwner aws:SourceVpc
        aws:SourceVpce aws:UserAgent aws:VpceAccount aws:VpceOrgID aws:referer aws:userid
        aws:username
        s3:AccessPointNetworkOrigin s3:DataAccessPointAccount s3:ExistingJobOperation
        s3:JobSuspendedCause s3:LocationConstraint s3:ObjectCreationOperation
        s3:RequestJobOperation s3:ResourceAccount s3:VersionId s3:authType s3:delimiter
        s3:destinationRegion s3:if-match s3:if-none-match s3:object-lock-legal-hold
        s3:object-lock-mode s3:prefix s3:signatureversion s3:x-amz-acl
        s3:x-amz-content-sha256 s3:x-amz-copy-source s3:x-amz-grant-full-control
        s3:x-amz-grant-read s3:x-amz-grant-read-acp s3:x-amz-grant-write
        s3:x-amz-grant-write-acp s3:x-amz-metadata-directive s3:x-amz-object-ownership
        s3:x-amz-server-side-encryption s3:x-amz-server-side-encryption-customer-algorithm
        s3:x-amz-storage-class s3:x-amz-website-redirect-location
        sts:AWSServiceName sts:ExternalId sts:RoleSessionName sts:SourceIdentity
        iam:AWSServiceName iam:PassedToService
    """,
    KeyType.NUMERIC: """
        aws:MultiFactorAuthAge s3:ExistingJobPriority s3:RequestJobPriority s3:TlsVersion
        s3:max-keys s3:object-lock-remaining-retention-days s3:signatureAge sts:DurationSeconds
    """,
    KeyType.DATE: "aws:CurrentTime aws:TokenIssueTime s3:object-lock-retain-until-date",
    KeyType.EPOCH: "aws:EpochTime",
    KeyType.BOOL: """
        aws:IsMcpServiceAction aws:MultiFactorAuthPresent aws:PrincipalIsAWSService
        aws:SecureTransport aws:ViaAWSService s3:isReplicationPauseRequest
    """,
    KeyType.IP: "aws:Ec2InstanceSourcePrivateIPv4 aws:SourceIp aws:VpcSourceIp",
    KeyType.ARN: """
        aws:ChatbotSourceArn aws:PrincipalArn aws:SourceArn aws:SourceVpcArn
        s3:AccessGrantsInstanceArn s3:DataAccessPointArn
        s3:x-amz-server-side-encryption-aws-kms-key-id
        iam:AssociatedResourceArn iam:PermissionsBoundary iam:PolicyARN
    """,
    KeyType.TAG: """
        aws:PrincipalTag/ aws:RequestTag/ aws:ResourceTag/ s3:AccessPointTag/ s3:BucketTag/
        s3:ExistingObjectTag/ s3:RequestObjectTag/ iam:ResourceTag/
    """,
}
_MANY: Final = """
    aws:CalledVia aws:PrincipalOrgPaths aws:PrincipalServiceNamesList aws:ResourceOrgPaths
    aws:SourceOrgPaths aws:TagKeys aws:VpceOrgPaths s3:InventoryAccessibleOptionalFields
    s3:RequestObjectTagKeys sts:TransitiveTagKeys
"""

# By the name in lower case, a tag's up to its slash.
_KEYS: Final[dict[str, KeyFacts]] = {
    name.lower(): KeyFacts(name, kind, actions=_BY_ACTIONS.get(name))
    for kind, names in _NAMES.items()
    for name in names.split()
} | {name.lower(): KeyFacts(name, KeyType.STRING, many=True) for name in _MANY.split()}

_CLAIM: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+[a-z0-9._/-]*:[a-z_]{1,64}", re.IGNORECASE)


def known(name: str) -> KeyFacts | None:
    """What is known of a key; None for one that is not known. The `name` of the answer is the whole
    key, with the name of the tag."""
    head, slash, tag = name.partition("/")
    facts = _KEYS.get(head.lower() + slash)
    if facts is None or not slash:
        return facts
    return facts._replace(name=facts.name + tag) if tag else None


def claim(name: str) -> KeyFacts | None:
    """The key of a claim in an identity provider's token (`accounts.example.com:aud`), as it is
    written; None for what has not its form."""
    if _CLAIM.fullmatch(name) is None:
        return None
    return KeyFacts(name, KeyType.TAG)


ALL_NAMES: Final = tuple(facts.name for facts in _KEYS.values())
