"""The REST API over real TLS, signed by a signer that is not ours."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from predastore.auth.sigv4 import Credential, Verified, Verifier
from predastore.base.errors import FormatError
from predastore.base.limits import DB_KEY_BYTES_MAX, DB_VALUE_BYTES_MAX, LIST_ROWS_MAX
from predastore.httpd.message import BytesBody, Headers, Request
from predastore.rpc import self_signed
from predastore.s3db import backup, percent, rest, rest_replays
from predastore.s3db.procedures import NO_PROCEDURES, Procedures
from predastore.s3db.rest_call import Refused
from predastore.s3db.store import Store
from support.databases import Database, database
from support.garbage import Garbage
from support.procedures import NEWER

CREDENTIAL = Credential("AKIDB", "secret", "1")
REGION = "us-east-1"


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Api:
    """A client of one REST server; blocking, so it is used from threads."""

    port: int
    context: ssl.SSLContext

    def send(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context)
        try:
            connection.putrequest(method, target)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in headers:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def signed(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        secret: str = CREDENTIAL.secret_access_key,
        service: str = "s3db",
        sent_body: bytes | None = None,
        sent_target: str = "",
    ) -> Answer:
        request = self._signed(method, target, body, secret, service)
        wanted = body if sent_body is None else sent_body
        return self.send(method, sent_target or target, wanted, dict(request.headers.items()))

    def request(
        self, method: str, target: str, body: bytes | None
    ) -> tuple[str, str, bytes | None, dict[str, str]]:
        """What `send` takes, signed now."""
        signed = self._signed(method, target, body, CREDENTIAL.secret_access_key, "s3db")
        return method, target, body, dict(signed.headers.items())

    def _signed(
        self, method: str, target: str, body: bytes | None, secret: str, service: str
    ) -> AWSRequest:
        request = AWSRequest(method, f"https://127.0.0.1:{self.port}{target}", data=body or b"")
        request.headers["x-amz-content-sha256"] = sha256(body or b"").hexdigest()
        credentials = Credentials(CREDENTIAL.access_key_id, secret)
        SigV4Auth(credentials, service, REGION).add_auth(request)
        return request


@contextmanager
def tls_contexts(folder: Path) -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    certificate = self_signed()
    file = folder / "certificate.pem"
    file.write_bytes(certificate.cert_pem + certificate.key_pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    client = ssl.create_default_context(cadata=certificate.cert_pem.decode())
    client.check_hostname = False
    yield server, client


def serve(scenario: Callable[[Api], None], *, now: Callable[[], float] = time.time) -> None:
    """Runs `scenario` in a thread against a member of a database of one."""

    async def run(api: Api, _: Database) -> None:
        await asyncio.to_thread(scenario, api)

    serve_async(run, now=now)


def serve_async(
    scenario: Any,
    *,
    count: int = 1,
    now: Callable[[], float] = time.time,
    procedures: Procedures = NO_PROCEDURES,
) -> None:
    async def main() -> None:
        with TemporaryDirectory() as folder, tls_contexts(Path(folder)) as (inside, outside):
            async with database(Path(folder), count, procedures) as base:
                member = base.sites[1].member
                verifier = Verifier(
                    {CREDENTIAL.access_key_id: CREDENTIAL}.get,
                    region=REGION,
                    service="s3db",
                    now=now,
                )
                server = rest.server(
                    base.client(prefer=1),
                    member,
                    verifier,
                    host="127.0.0.1",
                    port=0,
                    ssl_context=inside,
                )
                await server.start()
                try:
                    await scenario(Api(server.port, outside), base)
                finally:
                    await server.close()

    asyncio.run(main())


AWKWARD = [
    b"plain",
    b"a/b/c",
    b"//",
    b"../x/.",
    b"\x00\xff%2F%",
    b"a+b c?d#e&f=g",
    "ключ/é".encode(),
    b"~-._",
    bytes(range(256)),
    b"k" * DB_KEY_BYTES_MAX,
]


def test_any_bytes_are_put_got_and_deleted() -> None:
    def scenario(api: Api) -> None:
        for number, key in enumerate(AWKWARD):
            place = quote(key, safe="" if b"/" in key[:1] or b"." in key else "/")
            value = key[::-1] + bytes(number)
            put = "PUT" if number % 2 else "POST"
            assert api.signed("GET", f"/v1/get/t/{place}").status == 404
            assert api.signed(put, f"/v1/put/t/{place}", value).status == 204
            found = api.signed("GET", f"/v1/get/t/{place}")
            assert (found.status, found.body) == (200, value)
            assert api.signed("GET", f"/v1/get/t/{place}?consistency=stale").body == value
        whole = api.signed("GET", "/v1/scan/t").json
        keys = [base64.b64decode(entry["key"]) for entry in whole["entries"]]
        assert keys == sorted(AWKWARD)
        for key in AWKWARD:
            place = quote(key, safe="")
            assert api.signed("DELETE", f"/v1/delete/t/{place}").status == 204
            assert api.signed("GET", f"/v1/get/t/{place}").status == 404
            assert api.signed("DELETE", f"/v1/delete/t/{place}").status == 204

    serve(scenario)


def test_a_scan_goes_on_from_next() -> None:
    def scenario(api: Api) -> None:
        for number in range(7):
            api.signed("PUT", f"/v1/put/t/p%20%2B{number}", b"%d" % number)
        api.signed("PUT", "/v1/put/t/other", b"")
        found, after = [], ""
        while True:
            page = api.signed("GET", f"/v1/scan/t?prefix=p%20%2B&limit=3{after}").json
            found += [base64.b64decode(entry["value"]) for entry in page["entries"]]
            if not page["truncated"]:
                break
            assert len(page["entries"]) == 3
            after = "&after=" + quote(base64.b64decode(page["next"]), safe="")
        assert found == [b"%d" % number for number in range(7)]
        assert api.signed("GET", "/v1/scan/none").json == {
            "entries": [],
            "truncated": False,
            "next": "",
        }

    serve(scenario)


def test_operators_are_told_leader_members_status_and_health() -> None:
    def scenario(api: Api) -> None:
        assert api.signed("GET", "/v1/leader").json == {"leader": 1, "self": 1}
        status = api.signed("GET", "/status").json
        assert (status["id"], status["role"]) == (1, "leader")
        assert status["store"]["applied_index"] == status["applied_index"]
        assert api.send("GET", "/health").json == {"status": "ok"}
        assert "digest" not in status
        assert len(api.signed("GET", "/status?digest=1").json["digest"]) == 64
        whole = api.signed("GET", "/status?members=all").json
        assert whole["members"]["1"]["role"] == "leader"
        for method in ("join", "leave"):
            for junk in (b"", b"[1]", b"{}", b"junk", b'{"id": -1}', b'{"id": true}'):
                assert api.signed("POST", f"/v1/{method}", junk).status == 400
        for port in ("0", "65536", "64537", '"1"'):
            body = b'{"id": 2, "host": "h", "port": %s}' % port.encode()
            assert api.signed("POST", "/v1/join", body).status == 400
        last = api.signed("POST", "/v1/step-down", b"")
        assert (last.status, last.json["error"]) == (409, "precondition-failed")
        gone = api.signed("POST", "/v1/leave", b'{"id": 9}')
        assert (gone.status, gone.json["voters"]) == (200, [1])
        there = api.signed("POST", "/v1/join", b'{"id": 1, "host": "h", "port": 5}')
        assert (there.status, there.json["members"]) == (200, [1])

    serve(scenario)


def test_a_member_whose_program_is_too_old_is_a_conflict() -> None:
    async def scenario(api: Api, base: Database) -> None:
        client = base.client()
        while client.level < NEWER.level:
            await client.exists("t", b"-")
        await client.call("test.count-by-ten", b"a")
        body = b'{"id": 9, "host": "h", "port": 5}'
        answer = await asyncio.to_thread(api.signed, "POST", "/v1/join", body)
        assert (answer.status, answer.json["error"]) == (409, "level-too-low")
        assert "member 9 runs a program of level 2" in answer.json["message"]

    serve_async(scenario, procedures=NEWER)


def test_time_is_set_by_who_confirms_it_and_noted(caplog: pytest.LogCaptureFixture) -> None:
    def scenario(api: Api) -> None:
        for junk in (b"", b"{}", b'{"confirm": 1}', b'{"confirm": false}'):
            assert api.signed("POST", "/v1/set-time", junk).status == 400
        assert api.signed("GET", "/v1/set-time").status == 405
        assert api.send("POST", "/v1/set-time", b'{"confirm": true}').status == 403
        asked = b'{"confirm": true}'
        with caplog.at_level(logging.WARNING):
            assert api.signed("POST", "/v1/set-time", asked).status == 200
        (line,) = [each for each in caplog.records if "by an operator" in each.message]
        assert vars(line)["access_key_id"] == CREDENTIAL.access_key_id
        assert vars(line)["remote"] == "127.0.0.1"

        real = time.time_ns
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: real() - 3_600 * 10**9)
            back = api.signed("POST", "/v1/set-time", asked)
            assert (back.status, back.json["error"]) == (409, "precondition-failed")
            body = b'{"confirm": true, "backwards": true}'
            done = api.signed("POST", "/v1/set-time", body)
        assert done.status == 200
        assert 3_500_000 < done.json["before_ms"] - done.json["after_ms"] < 3_700_000
        told = api.signed("GET", "/status").json["time"]
        assert "ahead of" in told["warning"]

    serve(scenario)


def test_what_is_not_signed_rightly_is_refused() -> None:
    def scenario(api: Api) -> None:
        target = "/v1/put/t/k"
        assert api.send("GET", "/status").status == 403
        assert api.send("PUT", target, b"v").status == 403
        wrong = api.signed("PUT", target, b"v", secret="wrong")
        assert (wrong.status, wrong.json["error"]) == (403, "SignatureDoesNotMatch")
        moved = api.signed("PUT", target, b"v", sent_target="/v1/put/t/other")
        assert (moved.status, moved.json["error"]) == (403, "SignatureDoesNotMatch")
        assert api.signed("PUT", target, b"v", service="s3").status == 400
        changed = api.signed("PUT", target, b"v", sent_body=b"w")
        assert (changed.status, changed.json["error"]) == (400, "XAmzContentSHA256Mismatch")
        large = bytes(200_000)
        changed = api.signed("PUT", target, large, sent_body=large[:-1] + b"x")
        assert changed.json["error"] == "XAmzContentSHA256Mismatch"
        assert api.signed("GET", "/v1/scan/t").json["entries"] == []

    serve(scenario)


def test_an_old_signature_is_refused() -> None:
    serve(lambda api: _is_skewed(api.signed("GET", "/v1/leader")), now=lambda: time.time() + 1_000)


def _is_skewed(answer: Answer) -> None:
    assert (answer.status, answer.json["error"]) == (403, "RequestTimeTooSkewed")


def test_a_change_that_was_listened_in_on_is_not_done_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("predastore.s3db.rest.time", clock)

    def scenario(api: Api) -> None:
        first = api.request("PUT", "/v1/put/t/k", b"old")
        assert api.send(*first).status == 204
        assert api.send(*first).status == 204  # the answer was lost: at once it may come again
        read = api.request("GET", "/v1/get/t/k", None)
        assert api.send(*read).body == b"old"
        clock.now += 6
        assert api.signed("PUT", "/v1/put/t/k", b"new").status == 204
        for headers in (first[3], {**first[3], "Authorization": first[3]["Authorization"] + " "}):
            again = api.send(*first[:3], headers)
            assert (again.status, again.json["error"]) == (403, "request-replayed")
        assert api.send(*read).body == b"new"
        gone = api.request("DELETE", "/v1/delete/t/k", None)
        assert api.send(*gone).status == 204
        clock.now += 600
        assert api.signed("PUT", "/v1/put/t/k", b"newer").status == 204
        assert api.send(*gone).json["error"] == "request-replayed"
        assert api.signed("GET", "/v1/get/t/k").body == b"newer"

    serve(scenario)


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/v1/put/t/k", b"other"),
        ("POST", "/v1/put/t/k", b"other"),
        ("DELETE", "/v1/delete/t/k", b"other"),
        ("POST", "/v1/leave", b'{"id": 1}'),
        ("POST", "/v1/step-down", b"other"),
    ],
)
def test_a_change_that_was_listened_in_on_is_not_done_with_another_body(
    method: str, target: str, body: bytes
) -> None:
    def scenario(api: Api) -> None:
        assert api.signed("PUT", "/v1/put/t/k", b"value").status == 204
        sent = api.request(method, target, b"" if method == "DELETE" else b"value")
        api.send(*sent)
        kept = api.signed("GET", "/v1/get/t/k").body
        again = api.send(*sent[:2], body, sent[3])
        assert again.status in (400, 413)
        assert api.signed("GET", "/v1/get/t/k").body == kept

    serve(scenario)


@pytest.mark.parametrize("payload", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"])
@pytest.mark.parametrize("presigned", [False, True])
@pytest.mark.parametrize(
    ("method", "target"),
    [("PUT", "/v1/put/t/k"), ("DELETE", "/v1/delete/t/k"), ("POST", "/v1/join")],
)
def test_a_change_whose_body_is_not_signed_is_refused(
    method: str, target: str, presigned: bool, payload: str
) -> None:
    def scenario(api: Api) -> None:
        url = f"https://127.0.0.1:{api.port}{target}"
        given = {"x-amz-content-sha256": payload, "x-amz-decoded-content-length": "1"}
        request = AWSRequest(method, url, headers=given)
        credentials = Credentials(CREDENTIAL.access_key_id, CREDENTIAL.secret_access_key)
        if presigned:
            SigV4QueryAuth(credentials, "s3db", REGION, expires=60).add_auth(request)
        else:
            SigV4Auth(credentials, "s3db", REGION).add_auth(request)
        sent = request.url.partition(str(api.port))[2]
        answer = api.send(method, sent, b"1\r\nx\r\n0\r\n\r\n", dict(request.headers.items()))
        assert (answer.status, answer.json["error"]) == (400, "body-not-signed")
        assert api.signed("GET", "/v1/get/t/k").status == 404

    serve(scenario)


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_so_many_signatures_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_replays, "REST_SIGNATURES_MAX", 3)
    clock = Clock()
    replays = rest_replays.Replays(clock.monotonic)
    authorization = (
        "AWS4-HMAC-SHA256 Credential=k/20260101/r/s3db/aws4_request, "
        "SignedHeaders=host, Signature={:064x}"
    )

    def comes(number: int) -> None:
        headers = Headers.of(
            [
                ("authorization", authorization.format(number)),
                ("x-amz-date", "20260101T000000Z"),
            ]
        )
        request = Request("PUT", b"/v1/put/t/k", b"", headers, BytesBody())
        replays.check(request, Verified(None, sha256(b"").digest()))

    for number in range(4):
        comes(number)
    clock.now += 100
    with pytest.raises(Refused):
        comes(3)
    comes(0)  # forgotten
    clock.now += 2000
    comes(3)  # no longer good, so no longer known: the verifier refuses it


def test_a_presigned_read_works() -> None:
    def scenario(api: Api) -> None:
        api.signed("PUT", "/v1/put/t/a%2Fb", b"v")
        url = f"https://127.0.0.1:{api.port}/v1/get/t/a%2Fb"
        request = AWSRequest("GET", url, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
        credentials = Credentials(CREDENTIAL.access_key_id, CREDENTIAL.secret_access_key)
        SigV4QueryAuth(credentials, "s3db", REGION, expires=60).add_auth(request)
        target = request.url.partition(str(api.port))[2]
        answer = api.send("GET", target, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
        assert (answer.status, answer.body) == (200, b"v")

    serve(scenario)


def test_bad_requests_are_told_apart() -> None:
    def scenario(api: Api) -> None:
        def refused(method: str, target: str, body: bytes | None = None) -> tuple[int, str]:
            answer = api.signed(method, target, body)
            assert answer.headers["content-type"] == "application/json"
            assert answer.json["message"]
            return answer.status, answer.json["error"]

        assert refused("GET", "/") == (400, "bad-request")
        assert refused("GET", "/nothing") == (404, "not-found")
        assert refused("GET", "/v1/nothing") == (404, "not-found")
        assert refused("GET", "/v1/get/t") == (404, "not-found")
        assert refused("GET", "/v1/scan/t/k") == (404, "not-found")
        assert refused("GET", "/v1/get/Bad%20Table/k") == (400, "format")
        assert refused("GET", "/v1/get/t/%zz") == (400, "format")
        assert refused("GET", "/v1/get/t/a//b") == (400, "bad-request")
        assert refused("GET", "/v1/get/t/k?consistency=maybe") == (400, "bad-request")
        assert refused("GET", "/v1/get/t/k?acl") == (400, "format")
        assert refused("PUT", "/v1/put/t/k?consistency=stale", b"") == (400, "format")
        for limit in ("0", "-1", "x", str(LIST_ROWS_MAX + 1), "9" * 30, ""):
            assert refused("GET", f"/v1/scan/t?limit={limit}") == (400, "bad-request")
        assert refused("DELETE", "/v1/get/t/k") == (405, "method-not-allowed")
        assert api.signed("GET", "/v1/put/t/k").headers["allow"] == "POST, PUT"
        assert api.send("POST", "/health").status == 405
        over = "k" * (DB_KEY_BYTES_MAX + 1)
        assert refused("PUT", f"/v1/put/t/{over}", b"") == (413, "too-large")
        value = bytes(DB_VALUE_BYTES_MAX + 1)
        assert refused("PUT", "/v1/put/t/k", value) == (413, "too-large")
        assert api.signed("PUT", "/v1/put/t/k", value[:-1]).status == 204
        assert api.signed("GET", "/v1/get/t/k").body == value[:-1]
        assert refused("PUT", "/v1/put/t/k") == (411, "length-required")

    serve(scenario)


def test_without_a_majority_it_says_so_and_when_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(api: Api, base: Database) -> None:
        await asyncio.to_thread(api.signed, "PUT", "/v1/put/t/k", b"v")
        assert (await asyncio.to_thread(api.signed, "GET", "/v1/get/t/k")).body == b"v"
        monkeypatch.setattr("predastore.s3db.client.READ_TIMEOUT_MS", 300)
        await base.stop(2)
        await base.stop(3)
        read = await asyncio.to_thread(api.signed, "GET", "/v1/get/t/k")
        assert (read.status, read.json["error"]) == (503, "no-leader")
        assert read.headers["retry-after"] == "1"
        stale = await asyncio.to_thread(api.signed, "GET", "/v1/get/t/k?consistency=stale")
        assert stale.body == b"v"
        first = int(stale.headers["x-s3db-staleness-ms"])
        later = await asyncio.to_thread(api.signed, "GET", "/v1/scan/t?consistency=stale")
        assert int(later.headers["x-s3db-staleness-ms"]) > first  # it can only grow now

    serve_async(scenario, count=3)


def test_a_stale_read_is_recent_while_there_is_a_leader() -> None:
    def scenario(api: Api) -> None:
        api.signed("PUT", "/v1/put/t/k", b"v")
        for target in ("/v1/get/t/k", "/v1/get/t/none", "/v1/scan/t"):
            stale = api.signed("GET", f"{target}?consistency=stale")
            assert int(stale.headers["x-s3db-staleness-ms"]) <= 2_000
            assert "x-s3db-staleness-ms" not in api.signed("GET", target).headers

    serve(scenario)


def test_a_backup_holds_all_that_was_acknowledged_and_can_be_restored(tmp_path: Path) -> None:
    def scenario(api: Api) -> None:
        for number in range(20):
            api.signed("PUT", f"/v1/put/t/k{number}", bytes(100_000))
        answer = api.signed("GET", "/v1/backup")
        assert answer.status == 200
        header = backup.receive([answer.body], tmp_path / "b")
        assert header == backup.verify(tmp_path / "b")
        target = tmp_path / "restored"
        backup.restore(
            tmp_path / "b", directories={1: target}, addresses=[], cluster_id=header.cluster_id
        )
        store = Store(target / "store", durable=False)
        assert store.applied_index == header.applied_index
        assert len(store.list_keys("t", b"", 100)) == 20
        store.close()

    serve(scenario)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=30))
@example(b"%")
@example(b"%4")
def test_percent_decoding_undoes_encoding_and_refuses_what_is_malformed(data: bytes) -> None:
    assert percent.decoded(quote(data, safe="").encode()) == data
    assert percent.decoded(percent.encoded_path(data)) == data
    try:
        decoded = percent.decoded(data)
    except FormatError:
        assert b"%" in data
    else:
        assert len(decoded) == len(data) - 2 * data.count(b"%")


def test_refusals_and_bodies_that_break_leave_nothing_for_a_collection() -> None:
    def work(api: Api) -> None:
        assert api.signed("GET", "/v1/get/t/none").status == 404
        assert api.signed("PATCH", "/v1/get/t/none").status == 405
        assert api.signed("GET", "/v1/none").status == 404
        method, target, body, headers = api.request("PUT", "/v1/put/t/k", bytes(1 << 20))
        assert body is not None
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head += f"host: 127.0.0.1:{api.port}\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", api.port)) as plain:
            client = api.context.wrap_socket(plain)
            client.sendall(f"{method} {target} HTTP/1.1\r\n{head}".encode() + body[:500_000])
            client.close()

    def scenario(api: Api) -> None:
        work(api)
        with Garbage() as garbage:
            work(api)
            work(api)
            assert not garbage.left()

    serve(scenario)
