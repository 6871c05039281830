"""The certificate authority of a cluster: one for all hosts, in s3db; so clients need one file.

    table    key            value
    cluster  tls/authority  AuthorityRecord

The first process that reaches s3db founds it, with the authority that its host has, if that has
one. The authority's key is sealed under the cluster key. Every process signs its server certificate
with it, and keeps it in its tls/ folder, so that it can serve before metadata answers. Where the
cluster key has changed, a process that knows the one before seals it anew, and so does one whose
host holds the authority: it stays what it is. What a host holds counts, if s3db was restored from
a backup of an earlier generation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from predastore.base.errors import CorruptData, Overloaded, PreconditionFailed, PredastoreError
from predastore.base.limits import READY_LOG_MS, TLS_LOOK_MS, TLS_RETRY_MS
from predastore.base.sealing import seal, unseal
from predastore.process import authority, certificates
from predastore.process.authority import Authority
from predastore.process.certificates import Held, TlsFiles
from predastore.s3db.commands import Absent, Check, Equals, Put, batch
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import now_ms
from predastore.storage.formats import decode, encode

CLUSTER: Final = "cluster"
AUTHORITY_KEY: Final = b"tls/authority"
_NAME: Final = "Predastore authority"
_PURPOSE: Final = "tls authority"
_TRIES_MAX: Final = 8

_log = logging.getLogger(__name__)


class AuthorityRecord(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """`generation`: raised by one with each change. Certificates are DER. `chain`: its own first,
    then those of who signed it. `sealed_key`: PEM, sealed, bound to its own certificate.
    `previous`: those before it, which clients may still trust; `cross`: by which these vouch."""

    generation: int
    chain: tuple[bytes, ...]
    sealed_key: bytes
    previous: tuple[bytes, ...]
    cross: tuple[bytes, ...]
    since_ms: int


# --- records ----------------------------------------------------------------------------------


def sealed(held: Held, cluster_key: bytes) -> AuthorityRecord:
    chain = tuple(authority.der(one) for one in held.authority.chain)
    key = authority.key_pem(held.authority.key)
    return AuthorityRecord(
        generation=held.generation,
        chain=chain,
        sealed_key=seal(cluster_key, _PURPOSE, key, bound_to=chain[0]),
        previous=tuple(authority.der(one) for one in held.previous),
        cross=tuple(authority.der(one) for one in held.cross),
        since_ms=now_ms(),
    )


def unsealed(record: AuthorityRecord, cluster_key: bytes, cluster: str) -> Held:
    """CorruptData: it was sealed under another cluster key."""
    key = unseal(cluster_key, _PURPOSE, record.sealed_key, bound_to=record.chain[0])
    try:
        own = authority.read(authority.pem(_loaded(record.chain)), key)
    except ValueError as error:
        raise CorruptData(f"the authority of the cluster: {error}") from None
    return Held(own, _loaded(record.previous), _loaded(record.cross), cluster, record.generation)


def _loaded(certificates_der: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_der_x509_certificate(one) for one in certificates_der)


def _is_of(record: AuthorityRecord, held: Held) -> bool:
    return authority.der(held.authority.certificate) == record.chain[0]


def following(held: Held | None, new: Authority, cluster: str, *, at_once: bool) -> Held:
    """What takes the place of `held`. Those before it are trusted as long as they last, and each
    vouches for the next, where it may; not where it is `at_once`."""
    if held is None or at_once:
        return Held(new, cluster=cluster, generation=1 if held is None else held.generation + 1)
    known = {new.fingerprint}
    previous = []
    for one in held.trusted:
        if authority.fingerprint(one) not in known and authority.is_fresh(one, days=0):
            known.add(authority.fingerprint(one))
            previous.append(one)
    kept = tuple(previous[: authority.SUCCESSORS_MAX])
    return Held(new, kept, _vouching(held, new), cluster, held.generation + 1)


def _vouching(held: Held, new: Authority) -> tuple[x509.Certificate, ...]:
    """From `new`, signed by `held`, back to the oldest that lasts and that so many may follow."""
    cross = authority.cross_signed(held.authority, new)
    if cross is None:
        return ()
    found = [cross]
    for one in certificates.signers(held):
        if one.issuer == one.subject:
            continue  # a root: who trusts it has it
        if authority.successors_max(one) < len(found) or not authority.is_fresh(one, days=0):
            break
        found.append(one)
    return tuple(found)


class Authorities:
    """The record in s3db. `cluster`: the name of the cluster. `cluster_keys`: the one that is in
    force, then others that are known."""

    def __init__(
        self, state: GlobalState, cluster_keys: Callable[[], Sequence[bytes]], cluster: str
    ) -> None:
        self._state = state
        self._cluster_keys = cluster_keys
        self._sealed_under = b""  # the key in force of which it was made sure
        self._cluster = cluster

    async def read(self) -> Held | None:
        """None: there is none yet. CorruptData: it was sealed under another cluster key."""
        stored = await self._stored()
        return None if stored is None else self._open(_decoded(stored))[0]

    async def renew(self) -> Held:
        """Puts another in its place if it still nears its end."""
        return await self.replace(authority.made(_NAME), at_once=False, only_old=True)

    async def replace(self, new: Authority, *, at_once: bool, only_old: bool = False) -> Held:
        """Puts another in its place. CorruptData as above, unless it is `at_once`. Overloaded:
        others do so all the time."""
        for _ in range(_TRIES_MAX):
            stored = await self._stored()
            before = None if stored is None else self._before(_decoded(stored), new, at_once)
            if only_old and before is not None and authority.is_fresh(before.authority.certificate):
                return before
            held = following(before, new, self._cluster, at_once=at_once)
            if await self._put(held, stored):
                return held
        raise _busy()

    async def agree(self, local: Held | None) -> Held:
        """The authority of the cluster. `local`: what this host holds: it founds that of the
        cluster where there is none, and seals it anew where it is the same under another key."""
        for _ in range(_TRIES_MAX):
            stored = await self._stored()
            if stored is None:
                wanted = self._founding(local)
            else:
                record = _decoded(stored)
                if local is not None and local.cluster and local.generation > record.generation:
                    wanted = local  # of a time after the backup that s3db was restored from
                else:
                    try:
                        held, opened_by = self._open(record)
                        if self._is_well_sealed(opened_by):
                            return held
                        wanted = held
                    except CorruptData:
                        if local is None or not _is_of(record, local):
                            raise
                        _log.warning("the authority of the cluster is sealed under the new key")
                        wanted = replace(local, cluster=self._cluster, generation=record.generation)
            if await self._put(wanted, stored):
                return wanted
        raise _busy()

    def _is_well_sealed(self, opened_by: bytes) -> bool:
        """Once for each key that is in force here: others may still have another in force."""
        in_force = self._cluster_keys()[0]
        is_well_sealed = in_force in (opened_by, self._sealed_under)
        self._sealed_under = in_force if opened_by == in_force else self._sealed_under
        return is_well_sealed

    def _founding(self, local: Held | None) -> Held:
        if local is None:
            local = Held(authority.made(_NAME))
        return replace(local, cluster=self._cluster, generation=max(1, local.generation))

    def _before(self, record: AuthorityRecord, new: Authority, at_once: bool) -> Held:
        """What another takes the place of; where nobody can open it any more, its generation."""
        try:
            return self._open(record)[0]
        except CorruptData:
            if not at_once:
                raise
            return Held(new, cluster=self._cluster, generation=record.generation)

    def _open(self, record: AuthorityRecord) -> tuple[Held, bytes]:
        """What it is, and the cluster key under which it is sealed. CorruptData: none of those that
        are known."""
        in_force, *others = self._cluster_keys()
        for key in others:
            with contextlib.suppress(CorruptData):
                return unsealed(record, key, self._cluster), key
        return unsealed(record, in_force, self._cluster), in_force

    async def _stored(self) -> bytes | None:
        return await self._state.get(CLUSTER, AUTHORITY_KEY)

    async def _put(self, held: Held, before: bytes | None) -> bool:
        check: Check = (
            Absent(CLUSTER, AUTHORITY_KEY)
            if before is None
            else Equals(CLUSTER, AUTHORITY_KEY, before)
        )
        in_force = self._cluster_keys()[0]
        put = Put(CLUSTER, AUTHORITY_KEY, encode(sealed(held, in_force)))
        try:
            await self._state.commit(batch(put, checks=(check,)))
        except PreconditionFailed:
            return False
        self._sealed_under = in_force
        return True


def _decoded(stored: bytes) -> AuthorityRecord:
    return decode(AuthorityRecord, stored)


def _busy() -> Overloaded:
    return Overloaded("the authority of the cluster is being replaced by others; try again")


# --- in a process -----------------------------------------------------------------------------


class Keeper:
    """Keeps a host's certificate one of its cluster's authority. `directory`: tls/; `names`: what
    the certificate is for; `changed`: is given files that servers are to use from now on."""

    def __init__(
        self,
        authorities: Authorities,
        directory: Path,
        cluster: str,
        names: Callable[[], list[str]],
        changed: Callable[[TlsFiles], None],
    ) -> None:
        self._authorities = authorities
        self._directory = directory
        self._cluster = cluster
        self._names = names
        self._changed = changed
        self._served = b""
        self._said_s = -math.inf
        self._wake = asyncio.Event()
        self.current: Held | None = None  # once the host has it
        self.agreed = asyncio.Event()  # it has
        self.problem = ""  # why it has not

    def hurry(self) -> None:
        """Looks now."""
        self._wake.set()

    async def run(self, is_wanted: Callable[[], bool]) -> None:
        """Until it is cancelled; does nothing unless `is_wanted` says so."""
        while True:
            try:
                if is_wanted():
                    await self.look()
                self.problem = ""
            except PredastoreError as error:
                self.problem = str(error)
                self._say(error)
            except Exception as error:
                self.problem = str(error)
                _log.exception("the certificate was not looked after; it is tried again")
            is_waited_for = self.problem and not self.agreed.is_set()
            pause_ms = TLS_RETRY_MS if is_waited_for else TLS_LOOK_MS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_ms / 1000):
                    await self._wake.wait()
            self._wake.clear()

    async def look(self) -> None:
        """Takes the authority of the cluster, and renews what nears its end: the certificate, too,
        while metadata does not answer, where this host has had the authority."""
        local = await asyncio.to_thread(certificates.load, self._directory, self._cluster)
        try:
            held = await self._authorities.agree(local)
            if not authority.is_fresh(held.authority.certificate):
                _log.warning("the authority of the cluster nears its end: another takes its place")
                held = await self._authorities.renew()
        except PredastoreError:
            if local is not None and local.cluster:
                await self._show(local)
            raise
        await self._show(held)
        own = held.authority.fingerprint
        if self.current is None or self.current.authority.fingerprint != own:
            before = local.authority.fingerprint if local is not None and local.cluster else own
            level = logging.INFO if before == own else logging.WARNING
            told = {"file": self._directory / "ca.pem", "sha256": own}
            _log.log(level, "clients trust the authority of the cluster", extra=told)
        self.current = held
        self.agreed.set()

    async def _show(self, held: Held) -> None:
        """A certificate by this authority, that lasts."""
        names = await asyncio.to_thread(self._names)  # which asks for those of this host
        files = await asyncio.to_thread(certificates.ensure, self._directory, names, held)
        served = await asyncio.to_thread(files.cert.read_bytes)
        if served != self._served:
            self._changed(files)
            self._served = served

    def _say(self, error: PredastoreError) -> None:
        """Now and then."""
        now = asyncio.get_running_loop().time()
        if now - self._said_s < READY_LOG_MS / 1000:
            return
        self._said_s = now
        if isinstance(error, CorruptData):
            _log.error(
                "the authority of the cluster can not be used: %s. A host that holds it seals it "
                "anew when it starts with the new secret; where none does, s3d tls new --at-once "
                "makes another, whose file clients need",
                error,
            )
        else:
            _log.info("the authority of the cluster is waited for", extra={"error": str(error)})
