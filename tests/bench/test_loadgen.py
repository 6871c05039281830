"""The load generator of the benchmarks: what it sends, what it counts, and what it notices."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import payload
from benchmarks.load import Generator, LoadFailed, Plan, Report
from support.puppet import SILENCE, Answer, Asked, Gone, Puppet, answering

SIZE = 3000
REQUESTS = 40


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with contextlib.closing(Generator()) as made:
        yield made


def ran(generator: Generator, puppet: Puppet, method: str = "GET", **fields: Any) -> Report:
    """Every failure is counted here, and none raised: `check` is another test's."""
    fields = {"size_bytes": SIZE, "requests": REQUESTS, "keys": 8, "verify_every": 1} | fields
    plan = Plan(host="127.0.0.1", port=puppet.port, method=method, **fields)
    generator.begin(plan)
    return generator.report()


def body_of(asked: Asked, size: int = SIZE) -> bytes:
    return b"".join(payload.pieces(payload.number_of(asked.target), size))


def ok(body: bytes, status: str = "200 OK", *lines: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines])
    return head.encode() + b"\r\n\r\n" + body


def good(asked: Asked) -> bytes:
    return ok(body_of(asked))


def chunked(body: bytes) -> bytes:
    chunks = [body[:1], body[1:1000], body[1000:]]
    lines = b"".join(b"%x;x=y\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + lines + b"0\r\nTrailer: of no matter\r\n\r\n"


def spoiled(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


# --- what is right ----------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_the_figures_of_a_run_add_up(generator: Generator, threads: int) -> None:
    with answering(good) as puppet:
        report = ran(generator, puppet, connections=4, threads=threads)
    assert report.begun == report.answered == report.timed == len(puppet.asked) == REQUESTS
    assert report.verified == REQUESTS
    assert (report.errors, report.wrong, report.why) == (0, 0, [])
    assert report.requests == pytest.approx(REQUESTS, rel=0.01)
    assert report.bytes == pytest.approx(REQUESTS * SIZE, rel=0.01)
    assert 0 < report.p50_ms <= report.p99_ms <= report.p999_ms <= report.max_ms
    assert report.mean_ms <= report.max_ms <= report.seconds * 1e3
    assert report.per_second == report.requests / report.seconds
    assert report.cpu_cores > 0


def test_a_run_ends_when_its_time_is_over_and_counts_parts_of_requests(
    generator: Generator,
) -> None:
    with answering(good) as puppet:
        report = ran(generator, puppet, requests=0, seconds=0.2, warm_s=0.1, connections=3)
    assert report.seconds == pytest.approx(0.2)
    assert report.begun == report.answered == len(puppet.asked)
    assert report.timed - 3 <= report.requests <= report.answered
    assert report.bytes == pytest.approx(report.requests * SIZE, rel=0.01)


def test_a_request_that_outlasts_the_time_counts_in_part(generator: Generator) -> None:
    def slowly(asked: Asked) -> bytes:
        threading.Event().wait(0.3)
        return good(asked)

    with answering(slowly) as puppet:
        report = ran(generator, puppet, requests=0, seconds=0.1, warm_s=0.0)
    assert (report.begun, report.answered, report.timed) == (1, 1, 1)
    assert 0 < report.requests < 0.5
    assert report.p50_ms > 250
    assert report.bytes == pytest.approx(report.requests * SIZE, rel=0.01)


def test_the_window_ends_when_there_is_nothing_left_to_begin(generator: Generator) -> None:
    """Else the wait of those who are done would count as slowness of the others."""

    def last_is_slow(asked: Asked) -> bytes:
        if payload.number_of(asked.target) == 3:
            threading.Event().wait(0.5)
        return good(asked)

    fields: dict[str, Any] = {"requests": 4, "connections": 2}
    with answering(last_is_slow) as puppet:
        report = ran(generator, puppet, seconds=60.0, warm_s=0.0, **fields)
        whole = ran(generator, puppet, **fields)
    assert report.answered == whole.answered == 4
    assert 3 <= report.requests < 4
    assert whole.requests == pytest.approx(4)
    assert whole.seconds >= 0.5


def test_contents_are_compared_as_often_as_asked(generator: Generator) -> None:
    with answering(good) as puppet:
        assert ran(generator, puppet, verify_every=0).verified == 0
        assert ran(generator, puppet, verify_every=10).verified == REQUESTS / 10


@pytest.mark.parametrize("size", [0, 1, SIZE, 70_000, payload.PIECE_BYTES, 5_000_001])
def test_bodies_are_those_of_payload(generator: Generator, size: int) -> None:
    with answering(lambda asked: ok(b"")) as puppet:
        report = ran(generator, puppet, "PUT", size_bytes=size, requests=20, keys=20)
    assert report.errors == 0
    keys = [asked.target.removeprefix("/bench/") for asked in puppet.asked]
    assert keys == [payload.key(number) for number in range(20)]
    for asked in puppet.asked:
        assert asked.body == body_of(asked, size)


@pytest.mark.parametrize("size", [SIZE, payload.PIECE_BYTES + 5])
def test_a_signed_body_has_its_digest_in_the_head(generator: Generator, size: int) -> None:
    with answering(lambda asked: ok(b"")) as puppet:
        ran(generator, puppet, "PUT", size_bytes=size, requests=40, keys=18, signs_body=True)
    for asked in puppet.asked:
        number = payload.number_of(asked.target)
        assert asked.headers["x-amz-content-sha256"] == payload.digest(number, size).hex()


def test_ranges_are_compared_where_they_begin(generator: Generator) -> None:
    def part(asked: Asked) -> bytes:
        first, last = asked.headers["range"].removeprefix("bytes=").split("-")
        return ok(body_of(asked)[int(first) : int(last) + 1], "206 Partial Content")

    with answering(part) as puppet:
        report = ran(generator, puppet, "RANGE", range_bytes=100)
    assert (report.errors, report.verified) == (0, REQUESTS)
    assert len({asked.headers["range"] for asked in puppet.asked}) > REQUESTS / 2


def test_copies_name_the_object_of_the_same_number(generator: Generator) -> None:
    answer = ok(b'<?xml version="1.0"?><CopyObjectResult/>')
    with answering(lambda asked: answer) as puppet:
        report = ran(generator, puppet, "COPY", prefix="to/", copy_from="from/")
    assert report.errors == 0
    for asked in puppet.asked:
        source = asked.headers["x-amz-copy-source"]
        assert source == asked.target.replace("/bench/to/", "/bench/from/")


@pytest.mark.parametrize("answer", [chunked, lambda body: ok(body, "200 OK", "Connection: close")])
def test_chunks_and_connections_that_end_are_fine(generator: Generator, answer: Any) -> None:
    def answered(asked: Asked) -> bytes:
        said: bytes = answer(body_of(asked))
        if b"close" in said[:100]:
            raise Gone(said)
        return said

    with answering(answered) as puppet:
        report = ran(generator, puppet, connections=3)
    assert (report.errors, report.verified, report.answered) == (0, REQUESTS, REQUESTS)


# --- what is wrong ----------------------------------------------------------------------------

WRONG_BYTES = "answered with other bytes than were put"


def no_status(asked: Asked) -> bytes:
    return b"what do you want?\r\n\r\n"


def cut_off(asked: Asked) -> bytes:
    raise Gone(good(asked)[:-100])


@pytest.mark.parametrize(
    ("answer", "why", "is_wrong"),
    [
        pytest.param(lambda asked: ok(spoiled(body_of(asked))), WRONG_BYTES, True, id="a bit"),
        pytest.param(lambda asked: chunked(spoiled(body_of(asked))), WRONG_BYTES, True, id="chunk"),
        pytest.param(
            lambda asked: ok(b"".join(payload.pieces(9, SIZE))), WRONG_BYTES, True, id="another's"
        ),
        pytest.param(lambda asked: ok(b"short"), "answered with 5 bytes, not 3000", False),
        pytest.param(
            lambda asked: ok(b"<Code>SlowDown</Code>", "503 Slow Down"),
            "answered with 503: <Code>SlowDown</Code>",
            False,
        ),
        pytest.param(lambda asked: good(asked) + b"x", "more than it announced", False),
        pytest.param(no_status, "no HTTP/1.1 answer", False),
        pytest.param(lambda asked: b"HTTP/1.1 200 OK\r\n\r\n", "an answer without a length", False),
        pytest.param(cut_off, "the connection ended before the answer", False),
        pytest.param(lambda asked: SILENCE, "for too long", False),
    ],
)
def test_a_wrong_answer_is_noticed_and_the_run_goes_on(
    generator: Generator, answer: Answer, why: str, is_wrong: bool
) -> None:
    def sometimes(asked: Asked) -> bytes:
        number = payload.number_of(asked.target)
        return answer(asked) if number in (2, 5) else good(asked)

    with answering(sometimes) as puppet:
        report = ran(generator, puppet, requests=16, stall_s=0.1)
    assert (report.begun, report.answered, report.errors) == (16, 12, 4)
    assert report.wrong == (4 if is_wrong else 0)
    assert all(why in said and "object-0000000" in said for said in report.why)


def test_a_list_that_lacks_a_key_is_noticed(generator: Generator) -> None:
    keys = "".join(f"<Contents><Key>{n}</Key></Contents>" for n in range(9)) + "<Key"
    with answering(lambda asked: ok(keys.encode())) as puppet:
        report = ran(generator, puppet, "LIST", listed=9)
        assert (report.errors, report.verified) == (0, REQUESTS)
        assert ran(generator, puppet, "LIST", listed=10).wrong == REQUESTS
    assert "max-keys=9&prefix=bench%2F" in puppet.asked[0].target


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("COPY", ok(b"<Error><Code>InternalError</Code></Error>")),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"),
        ("DELETE", ok(b"")),
        ("PUT", ok(b"", "201 Created")),
        ("RANGE", ok(b"x" * 100)),
    ],
)
def test_what_would_do_for_another_request_is_an_error(
    generator: Generator, method: str, answer: bytes
) -> None:
    with answering(lambda asked: answer) as puppet:
        report = ran(generator, puppet, method, range_bytes=100)
    assert (report.errors, report.answered) == (REQUESTS, 0)


def test_a_run_with_wrong_bytes_or_many_errors_fails(generator: Generator) -> None:
    def plan(puppet: Puppet, **fields: Any) -> Plan:
        return Plan(
            host="127.0.0.1",
            port=puppet.port,
            method="GET",
            size_bytes=SIZE,
            requests=200,
            keys=200,
            **fields,
        )

    def one_fails(asked: Asked) -> bytes:
        number = payload.number_of(asked.target)
        return ok(b"", "500 Oh") if number == 7 else good(asked)

    with answering(one_fails) as puppet:
        assert generator.run(plan(puppet)).errors == 1
        with pytest.raises(LoadFailed, match=r"199 were answered, 1 failed.*answered with 500"):
            generator.run(plan(puppet, errors_max=0.0))
    with (
        answering(lambda asked: ok(spoiled(body_of(asked)))) as puppet,
        pytest.raises(LoadFailed, match=f"wrong contents.*{WRONG_BYTES}"),
    ):
        generator.run(plan(puppet))


def test_nobody_there_and_wrong_arguments_are_told(generator: Generator) -> None:
    with answering(good) as puppet:
        pass
    with pytest.raises(LoadFailed, match="Connection refused"):
        ran(generator, puppet)
    with answering(good) as puppet:
        with pytest.raises(LoadFailed, match="neither --seconds nor --requests"):
            ran(generator, puppet, requests=0)
        with pytest.raises(LoadFailed, match="--range must lie within --size"):
            ran(generator, puppet, "RANGE", range_bytes=SIZE + 1)
