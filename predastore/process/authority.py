"""A certificate authority: made, read, checked, and what it signs. Pure: no files, no network.

One that is made here is a root, and may sign another, so that it can vouch for the one that takes
its place (`cross_signed`), that one for the next, and so on: clients that trust any of them go on.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from predastore.base.errors import ConfigError

CA_DAYS: Final = 3650
SERVER_DAYS: Final = 397  # what browsers and some SDKs accept at most
RENEW_DAYS: Final = 30
SUCCESSORS_MAX: Final = 4  # clients that trust one go on with as many that took its place in turn
_RSA_BITS_MIN: Final = 2048

AuthorityKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Authority:
    """`chain`: its own certificate, then those of who signed it, where it is no root."""

    chain: tuple[x509.Certificate, ...]
    key: AuthorityKey

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate, in hex."""
        return fingerprint(self.certificate)

    @property
    def is_root(self) -> bool:
        return self.certificate.issuer == self.certificate.subject

    def has_signed(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def made(name: str) -> Authority:
    """A new root; its name ends with some digits of its own, so that no two are mistaken."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"{name} {secrets.token_hex(4)}")
    builder = _authority(
        _builder(subject, subject, key.public_key(), _in(CA_DAYS)), key, SUCCESSORS_MAX
    )
    return Authority((builder.sign(key, hashes.SHA256()),), key)


def cross_signed(old: Authority, new: Authority) -> x509.Certificate | None:
    """The certificate of `new` signed by `old`, if `old` lasts and may sign authorities: who trusts
    `old` trusts what `new` signs, as long as `old` lasts."""
    below = successors_max(old.certificate)
    if not below or not is_fresh(old.certificate, days=0):
        return None
    until = min(old.certificate.not_valid_after_utc, new.certificate.not_valid_after_utc)
    public = new.key.public_key()
    builder = _builder(new.certificate.subject, old.certificate.subject, public, until)
    builder = _authority(builder, new.key, below - 1)
    return builder.add_extension(_issuer_id(old), critical=False).sign(old.key, hashes.SHA256())


def successors_max(certificate: x509.Certificate) -> int:
    """How many authorities may follow an authority, each signed by the one before."""
    limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    return min(SUCCESSORS_MAX if limits.path_length is None else limits.path_length, SUCCESSORS_MAX)


def issued(
    authority: Authority, key: ec.EllipticCurvePrivateKey, names: Iterable[str]
) -> x509.Certificate:
    """A server's certificate for `names` (hosts and addresses), no longer than the authority."""
    until = min(_in(SERVER_DAYS), authority.certificate.not_valid_after_utc)
    subject = _name("predastore s3d")
    alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
    return (
        _builder(subject, authority.certificate.subject, key.public_key(), until)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_issuer_id(authority), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


# --- read and checked -------------------------------------------------------------------------


def read(chain_pem: bytes, key_pem: bytes) -> Authority:
    """From PEM, its own certificate first; ValueError where it is none, or no EC or RSA key."""
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("the key is neither EC nor RSA")
    return Authority(tuple(x509.load_pem_x509_certificates(chain_pem)), key)


def check(authority: Authority, cert_file: str, key_file: str) -> None:
    """ConfigError where one that was given can not sign servers' certificates."""
    own, problems = authority.certificate, []
    if own.public_key() != authority.key.public_key():
        problems.append(f"{key_file}: not the key of {cert_file}; give those that belong together")
    if not _may_sign(own):
        problems.append(
            f"{cert_file}: not the certificate of an authority (CA:TRUE, with keyCertSign where it "
            "has a key usage); give one that may sign servers' certificates"
        )
    if isinstance(authority.key, rsa.RSAPrivateKey) and authority.key.key_size < _RSA_BITS_MIN:
        problems.append(f"{key_file}: {authority.key.key_size} bits; give one of {_RSA_BITS_MIN}")
    if not is_fresh(own):
        problems.append(f"{cert_file}: ends at {stamp(own.not_valid_after_utc)}; give another")
    if own.not_valid_before_utc > now():
        problems.append(f"{cert_file}: not valid before {stamp(own.not_valid_before_utc)}")
    for lower, upper in zip(authority.chain, authority.chain[1:], strict=False):
        if not Authority((upper,), authority.key).has_signed(lower):
            problems.append(f"{cert_file}: a certificate in it did not sign the one before")
    if problems:
        raise ConfigError(problems)


def _may_sign(certificate: x509.Certificate) -> bool:
    extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return bool(extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign)
    except x509.ExtensionNotFound as error:
        return error.oid == x509.KeyUsage.oid


def is_fresh(certificate: x509.Certificate, days: int = RENEW_DAYS) -> bool:
    """Whether it lasts for so long."""
    return certificate.not_valid_after_utc - now() > datetime.timedelta(days=days)


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


# --- bytes ------------------------------------------------------------------------------------


def pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def key_pem(key: AuthorityKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def stamp(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


# --- parts of certificates --------------------------------------------------------------------


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])  # RFC 5280


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # An hour back: the clocks of clients are not all right.
        .not_valid_before(_in(0) - datetime.timedelta(hours=1))
        .not_valid_after(until)
    )


def _authority(
    builder: x509.CertificateBuilder, key: AuthorityKey, path_length: int
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=path_length), critical=True
        )
        .add_extension(usage, critical=True)
        .add_extension(own_id, critical=False)
    )


def _issuer_id(authority: Authority) -> x509.AuthorityKeyIdentifier:
    """As the authority calls its own key, where it does."""
    extensions = authority.certificate.extensions
    try:
        own = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _in(days: int) -> datetime.datetime:
    return now() + datetime.timedelta(days=days)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
