"""Calls between the processes of a cluster, and within one.

`Endpoint` is the way in: `serve` offers methods under a peer name ("node/3"), `call` reaches a
peer by name, in process or over QUIC, with a deadline. Services are unknown here.
"""

from predastore.rpc.certificate import Certificate, self_signed
from predastore.rpc.endpoint import Endpoint
from predastore.rpc.framing import Buffer
from predastore.rpc.service import CallContext, Handler, Later, Method, Reply, Service

__all__ = [
    "Buffer",
    "CallContext",
    "Certificate",
    "Endpoint",
    "Handler",
    "Later",
    "Method",
    "Reply",
    "Service",
    "self_signed",
]
