"""What identities do to the database in one step, and what is asked of it.

| module | owns |
|---|---|
| `arguments` | what is called with what, and answers |
| `entities` | users, groups, roles, memberships, accounts |
| `access_keys` | access keys |
| `attachments` | inline policies, attached ones, boundaries |
| `policies` | managed policies and their versions |
| `questions` | a principal, with all that decides what it may do |
| `reading` | finding, counting, touching the principals that a change concerns |

A change touches the rows of one account, and gives each principal that it concerns another
generation. Changes of what many share walk over memberships and attachments: these are bounded
(base/limits.py), and no work for the event loop.
"""

from typing import Final

from predastore.iam.procedures import access_keys, attachments, entities, policies, questions
from predastore.s3db.procedures import Procedure, Question

_LEVEL: Final = 3  # of the first program that had identities

PROCEDURES: Final = (
    Procedure("iam.account.create", _LEVEL, entities.create_account),
    Procedure("iam.account.rename", _LEVEL, entities.rename_account),
    Procedure("iam.entity.create", _LEVEL, entities.create),
    Procedure("iam.entity.change", _LEVEL, entities.change, quick_bytes=0),
    Procedure("iam.entity.delete", _LEVEL, entities.delete),
    Procedure("iam.group.join", _LEVEL, entities.join),
    Procedure("iam.group.leave", _LEVEL, entities.leave),
    Procedure("iam.key.create", _LEVEL, access_keys.create),
    Procedure("iam.key.change", _LEVEL, access_keys.change),
    Procedure("iam.key.delete", _LEVEL, access_keys.delete),
    Procedure("iam.key.seal", _LEVEL, access_keys.seal),
    Procedure("iam.inline.put", _LEVEL, attachments.put_inline, quick_bytes=0),
    Procedure("iam.inline.delete", _LEVEL, attachments.delete_inline, quick_bytes=0),
    Procedure("iam.policy.attach", _LEVEL, attachments.attach, quick_bytes=0),
    Procedure("iam.policy.detach", _LEVEL, attachments.detach, quick_bytes=0),
    Procedure("iam.policy.create", _LEVEL, policies.create),
    Procedure("iam.policy.add-version", _LEVEL, policies.add_version, quick_bytes=0),
    Procedure("iam.policy.choose-version", _LEVEL, policies.choose_version, quick_bytes=0),
    Procedure("iam.policy.delete-version", _LEVEL, policies.delete_version),
    Procedure("iam.policy.change", _LEVEL, policies.change),
    Procedure("iam.policy.delete", _LEVEL, policies.delete),
)

QUESTIONS: Final = (Question("iam.identity", _LEVEL, questions.find),)
