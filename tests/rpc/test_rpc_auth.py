"""rpc.auth: who does not hold the cluster key, or is not who was meant, is refused."""

from __future__ import annotations

import pytest

from predastore.base.errors import PeerRefused
from predastore.rpc.auth import Challenge, Hello, Proof, ProofCaller, ProofListener

KEY = b"k" * 32
CERTIFICATE = b"the listener's certificate"


def caller(
    key: bytes = KEY, certificate: bytes = CERTIFICATE, wanted: str = "node/3"
) -> ProofCaller:
    return ProofCaller(key, name="host/a", wanted=wanted, certificate_der=certificate)


def listener(key: bytes = KEY, served: str = "node/3") -> ProofListener:
    return ProofListener((key,), served=served, certificate_der=CERTIFICATE)


def exchange(a: ProofCaller, b: ProofListener) -> tuple[Proof, Proof, str]:
    proof = a.prove(b.challenge(a.hello))
    name, answer = b.verify(proof)
    a.verify(answer)
    return proof, answer, name


def test_both_ends_with_the_key_accept_each_other() -> None:
    _, _, name = exchange(caller(), listener())
    assert name == "host/a"


@pytest.mark.parametrize(
    "pair",
    [
        (caller(key=b"other"), listener()),
        (caller(certificate=b"the certificate of a man in the middle"), listener()),
    ],
    ids=["wrong key", "another certificate seen"],
)
def test_listener_refuses(pair: tuple[ProofCaller, ProofListener]) -> None:
    a, b = pair
    proof = a.prove(b.challenge(a.hello))
    with pytest.raises(PeerRefused):
        b.verify(proof)


def test_caller_refuses_a_listener_without_the_key() -> None:
    a, b = caller(), listener(key=b"other")
    a.prove(b.challenge(a.hello))
    with pytest.raises(PeerRefused):
        a.verify(Proof(bytes(32)))


def test_a_proof_does_not_work_twice() -> None:
    a, b = caller(), listener()
    proof, answer, _ = exchange(a, b)
    again = listener()
    again.challenge(a.hello)
    with pytest.raises(PeerRefused):
        again.verify(proof)
    other = caller()
    other.prove(listener().challenge(other.hello))
    with pytest.raises(PeerRefused):
        other.verify(answer)


def test_a_proof_sent_back_is_no_proof() -> None:
    a, b = caller(), listener()
    proof = a.prove(b.challenge(a.hello))
    with pytest.raises(PeerRefused):
        a.verify(proof)


def test_the_name_that_is_wanted_must_be_served() -> None:
    with pytest.raises(PeerRefused, match="node/4"):
        listener(served="node/3").challenge(caller(wanted="node/4").hello)


def test_a_name_changed_on_the_way_fails_the_proof() -> None:
    a, b = caller(wanted="node/3"), listener(served="node/4")
    challenge = b.challenge(Hello(a.hello.nonce, a.hello.name, "node/4"))
    proof = a.prove(challenge)
    with pytest.raises(PeerRefused):
        b.verify(proof)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_nonces_have_their_size(size: int) -> None:
    with pytest.raises(PeerRefused):
        listener().challenge(Hello(bytes(size), "a", "node/3"))
    with pytest.raises(PeerRefused):
        caller().prove(Challenge(bytes(size)))
