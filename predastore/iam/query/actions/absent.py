"""What a user or an account has in AWS, and can not have here: lists of it are empty, and it is not
found. Terraform and consoles ask for these before they delete a user, or show one."""

from __future__ import annotations

from typing import Final

from predastore.iam import refusals
from predastore.iam.query.call import QueryCall
from predastore.iam.query.document import Result
from predastore.iam.rows import EntityKind

# action -> what its list is called
_OF_USERS: Final = {
    "ListMFADevices": "MFADevices",
    "ListSSHPublicKeys": "SSHPublicKeys",
    "ListServiceSpecificCredentials": "ServiceSpecificCredentials",
    "ListSigningCertificates": "Certificates",
}
_OF_ACCOUNTS: Final = {
    "ListAccountAliases": "AccountAliases",
    "ListInstanceProfiles": "InstanceProfiles",
    "ListSAMLProviders": "SAMLProviderList",
    "ListServerCertificates": "ServerCertificateMetadataList",
    "ListVirtualMFADevices": "VirtualMFADevices",
}
LISTS: Final = (*_OF_USERS, *_OF_ACCOUNTS)
LOGINS: Final = ("GetLoginProfile", "DeleteLoginProfile")


async def listed(call: QueryCall) -> Result | None:
    """None of them."""
    if call.action in _OF_ACCOUNTS:
        await call.permit("*")
        return {_OF_ACCOUNTS[call.action]: [], "IsTruncated": False}
    await call.entity(EntityKind.USER)
    return {_OF_USERS[call.action]: [], "IsTruncated": False}


async def login(call: QueryCall) -> Result | None:
    """Nobody has a password."""
    user = await call.entity(EntityKind.USER)
    raise refusals.no_such("login profile for user", user.name)
