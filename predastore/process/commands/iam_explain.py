"""`s3d iam explain WHO ACTION [RESOURCE]`: who may do what, and which statement says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from predastore.base.errors import ConfigError
from predastore.iam.query.client import QueryClient, Shown
from predastore.process.commands import remote
from predastore.process.commands.remote import say

_KINDS = ("user", "group", "role")


def explain(client: QueryClient, words: Sequence[str]) -> int:
    """A line for each user and role that was asked for; 0 where all may."""
    action, resource = words[1], words[2] if len(words) > 2 else "*"
    rows = [("who", "may", "because of", "statement")]
    for name, arn in _asked(client, words[0]):
        answer = client.call(
            "SimulatePrincipalPolicy",
            PolicySourceArn=arn,
            ActionNames__member__1=action,
            ResourceArns__member__1=resource,
        )
        rows.append((name, *_said(answer)))
    for line in remote.table(rows):
        say(line)
    return 0 if len(rows) > 1 and all(row[1] == "yes" for row in rows[1:]) else 1


def who(text: str) -> tuple[str, str]:
    """The kind and the name of user/NAME, group/NAME, role/NAME. ConfigError."""
    kind, _, name = text.partition("/")
    if kind not in _KINDS or not name:
        raise ConfigError([f"{text}: write user/NAME, group/NAME or role/NAME"])
    return kind, name


def _asked(client: QueryClient, text: str) -> Iterator[tuple[str, str]]:
    """Names and ARNs."""
    if text == "all":
        for action, called, kind in (
            ("ListUsers", "Users", "user"),
            ("ListRoles", "Roles", "role"),
        ):
            for one in client.every(action, called):
                yield f"{kind}/{one.get(f'{kind.capitalize()}Name')}", one.get("Arn")
        return
    kind, name = who(text)
    if kind == "group":
        for user in client.every("GetGroup", "Users", GroupName=name):
            yield f"user/{user.get('UserName')}", user.get("Arn")
        return
    word = kind.capitalize()
    found = client.call(f"Get{word}", **{f"{word}Name": name})
    yield text, found.get("Arn")


def _said(answer: Shown) -> tuple[str, str, str]:
    decision = answer.get("EvalDecision")
    if decision == "allowed":
        return "yes", answer.get("SourcePolicyId"), answer.get("Sid")
    if decision == "explicitDeny":
        return "no", answer.get("SourcePolicyId"), answer.get("Sid")
    return "no", "no policy allows it", ""
