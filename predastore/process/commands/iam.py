"""`s3d iam ...`: accounts, users, keys, groups and policies, through the API that AWS's tools use.

    user add NAME | remove NAME | list
    key add USER | remove USER KEY | enable USER KEY | disable USER KEY | list USER
    group add GROUP | remove GROUP | join GROUP USER | leave GROUP USER | list
    policy add NAME FILE | remove NAME | list | attach WHO POLICY | detach WHO POLICY
    account add NAME | list
    explain WHO ACTION [RESOURCE]
    rotate-sealing-key

WHO is user/NAME, group/NAME or role/NAME; for explain also `all`. POLICY is a name of the account,
one of AWS's, such as AmazonS3FullAccess, or an ARN. It signs with the operator's key, as the
configuration has it; with --own-key with that of AWS's variables in the environment. Exit codes: 0
done, 1 refused; explain: 0 it is allowed (to all who were asked for), 1 not.
"""

from __future__ import annotations

import argparse
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from predastore.auth.sigv4 import Credential
from predastore.base.config import Config
from predastore.base.config.model import LOOPBACK
from predastore.base.errors import ConfigError
from predastore.iam.query.client import QueryClient, QueryRefused, Shown
from predastore.process import flags
from predastore.process.commands import OPERATIONS, iam_explain, operations, remote
from predastore.process.commands.remote import say

_FLAGS: Final = ("config", "backend", "host", "port", "base-path")
_USAGE: Final = "s3d iam WHAT VERB [ARGUMENT ...] [flags]"
_DESCRIPTION: Final = "\n".join(
    ("Accounts, users, their keys and policies.", "", "commands:", *operations("iam"), "")
)
_EPILOG: Final = """\
examples:
  s3d iam user add alice
  s3d iam policy attach user/alice AmazonS3ReadOnlyAccess
  eval "$(s3d iam key add alice)"                        her key, for the shell
  s3d iam explain user/alice s3:GetObject arn:aws:s3:::photos/cat.jpg
  s3d iam account add tenant -url https://s3.example.com:8443 -ca ca.pem
"""
Words = Sequence[str]
Verb = Callable[[QueryClient, Words], int]


def parser() -> flags.Parser:
    made = remote.parser("iam", _USAGE, _DESCRIPTION, _EPILOG, _FLAGS)
    names = [one.name for one in OPERATIONS["iam"]]
    made.add_argument("command", choices=names, metavar="WHAT", help=argparse.SUPPRESS)
    made.add_argument("words", nargs="*", metavar="VERB", help=argparse.SUPPRESS)
    to = made.add_argument_group("To whom")
    to.add_argument("-url", "--url", metavar="URL", help="of a gateway (default: -host and -port)")
    to.add_argument("-ca", "--ca", metavar="FILE", help="authorities that verify it, PEM")
    to.add_argument(
        "-own-key",
        "--own-key",
        action="store_true",
        help="sign with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
    )
    return made


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """`s3d iam ...`; the exit code."""
    made = parser()
    given = made.take(arguments)
    command, words = given["command"], given["words"]
    verb = _verb(command, words, made.error)
    settings, _ = flags.resolved(given, environment, serves=False)
    ca = None if given["ca"] is None else Path(given["ca"])
    url = given["url"] or _own_url(settings)
    own = _of_environment(environment) if given["own_key"] else None
    credential, token = own or (_operator(settings), "")
    client = QueryClient(url.rstrip("/"), credential, token, _context(settings, url, ca))
    return verb(client)


def _verb(
    command: str, words: Words, refuse: Callable[[str], NoReturn]
) -> Callable[[QueryClient], int]:
    """What is to be done, by the words of the command line."""
    if command in _ALONE:
        least, most, alone = _ALONE[command]
        if not least <= len(words) <= most:
            refuse(f"{command} takes {_argument(command) or 'no argument'}")
        return lambda client: alone(client, words)
    name, rest = (words[0], words[1:]) if words else ("", ())
    verbs = _VERBS[command]
    if name not in verbs:
        refuse(f"{command}: write {_argument(command)}")
    count, verb = verbs[name]
    if len(rest) != count:
        refuse(f"{command} {name}: write {_argument(command)}")
    return lambda client: verb(client, rest)


def _argument(command: str) -> str:
    return next(one.argument for one in OPERATIONS["iam"] if one.name == command)


# --- the way there --------------------------------------------------------------------------------


def _own_url(settings: Config) -> str:
    host = LOOPBACK.get(settings.host, settings.host)
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls else 'http'}://{shown}:{settings.port}"


def _operator(settings: Config) -> Credential:
    auth = remote.keys(settings).operator
    return Credential(auth.access_key_id, auth.secret_access_key, auth.account_id)


def _of_environment(environment: Mapping[str, str]) -> tuple[Credential, str]:
    key = environment.get("AWS_ACCESS_KEY_ID", "")
    secret = environment.get("AWS_SECRET_ACCESS_KEY", "")
    if not key or not secret:
        raise ConfigError(["--own-key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"])
    return Credential(key, secret, ""), environment.get("AWS_SESSION_TOKEN", "")


def _context(settings: Config, url: str, ca: Path | None) -> ssl.SSLContext | None:
    """Trusts the system's authorities, and the one that is given or was generated."""
    if not url.startswith("https://"):
        return None
    context = ssl.create_default_context()
    own = settings.base_path / "tls" / "ca.pem"
    with remote.reading(own):
        file = ca or settings.tls_cert or (own if own.exists() else None)
    if file is not None:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError([f"{file}: no certificates to verify it by ({error})"]) from None
    return context


# --- users and keys -------------------------------------------------------------------------------


def _user_add(client: QueryClient, words: Words) -> int:
    made = client.call("CreateUser", UserName=words[0])
    say(f"{made.get('Arn')}")
    return 0


def _user_remove(client: QueryClient, words: Words) -> int:
    """With all that would stand in the way."""
    name = words[0]
    for key in client.every("ListAccessKeys", "AccessKeyMetadata", UserName=name):
        client.call("DeleteAccessKey", UserName=name, AccessKeyId=key.get("AccessKeyId"))
    for group in client.every("ListGroupsForUser", "Groups", UserName=name):
        client.call("RemoveUserFromGroup", UserName=name, GroupName=group.get("GroupName"))
    for policy in client.every("ListUserPolicies", "PolicyNames", UserName=name):
        client.call("DeleteUserPolicy", UserName=name, PolicyName=policy.text)
    for attached in client.every("ListAttachedUserPolicies", "AttachedPolicies", UserName=name):
        client.call("DetachUserPolicy", UserName=name, PolicyArn=attached.get("PolicyArn"))
    client.call("DeleteUser", UserName=name)
    say(f"done: {name} is gone, with all keys and sessions")
    return 0


def _user_list(client: QueryClient, _: Words) -> int:
    return _listed(client.every("ListUsers", "Users"), "UserName", "Arn", "CreateDate")


def _key_add(client: QueryClient, words: Words) -> int:
    made = client.call("CreateAccessKey", UserName=words[0])
    _say_key(made)
    return 0


def _say_key(made: Shown) -> None:
    """For a shell to read; the secret is not to be had again."""
    say(f"export AWS_ACCESS_KEY_ID={made.get('AccessKeyId')}")
    say(f"export AWS_SECRET_ACCESS_KEY={made.get('SecretAccessKey')}")


def _key_remove(client: QueryClient, words: Words) -> int:
    client.call("DeleteAccessKey", UserName=words[0], AccessKeyId=words[1])
    say(f"done: {words[1]} is gone")
    return 0


def _key_switch(status: str) -> Verb:
    def switch(client: QueryClient, words: Words) -> int:
        client.call("UpdateAccessKey", UserName=words[0], AccessKeyId=words[1], Status=status)
        say(f"done: {words[1]} is {status.lower()}")
        return 0

    return switch


def _key_list(client: QueryClient, words: Words) -> int:
    rows = [("key", "status", "made", "last used", "for")]
    for one in client.every("ListAccessKeys", "AccessKeyMetadata", UserName=words[0]):
        key = one.get("AccessKeyId")
        used = client.call("GetAccessKeyLastUsed", AccessKeyId=key)
        last, service = used.get("LastUsedDate") or "-", used.get("ServiceName")
        rows.append((key, one.get("Status"), one.get("CreateDate"), last, service))
    return _table(rows)


# --- groups and policies --------------------------------------------------------------------------


def _group(action: str) -> Verb:
    def change(client: QueryClient, words: Words) -> int:
        user = {"UserName": words[1]} if len(words) > 1 else {}
        client.call(action, GroupName=words[0], **user)
        say("done")
        return 0

    return change


def _group_list(client: QueryClient, _: Words) -> int:
    rows = [("group", "users")]
    for one in client.every("ListGroups", "Groups"):
        name = one.get("GroupName")
        users = client.every("GetGroup", "Users", GroupName=name)
        rows.append((name, " ".join(user.get("UserName") for user in users)))
    return _table(rows)


def _policy_add(client: QueryClient, words: Words) -> int:
    """Another version, in force, where there is a policy of this name."""
    text = _document(Path(words[1]))
    try:
        made = client.call("CreatePolicy", PolicyName=words[0], PolicyDocument=text)
        say(made.get("Arn"))
    except QueryRefused as error:
        if error.query_code != "EntityAlreadyExists":
            raise
        arn = _arn(client, words[0])
        made = client.call(
            "CreatePolicyVersion", PolicyArn=arn, PolicyDocument=text, SetAsDefault="true"
        )
        say(f"{arn} {made.get('VersionId')}")
    return 0


def _document(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
        json.loads(text)
    except OSError as error:
        raise ConfigError([f"{path}: can not be read ({error.strerror})"]) from None
    except ValueError as error:
        raise ConfigError([f"{path}: is no JSON ({error})"]) from None
    return text


def _policy_remove(client: QueryClient, words: Words) -> int:
    arn = _arn(client, words[0])
    for version in client.every("ListPolicyVersions", "Versions", PolicyArn=arn):
        if version.get("IsDefaultVersion") != "true":
            client.call("DeletePolicyVersion", PolicyArn=arn, VersionId=version.get("VersionId"))
    client.call("DeletePolicy", PolicyArn=arn)
    say(f"done: {arn} is gone")
    return 0


def _policy_list(client: QueryClient, _: Words) -> int:
    found = client.every("ListPolicies", "Policies")
    return _listed(found, "PolicyName", "Arn", "DefaultVersionId", "AttachmentCount")


def _policy(verb: str) -> Verb:
    def change(client: QueryClient, words: Words) -> int:
        kind, name = iam_explain.who(words[0])
        word = kind.capitalize()
        arn = _arn(client, words[1])
        client.call(f"{verb}{word}Policy", PolicyArn=arn, **{f"{word}Name": name})
        say(f"done: {verb.lower()}ed {arn}")
        return 0

    return change


def _arn(client: QueryClient, policy: str) -> str:
    """Of a policy by its name, the account's own first."""
    if policy.startswith("arn:"):
        return policy
    found = client.every("ListPolicies", "Policies")
    arns = [one.get("Arn") for one in found if one.get("PolicyName").lower() == policy.lower()]
    if not arns:
        raise ConfigError([f"{policy}: there is no policy of this name; see s3d iam policy list"])
    return min(arns, key=lambda arn: arn.startswith("arn:aws:iam::aws:"))


# --- accounts -------------------------------------------------------------------------------------


def _account_add(client: QueryClient, words: Words) -> int:
    made = client.call("CreateAccount", AccountName=words[0])
    say(f"# account {made.get('AccountId')}, and the key of its root:")
    _say_key(made)
    return 0


def _account_list(client: QueryClient, _: Words) -> int:
    found = client.every("ListAccounts", "Accounts")
    return _listed(found, "AccountId", "AccountName", "CanonicalId", "CreateDate")


def _rotate(client: QueryClient, _: Words) -> int:
    made = client.call("RotateSealingKey")
    number, count = made.get("SealingKey"), made.get("AccessKeysSealed")
    say(f"done: version {number} seals; the secrets of {count} keys were sealed anew")
    return 0


# --- output ---------------------------------------------------------------------------------------


def _listed(found: Sequence[Shown], *names: str) -> int:
    return _table([names, *(tuple(one.get(name) for name in names) for one in found)])


def _table(rows: Sequence[Sequence[str]]) -> int:
    for line in remote.table(rows):
        say(line)
    return 0


_VERBS: Final[dict[str, dict[str, tuple[int, Verb]]]] = {
    "user": {"add": (1, _user_add), "remove": (1, _user_remove), "list": (0, _user_list)},
    "key": {
        "add": (1, _key_add),
        "remove": (2, _key_remove),
        "enable": (2, _key_switch("Active")),
        "disable": (2, _key_switch("Inactive")),
        "list": (1, _key_list),
    },
    "group": {
        "add": (1, _group("CreateGroup")),
        "remove": (1, _group("DeleteGroup")),
        "join": (2, _group("AddUserToGroup")),
        "leave": (2, _group("RemoveUserFromGroup")),
        "list": (0, _group_list),
    },
    "policy": {
        "add": (2, _policy_add),
        "remove": (1, _policy_remove),
        "list": (0, _policy_list),
        "attach": (2, _policy("Attach")),
        "detach": (2, _policy("Detach")),
    },
    "account": {"add": (1, _account_add), "list": (0, _account_list)},
}
_ALONE: Final[dict[str, tuple[int, int, Verb]]] = {
    "explain": (2, 3, iam_explain.explain),
    "rotate-sealing-key": (0, 0, _rotate),
}
