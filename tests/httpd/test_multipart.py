"""multipart/form-data: fields, then a file, whole or an error, however its bytes arrive."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predastore.base.errors import BodyMismatch, FormError, FormFault, HttpError
from predastore.base.limits import (
    FORM_FIELDS_BYTES_MAX,
    FORM_FIELDS_MAX,
    FORM_HEAD_BYTES_MAX,
    FORM_PART_HEAD_BYTES_MAX,
    FORM_TAIL_BYTES_MAX,
    HTTP_DECODE_BYTES_MAX,
    KIB,
    MIB,
)
from predastore.httpd.formbody import FormBody
from predastore.httpd.message import Body, BytesBody
from predastore.httpd.multipart import FormFile, FormParser, boundary_of
from reference.multipart import decode, encode

B = b"XyZ"
FUZZ_SECONDS = float(os.environ.get("FORM_FUZZ_SECONDS", "3"))

Fields = list[tuple[str, bytes]]


def parse(pieces: Iterable[bytes], boundary: bytes = B) -> tuple[Fields, FormFile, bytes]:
    parser = FormParser(boundary, "file")
    data = b"".join([parser.feed(piece) for piece in pieces])
    parser.end()
    assert parser.file is not None
    return parser.fields, parser.file, data


def fault(*pieces: bytes) -> FormFault:
    with pytest.raises(FormError) as caught:
        parse(pieces)
    assert caught.value.status == 400
    return caught.value.fault


def part(disposition: str, data: bytes = b"", more: str = "") -> bytes:
    head = f"Content-Disposition: {disposition}\r\n{more}"
    return b"--XyZ\r\n%b\r\n%b\r\n" % (head.encode(), data)


FILE = 'form-data; name="file"; filename="a.txt"'
END = b"--XyZ--\r\n"


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\nan epilogue\r\n--other"])
def test_fields_and_a_file_however_they_are_cut(piece: int, end: bytes) -> None:
    data = b"\r\n--Xy\r\n--\r\n\r\r\nXyZ\0" * 3
    parts = [("key", b"a/${filename}", None), ("", b"", None), ("file", data, "a.txt")]
    body = encode(B, [parts[0], ("empty", b"", None), parts[2], ("submit", b"go", None)], end)
    fields, file, found = parse(body[at : at + piece] for at in range(0, len(body), piece))
    assert fields == [("key", b"a/${filename}"), ("empty", b"")]
    assert (file, found) == (FormFile("a.txt"), data)


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\r", b"\n", b"-", b"x--XyZ", b"\r\n--Xy"])
def test_bytes_like_a_boundary_are_the_files(data: bytes) -> None:
    body = encode(B, [("file", data, "f")])
    for cut in range(len(body)):
        assert parse([body[:cut], body[cut:]])[2] == data


@pytest.mark.parametrize(
    "body",
    [
        part(FILE)[:-2] + END,  # the line end behind the head is the boundary's
        b"a preamble\r\n--not this\r\n" + part(FILE) + END,
        b"\r\n" + part(FILE) + END,
        part(FILE).replace(b"--XyZ\r\n", b"--XyZ \t \r\n") + END,
        part(FILE) + b"--XyZ-- \t",
    ],
)
def test_what_rfc_2046_allows(body: bytes) -> None:
    for cut in range(len(body)):
        assert parse([body[:cut], body[cut:]])[1:] == (FormFile("a.txt"), b"")


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        ('form-data; name="file"; filename="b c;d=e.txt"', "b c;d=e.txt"),
        ("form-data;name=file;filename=b.txt", "b.txt"),
        ('FORM-DATA; NAME="FILE"; FileName="b.txt"', "b.txt"),
        (r'form-data; name="file"; filename="C:\dir\b.txt"', r"C:\dir\b.txt"),
        (r'form-data; name="file"; filename="C:\dir\"', "C:\\dir\\"),
        (r'form-data; name="file"; filename="say \"hi\".txt"', 'say "hi".txt'),
        ('form-data; name="file"; filename="\u00e4 \u20ac.txt"', "\u00e4 \u20ac.txt"),
        ("form-data; name=file; filename*=utf-8''%c3%a4.txt", "\u00e4.txt"),
        ("form-data; name=file; filename=a; filename*=UTF-8''b", "a"),
        ('form-data; name="file"', ""),
    ],
)
def test_the_names_of_files_as_clients_send_them(disposition: str, expected: str) -> None:
    assert parse([part(disposition, b"x", "Content-Type: text/plain\r\n"), END])[1] == FormFile(
        expected, "text/plain"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n",
        b"nothing of the kind",
        part(FILE, b"data"),  # no last boundary
        part(FILE, b"data") + b"--XyZ",
        part(FILE, b"data") + b"--XyZ\r\n",
        part(FILE, b"data") + b"--XyZ-",
        part(FILE, b"data") + b"--XyZ more\r\n" + END,  # is it the file's, or a boundary?
        part(FILE, b"data") + b"--XyZ1\r\n" + END,
        part(FILE, b"data\r\n--XyZ is in my book\r\n") + END,
        b"--XyZ\r\n\r\ndata\r\n" + END,  # a part without a head
        part('form-data; filename="a"', b"data") + END,
        part('form-data; name=""', b"data") + END,
        part('attachment; name="file"', b"data") + END,
        part('form-data; name="file" garbage', b"data") + END,
        part('form-data; name="a"; name="file"', b"data") + END,
        part('form-data; name="file', b"data") + END,
        part(FILE, b"data", "Content-Disposition: form-data; name=b\r\n") + END,
        part(FILE, b"data", " folded: x\r\n") + END,
        part(FILE, b"data", "no colon\r\n") + END,
        part(FILE, b"data", "--XyZa: b\r\n") + END,
        part(FILE, b"data", "a: b\nc: d\r\n") + END,
        part(FILE, b"data", "a: b\rc: d\r\n") + END,
        part(FILE, b"data", "a: b\0c\r\n") + END,
        part(FILE, b"ZGF0YQ==", "Content-Transfer-Encoding: base64\r\n") + END,
        part(FILE, b"data").replace(b"a.txt", b"\xff\xfe") + END,
        part(FILE, b"data").replace(b"\r\n", b"\n") + END.replace(b"\r\n", b"\n"),
    ],
)
def test_what_is_not_a_whole_form_is_malformed(body: bytes) -> None:
    assert fault(body) is FormFault.MALFORMED
    assert fault(*(body[at : at + 1] for at in range(len(body)))) is FormFault.MALFORMED


def test_a_form_has_one_file() -> None:
    field = part('form-data; name="a"', b"b")
    assert fault(field + END) is FormFault.FILES
    assert fault(END) is FormFault.FILES
    assert fault(part(FILE, b"1") + field + part(FILE, b"2") + END) is FormFault.FILES


def endless(begin: bytes, piece: bytes) -> FormFault:
    """What it is refused for, before a mebibyte of it was taken, and kept."""
    parser = FormParser(B, "file")

    def feed() -> None:
        parser.feed(begin)
        for _ in range(MIB // len(piece)):
            parser.feed(piece)
            assert parser.held_bytes <= FORM_HEAD_BYTES_MAX + len(piece)

    with pytest.raises(FormError) as caught:
        feed()
    return caught.value.fault


def test_what_does_not_end_is_refused_and_not_kept() -> None:
    field = part('form-data; name="a"', b"b")
    assert endless(b"", b"a preamble " * 100) is FormFault.FIELDS
    assert endless(b"--XyZ\r\n", b"a: b\r\n" * 100) is FormFault.MALFORMED
    assert endless(b"--XyZ\r\n", b"header" * 100) is FormFault.MALFORMED
    assert endless(b"--XyZ", b" " * 100) is FormFault.FIELDS
    assert endless(field[:-3], b"value" * 100) is FormFault.FIELDS
    assert endless(b"", field) is FormFault.FIELDS
    file = part(FILE, b"data")
    assert endless(file, field) is FormFault.MALFORMED
    assert endless(file + field[:-2], b"value" * 100) is FormFault.MALFORMED
    assert endless(file + END, b"epilogue" * 100) is FormFault.MALFORMED


def test_bounds_of_fields_are_exact() -> None:
    def form(value_bytes: int, count: int = 1) -> bytes:
        fields = [(f"n{n}", b"v" * value_bytes, None) for n in range(count)]
        return encode(B, [*fields, ("file", b"data", "f")])

    most = FORM_FIELDS_BYTES_MAX - len("n0")
    assert parse([form(most)])[2] == b"data"
    assert fault(form(most + 1)) is FormFault.FIELDS
    assert len(parse([form(0, FORM_FIELDS_MAX)])[0]) == FORM_FIELDS_MAX
    assert fault(form(0, FORM_FIELDS_MAX + 1)) is FormFault.FIELDS
    long = "x" * FORM_PART_HEAD_BYTES_MAX
    assert fault(part(FILE, b"data", f"Content-Type: {long}\r\n") + END) is FormFault.MALFORMED
    tail = part(FILE) + part('form-data; name="z"', b"z" * (FORM_TAIL_BYTES_MAX - 200)) + END
    assert parse([b"p" * (FORM_HEAD_BYTES_MAX - 200) + b"\r\n" + tail])[2] == b""


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=XyZ", b"XyZ"),
        ('Multipart/Form-Data; charset=utf-8; Boundary="a b"', b"a b"),
        ("multipart/form-data;boundary=----WebKitFormBoundary7M", b"----WebKitFormBoundary7M"),
        ("multipart/mixed; boundary=XyZ", None),
        ("application/x-www-form-urlencoded", None),
        ("", None),
    ],
)  # fmt: skip
def test_the_boundary_of_a_content_type(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "parameters",
    ["", ";", "; boundary=", "; boundary=" + "b" * 71, '; boundary="a "', "; boundary=a;boundary=b",
     "; boundary=\xe4", "; boundary=a@b", '; boundary="', "; boundary=" + "b" * MIB],
)  # fmt: skip
def test_what_is_no_boundary(parameters: str) -> None:
    with pytest.raises(FormError):
        boundary_of("multipart/form-data" + parameters)


# --- against the plain twin -------------------------------------------------------------------

_NAMES = st.sampled_from(["key", "a", "x-amz-meta-b", "File2"])
_BYTES = st.lists(st.sampled_from([b"\r\n", b"--", B, b"\r", b"\n", b"-", b"x", b""])).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(_NAMES, _BYTES, st.none()), max_size=4),
    _BYTES,
    st.lists(st.tuples(_NAMES, _BYTES, st.none()), max_size=2),
    st.lists(st.integers(1, 40), max_size=20),
    _BYTES,
)
def test_forms_are_read_as_the_plain_twin_reads_them(
    before: list[tuple[str, bytes, None]],
    data: bytes,
    behind: list[tuple[str, bytes, None]],
    cuts: list[int],
    end: bytes,
) -> None:
    body = encode(B, [*before, ("file", data, "f"), *behind], end)
    expected = decode(B, body)
    try:
        found = parse(pieces(body, cuts))
    except FormError:
        assert expected is None
    else:
        assert (found[0], found[2]) == expected


def pieces(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    found, at = [], 0
    for cut in cuts:
        found.append(body[at : at + cut])
        at += cut
    return [*found, body[at:]]


def test_mutated_forms_are_read_as_the_twin_reads_them_or_refused() -> None:
    """For FORM_FUZZ_SECONDS, with the same seeds each time."""
    until = time.monotonic() + FUZZ_SECONDS
    seed = read = 0
    while time.monotonic() < until:
        seed += 1
        rng = random.Random(seed)
        body = bytearray(_some_form(rng))
        for _ in range(rng.randrange(4)):
            _mutate(rng, body)
        cuts = [rng.randrange(1, 60) for _ in range(rng.randrange(30))]
        try:
            fields, _, data = parse(pieces(bytes(body), cuts))
        except FormError:
            continue
        assert (fields, data) == decode(B, bytes(body)), f"seed {seed}"
        read += 1
    assert read > seed // 20, "hardly any form was read: it tries nothing"


_TOKENS = (
    b"\r\n",
    b"--",
    b"XyZ",
    b"\r\n--XyZ",
    b"\r\n--XyZ--",
    b"\0",
    b'"',
    b";",
    b"\r\n\r\n",
    b" ",
)


def _some_form(rng: random.Random) -> bytes:
    parts: list[tuple[str, bytes, str | None]] = [
        (rng.choice(["key", "acl", "x"]), _some(rng), None) for _ in range(rng.randrange(4))
    ]
    parts.insert(rng.randrange(len(parts) + 1), ("file", _some(rng), "name"))
    return encode(B, parts, rng.choice([b"", b"\r\n", b"\r\nmore"]))


def _some(rng: random.Random) -> bytes:
    return b"".join(rng.choice((*_TOKENS[:3], b"abc")) for _ in range(rng.randrange(8)))


def _mutate(rng: random.Random, body: bytearray) -> None:
    at = rng.randrange(len(body))
    match rng.randrange(4):
        case 0:
            body[at:at] = rng.choice(_TOKENS)
        case 1:
            del body[at : at + rng.randrange(1, 9)]
            body += b"-"
        case 2:
            body[at] = rng.randrange(256)
        case _:
            body[at:at] = body[at : at + rng.randrange(40)]


# --- as a body --------------------------------------------------------------------------------


class Dripping(Body):
    """Comes in pieces of `piece` bytes; `short`: so many bytes less than it declares."""

    def __init__(self, data: bytes, piece: int, short: int = 0) -> None:
        self.length = len(data)
        self._rest = memoryview(data)[: len(data) - short]
        self._short = short
        self._piece = piece
        self.largest_room = 0

    async def readinto(self, buffer: memoryview) -> int:
        self.largest_room = max(self.largest_room, len(buffer))
        if not self._rest and self._short:
            raise BodyMismatch("the connection ended before the body", "length")
        count = min(self._piece, len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


async def taken(form: FormBody, room: int = 1000) -> bytes:
    found = bytearray()
    view = memoryview(bytearray(room))
    while count := await form.readinto(view):
        found += view[:count]
    assert await form.readinto(view) == 0  # and again
    return bytes(found)


@pytest.mark.parametrize("size", [0, 1, 100, 16 * KIB, 300 * KIB])
@pytest.mark.parametrize("piece", [1_000, 64 * KIB, MIB])
@pytest.mark.parametrize("tail", [b"", b"\r\n", b"epilogue"])
def test_a_body_is_read_to_its_end_and_its_bound_holds(size: int, piece: int, tail: bytes) -> None:
    async def main() -> None:
        data = os.urandom(size)
        parts = [("key", b"k", None), ("file", data, "f"), ("submit", b"go", None)]
        for some in (parts[:2], parts):
            body = Dripping(encode(B, some, tail), piece)
            form = FormBody(body, B, "file")
            fields, file = await form.read_fields()
            assert (fields, file.name) == ([("key", b"k")], "f")
            assert size <= form.most_bytes <= size + 200
            assert await taken(form) == data
            assert body.largest_room <= HTTP_DECODE_BYTES_MAX

    asyncio.run(main())


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body[:-5],
        lambda body: body[:-90],
        lambda body: body + b"e" * FORM_TAIL_BYTES_MAX * 2,
    ],
)
def test_a_file_does_not_end_before_the_form_was_seen_to_be_whole(
    change: Callable[[bytes], bytes],
) -> None:
    async def main() -> None:
        body = change(encode(B, [("file", b"d" * 100_000, "f"), ("a", b"b", None)]))
        form = FormBody(Dripping(body, 10_000), B, "file")
        await form.read_fields()
        for _ in range(2):  # an error is final
            with pytest.raises(FormError):
                await taken(form)

    asyncio.run(main())


def test_a_body_that_is_cut_off_is_an_error_even_behind_the_last_boundary() -> None:
    async def main() -> None:
        body = encode(B, [("file", b"d" * 1000, "f")], b"\r\n")
        form = FormBody(Dripping(body, 100, short=2), B, "file")
        await form.read_fields()
        with pytest.raises(BodyMismatch):
            await taken(form)

    asyncio.run(main())


def test_a_form_without_a_length_is_refused() -> None:
    body = BytesBody(b"")
    body.length = None  # type of a chunked one
    with pytest.raises(HttpError) as caught:
        FormBody(body, B, "file")
    assert caught.value.status == 411


def test_a_large_file_is_passed_on_in_linear_time() -> None:
    parser = FormParser(B, "file")
    parser.feed(part(FILE)[:-2])
    piece = (b"\r\n--Xy" + b"-" * 58) * KIB  # looks like a boundary all the time
    passed = sum(len(parser.feed(piece)) for _ in range(256))
    assert 256 * len(piece) - passed < 10
