"""Requests that change something are done once: one that was listened in on can not be sent again.

A signature is good for 15 minutes, for whoever has it. So each that changed something is
remembered for as long as it is good, and refused when it comes again: but for some seconds, since
signatures count time in seconds, and whoever signs the same request twice in one, or sends it
again because the answer was lost, means it. Presigned URLs may be used again, as they are made to
be. What one member remembers others do not know: a request that was overheard on its way to one may
be sent to another, once. A member that starts anew has forgotten all; the oldest go where there are
more than a bound.

Within these seconds, at another member, and by a presigned URL, what comes again is the same:
the SHA-256 of the body is part of what is signed. A change that is signed without it is refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from predastore.auth.authorization import parse_claim
from predastore.auth.sigv4 import Verified
from predastore.base.limits import REST_REPLAY_GRACE_S, REST_SIGNATURES_MAX, SIGV4_SKEW_S
from predastore.httpd.message import Request
from predastore.s3db.rest_call import Refused

_CHANGING = ("PUT", "POST", "DELETE")


class Replays:
    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds, never backwards."""
        self._clock = clock
        self._seen: OrderedDict[bytes, float] = OrderedDict()  # signature -> first seen, in order

    def check(self, request: Request, verified: Verified) -> None:
        """Of a request whose signature is right; Refused."""
        if request.method not in _CHANGING:
            return
        if verified.payload_sha256 is None:
            raise Refused(
                400,
                "body-not-signed",
                "sign a change with its body: x-amz-content-sha256 is the SHA-256 of the body",
            )
        claim = parse_claim(request)
        if claim is None or claim.presigned:
            return
        now = self._clock()
        self._forget(now)
        signature = claim.signature.lower()
        if now - self._seen.setdefault(signature, now) > REST_REPLAY_GRACE_S:
            raise Refused(
                403,
                "request-replayed",
                "this very request was made before; sign it anew to do it again",
            )

    def _forget(self, now: float) -> None:
        """What is dated ahead is good for longest: twice the time that clocks may be apart."""
        while self._seen:
            signature, since = next(iter(self._seen.items()))
            is_good = now - since <= 2 * SIGV4_SKEW_S
            if is_good and len(self._seen) < REST_SIGNATURES_MAX:
                return
            del self._seen[signature]
