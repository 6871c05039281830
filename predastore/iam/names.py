"""Names, ids and ARNs of identities, as AWS forms them ("IAM identifiers", IAM User Guide).

arn:aws:iam::<account>:root
arn:aws:iam::<account>:user/<path and name>     group/  role/  policy/
arn:aws:sts::<account>:assumed-role/<role>/<session>
AIDA... a user, AGPA... a group, AROA... a role, ANPA... a policy, AKIA... an access key,
ASIA... one of a session; each 20 characters, of which 16 are random
"""

from __future__ import annotations

import re
import secrets
from typing import Final, NamedTuple

from predastore.iam.rows import EntityKind

AWS_ACCOUNT: Final = "aws"  # whose managed policies every account has
NAME: Final = re.compile(r"[\w+=,.@-]+", re.ASCII)
PATH: Final = re.compile(r"/|/[!-\x7e]*/", re.ASCII)
ACCOUNT_ID: Final = re.compile(r"[0-9]{12}")
_ID_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SECRET_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_PREFIX: Final = {EntityKind.USER: "AIDA", EntityKind.GROUP: "AGPA", EntityKind.ROLE: "AROA"}
WORD: Final = {EntityKind.USER: "user", EntityKind.GROUP: "group", EntityKind.ROLE: "role"}
NAME_CHARS_MAX: Final = {EntityKind.USER: 64, EntityKind.GROUP: 128, EntityKind.ROLE: 64}


def entity_id(kind: EntityKind) -> str:
    """A new unique id."""
    return _new(_PREFIX[kind])


def policy_id() -> str:
    return _new("ANPA")


def access_key_id() -> str:
    return _new("AKIA")


def session_key_id() -> str:
    return _new("ASIA")


def secret() -> str:
    """40 characters, 240 bits."""
    return "".join(secrets.choice(_SECRET_LETTERS) for _ in range(40))


def account_id() -> str:
    """12 digits, of which the first is none that an operator would write by hand: 1 to 9."""
    return str(secrets.choice(range(10**11, 10**12)))


def canonical_id(account: str) -> str:
    """By which ACLs and owners in S3's answers name an account: here, its id."""
    return account


def root_arn(account: str) -> str:
    return f"arn:aws:iam::{account}:root"


def entity_arn(account: str, kind: EntityKind, path: str, name: str) -> str:
    return f"arn:aws:iam::{account}:{WORD[kind]}{path}{name}"


def policy_arn(account: str, path: str, name: str) -> str:
    return f"arn:aws:iam::{account}:policy{path}{name}"


def session_arn(account: str, role: str, session: str) -> str:
    return f"arn:aws:sts::{account}:assumed-role/{role}/{session}"


class ParsedArn(NamedTuple):
    """Of an ARN of IAM. `word`: user, group, role, policy. `path`: with both slashes."""

    account: str
    word: str
    path: str
    name: str


def parse_arn(arn: str) -> ParsedArn | None:
    """The parts of an entity's or a policy's ARN; None where it is neither."""
    parts = arn.split(":", 5)
    if len(arn) > 2048 or parts[:4] != ["arn", "aws", "iam", ""] or len(parts) != 6:
        return None
    word, slash, rest = parts[5].partition("/")
    path, _, name = f"/{rest}".rpartition("/")
    path += "/"
    if word not in ("user", "group", "role", "policy") or not slash:
        return None
    if NAME.fullmatch(name) is None or PATH.fullmatch(path) is None:
        return None
    return ParsedArn(parts[4], word, path, name)


def _new(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_ID_LETTERS) for _ in range(16))
