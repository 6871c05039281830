"""Keys and certificates: made once, private, and good for the clients that use them."""

from __future__ import annotations

import shutil
import socket
import ssl
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from predastore.base import config
from predastore.base.config.policy import Rule
from predastore.base.errors import ConfigError, StartupError
from predastore.process import authority, certificates, credentials, roles


def test_a_generated_credential_is_private_and_stays(tmp_path: Path) -> None:
    first = credentials.ensure(tmp_path)
    assert credentials.ensure(tmp_path) == first
    assert stat.S_IMODE((tmp_path / credentials.FILE_NAME).stat().st_mode) == 0o600
    assert len(first.access_key_id) == 20
    assert credentials.ensure(tmp_path / "other") != first


def test_a_damaged_credential_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / credentials.FILE_NAME).write_text("{")
    with pytest.raises(StartupError, match="restore it from a backup, or remove it"):
        credentials.ensure(tmp_path)


def test_the_cluster_key_follows_the_secret_or_the_credentials() -> None:
    plain = config.parse({}, "f")
    secret = config.parse({"cluster": {"secret": "s"}}, "f")
    one, two = config.Auth("A", "S"), config.Auth("B", "T")
    assert credentials.cluster_key(plain, (one, two)) == credentials.cluster_key(plain, (two, one))
    assert credentials.cluster_key(plain, (one,)) != credentials.cluster_key(plain, (two,))
    assert credentials.cluster_key(secret, (one,)) == credentials.cluster_key(secret, (two,))


LIMITED = config.Auth("L", "limited", policy=config.Policy())
OWN = config.Auth("OWN", "generated")


def cluster(hosts: str = "127.0.0.1", secret: str = "") -> config.Config:
    rows = [{"id": n, "host": host, "port": 9991} for n, host in enumerate(hosts.split())]
    return config.parse({"cluster": {"secret": secret} if secret else {}, "db": rows}, "f")


def keys(*auth: config.Auth, hosts: str = "127.0.0.1", secret: str = "") -> credentials.Keys:
    """Those of a cluster on these hosts, seen from 127.0.0.1."""
    settings = replace(cluster(hosts, secret), auth=auth)
    return credentials.keys(settings, lambda: OWN, lambda host: host == "127.0.0.1")


def test_the_operators_key_is_the_first_that_nothing_limits() -> None:
    everything = config.Policy((Rule("*", ("s3:*",)),))
    for free in (config.Auth("F", "free"), config.Auth("F", "free", policy=everything)):
        found = keys(LIMITED, free)
        assert (found.operator, found.auth) == (free, (LIMITED, free))
    assert keys() == credentials.Keys((OWN,), OWN, keys().cluster, generated=True, operators=(OWN,))


def test_who_has_a_limited_key_has_neither_the_operators_nor_the_clusters() -> None:
    found = keys(LIMITED)
    assert (found.operator, found.auth) == (OWN, (LIMITED,))
    assert found.cluster != credentials.cluster_key(cluster(), (LIMITED,))
    shared = keys(LIMITED, secret="of the cluster", hosts="127.0.0.1 192.0.2.1")
    assert shared.operator.secret_access_key not in (OWN.secret_access_key, "limited")
    other = keys(LIMITED, secret="another", hosts="127.0.0.1 192.0.2.1")
    assert shared.operator != other.operator


def test_hosts_that_share_a_key_of_the_database_alone_take_it_for_s3() -> None:
    row = {"id": 1, "host": "192.0.2.1", "port": 6660}
    pair = {"access_key_id": "D", "secret_access_key": "of the database"}
    settings = config.parse({"db": [{**row, **pair}]}, "f")

    def found(local: str) -> credentials.Keys:
        return credentials.keys(settings, lambda: OWN, lambda host: host == local)

    shared = found("127.0.0.1")
    assert (shared.operator.access_key_id, shared.generated) == ("D", False)
    assert shared.auth == (shared.operator,)
    alone = found("192.0.2.1")  # as before: a key that is nobody's but S3's
    assert (alone.auth, alone.generated) == ((OWN,), True)
    roles.check_shared_keys(settings, roles.Roles(True, (), ()), lambda _: False)
    bare = config.parse({"db": [row]}, "f")
    with pytest.raises(ConfigError, match="none is given"):
        roles.check_shared_keys(bare, roles.Roles(True, (), ()), lambda _: False)


def test_every_host_has_the_same_keys() -> None:
    for secret in ("", "of the cluster"):
        assert keys(LIMITED, secret=secret, hosts="127.0.0.1 192.0.2.1") == keys(
            LIMITED, secret=secret, hosts="192.0.2.1 127.0.0.1"
        )


def test_a_bucket_of_the_file_belongs_to_whose_policy_names_it() -> None:
    videos = config.Policy((Rule("*", ("s3:*",)), Rule("videos", ("s3:GetObject",))))
    auth = (config.Auth("A", "a", "1"), config.Auth("B", "b", "2", videos))
    assert config.owner_of(config.Bucket("videos"), auth) == "2"
    assert config.owner_of(config.Bucket("others"), auth) == "1"
    assert config.owner_of(config.Bucket("videos", account_id="3"), auth) == "3"


def test_the_cluster_id_outlives_a_change_of_credentials() -> None:
    plain = config.parse({}, "f")
    other = config.parse({"cluster": {"name": "other"}}, "f")
    changed = replace(plain, auth=(config.Auth("A", "S"),))
    assert credentials.cluster_id(plain) == credentials.cluster_id(changed)
    assert credentials.cluster_id(plain) != credentials.cluster_id(other)


def handshake(files: certificates.TlsFiles, name: str) -> None:
    """A TLS handshake over a socket pair, with the client verifying `name` by the CA file."""
    ours, theirs = socket.socketpair()
    server = certificates.context(files)

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client = ssl.create_default_context(cafile=str(files.ca))
        client.wrap_socket(ours, server_hostname=name).close()
    finally:
        ours.close()
        thread.join()


def test_clients_verify_the_generated_certificate(tmp_path: Path) -> None:
    files = certificates.ensure(tmp_path, ["localhost", "127.0.0.1"])
    for name in ("localhost", "127.0.0.1"):
        handshake(files, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(files, "example.org")
    for key in ("server.key", "ca.key"):
        assert stat.S_IMODE((tmp_path / key).stat().st_mode) == 0o600


def test_a_certificate_stays_until_a_name_is_missing(tmp_path: Path) -> None:
    files = certificates.ensure(tmp_path, ["localhost"])
    first, trusted = files.cert.read_bytes(), (tmp_path / "ca.pem").read_bytes()
    certificates.ensure(tmp_path, ["localhost"])
    assert files.cert.read_bytes() == first
    key = files.key.read_bytes()
    certificates.ensure(tmp_path, ["127.0.0.7"])
    assert files.key.read_bytes() == key  # another process may be reading the pair just now
    assert (tmp_path / "ca.pem").read_bytes() == trusted  # clients need not fetch it anew
    for name in ("localhost", "127.0.0.7"):
        handshake(files, name)


def test_an_unusable_certificate_names_the_flags(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    broken = certificates.TlsFiles(tmp_path / "x.pem", tmp_path / "x.pem", None)
    with pytest.raises(StartupError, match="-tls-cert and -tls-key"):
        certificates.context(broken)


def test_a_damaged_certificate_is_issued_anew_and_a_damaged_authority_is_said(
    tmp_path: Path,
) -> None:
    files = certificates.ensure(tmp_path, ["localhost"])
    for content in (b"", b"no certificate"):
        files.cert.write_bytes(content)
        certificates.ensure(tmp_path, ["localhost"])
        handshake(files, "localhost")
    (tmp_path / "ca.pem").write_bytes(b"")  # written anew, from what is in authority.json
    files.cert.unlink()
    certificates.ensure(tmp_path, ["localhost"])
    handshake(files, "localhost")
    for name in ("authority.json", "ca.key"):
        (tmp_path / name).write_bytes(b"{}")
        files.cert.unlink()
        with pytest.raises(StartupError, match=r"damaged; put them back, or remove all three"):
            certificates.ensure(tmp_path, ["localhost"])
        shutil.rmtree(tmp_path)
        certificates.ensure(tmp_path, ["localhost"])


def test_a_certificate_ends_no_later_than_its_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "CA_DAYS", 60)
    files = certificates.ensure(tmp_path, ["localhost"])
    own, signer = x509.load_pem_x509_certificates(files.cert.read_bytes())
    assert own.not_valid_after_utc == signer.not_valid_after_utc
