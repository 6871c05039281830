"""Authorities: what they sign is verified by clients as they are, before and after a change."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from predastore.base.errors import ConfigError
from predastore.process import authority, certificates
from predastore.process.authority import Authority, AuthorityKey
from predastore.process.certificates import Held, TlsFiles
from predastore.process.cluster_tls import following


def trusts(ca: Path, files: TlsFiles, name: str = "localhost") -> bool:
    """Whether a client with this file goes on with a server of `files`."""
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
        ssl.create_default_context(cafile=str(ca)).wrap_socket(ours, server_hostname=name).close()
    except ssl.SSLCertVerificationError:
        return False
    finally:
        ours.close()
        thread.join()
    return True


def kept(path: Path, held: Held) -> Path:
    """The file that a client has fetched of it."""
    path.write_bytes(authority.pem(held.trusted))
    return path


def root(
    key: AuthorityKey, *, ca: bool = True, days: int = 400, path: int | None = None
) -> Authority:
    """One of somebody's own making."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example root")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(
            x509.BasicConstraints(ca=ca, path_length=path if ca else None), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    return Authority((certificate,), key)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_clients_of_the_authority_before_go_on_and_those_of_the_new_one_too(tmp_path: Path) -> None:
    first = Held(authority.made("test"), cluster="c", generation=1)
    old = kept(tmp_path / "old.pem", first)
    second = following(first, authority.made("test"), "c", at_once=False)
    assert (second.generation, len(second.previous)) == (2, 1)
    new = kept(tmp_path / "new.pem", second)
    alone = kept(tmp_path / "alone.pem", Held(second.authority))
    before = certificates.ensure(tmp_path / "one", ["localhost"], first)
    after = certificates.ensure(tmp_path / "two", ["localhost"], second)
    assert trusts(old, after), "the one before vouches for the new one"
    assert trusts(new, after)
    assert trusts(alone, after)
    assert trusts(new, before), "of a host that has not taken it yet"
    assert not trusts(alone, before)


def test_at_once_the_one_before_is_trusted_no_more(tmp_path: Path) -> None:
    first = Held(authority.made("test"), cluster="c", generation=1)
    second = following(first, authority.made("test"), "c", at_once=True)
    files = certificates.ensure(tmp_path / "tls", ["localhost"], second)
    assert not trusts(kept(tmp_path / "old.pem", first), files)
    assert trusts(kept(tmp_path / "new.pem", second), files)
    assert second.previous == ()


def test_changes_one_after_the_other_keep_a_few_and_drop_what_is_over(tmp_path: Path) -> None:
    held = Held(root(ec_key(), days=-1), cluster="c", generation=1)
    for _ in range(7):
        held = following(held, authority.made("test"), "c", at_once=False)
    assert len(held.previous) == 4
    assert all(authority.is_fresh(one) for one in held.previous)


def test_clients_of_the_first_go_on_through_several_changes(tmp_path: Path) -> None:
    held = Held(authority.made("test"), cluster="c", generation=1)
    first = kept(tmp_path / "first.pem", held)
    for number in range(authority.SUCCESSORS_MAX):
        held = following(held, authority.made("test"), "c", at_once=False)
        files = certificates.ensure(tmp_path / f"tls-{number}", ["localhost"], held)
        assert trusts(first, files), f"change {number + 1}"
        kept_now = kept(tmp_path / "now.pem", Held(held.authority))
        assert trusts(kept_now, files)
    held = following(held, authority.made("test"), "c", at_once=False)
    assert len(held.cross) == authority.SUCCESSORS_MAX
    files = certificates.ensure(tmp_path / "tls-last", ["localhost"], held)
    assert trusts(kept_now, files)
    assert not trusts(first, files)


def test_one_of_whom_few_may_follow_vouches_for_so_many(tmp_path: Path) -> None:
    given = Held(root(ec_key(), path=1), cluster="c", generation=1)
    client = kept(tmp_path / "given.pem", given)
    second = following(given, authority.made("test"), "c", at_once=False)
    third = following(second, authority.made("test"), "c", at_once=False)
    assert trusts(client, certificates.ensure(tmp_path / "two", ["localhost"], second))
    assert [one.issuer for one in third.cross] == [second.authority.certificate.subject]


def test_clients_of_the_root_go_on_where_an_intermediate_is_followed(tmp_path: Path) -> None:
    top, lower = root(ec_key()), authority.made("lower")
    cross = authority.cross_signed(top, lower)
    assert cross is not None
    given = Held(Authority((cross, top.certificate), lower.key), cluster="c", generation=1)
    after = following(given, authority.made("test"), "c", at_once=False)
    files = certificates.ensure(tmp_path / "tls", ["localhost"], after)
    assert trusts(kept(tmp_path / "top.pem", Held(top)), files)


def test_an_authority_that_may_sign_none_can_not_vouch() -> None:
    assert authority.cross_signed(root(ec_key(), path=0), authority.made("test")) is None
    assert authority.cross_signed(root(ec_key(), path=1), authority.made("test")) is not None
    assert authority.cross_signed(root(ec_key()), authority.made("test")) is not None


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_one_that_is_given_signs_servers(tmp_path: Path, kind: str) -> None:
    key = ec_key() if kind == "ec" else rsa.generate_private_key(65537, 2048)
    given = root(key)
    read = authority.read(authority.pem(given.chain), authority.key_pem(key))
    authority.check(read, "ca.pem", "ca.key")
    files = certificates.ensure(tmp_path / "tls", ["localhost", "127.0.0.1"], Held(read))
    assert trusts(kept(tmp_path / "ca.pem", Held(given)), files)
    assert certificates.load(tmp_path / "tls", "") == Held(read) or kind, "keys compare by identity"


def test_an_intermediate_is_shown_with_those_that_signed_it(tmp_path: Path) -> None:
    top = root(ec_key())
    lower = authority.made("lower")
    cross = authority.cross_signed(top, lower)
    assert cross is not None
    given = Authority((cross, top.certificate), lower.key)
    authority.check(given, "ca.pem", "ca.key")
    files = certificates.ensure(tmp_path / "tls", ["localhost"], Held(given))
    assert trusts(kept(tmp_path / "top.pem", Held(top)), files), "clients have the root alone"


def test_what_can_not_sign_is_refused_with_the_mend() -> None:
    def problems(given: Authority) -> str:
        with pytest.raises(ConfigError) as caught:
            authority.check(given, "c.pem", "c.key")
        return "\n".join(caught.value.problems)

    good = root(ec_key())
    assert "not the key of c.pem" in problems(Authority(good.chain, ec_key()))
    assert "not the certificate of an authority" in problems(root(ec_key(), ca=False))
    assert "c.pem: ends at " in problems(root(ec_key(), days=20))
    assert "1024 bits" in problems(root(rsa.generate_private_key(65537, 1024)))
    stranger = Authority((*good.chain, *root(ec_key()).chain), good.key)
    assert "did not sign the one before" in problems(stranger)


def test_other_keys_and_passwords_are_no_authority() -> None:
    good = root(key := ec_key())
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    for chain, secret in (
        (authority.pem(good.chain), locked),
        (authority.pem(good.chain), b"no key"),
        (b"no certificate", authority.key_pem(key)),
    ):
        with pytest.raises(ValueError, match=r"."):
            authority.read(chain, secret)
