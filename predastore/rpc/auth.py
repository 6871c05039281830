"""Both ends of a connection prove that they hold the cluster key. Sans-IO.

On the connection's first stream, header-only messages of rpc.framing:

    caller                                listener
    Hello(nonce, name, wanted)     ->
                                   <-     Challenge(nonce)
    Proof(HMAC "caller")           ->     verified, else the connection is closed
    verified, else closed          <-     Proof(HMAC "listener")

A proof is HMAC-SHA256 under the cluster key over a label for the role, both nonces, the SHA-256
of the listener's TLS certificate as that end sees it, the caller's name, and the name of the
listener that the caller wants (or ANYONE, of whoever listens at an address). Hence: a replay
fails on the nonce, a reflection on the label, a man in the middle with a certificate of his own
on the hash, the wrong listener on the name.
Who holds the cluster key may claim any name: names tell members apart, the key admits them.

The caller proves first: whoever can merely reach a port gets nothing made with the key.

While the cluster key is changed, a listener takes a proof by any of several, and answers with the
one that the caller has. A caller uses one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence

import msgspec

from predastore.base.errors import KeysDiffer, PeerRefused
from predastore.rpc.framing import encode_prefix, encode_struct

ANYONE = "anyone"  # wanted by who knows an address only: whoever listens there, with the key
_NONCE_BYTES = 32
_MEND = "give both the same [cluster] name and secret, or the same [[auth]] where there is none"
_CALLER = b"predastore rpc 1 caller"
_LISTENER = b"predastore rpc 1 listener"


class Hello(msgspec.Struct, frozen=True, array_like=True):
    nonce: bytes
    name: str
    wanted: str


class Challenge(msgspec.Struct, frozen=True, array_like=True):
    nonce: bytes


class Proof(msgspec.Struct, frozen=True, array_like=True):
    mac: bytes


def message(value: msgspec.Struct) -> bytes:
    """A message of the proof, ready to send."""
    return encode_prefix(encode_struct(value), 0)


def _mac(
    key: bytes, label: bytes, hello: Hello, challenge: Challenge, certificate_der: bytes
) -> bytes:
    fields = (
        label,
        hello.nonce,
        challenge.nonce,
        hashlib.sha256(certificate_der).digest(),
        hello.name.encode(),
        hello.wanted.encode(),
    )
    # Lengths in front, so that no two lists of fields give the same bytes.
    transcript = b"".join(len(part).to_bytes(4, "little") + part for part in fields)
    return hmac.digest(key, transcript, hashlib.sha256)


def _check_nonce(nonce: bytes) -> None:
    if len(nonce) != _NONCE_BYTES:
        raise PeerRefused(f"a nonce of {len(nonce)} bytes")


class ProofCaller:
    """The caller's half; `certificate_der` is what the TLS handshake showed."""

    def __init__(self, key: bytes, *, name: str, wanted: str, certificate_der: bytes) -> None:
        self._key = key
        self._certificate_der = certificate_der
        self.hello = Hello(os.urandom(_NONCE_BYTES), name, wanted)
        self._challenge: Challenge | None = None

    def prove(self, challenge: Challenge) -> Proof:
        _check_nonce(challenge.nonce)
        self._challenge = challenge
        return Proof(_mac(self._key, _CALLER, self.hello, challenge, self._certificate_der))

    def verify(self, proof: Proof) -> None:
        """PeerRefused unless the listener holds the key and owns the certificate seen here."""
        assert self._challenge is not None
        expected = _mac(self._key, _LISTENER, self.hello, self._challenge, self._certificate_der)
        if not hmac.compare_digest(expected, proof.mac):
            raise KeysDiffer(f"{self.hello.wanted} has another cluster key: {_MEND}")


class ProofListener:
    """The listener's half; `certificate_der` is its own certificate, `served` its name. `keys`:
    the caller may have any of them, and is answered with the same."""

    def __init__(self, keys: Sequence[bytes], *, served: str, certificate_der: bytes) -> None:
        self._keys = tuple(keys)
        self._certificate_der = certificate_der
        self._served = served
        self._challenge = Challenge(os.urandom(_NONCE_BYTES))
        self._hello: Hello | None = None

    @property
    def caller(self) -> str:
        """What the caller calls itself, proven or not."""
        return "" if self._hello is None else self._hello.name

    def challenge(self, hello: Hello) -> Challenge:
        _check_nonce(hello.nonce)
        if hello.wanted not in (self._served, ANYONE):
            raise PeerRefused(
                f"{hello.wanted!r} is not here: this is {self._served!r}; the address is another's"
            )
        self._hello = hello
        return self._challenge

    def verify(self, proof: Proof) -> tuple[str, Proof]:
        """The caller's name and the proof to answer with; PeerRefused if it fails."""
        assert self._hello is not None
        arguments = (self._hello, self._challenge, self._certificate_der)
        for key in self._keys:
            if hmac.compare_digest(_mac(key, _CALLER, *arguments), proof.mac):
                return self._hello.name, Proof(_mac(key, _LISTENER, *arguments))
        raise KeysDiffer(f"the caller has another cluster key: {_MEND}")
