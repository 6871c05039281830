"""TLS certificates for the S3 and REST endpoints, made where none is given.

A certificate authority of our own signs a server certificate for every name and address of this
host, so that clients verify it by one file: <base_path>/tls/ca.pem. Both are renewed when they
near their end or when a name is missing. Keys have mode 0600.
"""

from __future__ import annotations

import datetime
import fcntl
import ipaddress
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from predastore import fs
from predastore.errors import ConfigError, StartupError

_CA_DAYS: Final = 3650
_SERVER_DAYS: Final = 397  # what browsers and some SDKs accept at most
_RENEW_DAYS: Final = 30
_GIVE: Final = "give a PEM chain and its key by -tls-cert and -tls-key"


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a server; `ca` is what clients verify it by (None where the user gave it)."""

    cert: Path
    key: Path
    ca: Path | None


def ensure(directory: Path, names: Iterable[str]) -> TlsFiles:
    """A server certificate below `directory` that holds for all `names` (hosts and addresses)."""
    fs.make_folder(directory)
    files = TlsFiles(directory / "server.pem", directory / "server.key", directory / "ca.pem")
    wanted = sorted(set(names))
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        issued = _issued(files.cert)
        if not (_holds(issued, wanted) and files.key.exists()):
            authority, key = _authority(directory)
            _issue(files, authority, key, sorted({*wanted, *_names(issued)}))
    return files


def context(files: TlsFiles) -> ssl.SSLContext:
    """A TLS 1.2+ server context of `files`; StartupError says what is wrong with them."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    try:
        made.load_cert_chain(files.cert, files.key)
    except (OSError, ssl.SSLError) as error:
        raise StartupError(
            f"TLS certificate {files.cert} with key {files.key} can not be used ({error}); "
            "give a PEM chain and its key by -tls-cert and -tls-key"
        ) from None
    return made


class Served:
    """The TLS context of servers, whose certificate can be replaced while they run: handshakes
    that begin later get the new one, connections that are there stay as they are."""

    def __init__(self, files: TlsFiles) -> None:
        self.context = context(files)
        self._current = self.context
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = self._current

    def prepared(self, files: TlsFiles) -> Callable[[], None]:
        """What replaces the certificate by that of `files`; StartupError where they are no good."""
        fresh = context(files)

        def replace() -> None:
            self._current = fresh

        return replace


def check(cert: Path | None, key: Path | None) -> None:
    """ConfigError where a given certificate can not be used now: unreadable, expired, not of this
    key. Nothing is said of generated ones (None)."""
    if cert is None or key is None:
        return
    try:
        chain = x509.load_pem_x509_certificates(cert.read_bytes())
    except OSError as error:
        raise ConfigError([f"{cert}: can not be read ({error.strerror}); {_GIVE}"]) from None
    except ValueError:
        raise ConfigError([f"{cert}: no certificate in PEM form; {_GIVE}"]) from None
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except OSError as error:
        raise ConfigError([f"{key}: can not be read ({error.strerror}); {_GIVE}"]) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError([f"{key}: no private key in PEM form without a password; {_GIVE}"]) from (
            None
        )
    now, own = datetime.datetime.now(datetime.UTC), chain[0]
    problems = []
    if own.public_key() != private.public_key():
        problems.append(f"{key}: not the key of {cert}; give the two that belong together")
    if own.not_valid_after_utc < now:
        problems.append(f"{cert}: expired at {_stamp(own.not_valid_after_utc)}; renew it")
    if own.not_valid_before_utc > now:
        problems.append(
            f"{cert}: not valid before {_stamp(own.not_valid_before_utc)}; set this host's clock, "
            "or wait"
        )
    if problems:
        raise ConfigError(problems)


def _stamp(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    cert_file, key_file = directory / "ca.pem", directory / "ca.key"
    if cert_file.exists() and key_file.exists():
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise StartupError(
                f"{cert_file} or {key_file} is damaged; put both back, or remove both: then a new "
                "authority is made, whose ca.pem clients need"
            ) from None
        if isinstance(key, ec.EllipticCurvePrivateKey) and _fresh(certificate):
            return certificate, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Predastore local authority")])
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
    certificate = (
        _builder(name, name, key.public_key(), _in(_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    fs.write_file(key_file, _key_pem(key), 0o600)
    fs.write_file(cert_file, _pem(certificate), 0o644)
    return certificate, key


def _issue(
    files: TlsFiles,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: list[str],
) -> None:
    key = _key_of(files)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "predastore s3d")])
    issuer_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    until = min(_in(_SERVER_DAYS), authority.not_valid_after_utc)
    certificate = (
        _builder(subject, authority.subject, key.public_key(), until)
        .add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(issuer_key_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    fs.write_file(files.key, _key_pem(key), 0o600)
    fs.write_file(files.cert, _pem(certificate) + _pem(authority), 0o600)


def _key_of(files: TlsFiles) -> ec.EllipticCurvePrivateKey:
    """The key that is there, if it is of use: a process that reads both files while another
    writes them for its own names gets a pair that fits."""
    if files.key.exists():
        try:
            key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return ec.generate_private_key(ec.SECP256R1())
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
    return ec.generate_private_key(ec.SECP256R1())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
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


def _in(days: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _issued(file: Path) -> x509.Certificate | None:
    """The certificate in `file`; None where there is none of use."""
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _names(certificate: x509.Certificate | None) -> list[str]:
    if certificate is None:
        return []
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(general.value) for general in found]


def _holds(certificate: x509.Certificate | None, names: list[str]) -> bool:
    return (
        certificate is not None and _fresh(certificate) and set(names) <= set(_names(certificate))
    )


def _fresh(certificate: x509.Certificate) -> bool:
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return left > datetime.timedelta(days=_RENEW_DAYS)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
