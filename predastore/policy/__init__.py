"""AWS's policy language: parsed, compiled, evaluated. Pure functions without I/O.

    document = parse(text, PolicyKind.BUCKET, name="bucket policy", bucket="photos")
    decision = decide(AccessRequest(action, resource, principal, owner, lookup), Policies(...))

`parse(text: bytes, kind, *, name="", bucket="") -> PolicyDocument` raises PolicyError for anything
that is not understood in full. `is_public(document) -> bool` is what GetBucketPolicyStatus and
BlockPublicPolicy mean. `from_rules(policy, name=...) -> PolicyDocument` is a `policy` of [[auth]].
docs/policies.md has the language; facts.py what goes in and comes out.
"""

from predastore.policy.decision import decide
from predastore.policy.document import PolicyDocument, PolicyKind, is_public, parse
from predastore.policy.errors import PolicyError
from predastore.policy.facts import (
    ANONYMOUS,
    AccessRequest,
    Decision,
    Lookup,
    Policies,
    Principal,
    PrincipalKind,
    Side,
    Why,
)
from predastore.policy.rules import from_rules

# The name under which callers took it before: a grant is ACLs' term.

__all__ = [
    "ANONYMOUS",
    "AccessRequest",
    "Decision",
    "Lookup",
    "Policies",
    "PolicyDocument",
    "PolicyError",
    "PolicyKind",
    "Principal",
    "PrincipalKind",
    "Side",
    "Why",
    "decide",
    "from_rules",
    "is_public",
    "parse",
]
