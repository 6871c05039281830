"""A `policy` of [[auth]] has the same rights as an identity policy made of it."""

from __future__ import annotations

from random import Random

from predastore.base.config.policy import Policy, Rule
from predastore.policy import (
    AccessRequest,
    Policies,
    Principal,
    PrincipalKind,
    decide,
    from_rules,
)

OWNER = "111122223333"
USER = Principal(PrincipalKind.USER, OWNER, f"arn:aws:iam::{OWNER}:user/key", user_id="KEY")
BUCKETS = ["logs", "logs-2026", "my-logs", "a.b", "photos", ""]
PATTERNS = ["*", "logs", "logs-*", "*-logs", "*logs*", "l*s", "a.b", "a*b", "photos", "***"]
ACTIONS = ["*", "s3:*", "s3:get*", "s3:getobject", "s3:*object", "s3:list*", "s3:listallmybuckets"]
ASKED = ["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:ListAllMyBuckets", "s3:CreateBucket"]
KEYS = ["", "/k", "/x-logs", "/logs/photos", "/a.b"]


def allowed(policy: Policy, action: str, bucket: str, key: str) -> bool:
    resource = f"arn:aws:s3:::{bucket}{key}" if bucket else "arn:aws:s3:::*"
    request = AccessRequest(action, resource, USER, OWNER)
    return decide(request, Policies(identity=(from_rules(policy),))).allowed


def test_the_rights_are_the_same() -> None:
    random = Random(7)
    seen = {True: 0, False: 0}
    for _ in range(2_000):
        policy = Policy(
            tuple(
                Rule(random.choice(PATTERNS), tuple(random.sample(ACTIONS, random.randint(0, 2))))
                for _ in range(random.randint(0, 3))
            )
        )
        for bucket in BUCKETS:
            action = random.choice(ASKED)
            expected = policy.allows(action, bucket) if bucket else policy.allows_somewhere(action)
            assert allowed(policy, action, bucket, random.choice(KEYS)) is expected
            seen[expected] += 1
    assert min(seen.values()) > 1_000


def test_it_gives_nothing_but_s3() -> None:
    everything = from_rules(Policy((Rule("*", ("*",)),)))
    request = AccessRequest("iam:CreateUser", f"arn:aws:iam::{OWNER}:user/x", USER, OWNER)
    assert not decide(request, Policies(identity=(everything,))).allowed


def test_the_rule_that_allows_is_named() -> None:
    found = from_rules(Policy((Rule("a", ("s3:*",)), Rule("b", ("s3:get*",)))), name="the file")
    request = AccessRequest("s3:GetObject", "arn:aws:s3:::b/k", USER, OWNER)
    decision = decide(request, Policies(identity=(found,)))
    assert (decision.allowed, decision.document, decision.statement) == (True, "the file", "[1]")
