"""One request of a command over HTTP: how it fails, in the operator's terms. Blocking."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from predastore.base.errors import PeerRefused, PeerUnreachable
from predastore.base.limits import API_TIMEOUT_S


@contextmanager
def connected(
    host: str, port: int | None, context: ssl.SSLContext | None, *, where: str
) -> Iterator[http.client.HTTPConnection]:
    """A connection to `host`, TLS where there is a `context`, closed at the end. `where`: what an
    error says it was. PeerUnreachable; PeerRefused where the certificate can not be verified."""
    connection = (
        http.client.HTTPConnection(host, port, timeout=API_TIMEOUT_S)
        if context is None
        else http.client.HTTPSConnection(host, port, context=context, timeout=API_TIMEOUT_S)
    )
    try:
        yield connection
    except ssl.SSLCertVerificationError as error:
        raise PeerRefused(
            f"{where}: its certificate can not be verified ({error.verify_message}); give the "
            "authority's file with -ca (ca.pem below the tls/ of that host's base path)"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise PeerUnreachable(f"{where}: {str(error) or type(error).__name__}") from None
    finally:
        connection.close()
