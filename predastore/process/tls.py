"""The TLS of a process: which certificate its servers show, from the start on and after changes.

One that is given by hand is used as it is. On the filesystem backend an authority of this base path
signs it. In a cluster that of the cluster does (cluster_tls): a host that has had it serves with it
at once; one that has not yet, because it is new, does not begin with S3 before it has it, so that
no client ever needs another file. Its member's REST API shows a certificate of this host alone
until then, as operators' tools may be needed before there is a leader. What counts is what this
process has loaded: another one of the same base path may have got the authority meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

from predastore.base.config import Config, Db, Node
from predastore.base.errors import ConfigError, PredastoreError
from predastore.base.limits import TLS_RENEW_MS
from predastore.process import certificates
from predastore.process.certificates import Held, Served, TlsFiles
from predastore.process.cluster_tls import Authorities, Keeper
from predastore.process.roles import Roles

Apply = Callable[[], None]

_log = logging.getLogger(__name__)

_EVERYWHERE: Final = {"0.0.0.0", "::"}


class Tls:
    """`served`: what servers use, None while there is none; `files`: of that."""

    def __init__(self, settings: Config, chosen: Roles) -> None:
        self._settings = settings
        self._roles = chosen
        self._directory = settings.base_path / "tls"
        self._given = _given(settings)
        self._keeper: Keeper | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._is_new = False  # the authority of the cluster was not there when it was begun
        self.served: Served | None = None
        self.files: TlsFiles | None = None

    @property
    def _is_needed(self) -> bool:
        return (self._settings.tls and self._roles.s3) or bool(self._roles.members)

    def begin(self) -> None:
        """What can be shown from the start on. StartupError where a file is no good."""
        if self._given is not None:
            self._use(self._given)
            return
        if not self._is_needed:
            return
        held, is_alone = self._of_cluster(), self._settings.backend == "filesystem"
        self._is_new = held is None and not is_alone
        if not self._is_new or self._roles.members:
            self._use(certificates.ensure(self._directory, self._names(), held))

    def follow(self, authorities: Authorities | None) -> None:
        """Renews what is shown in time, from now on, and follows the authority of the cluster;
        None: there is no cluster."""
        if not self._is_needed:
            return
        if authorities is None:
            self._keeping = asyncio.create_task(self._renew())
            return
        cluster = self._settings.cluster.name
        self._keeper = Keeper(authorities, self._directory, cluster, self._names, self._changed)
        self._keeping = asyncio.create_task(self._keeper.run(lambda: self._given is None))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(TLS_RENEW_MS / 1000)
            try:
                if self._given is None:
                    self._changed(await asyncio.to_thread(self._generated))
            except (PredastoreError, OSError) as error:
                _log.error("the certificate can not be renewed", extra={"error": str(error)})

    async def ready(self) -> ssl.SSLContext | None:
        """What S3 uses, once clients may be shown it; None where S3 goes without TLS."""
        if not self._settings.tls:
            return None
        if self._is_new and self._keeper is not None:
            await self._keeper.agreed.wait()
        assert self.served is not None, "what ends the wait has set it"
        return self.served.context

    @property
    def authority(self) -> bytes:
        """The fingerprint of the cluster's authority that signed what is shown; else empty."""
        held = self._keeper.current if self._keeper is not None and self._given is None else None
        return b"" if held is None else bytes.fromhex(held.authority.fingerprint)

    @property
    def problem(self) -> str:
        """Why there is no certificate of the cluster yet."""
        return self._keeper.problem if self._keeper is not None else ""

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))

    def prepare(self, settings: Config) -> Apply:
        """A hook of predastore.process.reload: the certificate of handshakes to come. One that was
        generated is renewed near its end."""
        certificates.check(settings.tls_cert, settings.tls_key)
        given = _given(settings)
        if self.served is None:
            return lambda: None
        files = given or self._generated()
        replace = self.served.prepared(files)

        def apply() -> None:
            replace()
            self._given, self.files = given, files
            if self._keeper is not None:
                self._keeper.hurry()

        return apply

    def _generated(self) -> TlsFiles:
        held = self._of_cluster()
        if held is None and self._keeper is not None and self._given is not None:
            raise ConfigError(
                [
                    "tls_cert, tls_key: left out, and this host has no certificate by the "
                    "authority of its cluster yet; it gets one at its next start"
                ]
            )
        return certificates.ensure(self._directory, self._names(), held)

    def _of_cluster(self) -> Held | None:
        """The authority of the cluster, if this host has had it."""
        if self._settings.backend == "filesystem" or not self._directory.is_dir():
            return None
        held = certificates.load(self._directory, self._settings.cluster.name)
        return held if held is not None and held.cluster else None

    def _changed(self, files: TlsFiles) -> None:
        if self._given is None:
            self._use(files)

    def _use(self, files: TlsFiles) -> None:
        if self.served is None:
            self.served = Served(files)
        else:
            self.served.prepared(files)()
        self.files = files

    def _names(self) -> list[str]:
        """Every name and address that a client may know this process by."""
        rows: tuple[Node | Db, ...] = (*self._roles.nodes, *self._roles.members)
        local = {host for row in rows for host in (row.host, row.listen_host)}
        name = socket.gethostname()
        found = {"localhost", "127.0.0.1", "::1", name, self._settings.host, *local}
        with contextlib.suppress(OSError):
            found |= {str(row[4][0]) for row in socket.getaddrinfo(name, None)}
        found = {each.partition("%")[0] for each in found}  # a link's name is this host's alone
        for domain in self._settings.domains:
            found |= {domain, f"*.{domain}"}
        return sorted(found - _EVERYWHERE)


def _given(settings: Config) -> TlsFiles | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return TlsFiles(settings.tls_cert, settings.tls_key, None)
