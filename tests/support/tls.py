"""What a TLS server shows to who connects to it now."""

from __future__ import annotations

import contextlib
import ssl

from cryptography import x509


def certificate_shown(context: ssl.SSLContext) -> x509.Certificate:
    """The server's certificate of a handshake in memory."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    client.do_handshake()
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)
