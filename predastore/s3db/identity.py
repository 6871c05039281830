"""Whose journal a directory holds: `member.id` beside it.

JSON: {"format": 1, "member": 2, "cluster_id": "<32 hex>"}. Written when the directory is made, or
when a journal without one is found (those of the first version), and compared at each start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from predastore.base.errors import OtherVersion, StartupError
from predastore.s3db.raft.disk import OsDisk

FILE_NAME: Final = "member.id"
FORMAT: Final = 1
CLUSTER_ID_BYTES: Final = 16


class MemberIdentity(msgspec.Struct, frozen=True):
    format: int
    member: int
    cluster_id: str


def establish(directory: Path, member: int, cluster_id: bytes) -> None:
    """Note whose directory it is; StartupError if it is another member's, or another cluster's."""
    if len(cluster_id) != CLUSTER_ID_BYTES:
        raise ValueError(f"a cluster id has {CLUSTER_ID_BYTES} bytes")
    found = read(directory)
    if found is None:
        _write(directory, MemberIdentity(FORMAT, member, cluster_id.hex()))
    else:
        _check(directory / FILE_NAME, found, member, cluster_id.hex())


def read(directory: Path) -> MemberIdentity | None:
    file = directory / FILE_NAME
    try:
        return msgspec.json.decode(file.read_bytes(), type=MemberIdentity)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise StartupError(
            f"{file} can not be read ({error}); remove it if you know whose data this is"
        ) from error


def _check(file: Path, found: MemberIdentity, member: int, cluster_id: str) -> None:
    if found.format != FORMAT:
        raise OtherVersion(
            f"{file} has format {found.format}, this program reads {FORMAT}; run the version that "
            "wrote it"
        )
    if found.cluster_id != cluster_id:
        raise StartupError(
            f"{file}: this is the data of cluster {found.cluster_id}, not of this one "
            f"({cluster_id}); give this member a path of its own, or correct [cluster] name"
        )
    if found.member != member:
        raise StartupError(
            f"{file}: this is the data of database member {found.member}, not of member {member}; "
            "start the member whose data it is, or give this one a path of its own"
        )


def _write(directory: Path, identity: MemberIdentity) -> None:
    disk = OsDisk(directory)
    temporary = FILE_NAME + ".new"
    disk.unlink(temporary)
    file = disk.create(temporary)
    try:
        file.append(msgspec.json.encode(identity) + b"\n")
        file.sync()
    finally:
        file.close()
    disk.rename(temporary, FILE_NAME)
    disk.sync_directory()
