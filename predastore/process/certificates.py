"""TLS certificates for the S3 and REST endpoints, made where none is given.

A certificate authority signs a server certificate for every name and address of this host, so
that clients verify it by one file: <base_path>/tls/ca.pem. Both are renewed when they near their
end, the server's also when a name is missing. Keys have mode 0600.

    ca.pem          what clients need: the authority, and those before it that are still trusted
    ca.key          its key
    authority.json  which it is: of this host alone, or of which cluster (cluster_tls)
    server.pem, server.key
"""

from __future__ import annotations

import datetime
import fcntl
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from predastore.base import fs
from predastore.base.errors import ConfigError, StartupError
from predastore.process import authority
from predastore.process.authority import Authority

_GIVE: Final = "give a PEM chain and its key by -tls-cert and -tls-key"
_FORMAT: Final = 1


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a server; `ca` is what clients verify it by (None where the user gave it)."""

    cert: Path
    key: Path
    ca: Path | None


@dataclass(frozen=True)
class Held:
    """An authority as a host holds it. `previous`: those before it that clients still trust;
    `cross`: by which these vouch: its own certificate signed by the last of them, whose certificate
    is signed by the one before, and so on. `cluster`, `generation`: which one of
    which cluster; "": of this host alone."""

    authority: Authority
    previous: tuple[x509.Certificate, ...] = ()
    cross: tuple[x509.Certificate, ...] = ()
    cluster: str = ""
    generation: int = 0

    @property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """What clients need."""
        return (*self.authority.chain, *self.previous)


class _Description(msgspec.Struct, frozen=True):
    """authority.json; certificates in PEM."""

    format: int
    cluster: str
    generation: int
    chain: str
    previous: str
    cross: str


# --- the files of a host ----------------------------------------------------------------------


def ensure(directory: Path, names: Iterable[str], held: Held | None = None) -> TlsFiles:
    """A server certificate below `directory` that holds for all `names` (hosts and addresses), by
    the authority `held`, which takes the place of the one that is there, or else by that one.
    Another process of this host may have taken a later generation: that stays."""
    files = TlsFiles(directory / "server.pem", directory / "server.key", directory / "ca.pem")
    wanted = sorted(set(names))
    with _locked(directory):
        if held is not None:
            held = _later(directory, held)
            _put(directory, held)
        issued = _issued(files.cert)
        if not (_holds(issued, wanted, held) and files.key.exists()):
            _issue(files, held or _local(directory), sorted({*wanted, *_names(issued)}))
    return files


def _later(directory: Path, held: Held) -> Held:
    """`held`, unless this host has a later one of the same cluster."""
    try:
        there = _read(directory) if (directory / "authority.json").exists() else held
    except (StartupError, FileNotFoundError):
        return held  # which takes the place of what is damaged
    is_later = there.cluster == held.cluster and there.generation > held.generation
    return there if held.cluster and is_later else held


def load(directory: Path, cluster: str) -> Held | None:
    """The authority that this host holds: of `cluster`, or one of its own; None where there is
    none, or it is another cluster's. StartupError where it is damaged."""
    with _locked(directory):
        if not (directory / "ca.pem").exists() or not (directory / "ca.key").exists():
            return None
        held = _local(directory)
    return held if held.cluster in ("", cluster) else None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fs.make_folder(directory)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _local(directory: Path) -> Held:
    """The authority that is there, or one that is made now, of this host alone."""
    cert_file, key_file = directory / "ca.pem", directory / "ca.key"
    if cert_file.exists() and key_file.exists():
        held = _read(directory)
        days = 0 if held.cluster else authority.RENEW_DAYS  # its cluster sees to it in time
        if authority.is_fresh(held.authority.certificate, days):
            _put(directory, held)
            return held
    held = Held(authority.made("Predastore local authority"))
    _put(directory, held)
    return held


def _read(directory: Path) -> Held:
    cert_file, key_file = directory / "ca.pem", directory / "ca.key"
    try:
        key = key_file.read_bytes()
        description = _description(directory)
        if description is None:
            held = Held(authority.read(cert_file.read_bytes(), key))
        else:
            held = Held(
                authority.read(description.chain.encode(), key),
                _certificates(description.previous),
                _certificates(description.cross),
                description.cluster,
                description.generation,
            )
    except ValueError:
        raise StartupError(_damaged(directory)) from None
    if held.authority.certificate.public_key() != held.authority.key.public_key():
        raise StartupError(_damaged(directory))
    return held


def _damaged(directory: Path) -> str:
    return (
        f"{directory}: ca.pem, ca.key or authority.json is damaged; put them back, or remove all "
        "three: then this host gets the authority of its cluster, or makes one of its own, whose "
        "ca.pem clients need"
    )


def _description(directory: Path) -> _Description | None:
    try:
        stored = (directory / "authority.json").read_bytes()
    except FileNotFoundError:
        return None
    found = msgspec.json.decode(stored, type=_Description)  # its errors are ValueErrors
    if found.format != _FORMAT:
        raise ValueError(f"format {found.format}")
    return found


def _put(directory: Path, held: Held) -> None:
    """Puts it in the place of what is there, unless it is there."""
    description = _Description(
        _FORMAT,
        held.cluster,
        held.generation,
        authority.pem(held.authority.chain).decode(),
        authority.pem(held.previous).decode(),
        authority.pem(held.cross).decode(),
    )
    files = {
        "ca.key": authority.key_pem(held.authority.key),
        "authority.json": msgspec.json.format(msgspec.json.encode(description)) + b"\n",
        "ca.pem": authority.pem(held.trusted),
    }
    for name, content in files.items():
        file = directory / name
        if not (file.exists() and file.read_bytes() == content):
            fs.write_file(file, content, 0o644 if name == "ca.pem" else 0o600)


def _certificates(text: str) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_pem_x509_certificates(text.encode())) if text else ()


# --- what servers use -------------------------------------------------------------------------


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
        problems.append(f"{cert}: expired at {authority.stamp(own.not_valid_after_utc)}; renew it")
    if own.not_valid_before_utc > now:
        problems.append(
            f"{cert}: not valid before {authority.stamp(own.not_valid_before_utc)}; set this "
            "host's clock, or wait"
        )
    if problems:
        raise ConfigError(problems)


# --- a server's certificate -------------------------------------------------------------------


def _issue(files: TlsFiles, held: Held, names: list[str]) -> None:
    key = _key_of(files)
    certificate = authority.issued(held.authority, key, names)
    fs.write_file(files.key, authority.key_pem(key), 0o600)
    fs.write_file(files.cert, authority.pem((certificate, *signers(held))), 0o600)


def signers(held: Held) -> tuple[x509.Certificate, ...]:
    """What is shown to clients beside a server's certificate, the last that signed first. Where one
    before it vouches for a root, not the root: who does not trust that would go no further."""
    if held.cross and held.authority.is_root:
        return held.cross
    return (*held.authority.chain, *held.cross)


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


def _issued(file: Path) -> tuple[x509.Certificate, ...]:
    """The certificates in `file`, the server's first; none where there is none of use."""
    try:
        return tuple(x509.load_pem_x509_certificates(file.read_bytes()))
    except (FileNotFoundError, ValueError):
        return ()


def _names(issued: tuple[x509.Certificate, ...]) -> list[str]:
    if not issued:
        return []
    found = issued[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(general.value) for general in found]


def _holds(issued: tuple[x509.Certificate, ...], names: list[str], held: Held | None) -> bool:
    """Whether it lasts, and is for all names, and by `held` where that is given."""
    if not issued or not authority.is_fresh(issued[0]) or not set(names) <= set(_names(issued)):
        return False
    return held is None or (issued[1:] == signers(held) and held.authority.has_signed(issued[0]))
