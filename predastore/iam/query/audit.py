"""One line of the log for each change of identities and policies that anybody asked for.

    logger predastore.audit: who, with which key, what, of what, from where, what came of
    it, request id

Neither secrets nor documents are in it. A change that was refused has its line, too, with why.
"""

from __future__ import annotations

import logging
from typing import Final

from predastore.httpd.message import Request
from predastore.iam.identity import Identified
from predastore.policy import Decision

_log: Final = logging.getLogger("predastore.audit")


def note(
    request: Request,
    action: str,
    who: Identified | None,
    target: str,
    decision: Decision | None,
    outcome: str,
) -> None:
    """`outcome`: "done", or the code of the error. `decision`: the last that was made for it."""
    decided = "" if decision is None else decision.why.value
    by = "" if decision is None else f"{decision.document} {decision.statement}".strip()
    _log.info(
        "%s: %s",
        action,
        outcome,
        extra={
            "principal": "anonymous" if who is None else who.identity.principal.arn,
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
