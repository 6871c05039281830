"""The load generator on a real `s3d`: every kind of request, plain and TLS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import payload, sender
from benchmarks.cells import MIB
from benchmarks.load import Generator, LoadFailed, Report
from benchmarks.served import Served, s3d
from support.benched import client_of

pytestmark = pytest.mark.e2e
SIZE = 3 * MIB + 17


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    with contextlib.closing(Generator()) as made:
        yield made


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "TLS"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with s3d(tmp_path_factory.mktemp("s3d"), tls=request.param) as made:
        yield made


def test_every_kind_of_request_is_answered_as_it_should_be(
    served: Served, generator: Generator
) -> None:
    def ran(method: str, count: int = 12, **fields: Any) -> Report:
        fields = {"size_bytes": SIZE, "keys": 12, "connections": 4, "verify_every": 1} | fields
        report = generator.run(served.plan(method=method, requests=count, errors_max=0, **fields))
        assert report.begun == report.answered == count
        return report

    for signs in (True, False):
        assert ran("PUT", signs_body=signs).bytes == pytest.approx(12 * SIZE, rel=0.01)
    assert ran("GET", 24, connections=16).verified == 24
    assert ran("RANGE", range_bytes=MIB + 1).verified == 12
    assert ran("HEAD").bytes == 0
    assert ran("COPY", prefix="copied/").verified == 0
    assert ran("GET", prefix="copied/").verified == 12
    assert ran("LIST", listed=12).verified == 12
    client = client_of(served)
    listed = client.list_objects_v2(Bucket="bench")["Contents"]
    assert [found["Key"] for found in listed] == [
        payload.key(number, prefix) for prefix in ("bench/", "copied/") for number in range(12)
    ]
    assert {found["Size"] for found in listed} == {SIZE}
    ran("DELETE", prefix="copied/")
    assert client.list_objects_v2(Bucket="bench", Prefix="copied/")["KeyCount"] == 0


def test_the_bare_server_sends_the_same_bytes(
    served: Served, generator: Generator, tmp_path: Path
) -> None:
    """In the same TLS."""
    with sender.running(tmp_path / "files", SIZE, 6, served.certificate) as bare:
        for method, range_bytes in (("GET", 0), ("RANGE", MIB + 1)):
            plan = served.plan(
                method=method,
                size_bytes=SIZE,
                range_bytes=range_bytes,
                requests=24,
                keys=6,
                connections=4,
                verify_every=1,
            )
            plan = msgspec.structs.replace(plan, host="127.0.0.1", port=bare.port)
            assert generator.run(plan).verified == 24


def test_other_bytes_in_an_object_are_noticed(served: Served, generator: Generator) -> None:
    plan = served.plan(method="PUT", size_bytes=SIZE, requests=4, keys=4, prefix="changed/")
    generator.run(plan)
    other = b"".join(payload.pieces(3, SIZE))
    client_of(served).put_object(Bucket="bench", Key=payload.key(2, "changed/"), Body=other)
    plan = served.plan(
        method="GET", size_bytes=SIZE, requests=4, keys=4, prefix="changed/", verify_every=1
    )
    with pytest.raises(LoadFailed, match=r"1 of them with wrong contents.*object-00000002"):
        generator.run(plan)


def test_a_wrong_secret_and_a_missing_object_are_errors(
    served: Served, generator: Generator
) -> None:
    with pytest.raises(LoadFailed, match=r"answered with 404: .*NoSuchKey"):
        generator.run(served.plan(method="GET", requests=1, prefix="nowhere/"))
    plan = served.plan(method="GET", requests=1)
    generator.begin(msgspec.structs.replace(plan, secret_access_key="wrong"))
    report = generator.report()
    assert report.errors == 1
    assert "answered with 403" in report.why[0]
    assert "SignatureDoesNotMatch" in report.why[0]
