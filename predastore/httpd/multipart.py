"""multipart/form-data (RFC 7578, RFC 2046): fields, then the bytes of one file. Sans-IO.

    preamble  --boundary CRLF  part  CRLF --boundary CRLF  part ...  CRLF --boundary-- epilogue
    part      header lines  CRLF  bytes

`FormParser.feed` takes the body as it comes, in pieces of any size, and gives the bytes of the file
of which it is sure: neither a byte of what ends it, nor one fewer than there are. Parts before the
file are fields; those behind it are read over, a second file is an error. What is not the file is
bounded before it is kept. A line that begins with the boundary ends a part, whatever follows on it
(RFC 2046, 5.1.1); what follows is an error unless it is what may stand there, so that no file is
cut where one has such a line in it. `end` says whether the body was whole: its last boundary has
been seen. Every error is a FormError, and final.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, NoReturn
from urllib.parse import unquote

from predastore.base.errors import FormError, FormFault
from predastore.base.limits import (
    FORM_BOUNDARY_BYTES_MAX,
    FORM_FIELDS_BYTES_MAX,
    FORM_FIELDS_MAX,
    FORM_HEAD_BYTES_MAX,
    FORM_PART_HEAD_BYTES_MAX,
    FORM_TAIL_BYTES_MAX,
)
from predastore.httpd.message import Buffer, is_field_name

_FORM: Final = "multipart/form-data"
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")
# A parameter of a header field: ; name=token or ; name="quoted". Only \" is an escape: browsers
# send %22 for a quote, and some a Windows path as it is.
_PARAMETER: Final = re.compile(r';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*("(?:\\"|[^"])*"|[^\s;"]*)[ \t]*')
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_PADDING: Final = b" \t"
_LAST: Final = b"--"  # behind the last boundary
_IDENTITY: Final = ("binary", "8bit", "7bit")  # encodings that change nothing


class _State(enum.Enum):
    PREAMBLE = enum.auto()  # before the first boundary
    BOUNDARY = enum.auto()  # behind one: the rest of its line, or the last one's "--"
    HEAD = enum.auto()  # of a part
    BEGIN = enum.auto()  # of a part's bytes
    FIELD = enum.auto()
    FILE = enum.auto()
    EPILOGUE = enum.auto()  # behind the last boundary


@dataclass(frozen=True, slots=True)
class FormFile:
    """What the head of the file's part says; "" where it says nothing. `name` as it was sent."""

    name: str = ""
    content_type: str = ""


def boundary_of(content_type: str) -> bytes | None:
    """The boundary that a Content-Type field has; None: it is not that of a form. FormError."""
    kind, semicolon, rest = content_type.partition(";")
    if kind.strip().lower() != _FORM:
        return None
    boundary = _parameters(semicolon + rest).get("boundary", "")
    if len(boundary) > FORM_BOUNDARY_BYTES_MAX or not _BOUNDARY.fullmatch(boundary):
        _malformed("Content-Type has no boundary of 1 to 70 characters")
    return boundary.encode("ascii")


class FormParser:
    """`fields`: (name, value) in order, of the parts before the file; `file`: None until that
    begins. `file_ended`: all of its bytes were given. `held_bytes`: taken, and neither given nor
    used."""

    def __init__(self, boundary: bytes, file_field: str) -> None:
        self.fields: list[tuple[str, bytes]] = []
        self.file: FormFile | None = None
        self.file_ended = False
        self._file_field = file_field
        self._delimiter = b"\r\n--" + boundary
        self._state = _State.PREAMBLE
        self._rest = bytearray(b"\r\n")  # of the input; a boundary may be its first line
        self._searched = 0  # of the rest: what is looked for does not begin before
        self._name = ""  # of the part
        self._passed_bytes = 0  # used, and not the file's: before it, then behind it
        self._field_bytes = 0

    @property
    def held_bytes(self) -> int:
        return len(self._rest)

    @property
    def end_bytes(self) -> int:
        """The least that the form still has to have: of its last boundary. What is held counts."""
        if self._state is _State.EPILOGUE:
            return 0
        before = 0 if self._state is _State.BOUNDARY else len(self._delimiter)
        return before + len(_LAST)

    def feed(self, data: Buffer) -> bytes:
        """Takes some bytes of the body; those of the file that are certain now."""
        self._rest += data
        given = b""
        while True:
            if self._state is _State.FILE:
                given = self._file_bytes()
            if not self._STEPS[self._state](self):
                break
        if self._state is not _State.FILE:
            self._check_passed(len(self._rest))
        return given

    def end(self) -> None:
        """The body has ended. FormError unless that was a whole form."""
        if self._state is not _State.EPILOGUE:
            _malformed("the body ends before its last boundary")

    # --- steps: each says whether it came to another state --------------------------------

    def _step_to_boundary(self) -> bool:
        at = self._find(self._delimiter)
        if at < 0:
            return False
        if self._state is _State.FIELD and self.file is None:
            self._add_field(bytes(self._rest[:at]))
        if self._state is _State.FILE:
            self._passed_bytes = 0
            self.file_ended = True
        self._state = _State.BOUNDARY
        self._use(at + len(self._delimiter))
        return True

    def _step_from_boundary(self) -> bool:
        if len(self._rest) < len(_LAST):
            return False
        if self._rest.startswith(_LAST):
            if self.file is None:
                _wrong_count()
            self._state = _State.EPILOGUE
            return True
        at = self._find(b"\r\n")
        if self._rest[: at if at >= 0 else -1].strip(_PADDING):
            _malformed("something else follows a boundary on its line")
        if at < 0:
            return False
        self._state = _State.HEAD
        self._use(at)  # the line's end is looked for with the next
        return True

    def _step_to_part(self) -> bool:
        at = self._find(b"\r\n\r\n")
        if (at if at >= 0 else len(self._rest)) > FORM_PART_HEAD_BYTES_MAX:
            _malformed(f"the head of a part has more than {FORM_PART_HEAD_BYTES_MAX} bytes")
        if at < 0:
            return False
        if self._rest.find(self._delimiter, 0, at) >= 0:
            _malformed("a boundary stands within the head of a part")
        self._name, file = _parse_head(bytes(self._rest[2:at]))
        if self._name.lower() == self._file_field:
            if self.file is not None:
                _wrong_count()
            self.file = file
            self._name = ""
        self._state = _State.BEGIN
        self._use(at + 2)
        return True

    def _step_into_part(self) -> bool:
        """A part without bytes may end with its head, whose last line end is then the boundary's
        (RFC 2046, 5.1.1)."""
        if len(self._rest) < len(self._delimiter):
            return False
        is_file = self.file is not None and not self._name
        self._state = _State.FILE if is_file else _State.FIELD
        if not self._rest.startswith(self._delimiter):
            self._use(2)
        return True

    def _step_nowhere(self) -> bool:
        self._use(len(self._rest))
        return False

    _STEPS: ClassVar[dict[_State, Callable[[FormParser], bool]]] = {
        _State.PREAMBLE: _step_to_boundary,
        _State.BOUNDARY: _step_from_boundary,
        _State.HEAD: _step_to_part,
        _State.BEGIN: _step_into_part,
        _State.FIELD: _step_to_boundary,
        _State.FILE: _step_to_boundary,
        _State.EPILOGUE: _step_nowhere,
    }

    # --- the rest of the input ------------------------------------------------------------

    def _file_bytes(self) -> bytes:
        """All up to the boundary, or to where one could begin."""
        at = self._find(self._delimiter)
        sure = at if at >= 0 else max(0, len(self._rest) - len(self._delimiter) + 1)
        with memoryview(self._rest) as view:
            given = bytes(view[:sure])
        del self._rest[:sure]
        self._searched = 0
        return given

    def _add_field(self, value: bytes) -> None:
        self._field_bytes += len(self._name.encode()) + len(value)
        if self._field_bytes > FORM_FIELDS_BYTES_MAX or len(self.fields) == FORM_FIELDS_MAX:
            _too_large()
        self.fields.append((self._name, value))

    def _find(self, wanted: bytes) -> int:
        """Where that begins in the rest, or -1; the next search for it begins where it could."""
        at = self._rest.find(wanted, self._searched)
        self._searched = max(0, len(self._rest) - len(wanted) + 1) if at < 0 else at
        return at

    def _use(self, count: int) -> None:
        del self._rest[:count]
        self._searched = 0
        self._passed_bytes += count
        if self._state is not _State.FILE:
            self._check_passed(0)

    def _check_passed(self, more_bytes: int) -> None:
        """FormError where there is too much before the file, or behind it."""
        passed = self._passed_bytes + more_bytes
        if self.file is None:
            if passed > FORM_HEAD_BYTES_MAX:
                _too_large()
        elif self._state is not _State.BEGIN and passed > FORM_TAIL_BYTES_MAX:
            _malformed(f"more than {FORM_TAIL_BYTES_MAX} bytes follow the file")


# --- heads ------------------------------------------------------------------------------------


def _parse_head(head: bytes) -> tuple[str, FormFile]:
    """The part's name, and what its head says of it as a file."""
    fields: dict[str, str] = {}
    for line in head.split(b"\r\n") if head else ():
        field, colon, value = line.partition(b":")
        lowered = field.decode("latin-1").lower()
        if not colon or not is_field_name(field) or lowered in fields or _CONTROL.search(value):
            _malformed("a line in the head of a part is no header field, or is there twice")
        try:
            fields[lowered] = value.decode().strip()
        except UnicodeDecodeError:
            _malformed("the head of a part is not in UTF-8")
    if fields.get("content-transfer-encoding", "binary").lower() not in _IDENTITY:
        _malformed("a part has a Content-Transfer-Encoding")
    kind, semicolon, rest = fields.get("content-disposition", "").partition(";")
    parameters = _parameters(semicolon + rest)
    name = parameters.get("name", "")
    if kind.strip().lower() != "form-data" or not name:
        _malformed("a part has no Content-Disposition: form-data with a name")
    return name, FormFile(_filename(parameters), fields.get("content-type", ""))


def _parameters(text: str) -> dict[str, str]:
    """The parameters of a header field, by lower-case name."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None or match[1].lower() in found:
            _malformed("the parameters of a header field can not be read")
        value = match[2]
        if value.startswith('"'):
            value = value[1:-1].replace('\\"', '"')
        found[match[1].lower()] = value
        at = match.end()
    return found


def _filename(parameters: dict[str, str]) -> str:
    """With filename*, as some clients have it where the name is not ASCII (RFC 5987)."""
    extended = parameters.get("filename*", "")
    if "filename" in parameters or not extended.lower().startswith("utf-8'"):
        return parameters.get("filename", "")
    return unquote(extended.split("'", 2)[-1])


# --- errors -----------------------------------------------------------------------------------


def _malformed(why: str) -> NoReturn:
    raise FormError(f"malformed form: {why}")


def _too_large() -> NoReturn:
    raise FormError("the fields of the form before its file are too large", FormFault.FIELDS)


def _wrong_count() -> NoReturn:
    raise FormError("a form has one file", FormFault.FILES)
