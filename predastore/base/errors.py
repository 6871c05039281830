"""The one exception tree.

Each layer raises its own errors and translates those of the layer it uses at one place.
An error says what is wrong and what to do, and carries `code`, a stable word under which
it crosses a process boundary (see `to_wire`, `from_wire`).

    PredastoreError
    +-- ConfigError            the configuration can not be used; `problems`, one line each
    +-- StartupError           the process can not start (foreign data, an address not of here)
    |   +-- InUse              a port, a directory or a node that another process has
    |   +-- NotPermitted       no permission for what it has to read, write or listen on
    |   +-- NoRoom             no space for what has to be written
    |   +-- OtherVersion       data that another version wrote
    +-- FormatError            bytes that are not what they should be
    |   +-- CorruptData        a CRC or digest does not match
    |   +-- UnsupportedFormat  written by another version
    +-- RpcError
    |   +-- PeerUnreachable    no connection, or it broke: the outcome of the call is unknown
    |   +-- DeadlineExceeded   no answer in time: the outcome of the call is unknown
    |   +-- PeerRefused        the peer failed to prove the cluster key, or broke the protocol
    |   |   +-- KeysDiffer     it has another cluster key
    |   +-- Overloaded         a bound was met; nothing was done; try again later
    |   +-- RemoteFailure      the peer's handler raised something without a code of its own
    +-- NodeError
    |   +-- ShardNotFound      the node does not hold this shard
    |   +-- ShardCorrupt       the node holds it, and a block fails its CRC
    |   +-- NodeFull           no room: nothing was written
    |   +-- StoreFailed        an I/O error: the store accepts no more writes
    +-- StateError
    |   +-- PreconditionFailed a commit's precondition does not hold; nothing was changed
    |   +-- NotLeader          this member can not do it; `leader` may
    |   +-- NoLeader           no leader is known, or no majority answers; nothing was changed
    |   +-- OutcomeUnknown     the commit may or may not have happened
    |   +-- TooLarge           key, value, batch, or a procedure's work over its limit
    |   +-- ProcedureFailed    a procedure broke off with an error of its own; nothing was changed
    |   +-- LevelTooLow        a member's program is too old for it; nothing was changed
    |   +-- MemberFailed       a disk error or a broken invariant: the member has stopped
    +-- BackendError
    |   +-- NotEnoughNodes     fewer than the write quorum of nodes took the data
    |   +-- TooFewNodes        a change would leave fewer active nodes than an object has shards
    |   +-- ObjectUnreadable   fewer than k good shards can be had now
    |   |   +-- ObjectReplaced this version's bytes are gone: another one is there; look up again
    |   +-- BodyMismatch       the body is not what was declared; nothing was stored
    +-- PolicyError            policy/errors.py
    +-- CatalogError           catalog/errors.py
    +-- HttpError              the request can not be served; `status`, and the connection's fate
    |   +-- FormError          a form that can not be read; `fault`
    +-- S3Error                an error in S3's terms: code, status, message
        +-- SignatureError     the request is not authentic, or its signature can not be judged
"""

from __future__ import annotations

import enum
import errno
from typing import Any, ClassVar, TypeVar


class PredastoreError(Exception):
    """Root of all errors raised on purpose."""

    code: ClassVar[str] = "internal"

    def detail(self) -> dict[str, Any]:
        """What `from_wire` needs besides the message; msgpack-able."""
        return {}


class ConfigError(PredastoreError):
    """`problems`: one line each, "file: place: what is wrong; what to write instead"."""

    code = "config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StartupError(PredastoreError):
    code = "startup"

    @staticmethod
    def because(error: OSError, message: str) -> StartupError:
        """`message` as the kind of StartupError that fits the errno of `error`."""
        # The kinds of ssl and socket (SSLError, gaierror) have a library's code there.
        is_of_system = type(error).__module__ == OSError.__module__
        kind = _KINDS.get(error.errno or 0) if is_of_system else None
        return (kind or StartupError)(message)


class InUse(StartupError):
    code = "startup-in-use"


class NotPermitted(StartupError):
    code = "startup-not-permitted"


class NoRoom(StartupError):
    code = "startup-no-room"


class OtherVersion(StartupError):
    code = "startup-other-version"


_KINDS: dict[int, type[StartupError]] = {
    errno.EADDRINUSE: InUse,
    errno.EACCES: NotPermitted,
    errno.EPERM: NotPermitted,
    errno.EROFS: NotPermitted,
    errno.ENOSPC: NoRoom,
    errno.EDQUOT: NoRoom,
}


class FormatError(PredastoreError):
    code = "format"


class CorruptData(FormatError):
    code = "corrupt-data"


class UnsupportedFormat(FormatError):
    code = "unsupported-format"


class RpcError(PredastoreError):
    code = "rpc"


class PeerUnreachable(RpcError):
    code = "peer-unreachable"


class DeadlineExceeded(RpcError):
    code = "deadline-exceeded"


class PeerRefused(RpcError):
    code = "peer-refused"


class KeysDiffer(PeerRefused):
    code = "keys-differ"


class Overloaded(RpcError):
    code = "overloaded"


class RemoteFailure(RpcError):
    code = "remote-failure"


class NodeError(PredastoreError):
    code = "node"


class ShardNotFound(NodeError):
    code = "shard-not-found"


class ShardCorrupt(NodeError):
    code = "shard-corrupt"


class NodeFull(NodeError):
    code = "node-full"


class StoreFailed(NodeError):
    code = "store-failed"


class StateError(PredastoreError):
    code = "state"


class PreconditionFailed(StateError):
    """`check`: the index, in the batch, of the first check that failed."""

    code = "precondition-failed"

    def __init__(self, message: str, check: int = -1) -> None:
        super().__init__(message)
        self.check = check

    def detail(self) -> dict[str, Any]:
        return {"check": self.check}


class NotLeader(StateError):
    """`leader`: id of the member that may be asked instead, or None."""

    code = "not-leader"

    def __init__(self, message: str, leader: int | None = None) -> None:
        super().__init__(message)
        self.leader = leader

    def detail(self) -> dict[str, Any]:
        return {"leader": self.leader}


class NoLeader(StateError):
    code = "no-leader"


class OutcomeUnknown(StateError):
    code = "outcome-unknown"


class TooLarge(StateError):
    code = "too-large"


class ProcedureFailed(StateError):
    code = "procedure-failed"


class LevelTooLow(StateError):
    code = "level-too-low"


class MemberFailed(StateError):
    code = "member-failed"


class BackendError(PredastoreError):
    code = "backend"


class NotEnoughNodes(BackendError):
    code = "not-enough-nodes"


class TooFewNodes(BackendError):
    code = "too-few-nodes"


class ObjectUnreadable(BackendError):
    code = "object-unreadable"


class ObjectReplaced(ObjectUnreadable):
    code = "object-replaced"


class BodyMismatch(BackendError):
    """`what`: "length", or the name of the digest that differs ("md5", "sha256", "crc32c"...)."""

    code = "body-mismatch"

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.what = what

    def detail(self) -> dict[str, Any]:
        return {"what": self.what}


class HttpError(PredastoreError):
    """A request that can not be served as HTTP; `close` says if the connection must end."""

    code = "http"

    def __init__(self, status: int, message: str, *, close: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.close = close


class FormFault(enum.Enum):
    """What is wrong with a form."""

    MALFORMED = "malformed"  # it is not well-formed multipart/form-data
    FIELDS = "fields"  # those before its file are too large, or too many
    FILES = "files"  # there is none, or more than one


class FormError(HttpError):
    """A body that should be multipart/form-data, with one file."""

    def __init__(self, message: str, fault: FormFault = FormFault.MALFORMED) -> None:
        super().__init__(400, message)
        self.fault = fault


class S3Error(PredastoreError):
    """`s3_code`: a code of the S3 error table (s3/errors.py gives its status)."""

    code = "s3"

    def __init__(
        self,
        s3_code: str,
        message: str = "",
        *,
        headers: dict[str, str] | None = None,
        **extra: str,
    ) -> None:
        super().__init__(message or s3_code)
        self.s3_code = s3_code
        self.message = message
        self.headers = headers or {}
        self.extra = extra


class SignatureError(S3Error):
    """Raised by the SigV4 verifier, for S3 and for s3db's REST API alike."""


E = TypeVar("E", bound=PredastoreError)


def anew(error: E) -> E:
    """The same error, never raised. What is kept, to be raised later or more than once, is kept
    and raised like this: one that was raised holds, by its traceback, what its raisers worked
    with, which may well be whoever keeps it."""
    made = type(error).__new__(type(error), *error.args)
    made.__dict__.update(error.__dict__)
    return made


_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))


def is_exhausted(error: BaseException) -> bool:
    """Whether the system had no descriptor, or no memory, left: nothing was done, and it may well
    be done a little later."""
    number = getattr(error, "errno", None) or getattr(error, "code", None)  # that of lmdb's
    return isinstance(error, MemoryError) or number in _EXHAUSTED


def reason(error: OSError) -> str:
    """Why, for people; never empty."""
    return error.strerror or str(error) or type(error).__name__


def located(error: OSError) -> str:
    """The same, with the file that it is about."""
    return reason(error) if error.filename is None else f"{error.filename}: {reason(error)}"


def _walk(cls: type[PredastoreError]) -> dict[str, type[PredastoreError]]:
    found = {cls.code: cls}
    for sub in cls.__subclasses__():
        found.update(_walk(sub))
    return found


_LOCAL_ONLY = {"config", "http", "s3", *_walk(StartupError)}
_BY_CODE = {code: cls for code, cls in _walk(PredastoreError).items() if code not in _LOCAL_ONLY}


def to_wire(error: PredastoreError) -> tuple[str, str, dict[str, Any]]:
    """(code, message, detail) of an error that crosses a process boundary."""
    return error.code, str(error), error.detail()


def from_wire(code: str, message: str, detail: dict[str, Any]) -> PredastoreError:
    """The error that `to_wire` took apart; RemoteFailure where the code is not known here."""
    cls = _BY_CODE.get(code)
    if cls is None or cls is PredastoreError:
        return RemoteFailure(f"{code}: {message}")
    try:
        return cls(message, **detail)
    except TypeError:
        return RemoteFailure(f"{code}: {message}")
