"""Access control lists as XML: AccessControlPolicy documents, in and out.

A grant to an e-mail address is refused as by S3 where nobody has that address: accounts have none
here.
"""

from __future__ import annotations

from typing import Final

from predastore.base import limits
from predastore.base.errors import S3Error
from predastore.s3.acl import (
    GROUPS,
    AccessControlPolicy,
    Grant,
    Grantee,
    Permission,
    to_account,
    to_group,
)
from predastore.s3.xml_read import Element
from predastore.s3.xml_write import escape, owner, tag

_XSI: Final = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
_BY_URI: Final = {uri: group for group, uri in GROUPS.items()}
# xsi:type of a grantee -> the child that names it
_NAMED_BY: Final = {
    "CanonicalUser": "ID",
    "Group": "URI",
    "AmazonCustomerByEmail": "EmailAddress",
}
_FIELDS: Final = ("ID", "DisplayName", "URI", "EmailAddress")


def no_such_id(account: str, name: str = "CanonicalUser/ID") -> S3Error:
    """`name`: of what in the request has it."""
    return S3Error("InvalidArgument", "Invalid id", ArgumentName=name, ArgumentValue=account)


def group_of(uri: str, name: str = "Group/URI") -> Grantee:
    """The group that a URI names; InvalidArgument."""
    if uri not in _BY_URI:
        raise S3Error("InvalidArgument", "Invalid group uri", ArgumentName=name, ArgumentValue=uri)
    return _BY_URI[uri]


def parse_acl(document: Element) -> AccessControlPolicy:
    """What its schema does not allow is MalformedXML; InvalidArgument,
    UnresolvableGrantByEmailAddress."""
    children = {child.name: child for child in document.children}
    if len(document.children) != 2 or set(children) != {"Owner", "AccessControlList"}:
        raise S3Error("MalformedXML")
    named = children["Owner"].only("ID", "DisplayName")
    entries = children["AccessControlList"].children
    if not named.get("ID") or len(entries) > limits.S3_ACL_GRANTS_MAX:
        raise S3Error("MalformedXML")
    return AccessControlPolicy(named["ID"], tuple(map(_grant, entries)))


def _grant(entry: Element) -> Grant:
    children = {child.name: child for child in entry.children}
    is_whole = entry.name == "Grant" and len(entry.children) == 2
    if not is_whole or set(children) != {"Grantee", "Permission"}:
        raise S3Error("MalformedXML")
    said = children["Permission"].text.strip()
    if said not in Permission.__members__:
        raise S3Error("MalformedXML")
    grantee, permission = children["Grantee"], Permission[said]
    fields = grantee.only(*_FIELDS)
    wanted = _NAMED_BY.get(grantee.type, "")
    if wanted not in fields:
        raise S3Error("MalformedXML")
    value = fields[wanted].strip()
    if wanted == "EmailAddress":
        raise S3Error("UnresolvableGrantByEmailAddress", EmailAddress=value)
    if wanted == "URI":
        return to_group(group_of(value), permission)
    return to_account(check_id(value), permission)


def check_id(account: str, name: str = "CanonicalUser/ID") -> str:
    """`account`, which may be a canonical id; InvalidArgument."""
    if not 0 < len(account) <= limits.S3_CANONICAL_ID_CHARS_MAX:
        raise no_such_id(account, name)
    return account


def elements(acl: AccessControlPolicy) -> tuple[str, str]:
    """What is in an AccessControlPolicy."""
    grants = "".join(map(_element, acl.grants))
    return owner(acl.owner), f"<AccessControlList>{grants}</AccessControlList>"


def _element(grant: Grant) -> str:
    if grant.grantee is Grantee.ACCOUNT:
        who = escape(grant.account)
        kind, named = "CanonicalUser", f"<ID>{who}</ID><DisplayName>{who}</DisplayName>"
    else:
        kind, named = "Group", tag("URI", GROUPS[grant.grantee])
    return (
        f'<Grant><Grantee {_XSI} xsi:type="{kind}">{named}</Grantee>'
        f"{tag('Permission', grant.permission.name)}</Grant>"
    )
