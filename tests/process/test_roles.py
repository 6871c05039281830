"""The four modes: which parts a process runs, from flags and file."""

from __future__ import annotations

from pathlib import Path

import pytest

from predastore.base import config
from predastore.base.errors import ConfigError
from predastore.process import roles

CLUSTER = config.load(Path(__file__).resolve().parents[2] / "config" / "cluster.toml")
DISTRIBUTED = config.complete(config.parse({**{"backend": "distributed"}}, "f"))
FILE = config.complete(config.parse({}, "f"))


def distributed_cluster() -> config.Config:
    from dataclasses import replace

    return replace(CLUSTER, backend="distributed")


def chosen(settings: config.Config, local: str = "127.0.0.", **flags: object) -> roles.Roles:
    return roles.choose(settings, is_local=lambda host: host.startswith(local), **flags)


def test_development_runs_everything() -> None:
    found = chosen(DISTRIBUTED)
    assert found.s3
    assert len(found.nodes) == 5
    assert len(found.members) == 1


def test_production_runs_one_of_each() -> None:
    found = chosen(distributed_cluster(), node=2, db_node=3)
    assert found.s3
    assert [row.id for row in found.nodes] == [2]
    assert [row.id for row in found.members] == [3]


def test_a_shard_node_alone_runs_no_member() -> None:
    found = chosen(distributed_cluster(), node=4)
    assert found.s3
    assert [row.id for row in found.nodes] == [4]
    assert found.members == ()


def test_database_only_runs_no_s3() -> None:
    found = chosen(distributed_cluster(), db_only=True, db_node=1)
    assert not found.s3
    assert found.nodes == ()
    assert [row.id for row in found.members] == [1]


def test_only_local_rows_run_without_a_choice() -> None:
    found = chosen(distributed_cluster(), local="127.0.0.2")
    assert [row.id for row in found.nodes] == [2]
    assert [row.id for row in found.members] == [2]


def test_filesystem_has_no_nodes() -> None:
    assert chosen(FILE) == roles.Roles(s3=True, nodes=(), members=())
    with pytest.raises(ConfigError, match="add -backend distributed"):
        chosen(FILE, node=1)


def test_one_node_of_an_embedded_database_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"add \[\[db\]\]"):
        chosen(DISTRIBUTED, node=1)


def test_unknown_ids_name_the_known() -> None:
    with pytest.raises(ConfigError, match=r"write one of 1, 2, 3, 4, 5$"):
        chosen(distributed_cluster(), db_node=9)


def test_database_only_needs_a_local_member() -> None:
    with pytest.raises(ConfigError, match="name one with -db-node"):
        chosen(distributed_cluster(), local="10.", db_only=True)


def test_loopback_is_local_and_a_documentation_address_is_not() -> None:
    assert roles.is_local("127.0.0.3")
    assert not roles.is_local("192.0.2.1")
