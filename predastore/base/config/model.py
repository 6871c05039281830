"""The configuration as frozen structs, and the defaults for what a file leaves out.

Relative `path`s of nodes and db members lie below `base_path`; `base_path` itself, and tls_cert
and tls_key, are relative to the working directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from predastore.base import limits
from predastore.base.config.policy import Policy

BACKENDS: Final = ("filesystem", "distributed")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
ACTIVE: Final = "active"
DRAINING: Final = "draining"
BUCKET_TYPES: Final = {"fs": "filesystem", "distributed": "distributed"}  # the backend of each
NODE_STATES: Final = (ACTIVE, DRAINING)
OWNERSHIPS: Final = ("ObjectWriter", "BucketOwnerPreferred", "BucketOwnerEnforced")
RAFT_PORT_OFFSET: Final = 1000
LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # of all addresses, one that is reached
UMASK_DEFAULT: Final = "0077"  # files 0600, folders 0700


@dataclass(frozen=True)
class Rs:
    """The erasure code of new objects: k data and m parity shards, blocks of `block_bytes`.
    `write_min`: shards that have to be durable before a write is acknowledged; 0: the file does
    not say, `write_shards` does. `inline_max`: a body of up to so many bytes lies in the metadata,
    and has no shards."""

    data: int = 3
    parity: int = 2
    block_bytes: int = limits.BLOCK_BYTES_DEFAULT
    write_min: int = 0
    inline_max: int = limits.INLINE_BYTES_DEFAULT

    @property
    def write_shards(self) -> int:
        """`write_min`, or else: a write survives the loss of one more node, unless there is but one
        parity shard: then it would need every node, and none could be down."""
        return self.write_min or self.data + (1 if self.parity > 1 else 0)


@dataclass(frozen=True)
class Auth:
    """An S3 credential and the account it acts for. `policy`: what it may do of what the account
    may; None: all of it."""

    access_key_id: str
    secret_access_key: str
    account_id: str = "000000000000"
    policy: Policy | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is something that the account may do, and this key may not."""
        return self.policy is not None and not self.policy.is_everything


@dataclass(frozen=True)
class Db:
    """A member of the metadata cluster: REST over TCP on `port`, Raft over UDP on `raft_port`.
    `host`: where it is reached; `listen`: where it listens, if that is another address."""

    id: int
    host: str
    port: int
    raft_port: int
    path: Path
    access_key_id: str = ""
    secret_access_key: str = ""
    listen: str = ""

    @property
    def listen_host(self) -> str:
        """The address that it listens on."""
        return self.listen or self.host


@dataclass(frozen=True)
class Node:
    """A shard node: QUIC over UDP on `port`; `weight` is its share of the ring. `state`: one of
    NODE_STATES; a draining node gets no new shards, and loses those that it has to the others.
    `host`: where it is reached; `listen`: where it listens, if that is another address."""

    id: int
    host: str
    port: int
    path: Path
    weight: float = 1.0
    state: str = ACTIVE
    listen: str = ""

    @property
    def listen_host(self) -> str:
        """The address that it listens on."""
        return self.listen or self.host

    @property
    def is_draining(self) -> bool:
        return self.state == DRAINING


@dataclass(frozen=True)
class Bucket:
    """A bucket made at start if it is absent; `account_id` owns it, by default `owner_of`.
    `pathname`: where its files lie on the filesystem backend, by default below the base path.
    `type` (one of BUCKET_TYPES) and `region`: what the file says of them, or ""."""

    name: str
    public: bool = False
    account_id: str = ""
    region: str = ""
    type: str = ""
    pathname: Path | None = None


@dataclass(frozen=True)
class Oidc:
    """An identity provider whose tokens may begin sessions of roles: OpenID Connect. `audiences`:
    for whom its tokens must be. `ca`: authorities that verify it; None: the system's."""

    issuer: str
    audiences: tuple[str, ...]
    ca: Path | None = None


@dataclass(frozen=True)
class Cluster:
    """`secret` proves membership; `name` keeps the data of two clusters apart. `secrets_accepted`:
    by which others may prove it, too, while the secret is changed. `join`: (host, port)
    of processes of a running cluster, any of which tells the rest: members, nodes, code.
    `scrub_days`: within so many days each node of this process reads all that it holds back."""

    name: str = "predastore"
    secret: str = ""
    secrets_accepted: tuple[str, ...] = ()
    join: tuple[tuple[str, int], ...] = ()
    scrub_days: float = limits.NODE_SCRUB_DAYS_DEFAULT


@dataclass(frozen=True)
class S3:
    """What new buckets have that nobody said: `object_ownership`, one of OWNERSHIPS, and whether
    all of their public access block is on."""

    object_ownership: str = OWNERSHIPS[0]
    block_public_access: bool = False


@dataclass(frozen=True)
class Config:
    """A whole configuration. `source` is the file's path, or "" for development defaults.

    `domains`: base names of virtual-host style addresses: <bucket>.<domain>. `said`: what the file
    asks for and is done differently, a line each. `umask`: of the process, whatever it was started
    with; so files are 0600 and folders 0700 by default.
    """

    region: str = "us-east-1"
    host: str = "0.0.0.0"
    port: int = 8443
    domains: tuple[str, ...] = ()
    base_path: Path = Path("data")
    umask: str = UMASK_DEFAULT
    backend: str = "filesystem"
    log_level: str = "info"
    tls: bool = True
    tls_cert: Path | None = None
    tls_key: Path | None = None
    access_log: str = ""  # a file, or "-"; none where it is empty
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0  # 0: no listener
    rs: Rs = Rs()
    s3: S3 = S3()
    cluster: Cluster = Cluster()
    db: tuple[Db, ...] = ()
    nodes: tuple[Node, ...] = ()
    auth: tuple[Auth, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    oidc: tuple[Oidc, ...] = ()
    embedded_db: bool = False
    source: str = ""
    said: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Those of nodes and members, each once."""
        return tuple(dict.fromkeys([r.host for r in self.nodes] + [r.host for r in self.db]))


def owner_of(bucket: Bucket, auth: Sequence[Auth]) -> str:
    """The account that a bucket of the file is made for: that of the row, else of the first key
    whose policy names the bucket, else of the first key."""
    named = (
        row
        for row in auth
        if row.policy is not None and any(rule.bucket == bucket.name for rule in row.policy.rules)
    )
    return bucket.account_id or next(named, auth[0]).account_id


def development(base_path: Path, backend: str) -> Config:
    """What runs with no file at all: one process, data below `base_path`."""
    return Config(base_path=base_path, backend=backend)


def complete(config: Config) -> Config:
    """Fills in what a distributed backend needs and the file leaves out.

    Five local nodes (or k + m of them) where there are no [[nodes]], and an embedded database on
    127.0.0.1:6660 where there is no [[db]].
    """
    if config.backend != "distributed" or config.cluster.join:
        return config  # what the file of a process that joins leaves out, the cluster tells
    changes: dict[str, Any] = {}
    if not config.nodes:
        count = max(5, config.rs.data + config.rs.parity)
        changes["nodes"] = tuple(
            Node(n, "127.0.0.1", 9990 + n, config.base_path / "nodes" / f"node-{n}")
            for n in range(1, count + 1)
        )
    if not config.db:
        changes["db"] = (Db(1, "127.0.0.1", 6660, 7660, config.base_path / "db"),)
        changes["embedded_db"] = True
    return replace(config, **changes)


def with_base_path(config: Config, base_path: Path) -> Config:
    """`config` with another base path; nodes and members that lay below the old one move along."""

    def moved(path: Path) -> Path:
        return base_path / path.relative_to(old) if path.is_relative_to(old) else path

    old = config.base_path
    return replace(
        config,
        base_path=base_path,
        nodes=tuple(replace(row, path=moved(row.path)) for row in config.nodes),
        db=tuple(replace(row, path=moved(row.path)) for row in config.db),
        buckets=tuple(
            row if row.pathname is None else replace(row, pathname=moved(row.pathname))
            for row in config.buckets
        ),
    )
