"""Files of the original Predastore are taken as they stand; what is done differently is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from predastore.base import config
from predastore.base.config import losses
from predastore.base.config.policy import fits
from predastore.base.errors import ConfigError
from predastore.process import cli

DESIGN_EXAMPLE = """\
[rs]
data = 3
parity = 2

[[db]]
id = 1
host = "192.168.1.10"
port = 6660
raft_port = 7660
path = "/data/db/node-1/"
leader = true
access_key_id = "AKIDATABASE"
secret_access_key = "of-the-database"

[[db]]
id = 2
host = "192.168.1.11"
port = 6660
path = "/data/db/node-2/"
access_key_id = "AKIDATABASE"
secret_access_key = "of-the-database"

[[db]]
id = 3
host = "192.168.1.12"
port = 6660
advertise_host = "203.0.113.12"
epoch = 1
path = "/data/db/node-3/"
access_key_id = "AKIDATABASE"
secret_access_key = "of-the-database"
""" + "".join(
    f'[[nodes]]\nid = {n}\nhost = "192.168.1.{20 + n}"\nport = 999{n}\npath = "/data/node-{n}/"\n'
    for n in range(5)
)
EVERYWHERE = (
    'version = "1.0"\nregion = "ap-southeast-2"\ndebug = false\n'
    'badger_dir = "s3/tests/data/distributed/db"\n[rs]\ndata = 3\nparity = 2\n'
    + "".join(
        f'[[nodes]]\nid = {n}\nhost = "0.0.0.0"\nport = 999{n}\npath = "tests/nodes/node-{n}/"\n'
        for n in range(1, 8)
    )
    + "".join(
        f'[[buckets]]\nname = "{name}"\nregion = "ap-southeast-2"\ntype = "distributed"\n'
        'public = false\nencryption = ""\n'
        for name in ("datastore", "videos")
    )
    + """\
[[auth]]
access_key_id = "AKID"
secret_access_key = "secret"
policy = [
  { bucket = "datastore", actions = ["s3:ListBucket",  "s3:GetObject", "s3:ListAllMyBuckets"] },
  { bucket = "videos", actions = ["s3:ListBucket",  "s3:GetObject", "s3:PutObject"] },
]
"""
)
FILES = """\
version = "1.0"
region = "ap-southeast-2"
disable_logging = false
allow_anonymous_listing = false

[[buckets]]
name = "testbucket"
region = "ap-southeast-2"
type = "fs"
pathname = "tests/data/testbucket"
public = true
encryption = ""

[[buckets.acl]]
access_key_id = "X"
secret_access_key = "Y"
permissions = 1

[[buckets]]
name = "secure"
type = "fs"
pathname = "/srv/secure"

[ratelimit]
enabled = false
rate = 100
burst = 500
"""


def load(folder: Path, text: str) -> config.Config:
    file = folder / "cluster.toml"
    file.write_text(text)
    loaded = config.load(file)
    assert all(line.startswith(f"{file}:") for line in loaded.said)
    return loaded


def said(loaded: config.Config) -> list[str]:
    return [line.removeprefix(f"{loaded.source}:") for line in loaded.said]


def test_the_design_documents_example(tmp_path: Path) -> None:
    loaded = load(tmp_path, DESIGN_EXAMPLE)
    assert loaded.backend == "distributed"
    assert [row.raft_port for row in loaded.db] == [7660] * 3
    assert loaded.db[0].path == Path("/data/db/node-1")
    assert [line.partition(": ")[2] for line in said(loaded)] == [
        "[[db]] number 1, leader: a hint that is not needed: the members elect their leader",
        "[[db]] number 3, epoch: has no effect; the table of nodes has a version of its own",
        "backend: not written; [rs] means distributed".partition(": ")[2],
    ]
    assert said(loaded)[0].startswith("11: ")
    third = loaded.db[2]
    assert (third.host, third.listen_host) == ("203.0.113.12", "192.168.1.12")


def test_nodes_that_listen_everywhere_are_reached_on_this_host(tmp_path: Path) -> None:
    loaded = load(tmp_path, EVERYWHERE)
    assert loaded.backend == "distributed"
    assert {(row.host, row.listen_host) for row in loaded.nodes} == {("127.0.0.1", "0.0.0.0")}
    completed = config.complete(loaded)
    assert losses.summary(losses.Layout.of(completed)) == "any 2 nodes, no member"
    [badger, backend] = said(loaded)
    assert badger.startswith("4: badger_dir: not used; what is known of objects is below base_path")
    assert backend.endswith("[rs] means distributed")
    policy = loaded.auth[0].policy
    assert policy is not None
    assert policy.allows("s3:PutObject", "videos")
    assert not policy.allows("s3:PutObject", "datastore")
    assert loaded.auth[0].account_id == "000000000000"


def test_files_of_a_bucket_lie_where_the_file_says(tmp_path: Path) -> None:
    loaded = load(tmp_path, FILES)
    assert loaded.backend == "filesystem"
    assert [row.pathname for row in loaded.buckets] == [
        Path("data/tests/data/testbucket"),
        Path("/srv/secure"),
    ]
    [acl] = said(loaded)
    assert acl.startswith("14: [[buckets]] number 1, acl: has no effect; what a key may do")
    moved = config.with_base_path(loaded, Path("/mnt"))
    assert moved.buckets[0].pathname == Path("/mnt/tests/data/testbucket")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("disable_logging = true\n", "1: disable_logging: is logged all the same; write log_level"),
        ("allow_anonymous_access = true\n", "1: allow_anonymous_access: has no effect; anybody"),
        ("[ratelimit]\nenabled = true\nrate = 5\n", "1: ratelimit: requests are not limited"),
        ("[compaction]\ninterval_seconds = 5\n", "1: compaction: nodes compact as their pace"),
        ('[iam]\nnats_url = "nats://h"\n', "1: iam: keys come from [[auth]] alone"),
        (
            '[[buckets]]\nname = "one"\nencryption = "AES256"\n',
            "3: [[buckets]] number 1, encryption",
        ),
    ],
)
def test_what_is_done_differently_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    [found] = said(load(tmp_path, text))
    assert found.startswith(line)


def test_a_node_that_has_a_database_in_it_is_told_of_db(tmp_path: Path) -> None:
    row = (
        '[[nodes]]\nid = 1\nhost = "h"\nport = 1\ndb = true\ndbport = 2\ndbpath = "p"\nepoch = 0\n'
    )
    found = said(load(tmp_path, f"[rs]\ndata = 1\nparity = 0\n{row}leader = false\n"))
    assert [line.partition(", ")[2] for line in found[:3]] == [
        f"{key}: has no effect; the members of the database are [[db]]"
        for key in ("db", "dbport", "dbpath")
    ]


def test_debug_is_a_level_of_the_log(tmp_path: Path) -> None:
    assert load(tmp_path, "debug = true\n").log_level == "debug"
    assert load(tmp_path, 'debug = true\nlog_level = "error"\n').log_level == "error"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("debug = 1\n", ":1: debug: expected true or false, got 1"),
        ('[[db]]\nid = 1\nhost = "h"\nport = 1\nleader = "yes"\n', ":5: [[db]] number 1, leader:"),
        ("[ratelimit]\nburts = 1\n", "ratelimit: burts: unknown key; known are enabled, rate"),
        ('[[buckets]]\nname = "abc"\ntype = "s3"\n', "type: expected one of fs, distributed"),
        ("[rs]\nleader = true\n", ":2: [rs], leader: unknown key"),
    ],
)
def test_what_is_wrong_stays_wrong(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    [found] = caught.value.problems
    assert problem in found


# --- which backend ----------------------------------------------------------------------------

NODES = "".join(f'[[nodes]]\nid = {n}\nhost = "h"\nport = {n}\n' for n in range(1, 6))


@pytest.mark.parametrize(
    ("text", "backend"),
    [
        ("", "filesystem"),
        ("port = 1\n", "filesystem"),
        ("[rs]\n", "distributed"),
        ("[rs]\ndata = 1\nparity = 0\n" + NODES, "distributed"),
        (NODES, "distributed"),
        ('[[db]]\nid = 1\nhost = "h"\nport = 1\n', "distributed"),
        ('[cluster]\nsecret = "s"\n', "distributed"),
        ('[[buckets]]\nname = "abc"\ntype = "distributed"\n', "distributed"),
        ('[[buckets]]\nname = "abc"\ntype = "fs"\n', "filesystem"),
        ('backend = "filesystem"\n[rs]\n', "filesystem"),
    ],
)
def test_a_file_of_a_cluster_needs_no_backend(tmp_path: Path, text: str, backend: str) -> None:
    assert load(tmp_path, text).backend == backend


def test_a_flag_beats_what_the_tables_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text("[rs]\ndata = 2\nparity = 1\n")
    assert cli.resolve(["-config", "c.toml"], {})[0].backend == "distributed"
    line = ["-config", "c.toml", "-backend", "filesystem"]
    assert cli.resolve(line, {})[0].backend == "filesystem"


# --- listening --------------------------------------------------------------------------------


def rows(*hosts: str) -> str:
    return "[rs]\ndata = 1\nparity = 0\n" + "".join(
        f"[[nodes]]\nid = {n}\nport = 9991\n{host}" for n, host in enumerate(hosts)
    )


def at(host: str, advertised: str = "") -> str:
    return f'host = "{host}"\n' + (f'advertise_host = "{advertised}"\n' if advertised else "")


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        (at("0.0.0.0"), at("0.0.0.0"), True),
        (at("127.0.0.2"), at("0.0.0.0"), True),
        (at("0.0.0.0"), at("127.0.0.2"), True),
        (at("::"), at("0.0.0.0"), False),
        (at("::"), at("::1"), True),
        (at("0.0.0.0", "10.0.0.1"), at("0.0.0.0", "10.0.0.2"), False),  # two machines
        (at("0.0.0.0", "10.0.0.1"), at("0.0.0.0", "10.0.0.1"), True),
    ],
)
def test_two_that_listen_on_one_address_are_told(
    tmp_path: Path, first: str, second: str, clash: bool
) -> None:
    if not clash:
        load(tmp_path, rows(first, second))
        return
    with pytest.raises(ConfigError, match="is taken by"):
        load(tmp_path, rows(first, second))


# --- policies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text", "does"),
    [
        ("videos", "videos", True),
        ("videos", "videos2", False),
        ("*", "", True),
        ("logs-*", "logs-", True),
        ("logs-*", "log", False),
        ("*-logs", "my-logs", True),
        ("a*a", "a", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("*" * 50 + "b", "a" * 60, False),
    ],
)
def test_a_pattern_fits_the_whole_name(pattern: str, text: str, does: bool) -> None:
    assert fits(pattern, text) is does


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ('"s3:*"', "policy: expected a list such as [{ bucket ="),
        ('["s3:*"]', "rule 1: expected bucket and actions"),
        ('[{ bucket = "a" }]', "rule 1: expected bucket and actions"),
        ('[{ bucket = "a/b", actions = [] }]', "rule 1: bucket: expected a bucket's name"),
        ('[{ bucket = "A", actions = [] }]', "rule 1: bucket: expected a bucket's name"),
        ('[{ bucket = "*", actions = "s3:*" }]', "rule 1: actions: expected a list"),
        ('[{ bucket = "*", actions = ["GetObject"] }]', 'expected names such as "s3:GetObject"'),
        ('[{ bucket = "*", actions = [1] }]', 'expected names such as "s3:GetObject"'),
        (
            '[{ bucket = "*", actions = [], effect = "Deny" }]',
            "rule 1: expected bucket and actions",
        ),
    ],
)
def test_a_policy_that_can_not_be_obeyed_is_refused(
    tmp_path: Path, policy: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path, f'[[auth]]\naccess_key_id = "A"\nsecret_access_key = "S"\npolicy = {policy}\n'
        )
    [found] = caught.value.problems
    assert problem in found


def test_a_policy_of_everything_limits_nothing(tmp_path: Path) -> None:
    for rule, limited in (
        ('{ bucket = "*", actions = ["s3:*"] }', False),
        ('{ bucket = "*", actions = ["*"] }', False),
        ('{ bucket = "*", actions = ["s3:Get*"] }', True),
        ('{ bucket = "a*", actions = ["s3:*"] }', True),
        ("", True),
    ):
        text = f'[[auth]]\naccess_key_id = "A"\nsecret_access_key = "S"\npolicy = [{rule}]\n'
        assert load(tmp_path, text).auth[0].is_limited is limited
