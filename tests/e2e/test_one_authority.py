"""Three hosts with base paths of their own: clients need one file, and it stays."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
from pathlib import Path

import boto3
import pytest

from predastore.process import certificates
from support.operators import Operator
from support.processes import PORT, S3d, production, s3d_command
from support.waiting import eventually

pytestmark = pytest.mark.e2e
ACCESS_KEY, SECRET_KEY = "AKIDAUTHORITY", "a secret key of the tests of authorities"
EXTRA = (
    '[cluster]\nsecret = "a secret of the cluster"\n'
    f'[[auth]]\naccess_key_id = "{ACCESS_KEY}"\nsecret_access_key = "{SECRET_KEY}"\n'
)


def lists(server: S3d, ca: Path) -> bool:
    """Whether a client that trusts `ca` alone is served."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        verify=str(ca),
    )
    try:
        return "Buckets" in client.list_buckets()
    except Exception as error:
        assert "SSL" in repr(error), error
        return False
    finally:
        client.close()


def shown_by(server: S3d) -> str:
    return ssl.get_server_certificate((server.host, PORT), timeout=10)


def test_clients_need_one_file_and_it_stays(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    with production(tmp_path, count=3, extra=EXTRA, code=(2, 1), apart=True) as servers:
        ca = tmp_path / "client.pem"
        shutil.copy(servers[0].ca, ca)
        all_serve_clients_with_it(servers, ca)
        assert operator.run("tls", "ca").encode() == ca.read_bytes()
        shown = operator.run("tls", "show")
        assert "cluster        predastore, its authority number 1" in shown
        a_new_base_path_has_it(servers, ca)
        another_cluster_secret_keeps_it(tmp_path, servers, ca)
        another_takes_its_place_and_the_file_goes_on(operator, servers, ca)
        one_of_its_own_is_taken(operator, tmp_path, servers)


def all_serve_clients_with_it(servers: list[S3d], ca: Path) -> None:
    assert {server.ca.read_bytes() for server in servers} == {ca.read_bytes()}
    for server in servers:
        assert lists(server, ca)
        assert server.ca.parent.joinpath("ca.key").stat().st_mode & 0o777 == 0o600


def a_new_base_path_has_it(servers: list[S3d], ca: Path) -> None:
    servers[2].kill()
    shutil.rmtree(servers[2].base_path / "tls")
    servers[2].start()
    all_serve_clients_with_it(servers, ca)


def another_cluster_secret_keeps_it(folder: Path, servers: list[S3d], ca: Path) -> None:
    file = folder / "cluster.toml"
    text = file.read_text()
    for server in servers:
        server.stop()
    file.write_text(text.replace("a secret of the cluster", "another one of it"))
    for server in servers:
        server.start(ready=False)
    for server in servers:
        server.wait_ready()
    all_serve_clients_with_it(servers, ca)
    assert any("is sealed under the new key" in server.output for server in servers)


def taken(servers: list[S3d], before: list[str]) -> None:
    """A reload looks at once."""
    for server in servers:
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
    for server, certificate in zip(servers, before, strict=True):
        eventually(
            lambda server=server, certificate=certificate: shown_by(server) != certificate,
            within_s=90,
            what=f"another certificate of {server.name}",
        )


def another_takes_its_place_and_the_file_goes_on(
    operator: Operator, servers: list[S3d], ca: Path
) -> None:
    before = [shown_by(server) for server in servers]
    assert "every process takes it within a minute" in operator.run("tls", "new")
    taken(servers, before)
    new = ca.with_name("new.pem")
    new.write_text(operator.run("tls", "ca"))
    assert new.read_bytes() != ca.read_bytes()
    for server in servers:
        assert lists(server, ca), "the one before vouches for it"
        assert lists(server, new)
    assert "still trusted" in eventually(
        lambda: "not yet" not in (said := operator.run("tls", "show", code=None)) and said,
        within_s=60,
        what="all of them said to have it",
    )


def one_of_its_own_is_taken(operator: Operator, folder: Path, servers: list[S3d]) -> None:
    """Made by openssl, as companies do."""
    cert, key = folder / "own.pem", folder / "own.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365"),
            *("-subj", "/O=Example/CN=Example root", "-keyout", str(key), "-out", str(cert)),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        ],
        check=True,
        capture_output=True,
    )
    before = [shown_by(server) for server in servers]
    said = operator.run("tls", "import", str(key), str(key), code=2)
    assert "no certificate and key in PEM form" in said
    operator.run("tls", "import", str(cert), str(key), "--at-once")
    taken(servers, before)
    for server in servers:
        assert lists(server, cert)
        assert not lists(server, folder / "new.pem")


def test_while_the_members_are_down_who_has_had_it_serves_and_who_is_new_waits(
    tmp_path: Path,
) -> None:
    with production(tmp_path, count=3, members=1, extra=EXTRA, code=(2, 1), apart=True) as servers:
        member, former, new = servers
        ca = tmp_path / "client.pem"
        shutil.copy(member.ca, ca)
        for server in servers:
            assert server.stop() == 0
        shutil.rmtree(new.base_path / "tls")
        for server in (former, new):
            server.start(ready=False)
        eventually(lambda: former.healthy("live"), within_s=60, what="the former one serves")
        assert not former.healthy("ready")
        assert former.ca.read_bytes() == ca.read_bytes()
        waits = "S3 waits for the authority of the cluster"
        eventually(lambda: waits in new.output, within_s=60, what="the new one says that it waits")
        assert not new.healthy("live")
        assert waits not in former.output
        assert new.stop() == 0, "while it waits"
        new.start(ready=False)
        member.start(ready=False)
        for server in servers:
            server.wait_ready()
        all_serve_clients_with_it(servers, ca)


def test_plain_files_have_one_of_their_base_path(tmp_path: Path) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [*s3d_command(), "tls", *arguments, "-base-path", str(tmp_path / "data")],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "no authority yet" in run("show", code=1)
    certificates.ensure(tmp_path / "data" / "tls", ["localhost"])
    first = run("ca")
    assert first == (tmp_path / "data" / "tls" / "ca.pem").read_text()
    assert "Predastore local authority" in run("show")
    assert "clients need: s3d tls ca" in run("new")
    assert run("ca") != first
    assert first.strip() in run("ca"), "trusted still"
