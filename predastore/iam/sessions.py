"""Session tokens: all that is known of temporary credentials, sealed; there is no table of them.

    token   base64 of: what sealing.py makes of a msgpack array, the fields of `Session`

The token goes with each request of the session (X-Amz-Security-Token). It is bound to its access
key id. Whoever does not have the sealing key of this cluster can neither read one nor make one; one
of another cluster is none here. A session ends when it expires, when its user or role goes, or when
that has it that sessions which began before some time are void.
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from typing import Final

import msgspec

from predastore.base.errors import FormatError, SignatureError
from predastore.base.limits import IAM_TOKEN_CHARS_MAX
from predastore.iam.sealing import SealingKeys
from predastore.storage.formats import pack, unpack

_PURPOSE: Final = "session token"


class Session(msgspec.Struct, frozen=True, array_like=True):
    """`principal_id`: of the user or the role, or the account's own for its root. `name`: of a
    role's session; "" of a user's own. `policies`: session policies, None for no such bound.
    `subject`, `audience`, `provider`: of the token of an identity provider that it began with."""

    access_key_id: str
    secret: str
    account: str
    principal_id: str
    began_ms: int
    ends_ms: int
    name: str = ""
    policies: tuple[str, ...] | None = None
    subject: str = ""
    audience: str = ""
    provider: str = ""


class SessionTokens:
    """Makes and reads them."""

    def __init__(self, sealing: SealingKeys) -> None:
        self._sealing = sealing

    async def token(self, session: Session) -> str:
        """The token of a session."""
        await self._sealing.refresh()
        bound_to = session.access_key_id.encode()
        sealed = self._sealing.seal(_PURPOSE, pack(session), bound_to=bound_to)
        return base64.b64encode(sealed).decode("ascii")

    async def session(self, access_key_id: str, token: str) -> Session:
        """What a token says, which is the session of this access key id and may be over.
        SignatureError InvalidToken."""
        sealed = _decoded(token)
        try:
            packed = await self._sealing.unseal(_PURPOSE, sealed, bound_to=access_key_id.encode())
            session = unpack(Session, packed)
        except FormatError:
            raise invalid_token() from None
        if session.access_key_id != access_key_id:
            raise invalid_token()
        return session


def invalid_token() -> SignatureError:
    return SignatureError("InvalidToken", "The provided token is malformed or otherwise invalid.")


def expired_token() -> SignatureError:
    return SignatureError("ExpiredToken", "The provided token has expired.")


@lru_cache(maxsize=256)
def _decoded(token: str) -> bytes:
    if len(token) > IAM_TOKEN_CHARS_MAX:
        raise invalid_token()
    try:
        return base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        raise invalid_token() from None
