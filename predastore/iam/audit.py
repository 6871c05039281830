"""One line of the log for each change of who may do what that anybody asked for: of identities and
policies (iam/query), of buckets' policies, ACLs and locks (s3/audited.py).

    logger predastore.audit: who, with which key, what, of what, from where, what came of
    it, request id

Neither secrets nor documents are in it. A change that was refused has its line, too, with why.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from predastore.auth.sigv4 import Credential
from predastore.httpd.message import Request
from predastore.iam.identities import identity_of
from predastore.policy import Decision

DONE: Final = "done"

_log: Final = logging.getLogger("predastore.audit")


class Attempt(NamedTuple):
    """`decision`: the last that was made for it. `outcome`: DONE, or the code of the error."""

    action: str
    target: str
    decision: Decision | None
    outcome: str


def note(request: Request, who: Credential | None, attempt: Attempt) -> None:
    """`who`: None for an anonymous request."""
    action, target, decision, outcome = attempt
    decided = "" if decision is None else decision.why.value
    by = "" if decision is None else f"{decision.document} {decision.statement}".strip()
    _log.info(
        "%s: %s",
        action,
        outcome,
        extra={
            "principal": "anonymous" if who is None else identity_of(who).principal.arn,
            "access_key_id": "" if who is None else who.access_key_id,
            "action": action,
            "target": target,
            "remote": request.remote,
            "decision": decided,
            "decided_by": by,
            "outcome": outcome,
            "request_id": request.id,
        },
    )
