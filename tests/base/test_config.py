"""Configuration: what a file says is what runs, and each mistake is one line that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from predastore.base import config, limits
from predastore.base.errors import ConfigError

SHIPPED = Path(__file__).resolve().parents[2] / "config"


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "cluster.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    return [line.removeprefix(str(file)) for line in caught.value.problems]


def nodes(count: int, *, first: int = 1) -> str:
    rows = []
    for n in range(first, count + 1):
        rows.append(f'[[nodes]]\nid = {n}\nhost = "127.0.0.1"\nport = {9000 + n}\n')
    return "\n".join(rows)


@pytest.mark.parametrize("name", ["server.toml", "cluster.toml", "dev.toml"])
def test_shipped_files_load(name: str) -> None:
    loaded = config.load(SHIPPED / name)
    assert loaded.source.endswith(name)


@pytest.mark.parametrize(
    ("data", "parity", "least"), [(3, 2, 4), (4, 3, 5), (2, 1, 2), (1, 1, 1), (3, 0, 3)]
)
def test_a_write_needs_one_shard_more_than_a_read_unless_that_is_every_node(
    data: int, parity: int, least: int
) -> None:
    assert config.Rs(data, parity).write_shards == least


@pytest.mark.parametrize("least", [2, 6])
def test_a_write_that_could_not_be_read_or_not_be_done_is_refused(
    tmp_path: Path, least: int
) -> None:
    (told,) = problems(tmp_path, f"[rs]\nwrite_min = {least}\n")
    assert told == (
        f":2: [rs], write_min: {least} shards can not be the least of a write under RS(3,2); write "
        "3 (as few as give it back) to 5 (all of them)"
    )


def test_a_code_so_wide_that_a_large_upload_could_not_be_completed_is_refused(
    tmp_path: Path,
) -> None:
    most = limits.CODE_SHARDS_MAX
    assert 50 < most < limits.SHARDS_MAX
    (tmp_path / "most.toml").write_text(f"[rs]\ndata = {most - 4}\nparity = 4\n")
    assert config.load(tmp_path / "most.toml").rs.data == most - 4
    assert problems(tmp_path, f"[rs]\ndata = {most - 3}\nparity = 4\n") == [
        f":3: [rs], parity: data + parity is {most + 1}; write at most {most} in all: an upload of "
        "10,000 parts could not be completed"
    ]


@pytest.mark.parametrize(
    ("written", "size"), [("0", 0), ("1", 1), ('"16KiB"', 16384), ("65536", 65536)]
)
def test_what_is_inline_may_be_nothing_or_64_kib(tmp_path: Path, written: str, size: int) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f"[rs]\ninline_max = {written}\n")
    assert config.load(file).rs.inline_max == size
    assert config.Rs().inline_max == 8192


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("65537", "expected 0 to 65536 bytes, got 65537"),
        ('"1MiB"', "expected 0 to 65536 bytes, got 1048576"),
        ("-1", 'expected a size such as "1MiB" or 1048576, got -1'),
        ("false", 'expected a size such as "1MiB" or 1048576, got False'),
    ],
)
def test_more_than_64_kib_are_not_inline(tmp_path: Path, written: str, told: str) -> None:
    assert problems(tmp_path, f"[rs]\ninline_max = {written}\n") == [
        f":2: [rs], inline_max: {told}"
    ]


def test_shipped_cluster_is_the_documented_example() -> None:
    loaded = config.load(SHIPPED / "cluster.toml")
    assert (loaded.rs.data, loaded.rs.parity, loaded.rs.block_bytes) == (3, 2, 1 << 20)
    assert [member.raft_port for member in loaded.db] == [7660] * 5
    assert [node.path for node in loaded.nodes] == [
        Path(f"data/nodes/node-{n}") for n in range(1, 6)
    ]
    assert loaded.backend == "distributed"
    assert loaded.auth == ()  # no well-known credentials


def test_values_reach_the_structs(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'region = "eu-central-1"\nbase_path = "/srv/s3"\ntls = false\n'
        '[rs]\ndata = 2\nparity = 1\nblock_size = "64KiB"\nwrite_min = 3\ninline_max = "4KiB"\n'
        '[[db]]\nid = 0\nhost = "db.example"\nport = 6000\nraft_port = 6001\npath = "/fast/db"\n'
        '[[auth]]\naccess_key_id = "A"\nsecret_access_key = "S"\naccount_id = "1"\n'
        "[cluster]\nscrub_days = 3.5\n"
        '[[buckets]]\nname = "photos"\npublic = true\n' + nodes(3)
    )
    loaded = config.load(file)
    assert loaded.region == "eu-central-1"
    assert loaded.rs == config.Rs(2, 1, 65536, write_min=3, inline_max=4096)
    assert loaded.rs.write_shards == 3
    assert loaded.db == (config.Db(0, "db.example", 6000, 6001, Path("/fast/db")),)
    assert loaded.nodes[0].path == Path("/srv/s3/nodes/node-1")
    assert loaded.auth == (config.Auth("A", "S", "1"),)
    assert loaded.buckets == (config.Bucket("photos", public=True),)
    assert not loaded.tls
    assert loaded.cluster.scrub_days == 3.5


def test_distributed_without_nodes_gets_five_and_an_embedded_database() -> None:
    completed = config.complete(config.development(Path("d"), "distributed"))
    assert len(completed.nodes) == 5
    assert completed.embedded_db
    assert (completed.db[0].host, completed.db[0].port) == ("127.0.0.1", 6660)
    assert completed.db[0].path == Path("d/db")


def test_a_wide_code_gets_as_many_nodes_as_shards() -> None:
    wide = config.parse({"backend": "distributed", "rs": {"data": 10, "parity": 4}}, "f")
    assert len(config.complete(wide).nodes) == 14


def test_base_path_moves_what_lies_below_it() -> None:
    moved = config.with_base_path(config.load(SHIPPED / "cluster.toml"), Path("/mnt"))
    assert moved.nodes[0].path == Path("/mnt/nodes/node-1")
    assert moved.db[2].path == Path("/mnt/db/db-3")


MISTAKES = {
    "unknown key": ("zzz = 8443\n", ":1: zzz: unknown key; known are region, host, port"),
    "nearly a key": ("prot = 8443\n", ":1: prot: unknown key; did you mean port?"),
    "nearly a key that is there": (
        "port = 1\nprot = 2\n",
        ":2: prot: unknown key; did you mean port?",
    ),
    "nearly a key of the original": (
        '[[db]]\nid = 1\nhost = "h"\nport = 1\nleadr = true\n',
        ":5: [[db]] number 1, leadr: unknown key; did you mean leader?",
    ),
    "nearly a table, and of the other kind": (
        "[node]\nid = 1\n",
        ":1: [node]: unknown table; did you mean [[nodes]]?",
    ),
    "nearly a table that is there": (
        "[rs]\n[sr]\ndata = 0\n",
        ":2: [sr]: unknown table; did you mean [rs]?",
    ),
    "nearly a key, of no use": ('prot = "x"\n', ":1: prot: unknown key; did you mean port?"),
    "nearly a key that a row needs": (
        '[[nodes]]\nid = 1\nhots = "h"\nport = 1\n' + nodes(5, first=2),
        ":3: [[nodes]] number 1, hots: unknown key; did you mean host?",
    ),
    "nearly a key of a pair": (
        '[[auth]]\nacces_key_id = "A"\nsecret_access_key = "S"\n',
        ":2: [[auth]] number 1, acces_key_id: unknown key; did you mean access_key_id?",
    ),
    "nearly the code": (
        "[rs]\ndta = 2\nparity = 1\n" + nodes(3),
        ":2: [rs], dta: unknown key; did you mean data?",
    ),
    "no code": ('[rs]\ndata = "2"\nparity = 1\n' + nodes(3), ":2: [rs], data: expected a whole"),
    "nearly a path": ('tls_crt = "a"\ntls_key = "b"\n', ":1: tls_crt: unknown key; did you mean"),
    "key of a table": (
        "data = 2\n" + nodes(3),
        ":1: data: unknown key; it is a key of [rs]: write",
    ),
    "key of the top": (
        nodes(5) + "\nregion = 'r'\n",
        ":26: [[nodes]] number 5, region: unknown key; it is a key of the top level and "
        "[[buckets]]: write it there, above all tables",
    ),
    "nearly a key of a table": (
        'blok_size = "1MiB"\n' + nodes(5),
        ":1: blok_size: unknown key; did you mean block_size, a key of [rs]?",
    ),
    "nearly a key of the top, in a table": (
        "[rs]\nbase_pth = 'x'\n" + nodes(5),
        ":2: [rs], base_pth: unknown key; did you mean base_path, a key of the top level?",
    ),
    "nearly a key that others miss": (
        'secret_acces_key = "S"\n[[auth]]\naccess_key_id = "A"\n',
        ":1: secret_acces_key: unknown key; did you mean secret_access_key, a key of [[db]]",
    ),
    "key of a table that misses it": (
        'secret_access_key = "S"\n[[auth]]\naccess_key_id = "A"\n',
        ":1: secret_access_key: unknown key; it is a key of [[db]] and [[auth]]: write it there",
    ),
    "unknown table": (
        "port = 1\n\n[zzz]\nport = 1\n",
        ":3: [zzz]: unknown table; known are [rs], [s3], [cluster], [[db]], [[nodes]], [[auth]], "
        "[[buckets]]",
    ),
    "unknown tables": ("[[zzz]]\na = 1\n[[zzz]]\n", ":1: [[zzz]]: unknown table; known are [rs]"),
    "unknown inner table": ("[zzz.b]\na = 1\n", ":1: [zzz]: unknown table; known are [rs]"),
    "nearly a table": ("[clustr]\nsecret = 's'\n", ":1: [clustr]: unknown table; did you mean [cl"),
    "nearly tables": (
        nodes(5).replace("nodes", "node"),
        ":1: [[node]]: unknown table; did you mean [[nodes]]?",
    ),
    "nearly tables, and few": (
        nodes(2).replace("nodes", "noeds"),
        ":1: [[noeds]]: unknown table; did you mean [[nodes]]?",
    ),
    "nearly the table of the code": (
        "[sr]\ndata = 2\nparity = 1\n" + nodes(3),
        ":1: [sr]: unknown table; did you mean [rs]?",
    ),
    "not nearly the table of the code": (
        "[reed_solomon]\ndata = 2\nparity = 1\n" + nodes(3),
        ":1: [reed_solomon]: unknown table; known are [rs]",
    ),
    "table for a key": (
        "[[host]]\nid = 1\n[[host]]\nid = 2\n",
        ":1: host: [[host]] is no table, but a key: write host = ...; tables are [rs], [s3], ",
    ),
    "a value without end": (f"region = {[1] * 1000}\n", "expected a text in quotes, got [1, 1, 1"),
    "table in a table": (
        "[rs]\ndata = 3\n[rs.zzz]\na = 1\n",
        ":3: [rs], zzz: unknown table; known are data, parity",
    ),
    "type": ('port = "x"\n', ":1: port: expected a whole number from 1 to 65535, got 'x'"),
    "umask": ('umask = "0700"\n', ":1: umask: expected permissions that others shall not have"),
    "umask is no number": ("umask = 77\n", "expected a text in quotes"),
    "domains": ('domains = "x"\n', "expected a list of host names"),
    "address as domain": ('domains = ["10.0.0.1"]\n', "is an address, and a bucket can not"),
    "bool is no number": ("port = true\n", "expected a whole number"),
    "range": ("port = 70000\n", "expected a whole number from 1 to 65535, got 70000"),
    "backend": ('backend = "s3"\n', "expected one of filesystem, distributed"),
    "host": ('host = "a b"\n', 'expected a host name or an IP address, got "a b"'),
    "address": ('host = "999.1.1.1"\n', "expected a host name or an IP address"),
    "not toml": ("port = \n", "not TOML"),
    "table for list": ("[nodes]\nid = 1\n", "write [[nodes]], in two brackets"),
    "list for table": ("[[rs]]\ndata = 1\n", "write [rs] and its keys below it"),
    "missing": ("[[nodes]]\nid = 1\nport = 1\n", "[[nodes]] number 1, host: missing; write host ="),
    "few nodes": ("[rs]\ndata = 3\nparity = 2\n" + nodes(4), "RS(3,2) puts 5 shards on 5 nodes"),
    "wide code": ("[rs]\ndata = 200\nparity = 100\n", "write at most 79 in all"),
    "zero data": ("[rs]\ndata = 0\n", "expected a whole number from 1 to 256, got 0"),
    "block size": ('[rs]\nblock_size = "1 potato"\n', 'expected a size such as "1MiB"'),
    "block range": ('[rs]\nblock_size = "1GiB"\n', "expected a block size from"),
    "duplicate id": (nodes(5).replace("id = 5", "id = 1"), "1 stands in [[nodes]] number 1 too"),
    "clashing port": (nodes(5).replace("9005", "9001"), "udp port 9001 on 127.0.0.1 is taken by"),
    "half a pair": ('tls_cert = "a.pem"\n', "tls_key: tls_cert and tls_key go together"),
    "bucket name": ('[[buckets]]\nname = "A_b"\n', "is no bucket name"),
    "raft port": ('[[db]]\nid = 1\nhost = "h"\nport = 65000\n', "66000 is over 65535"),
    "weight": (nodes(5) + "weight = 0\n", "expected a number from"),
    "state": (nodes(5) + 'state = "gone"\n', "expected one of active, draining"),
    "draining": (nodes(5) + 'state = "draining"\n', "4 of the file's [[nodes]] are not draining"),
    "scrub days": ("[cluster]\nscrub_days = 0\n", "expected a number from 0.01 to 366, got 0"),
    "scrub days as text": ('[cluster]\nscrub_days = "x"\n', "expected a number from 0.01 to 366"),
    "nested lists": ("port = " + "[" * 5_000 + "]" * 5_000 + "\n", ": nested too deeply; write"),
    "nested tables": (
        "port." + "a." * 5_000 + "b = 1\n",
        ":1: port: [port] is no table, but a key",
    ),
    "digits": ("port = " + "1" * 5_000 + "\n", ": not TOML: "),
    "secret of a number": (
        "[cluster]\nsecret = 12345678\n",
        ":2: [cluster], secret: expected a text",
    ),
    "key of a number": (
        '[[auth]]\naccess_key_id = "A"\nsecret_access_key = 12345678\n',
        ":3: [[auth]] number 1, secret_access_key: expected a text in quotes",
    ),
    "empty secret": ('[cluster]\nsecret = ""\n', "expected a text in quotes"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_one_clear_line(tmp_path: Path, name: str) -> None:
    text, wanted = MISTAKES[name]
    found = problems(tmp_path, text)
    assert len(found) == 1, found
    assert wanted in found[0]
    assert "12345678" not in found[0]


def test_all_mistakes_come_at_once_with_their_lines(tmp_path: Path) -> None:
    text = (
        'regoin = "x"\n[rs]\ndata = -1\n\n'
        '[[nodes]]\nid = 1\nhost = "h"\nport = 1\n[[nodes]]\nid = "2"\n'
    )
    found = problems(tmp_path, text)
    assert [line.split(":")[1] for line in found[:3]] == ["1", "3", "10"]
    assert len(found) >= 5  # and the two keys that the second node lacks


def test_too_many_members(tmp_path: Path) -> None:
    rows = "".join(f'[[db]]\nid = {n}\nhost = "h{n}"\nport = 6660\n' for n in range(8))
    assert any("at most 7 members" in line for line in problems(tmp_path, rows))


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: can not be read .*-config"):
        config.load(tmp_path / "nowhere.toml")
