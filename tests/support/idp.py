"""An identity provider of the tests: discovery, keys, tokens; and all the ways in which it lies."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

AUDIENCE = "predastore"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def integer(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Idp:
    """`answers`: what a path is answered with instead. `asked`: how often each path was."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.host = url.partition("://")[2]
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.rsa_id = "rsa-1"
        self.answers: dict[str, Callable[[], bytes]] = {}
        self.asked: dict[str, int] = {}
        self.released = threading.Event()

    def rotate(self) -> None:
        self.rsa, self.rsa_id = rsa.generate_private_key(65537, 2048), "rsa-2"

    def document(self, path: str) -> bytes:
        self.asked[path] = self.asked.get(path, 0) + 1
        if path in self.answers:
            return self.answers[path]()
        if path == "/.well-known/openid-configuration":
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        return json.dumps({"keys": self.keys()}).encode()

    def keys(self) -> list[dict[str, str]]:
        public, point = (
            self.rsa.public_key().public_numbers(),
            self.ec.public_key().public_numbers(),
        )
        return [
            {"kty": "RSA", "kid": self.rsa_id, "n": integer(public.n), "e": integer(public.e)},
            {
                "kty": "EC",
                "crv": "P-256",
                "kid": "ec-1",
                "x": encoded(point.x.to_bytes(32, "big")),
                "y": encoded(point.y.to_bytes(32, "big")),
            },
            {"kty": "oct", "kid": "shared", "k": "AAAA"},
        ]

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {"iss": self.url, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600}
        return {name: value for name, value in (usual | changes).items() if value is not None}

    def token(self, algorithm: str = "RS256", key_id: str = "", **claims: Any) -> str:
        chosen = key_id or {"RS256": self.rsa_id, "ES256": "ec-1"}.get(algorithm, "")
        head = {"alg": algorithm, "typ": "JWT", "kid": chosen}
        parts = [json.dumps(one).encode() for one in (head, self.claims(**claims))]
        signed = ".".join(map(encoded, parts))
        return f"{signed}.{encoded(self._signature(algorithm, signed.encode()))}"

    def _signature(self, algorithm: str, signed: bytes) -> bytes:
        if algorithm == "ES256":
            r, s = decode_dss_signature(self.ec.sign(signed, ec.ECDSA(SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return b"" if algorithm == "none" else self.rsa.sign(signed, padding.PKCS1v15(), SHA256())


@contextmanager
def idp() -> Iterator[Idp]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = made.document(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Idp(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        made.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
