"""A form that comes as a request's body: its fields first, then its file, as a source of bytes.

How long the file is, is known at its end alone: fields may follow it. So `most_bytes` is told, and
the source says where the file ends: `readinto` gives 0 when the form has been seen to its last
boundary and the request's body to its end, and never before. A file is whole, or an error.
"""

from __future__ import annotations

from predastore.base.errors import FormError, HttpError, PredastoreError, anew
from predastore.base.limits import HTTP_DECODE_BYTES_MAX, HTTP_DECODE_BYTES_MIN
from predastore.httpd.message import Body
from predastore.httpd.multipart import FormFile, FormParser


class FormBody:
    """`body`: of known length. `read_fields`, then `readinto` until that gives 0; FormError, and
    what `body` raises, which is final."""

    def __init__(self, body: Body, boundary: bytes, file_field: str) -> None:
        if body.length is None:
            raise HttpError(411, "the length of a form has to be known beforehand")
        self._body = body
        self._left_bytes = body.length  # of the body, not read yet
        self._parser = FormParser(boundary, file_field)
        self._room = memoryview(bytearray(min(HTTP_DECODE_BYTES_MIN, body.length + 1)))
        self._given = memoryview(b"")  # of the file, and not taken yet
        self._ended = False
        self._error: PredastoreError | None = None

    async def read_fields(self) -> tuple[list[tuple[str, bytes]], FormFile]:
        """The fields before the file, and what the form says of the file."""
        while self._parser.file is None:
            await self._advance()
        return self._parser.fields, self._parser.file

    @property
    def most_bytes(self) -> int:
        """The most that the file may have, of which none was taken yet."""
        return len(self._given) + (0 if self._parser.file_ended else self._room_bytes())

    async def readinto(self, buffer: memoryview) -> int:
        """Some bytes of the file; 0 at its end, however often."""
        while not self._given and not self._ended:
            await self._advance()
        count = min(len(buffer), len(self._given))
        buffer[:count] = self._given[:count]
        self._given = self._given[count:]
        return count

    async def _advance(self) -> None:
        if self._error is not None:
            raise anew(self._error)
        try:
            count = await self._body.readinto(self._room)
            if count:
                self._left_bytes -= count
                self._given = memoryview(self._parser.feed(self._room[:count]))
                if self._room_bytes() < 0:
                    raise FormError("malformed form: it has no room for its last boundary")
                self._grow(count)
            else:
                self._parser.end()
                self._ended = True
                self._room = memoryview(b"")
        except PredastoreError as error:
            self._error = anew(error)
            self._room = memoryview(b"")
            raise

    def _room_bytes(self) -> int:
        """What may still come before the form's end."""
        return self._parser.held_bytes + self._left_bytes - self._parser.end_bytes

    def _grow(self, count: int) -> None:
        """Room for more where a client fills what there is."""
        if count == len(self._room) == HTTP_DECODE_BYTES_MIN < self._left_bytes:
            self._room = memoryview(bytearray(min(HTTP_DECODE_BYTES_MAX, self._left_bytes + 1)))
