"""Whose data a directory holds, and the lock that keeps a second process out of it.

`node.id` is JSON: {"format": 1, "node_id": 3, "cluster_id": "<32 hex>", "store_id": "<32 hex>"}.
The store id is drawn when the directory is made, and anew each time the index has to be built anew:
then nobody can tell what else is gone, and healing looks for all that the node should hold. The
index carries it too, so that an index copied from elsewhere is not believed. The file is written to
a temporary one that is synced, renamed, and its directory synced.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

import msgspec

from predastore.base import fs
from predastore.base.errors import InUse, OtherVersion, StartupError
from predastore.base.limits import NODE_FORMAT_VERSION

FILE_NAME = "node.id"
SEGMENTS = "segments"
INDEX = "index"
CLUSTER_ID_BYTES = 16


class NodeIdentity(msgspec.Struct, frozen=True):
    format: int
    node_id: int
    cluster_id: str
    store_id: str


class DirectoryLock:
    """An exclusive flock on the directory itself, held until `release` or the process ends."""

    def __init__(self, path: Path) -> None:
        """StartupError if another process, or another store of this one, has it."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise InUse(
                f"{path} is in use by another process; stop that one, or give this node a "
                "directory of its own"
            ) from None

    def release(self) -> None:
        os.close(self._descriptor)


def establish(path: Path, node_id: int, cluster_id: bytes) -> NodeIdentity:
    """The identity of the directory, written if the directory is new. StartupError if it is
    another node's, another cluster's, of another version, or unreadable."""
    if len(cluster_id) != CLUSTER_ID_BYTES:
        raise ValueError(f"a cluster id has {CLUSTER_ID_BYTES} bytes")
    file = path / FILE_NAME
    if file.exists():
        return _verified(file, _read(file), node_id, cluster_id.hex())
    if any((path / SEGMENTS).glob("*.seg")):
        raise StartupError(
            f"{path} has segments but no {FILE_NAME}; put the file back, or, if this data is not "
            "wanted, empty the directory"
        )
    made = NodeIdentity(NODE_FORMAT_VERSION, node_id, cluster_id.hex(), secrets.token_hex(16))
    fs.write_file(file, msgspec.json.encode(made) + b"\n", 0o600)
    fs.sync(path.parent)  # whoever made the folder may have been killed before that
    return made


def renewed(path: Path, identity: NodeIdentity) -> NodeIdentity:
    """The identity of the same directory with another store id, durably."""
    made = msgspec.structs.replace(identity, store_id=secrets.token_hex(16))
    fs.write_file(path / FILE_NAME, msgspec.json.encode(made) + b"\n", 0o600)
    return made


def read_identity(path: Path) -> NodeIdentity:
    """Whose data a directory holds. StartupError if it does not say, or in another format."""
    file = path / FILE_NAME
    if not file.exists():
        raise StartupError(f"{path} is not the directory of a node: it has no {FILE_NAME}")
    found = _read(file)
    return _verified(file, found, found.node_id, found.cluster_id)


def _read(file: Path) -> NodeIdentity:
    try:
        return msgspec.json.decode(file.read_bytes(), type=NodeIdentity)
    except msgspec.DecodeError as error:
        raise StartupError(
            f"{file} can not be read ({error}); put it back from a backup, or, if this node's data "
            "is not wanted, empty the directory: objects then read from the other nodes"
        ) from error


def _verified(file: Path, found: NodeIdentity, node_id: int, cluster_id: str) -> NodeIdentity:
    if found.format != NODE_FORMAT_VERSION:
        raise OtherVersion(
            f"{file} has format {found.format}, this program reads {NODE_FORMAT_VERSION}; run the "
            "version that wrote it"
        )
    if found.cluster_id != cluster_id:
        raise StartupError(
            f"{file} belongs to cluster {found.cluster_id}, not to this one ({cluster_id}); give "
            "this node another path, or the configuration its cluster's name ([cluster] name)"
        )
    if found.node_id != node_id:
        raise StartupError(
            f"{file} belongs to node {found.node_id}, not to node {node_id}; give this node "
            "another path, or correct its id"
        )
    return found
