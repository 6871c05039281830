"""multipart/form-data read plainly, with the whole body in hand: the parser must agree with it."""

from __future__ import annotations

from email.message import Message
from email.parser import BytesHeaderParser

Part = tuple[str, bytes]


def encode(boundary: bytes, parts: list[tuple[str, bytes, str | None]], end: bytes = b"") -> bytes:
    """A form: (name, bytes, name of a file) of each part; `end`: its epilogue."""
    pieces = []
    for name, data, filename in parts:
        shown = "" if filename is None else f'; filename="{filename}"'
        head = f'Content-Disposition: form-data; name="{name}"{shown}'
        pieces.append(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head.encode(), data))
    return b"".join(pieces) + b"--%b--" % boundary + end


def decode(boundary: bytes, body: bytes) -> tuple[list[Part], bytes] | None:
    """The fields before the part called "file", in any case, and that one's bytes; None: not a
    whole form with exactly one of that name."""
    lines = (b"\r\n" + body).split(b"\r\n--" + boundary)[1:]
    fields: list[Part] = []
    file: bytes | None = None
    for line in lines:
        if line.startswith(b"--"):
            return None if file is None else (fields, file)
        padding, end, rest = line.partition(b"\r\n")
        if padding.strip(b" \t") or not end:
            return None
        part = _part(rest)
        is_file = part is not None and part[0].lower() == "file"
        if part is None or (is_file and file is not None):
            return None
        if is_file:
            file = part[1]
        elif file is None:
            fields.append(part)
    return None


def _part(data: bytes) -> Part | None:
    """(name, bytes): a head, an empty line, and bytes; without bytes, the empty line may be the
    line end of the boundary that was cut off."""
    head, gap, content = (b"\r\n" + data).partition(b"\r\n\r\n")
    if not gap:
        if not (b"\r\n" + data).endswith(b"\r\n"):
            return None
        head, content = (b"\r\n" + data)[:-2], b""
    message: Message = BytesHeaderParser().parsebytes(head[2:] + b"\r\n\r\n")
    name = message.get_param("name", header="content-disposition")
    if message.get_content_disposition() != "form-data" or not isinstance(name, str) or not name:
        return None
    return name, content
