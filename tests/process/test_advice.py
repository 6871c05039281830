"""What is fine in a configuration, and worth a second look, is said with what to write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from predastore.base import config
from predastore.base.config import Auth, Bucket, Config, Node, Policy, losses
from predastore.base.config.model import Cluster, Db
from predastore.base.config.policy import Rule
from predastore.process import advice
from predastore.s3.access import BYPASS_GOVERNANCE, OF_A_VERSION
from predastore.s3.routes import ROUTES

GOOD = "0b8a6a3f5e1f4c0e9d7c2b1a0f9e8d7c"
CLUSTER = Config(
    backend="distributed",
    cluster=Cluster(secret=GOOD),
    rs=config.Rs(1, 0),
    nodes=(Node(1, "127.0.0.1", 9991, Path("n")),),
    db=(Db(1, "127.0.0.1", 6660, 7660, Path("d")),),
    auth=(Auth("A", GOOD),),
)


def warnings(settings: Config, *others: str) -> list[str]:
    """`others`: hosts that are not this one."""
    return advice.warnings(settings, lambda host: host not in others)


def limited(*rules: tuple[str, str], name: str = "L", account: str = "1") -> Auth:
    policy = Policy(tuple(Rule(where, tuple(what.split())) for where, what in rules))
    return Auth(name, GOOD + name, account, policy)


def test_nothing_is_said_of_what_is_good() -> None:
    assert warnings(CLUSTER) == advice.notes(CLUSTER) == []


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("changeme", "can be found by trying"),
        ("a" * 64, "can be found by trying"),
        ("abcabcabcabcabcabcabc", "can be found by trying"),
        ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "stands in public documents"),
    ],
)
def test_a_weak_secret_is_named_wherever_it_stands_and_not_shown(secret: str, why: str) -> None:
    for settings, place in (
        (replace(CLUSTER, cluster=Cluster(secret=secret)), "[cluster] secret"),
        (replace(CLUSTER, auth=(Auth("A", secret),)), "[[auth]] A"),
        (
            replace(
                CLUSTER, db=(replace(CLUSTER.db[0], access_key_id="D", secret_access_key=secret),)
            ),
            "[[db]] id 1",
        ),
    ):
        [said] = warnings(settings)
        assert said.startswith(f"{place}: this secret {why}; write the output of: openssl rand")
        assert secret not in said


@pytest.mark.parametrize("secret", [GOOD, "kPxRfiCYbTenantKey0zQ", "correct horse battery staple"])
def test_a_secret_that_is_hard_to_find_is_fine(secret: str) -> None:
    assert warnings(replace(CLUSTER, cluster=Cluster(secret=secret))) == []


def test_an_even_number_of_members_is_named() -> None:
    row = CLUSTER.db[0]
    members = tuple(replace(row, id=n, port=6660 + n) for n in range(4))
    [said] = warnings(replace(CLUSTER, db=members))
    assert "write 5 [[db]], or 3" in said


def test_an_action_that_nothing_asks_for_is_named_with_the_one_that_was_meant() -> None:
    rules = ("videos", "s3:getobjcet s3:get* s3:getobject s3:zzz")
    [first, second] = warnings(replace(CLUSTER, auth=(CLUSTER.auth[0], limited(rules))))
    assert first == (
        "[[auth]] L, policy: no operation asks for s3:getobjcet; did you mean s3:GetObject?"
    )
    assert second == "[[auth]] L, policy: no operation asks for s3:zzz"


def test_every_action_of_a_route_is_known() -> None:
    actions = [*(route.action for route in ROUTES), *OF_A_VERSION.values(), BYPASS_GOVERNANCE]
    rules = [("videos", action.lower()) for action in actions]
    assert warnings(replace(CLUSTER, auth=(CLUSTER.auth[0], limited(*rules)))) == []


def test_a_policy_of_nothing_is_named() -> None:
    for auth in (limited(), limited(("videos", ""))):
        [said] = warnings(replace(CLUSTER, auth=(CLUSTER.auth[0], auth)))
        assert said.startswith("[[auth]] L, policy: allows nothing")


def test_a_policy_for_the_bucket_of_another_account_is_named() -> None:
    auth = (CLUSTER.auth[0], limited(("videos", "s3:*"), account="2"))
    owned = replace(CLUSTER, auth=auth, buckets=(Bucket("videos", account_id="3"),))
    [said] = warnings(owned)
    assert "videos belongs to account 3" in said
    assert said.endswith('write account_id = "2" for [[buckets]] videos')
    assert warnings(replace(owned, buckets=(Bucket("videos"),))) == []


def test_a_limited_key_that_is_the_databases_is_named() -> None:
    auth = limited(("videos", "s3:*"))
    pair = {"access_key_id": auth.access_key_id, "secret_access_key": auth.secret_access_key}
    settings = replace(CLUSTER, auth=(auth,), db=(replace(CLUSTER.db[0], **pair),))
    [said] = warnings(settings)
    assert said.startswith("[[db]] id 1: its key is one of [[auth]] with a policy")


def test_a_key_of_the_database_that_stands_in_for_auth_is_named() -> None:
    row = replace(CLUSTER.db[0], host="192.0.2.1", access_key_id="D", secret_access_key=GOOD)
    settings = replace(CLUSTER, auth=(), db=(row,))
    [said] = [one for one in warnings(settings, "192.0.2.1") if "[[auth]]" in one]
    assert said.startswith("[[auth]]: none is given, and S3 takes the key of [[db]] id 1")
    assert not any("[[auth]]" in one for one in warnings(settings))


def test_limited_keys_that_make_the_key_of_several_hosts_are_named() -> None:
    nodes = (*CLUSTER.nodes, Node(2, "192.0.2.1", 9991, Path("m")))
    settings = replace(CLUSTER, nodes=nodes, auth=(limited(("videos", "s3:*")),))
    assert warnings(settings, "192.0.2.1") == []  # it has a secret
    [said] = warnings(replace(settings, cluster=Cluster()), "192.0.2.1")
    assert "write [cluster] secret, the output of: openssl rand" in said
    assert warnings(replace(settings, cluster=Cluster())) == []  # one host: a key of its own


def test_who_listens_everywhere_needs_an_address_for_the_others() -> None:
    hosts = ["0.0.0.0", "192.0.2.1"]
    raw = [{"id": n, "host": host, "port": 9991 + n} for n, host in enumerate(hosts)]
    base = config.parse({"rs": {"data": 1, "parity": 0}, "nodes": raw, "db": raw[1:]}, "f")
    settings = replace(base, auth=CLUSTER.auth)
    [said] = warnings(settings, "192.0.2.1")
    assert said.startswith("[[nodes]] id 0: others (192.0.2.1) have no address to reach it at")
    raw[0]["advertise_host"] = "192.0.2.2"
    base = config.parse({"rs": {"data": 1, "parity": 0}, "nodes": raw, "db": raw[1:]}, "f")
    assert warnings(replace(base, auth=CLUSTER.auth), "192.0.2.1", "192.0.2.2") == []


def test_what_a_bucket_asks_for_and_does_not_get_is_one_line() -> None:
    rows = (
        Bucket("one", region="eu-west-9", type="distributed"),
        Bucket("two", region="us-east-1", type="fs", pathname=Path("p")),
        Bucket("three", pathname=Path("q")),
    )
    found = advice.notes(replace(CLUSTER, buckets=rows, source="c.toml"))
    assert found == [
        "c.toml: [[buckets]] one, region: eu-west-9; it is in us-east-1, as all buckets are",
        'c.toml: [[buckets]] two, type: "fs"; the backend of all buckets is distributed',
        "c.toml: [[buckets]] three, pathname: has no effect; its objects lie on the shard nodes",
    ]


def test_nodes_of_a_filesystem_backend_are_named() -> None:
    [said] = advice.notes(replace(CLUSTER, backend="filesystem", source="c.toml"))
    assert 'write backend = "distributed"' in said


def test_warnings_of_losses_are_among_them() -> None:
    settings = config.complete(config.parse({"backend": "distributed"}, "f"))
    assert warnings(settings) == losses.warnings(losses.Layout.of(settings)) != []
