"""The actions that policies may name, with what each of them is done to.

From the Service Authorization Reference: Amazon S3, IAM, STS. Actions of S3 that no operation here
asks for are known, too: a policy that was written for Amazon is taken as it is. Names are compared
without regard to case.
"""

from __future__ import annotations

import enum
from typing import Final

from predastore.base import limits
from predastore.policy.patterns import Mark, fits, pieces_of


class Level(enum.Enum):
    """What an action is done to."""

    OBJECT = "object"
    BUCKET = "bucket"
    ACCOUNT = "account"  # or a job, an access point: nothing that a bucket's policy can name


_S3: Final = {
    Level.OBJECT: """
        AbortMultipartUpload BypassGovernanceRetention DeleteObject DeleteObjectTagging
        DeleteObjectVersion DeleteObjectVersionTagging GetObject GetObjectAcl GetObjectAttributes
        GetObjectLegalHold GetObjectRetention GetObjectTagging GetObjectTorrent GetObjectVersion
        GetObjectVersionAcl GetObjectVersionAttributes GetObjectVersionForReplication
        GetObjectVersionTagging GetObjectVersionTorrent InitiateReplication
        ListMultipartUploadParts ObjectOwnerOverrideToBucketOwner PutObject PutObjectAcl
        PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionAcl
        PutObjectVersionTagging ReplicateDelete ReplicateObject ReplicateTags RestoreObject
        UpdateObjectEncryption
    """,
    Level.BUCKET: """
        CreateBucket CreateBucketMetadataTableConfiguration DeleteBucket
        DeleteBucketMetadataTableConfiguration DeleteBucketPolicy DeleteBucketWebsite
        GetAccelerateConfiguration GetAnalyticsConfiguration GetBucketAbac GetBucketAcl
        GetBucketCORS GetBucketLocation GetBucketLogging GetBucketMetadataTableConfiguration
        GetBucketNotification GetBucketObjectLockConfiguration GetBucketOwnershipControls
        GetBucketPolicy GetBucketPolicyStatus GetBucketPublicAccessBlock GetBucketRequestPayment
        GetBucketTagging GetBucketVersioning GetBucketWebsite GetEncryptionConfiguration
        GetIntelligentTieringConfiguration GetInventoryConfiguration GetLifecycleConfiguration
        GetMetricsConfiguration GetReplicationConfiguration ListBucket ListBucketMultipartUploads
        ListBucketVersions ListTagsForResource PutAccelerateConfiguration PutAnalyticsConfiguration
        PutBucketAbac PutBucketAcl PutBucketCORS PutBucketLogging PutBucketNotification
        PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy
        PutBucketPublicAccessBlock PutBucketRequestPayment PutBucketTagging PutBucketVersioning
        PutBucketWebsite PutEncryptionConfiguration PutIntelligentTieringConfiguration
        PutInventoryConfiguration PutLifecycleConfiguration PutMetricsConfiguration
        PutReplicationConfiguration TagResource UntagResource
        UpdateBucketMetadataInventoryTableConfiguration
        UpdateBucketMetadataJournalTableConfiguration
    """,
    Level.ACCOUNT: """
        AssociateAccessGrantsIdentityCenter CreateAccessGrant CreateAccessGrantsInstance
        CreateAccessGrantsLocation CreateAccessPoint CreateAccessPointForObjectLambda CreateJob
        CreateMultiRegionAccessPoint CreateStorageLensGroup DeleteAccessGrant
        DeleteAccessGrantsInstance DeleteAccessGrantsInstanceResourcePolicy
        DeleteAccessGrantsLocation DeleteAccessPoint DeleteAccessPointForObjectLambda
        DeleteAccessPointPolicy DeleteAccessPointPolicyForObjectLambda DeleteJobTagging
        DeleteMultiRegionAccessPoint DeleteStorageLensConfiguration
        DeleteStorageLensConfigurationTagging DeleteStorageLensGroup DescribeJob
        DescribeMultiRegionAccessPointOperation DissociateAccessGrantsIdentityCenter
        GetAccessGrant GetAccessGrantsInstance GetAccessGrantsInstanceForPrefix
        GetAccessGrantsInstanceResourcePolicy GetAccessGrantsLocation GetAccessPoint
        GetAccessPointConfigurationForObjectLambda GetAccessPointForObjectLambda
        GetAccessPointPolicy GetAccessPointPolicyForObjectLambda GetAccessPointPolicyStatus
        GetAccessPointPolicyStatusForObjectLambda GetAccountPublicAccessBlock GetDataAccess
        GetJobTagging GetMultiRegionAccessPoint GetMultiRegionAccessPointPolicy
        GetMultiRegionAccessPointPolicyStatus GetMultiRegionAccessPointRoutes
        GetStorageLensConfiguration GetStorageLensConfigurationTagging GetStorageLensDashboard
        GetStorageLensGroup ListAccessGrants ListAccessGrantsInstances ListAccessGrantsLocations
        ListAccessPoints ListAccessPointsForObjectLambda ListAllMyBuckets ListCallerAccessGrants
        ListJobs ListMultiRegionAccessPoints ListStorageLensConfigurations ListStorageLensGroups
        PauseReplication PutAccessGrantsInstanceResourcePolicy
        PutAccessPointConfigurationForObjectLambda PutAccessPointPolicy
        PutAccessPointPolicyForObjectLambda PutAccessPointPublicAccessBlock
        PutAccountPublicAccessBlock PutJobTagging PutMultiRegionAccessPointPolicy
        PutStorageLensConfiguration PutStorageLensConfigurationTagging
        SubmitMultiRegionAccessPointRoutes UpdateAccessGrantsLocation UpdateJobPriority
        UpdateJobStatus UpdateStorageLensGroup
    """,
}

_IAM: Final = """
    AddClientIDToOpenIDConnectProvider AddRoleToInstanceProfile AddUserToGroup AttachGroupPolicy
    AttachRolePolicy AttachUserPolicy ChangePassword CreateAccessKey CreateAccountAlias CreateGroup
    CreateInstanceProfile CreateLoginProfile CreateOpenIDConnectProvider CreatePolicy
    CreatePolicyVersion CreateRole CreateSAMLProvider CreateServiceLinkedRole
    CreateServiceSpecificCredential CreateUser CreateVirtualMFADevice DeactivateMFADevice
    DeleteAccessKey DeleteAccountAlias DeleteAccountPasswordPolicy DeleteGroup DeleteGroupPolicy
    DeleteInstanceProfile DeleteLoginProfile DeleteOpenIDConnectProvider DeletePolicy
    DeletePolicyVersion DeleteRole DeleteRolePermissionsBoundary DeleteRolePolicy DeleteSAMLProvider
    DeleteSSHPublicKey DeleteServerCertificate DeleteServiceLinkedRole
    DeleteServiceSpecificCredential DeleteSigningCertificate DeleteUser
    DeleteUserPermissionsBoundary DeleteUserPolicy DeleteVirtualMFADevice DetachGroupPolicy
    DetachRolePolicy DetachUserPolicy EnableMFADevice GenerateCredentialReport
    GenerateOrganizationsAccessReport GenerateServiceLastAccessedDetails GetAccessKeyLastUsed
    GetAccountAuthorizationDetails GetAccountPasswordPolicy GetAccountSummary
    GetContextKeysForCustomPolicy GetContextKeysForPrincipalPolicy GetCredentialReport GetGroup
    GetGroupPolicy GetInstanceProfile GetLoginProfile GetMFADevice GetOpenIDConnectProvider
    GetPolicy GetPolicyVersion GetRole GetRolePolicy GetSAMLProvider GetSSHPublicKey
    GetServerCertificate GetServiceLastAccessedDetails GetServiceLinkedRoleDeletionStatus GetUser
    GetUserPolicy ListAccessKeys ListAccountAliases ListAttachedGroupPolicies
    ListAttachedRolePolicies ListAttachedUserPolicies ListEntitiesForPolicy ListGroupPolicies
    ListGroups ListGroupsForUser ListInstanceProfileTags ListInstanceProfiles
    ListInstanceProfilesForRole ListMFADeviceTags ListMFADevices ListOpenIDConnectProviderTags
    ListOpenIDConnectProviders ListPolicies ListPoliciesGrantingServiceAccess ListPolicyTags
    ListPolicyVersions ListRolePolicies ListRoleTags ListRoles ListSAMLProviderTags
    ListSAMLProviders ListSSHPublicKeys ListServerCertificateTags ListServerCertificates
    ListServiceSpecificCredentials ListSigningCertificates ListUserPolicies ListUserTags ListUsers
    ListVirtualMFADevices PassRole PutGroupPolicy PutRolePermissionsBoundary PutRolePolicy
    PutUserPermissionsBoundary PutUserPolicy RemoveClientIDFromOpenIDConnectProvider
    RemoveRoleFromInstanceProfile RemoveUserFromGroup ResetServiceSpecificCredential ResyncMFADevice
    SetDefaultPolicyVersion SetSecurityTokenServicePreferences SimulateCustomPolicy
    SimulatePrincipalPolicy TagInstanceProfile TagMFADevice TagOpenIDConnectProvider TagPolicy
    TagRole TagSAMLProvider TagServerCertificate TagUser UntagInstanceProfile UntagMFADevice
    UntagOpenIDConnectProvider UntagPolicy UntagRole UntagSAMLProvider UntagServerCertificate
    UntagUser UpdateAccessKey UpdateAccountPasswordPolicy UpdateAssumeRolePolicy UpdateGroup
    UpdateLoginProfile UpdateOpenIDConnectProviderThumbprint UpdateRole UpdateRoleDescription
    UpdateSAMLProvider UpdateSSHPublicKey UpdateServerCertificate UpdateServiceSpecificCredential
    UpdateSigningCertificate UpdateUser UploadSSHPublicKey UploadServerCertificate
    UploadSigningCertificate
"""

_STS: Final = """
    AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot DecodeAuthorizationMessage
    GetAccessKeyInfo GetCallerIdentity GetFederationToken GetServiceBearerToken GetSessionToken
    SetContext SetSourceIdentity TagSession
"""

# Each known action, in lower case, with what it is done to.
ACTIONS: Final[dict[str, Level]] = {
    f"s3:{name}".lower(): level for level, names in _S3.items() for name in names.split()
} | {
    f"{service}:{name}".lower(): Level.ACCOUNT
    for service, names in (("iam", _IAM), ("sts", _STS))
    for name in names.split()
}
_MARKS: Final = {"*": Mark.ANY, "?": Mark.ONE}
SERVICES: Final = frozenset(name.partition(":")[0] for name in ACTIONS)


class ActionNames:
    """What patterns of actions stand for, each worked out once for a document."""

    __slots__ = ("_found", "_patterns")

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, ...]] = {}
        self._patterns = 0

    def expanded(self, pattern: str) -> tuple[str, ...]:
        """The known actions, in lower case, that a pattern (in any case) stands for."""
        low = pattern.lower()
        if "*" not in low and "?" not in low:
            return (low,) if low in ACTIONS else ()
        if low not in self._found:
            self._patterns += 1
            pieces = pieces_of(_MARKS.get(one, one) for one in low)
            head = low[: min(low.find(mark) for mark in _MARKS if mark in low)]
            self._found[low] = tuple(
                action for action in ACTIONS if action.startswith(head) and fits(pieces, action)
            )
        return self._found[low]

    @property
    def too_many(self) -> bool:
        """Whether it were more patterns than a document may have."""
        return self._patterns > limits.POLICY_ACTION_PATTERNS_MAX
