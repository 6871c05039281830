"""The policies that AWS manages, of which every account has those that make sense here.

Their ARNs are arn:aws:iam::aws:policy/<name>. They are of the program, not of the database.
"""

from __future__ import annotations

from typing import Final

from predastore.iam import names

_STATEMENT: Final = '{{"Effect": "Allow", "Action": {}, "Resource": "*"}}'
_ALLOW: Final = f'{{{{"Version": "2012-10-17", "Statement": [{_STATEMENT}]}}}}'
_DOCUMENTS: Final = {
    "AdministratorAccess": _ALLOW.format('"*"'),
    "AmazonS3FullAccess": _ALLOW.format('"s3:*"'),
    "AmazonS3ReadOnlyAccess": _ALLOW.format('["s3:Get*", "s3:List*"]'),
    "IAMFullAccess": _ALLOW.format('"iam:*"'),
    "IAMReadOnlyAccess": _ALLOW.format('["iam:Get*", "iam:List*", "iam:Simulate*"]'),
}
CREATED_MS: Final = 1_423_218_017_000  # when AWS made the first of them

MANAGED: Final = {
    names.policy_arn(names.AWS_ACCOUNT, "/", name): document
    for name, document in _DOCUMENTS.items()
}


def policy_id(arn: str) -> str:
    """An id that is always the same."""
    letters = "".join(letter for letter in names.canonical_id(arn).upper() if letter not in "01789")
    return "ANPA" + (letters + "A" * 16)[:16]
