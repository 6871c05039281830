"""Keys of this cluster: S3 credentials made at the first start, and the cluster key.

A generated credential lies in <base_path>/credentials.json with mode 0600 and is the same for
all processes that share the directory. The cluster key, which every cluster connection proves,
comes from `[cluster] secret`, else from the credentials that all processes share.

What is no S3 (the REST API of s3db, metrics) is signed by the operator's credential: the first
that no policy limits. Where each of [[auth]] is limited, it is a generated one, known to this host
alone, and the cluster key is made of it, too: whoever has a limited key can compute neither. On
several hosts, which can share nothing but their file, it is derived from the cluster key, which is
as good as `[cluster] secret` is. Several hosts whose file has no [[auth]], but a key in [[db]],
take that one for S3, too: it is all that they share.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from predastore.auth.sigv4 import Credential, signing_key
from predastore.base import fs
from predastore.base.config import Auth, Config
from predastore.base.errors import StartupError
from predastore.base.limits import CLUSTER_SECRETS_MAX

FILE_NAME: Final = "credentials.json"
_ACCOUNT_ID: Final = "000000000000"


@dataclass(frozen=True)
class Keys:
    """`auth`: what S3's requests are verified by. `operator`: signs what is no S3. `cluster`: the
    cluster key, 32 bytes. `generated`: whether `auth` is the credential of the base path.

    `accepted`: keys by which other processes may prove themselves, too, while `[cluster] secret` is
    changed. `operators`: those that may sign what is no S3, `operator` first."""

    auth: tuple[Auth, ...]
    operator: Auth
    cluster: bytes
    generated: bool = False
    accepted: tuple[bytes, ...] = ()
    operators: tuple[Auth, ...] = ()


def keys(config: Config, generated: Callable[[], Auth], is_local: Callable[[str], bool]) -> Keys:
    """The keys of a process. `generated`: the credential of its base path, asked for where there is
    no other."""
    found = _keys(config, generated, is_local)
    accepted = tuple(_of_secret(config, secret) for secret in config.cluster.secrets_accepted)
    accepted = tuple(key for key in dict.fromkeys(accepted) if key != found.cluster)
    is_derived = found.operator == _derived(found.cluster)
    others = map(_derived, accepted) if is_derived else ()
    return replace(found, accepted=accepted, operators=(found.operator, *others))


def _keys(config: Config, generated: Callable[[], Auth], is_local: Callable[[str], bool]) -> Keys:
    free = next((row for row in config.auth if not row.is_limited), None)
    if free is not None:
        return Keys(config.auth, free, cluster_key(config, config.auth))
    others = not all(map(is_local, config.hosts))
    if config.auth and (config.cluster.secret or config.cluster.join or others):
        key = cluster_key(config, config.auth)
        return Keys(config.auth, _derived(key), key)
    member = next((row for row in config.db if row.access_key_id), None)
    if member is not None and others and not config.auth:
        shared = Auth(member.access_key_id, member.secret_access_key, _ACCOUNT_ID)
        return Keys((shared,), shared, cluster_key(config, ()))
    own = generated()
    key = cluster_key(config, (*config.auth, own))
    return Keys(config.auth or (own,), own, key, generated=not config.auth)


def _derived(key: bytes) -> Auth:
    """The operator's credential of a cluster that has none, the same on each of its hosts. Its name
    tells apart those of two cluster keys."""
    info = b"predastore operator v1"
    secret = HKDF(SHA256(), 32, salt=None, info=info).derive(key).hex()
    named = hashlib.sha256(f"predastore operator {secret}".encode()).hexdigest()[:8].upper()
    return Auth(f"PSOPERATOR{named}", secret, _ACCOUNT_ID)


class Known:
    """The credentials that requests are verified by. They are replaced all at once."""

    def __init__(self, rows: Sequence[Auth]) -> None:
        self._by_id: dict[str, Credential] = {}
        self._accounts: frozenset[str] = frozenset()
        self.replace(rows)

    async def has_account(self, account: str) -> bool:
        """Whether a credential is of this account."""
        return account in self._accounts

    def find(self, access_key_id: str) -> Credential | None:
        return self._by_id.get(access_key_id)

    def replace(self, rows: Sequence[Auth]) -> None:
        """From the next request on; keys derived from secrets that are no more are forgotten."""
        self._by_id = {
            row.access_key_id: Credential(
                row.access_key_id, row.secret_access_key, row.account_id, row.policy
            )
            for row in rows
        }
        self._accounts = frozenset(row.account_id for row in rows)
        signing_key.cache_clear()


def ensure(base_path: Path) -> Auth:
    """The generated credential of `base_path`, made now if there is none yet."""
    file = base_path / FILE_NAME
    fs.make_folder(base_path)
    with (base_path / ".credentials.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            _write(file, Auth(_access_key_id(), secrets.token_urlsafe(30), _ACCOUNT_ID))
    return _read(file)


def _access_key_id() -> str:
    """20 characters like AWS's, so that clients which check the form accept it."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return "PS" + "".join(secrets.choice(alphabet) for _ in range(18))


def _write(file: Path, auth: Auth) -> None:
    content = json.dumps(
        {
            "access_key_id": auth.access_key_id,
            "secret_access_key": auth.secret_access_key,
            "account_id": auth.account_id,
        },
        indent=2,
    )
    fs.write_file(file, f"{content}\n".encode(), 0o600)


def _read(file: Path) -> Auth:
    try:
        raw = json.loads(file.read_text("utf-8"))
        return Auth(
            str(raw["access_key_id"]), str(raw["secret_access_key"]), str(raw["account_id"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartupError(
            f"{file} can not be read ({error}); restore it from a backup, or remove it to have a "
            "new key pair made"
        ) from None


def cluster_key(config: Config, auth: tuple[Auth, ...]) -> bytes:
    """The 32-byte cluster key: HKDF-SHA256 (RFC 5869) of the secret or the shared credentials."""
    if config.cluster.secret:
        return _of_secret(config, config.cluster.secret)
    pairs = [(row.access_key_id, row.secret_access_key) for row in auth]
    pairs += [(row.access_key_id, row.secret_access_key) for row in config.db]
    return _made_of(config, "credentials:" + json.dumps(sorted(set(pairs))))


def _of_secret(config: Config, secret: str) -> bytes:
    return _made_of(config, "secret:" + secret)


def _made_of(config: Config, material: str) -> bytes:
    info = f"predastore cluster key v1 {config.cluster.name}".encode()
    return HKDF(SHA256(), 32, salt=None, info=info).derive(material.encode())


@lru_cache(maxsize=CLUSTER_SECRETS_MAX)
def token_key(cluster: bytes) -> bytes:
    """32 bytes, of the cluster key, that authenticate continuation tokens: the same on every
    gateway of a cluster."""
    info = b"predastore continuation tokens v1"
    return HKDF(SHA256(), 32, salt=None, info=info).derive(cluster)


def cluster_id(config: Config) -> bytes:
    """16 bytes that data directories carry, so that a disk of another cluster is refused."""
    info = f"predastore cluster id v1 {config.cluster.name}".encode()
    return HKDF(SHA256(), 16, salt=None, info=info).derive(b"predastore")
