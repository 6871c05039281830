"""What may be lost: the one place that works it out, and says it, for banner, log and commands.

Data survives while k of each object's k + m shards do; writes go on while as many nodes are there
as a write needs; metadata goes on while most members do. A host that is lost takes its nodes and
its members with it. Pure functions of who is where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from predastore.base.config.model import Config, Rs
from predastore.base.limits import DB_MEMBERS_MAX

Placed = tuple[int, str]  # the id of a node or a member, and its host


@dataclass(frozen=True)
class Layout:
    """The code's `k` and `m`, the active nodes, the members of the metadata cluster, and the shards
    that a write needs."""

    k: int
    m: int
    nodes: tuple[Placed, ...]
    members: tuple[Placed, ...]
    embedded_db: bool = False
    write_shards: int = 0  # 0: as many as where the configuration does not say

    @property
    def writes_need(self) -> int:
        return self.write_shards or Rs(self.k, self.m).write_shards

    @classmethod
    def of(cls, config: Config) -> Layout:
        """That of a completed configuration."""
        return cls(
            config.rs.data,
            config.rs.parity,
            tuple((row.id, row.host) for row in config.nodes if not row.is_draining),
            tuple((row.id, row.host) for row in config.db),
            config.embedded_db,
            config.rs.write_shards,
        )

    @property
    def hosts(self) -> list[str]:
        """Every host, once."""
        return list(dict.fromkeys(host for _, host in (*self.nodes, *self.members)))


# --- counting ---------------------------------------------------------------------------------


def members_lost(count: int) -> int:
    """How many of `count` members may be lost and the others still are a majority."""
    return max(count - 1, 0) // 2


def hosts_lost(layout: Layout) -> int:
    """How many hosts, whichever they are, may be lost: objects read, and metadata answers."""
    members = Counter(host for _, host in layout.members)
    spared = members_lost(len(layout.members))
    return min(
        _fewest(members.values(), spared, layout.hosts),
        _fewest(_shards(layout), layout.m, layout.hosts),
    )


def writers_lost(layout: Layout) -> int:
    """How many nodes, whichever they are, may be lost, and writes go on."""
    return max(len(layout.nodes) - layout.writes_need, 0)


def writing_hosts_lost(layout: Layout) -> int:
    """The same of hosts."""
    members = Counter(host for _, host in layout.members)
    nodes = Counter(host for _, host in layout.nodes)
    return min(
        _fewest(members.values(), members_lost(len(layout.members)), layout.hosts),
        _fewest(nodes.values(), writers_lost(layout), layout.hosts),
    )


def _fewest(held: Iterable[int], spared: int, hosts: Sequence[str]) -> int:
    """How many hosts can go until those that hold the most held more than `spared` of a thing."""
    gone = 0
    for number, count in enumerate(sorted(held, reverse=True)):
        gone += count
        if gone > spared:
            return number
    return max(len(hosts) - 1, 0)


def _shards(layout: Layout) -> list[int]:
    """The most shards of one object that each host has: as coding.placement fills hosts evenly,
    with those that may have one more taken to be those that have most nodes."""
    nodes = sorted(Counter(host for _, host in layout.nodes).values(), reverse=True)
    held, left = [0] * len(nodes), layout.k + layout.m
    while left and (open_ := [at for at, room in enumerate(nodes) if room > held[at]]):
        for at in open_[:left]:
            held[at] += 1
        left -= min(left, len(open_))
    return held


# --- saying -----------------------------------------------------------------------------------


def any_of(count: int, thing: str) -> str:
    """`any 2 nodes`, `any 1 node`, `no node`."""
    return f"any {counted(count, thing)}" if count else f"no {thing}"


def counted(count: int, thing: str) -> str:
    """`2 nodes`, `1 node`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def summary(layout: Layout) -> str:
    """`any 2 nodes, any 1 member`; with hosts, where there are several."""
    parts = [any_of(layout.m, "node"), any_of(members_lost(len(layout.members)), "member")]
    if len(layout.hosts) > 1:
        parts.append(any_of(hosts_lost(layout), "host"))
    return ", ".join(parts)


def writes(layout: Layout) -> str:
    """`need 4 of 5 shards; they go on without any 1 node, any 1 host`."""
    need = f"need {layout.writes_need} of {counted(layout.k + layout.m, 'shard')}"
    nodes, hosts = writers_lost(layout), writing_hosts_lost(layout)
    if not nodes:
        return f"{need}; none is done while a node is away"
    without = any_of(nodes, "node")
    if len(layout.hosts) > 1:
        without += f", any {counted(hosts, 'host')}" if hosts else "; a whole host is not spared"
    return f"{need}; they go on without {without}"


def warnings(layout: Layout) -> list[str]:
    """Where metadata or writes stand less than data does, or a member is of no use: what is so, and
    what to write instead. Of members nothing where they are not known."""
    if not layout.members:
        return []
    number = _too_few(layout) or _even(layout)
    found = (number, _on_few_hosts(layout), _stopped_writes(layout))
    return [said for said in found if said]


def _stopped_writes(layout: Layout) -> str:
    if not layout.m or writers_lost(layout):
        return ""
    return (
        f"each write needs all {counted(len(layout.nodes), 'node')}, and is refused while one is "
        f"away, though data stands the loss of {counted(layout.m, 'node')}: add [[nodes]], or "
        f"write write_min = {layout.k + layout.m - 1} in [rs]"
    )


def _too_few(layout: Layout) -> str:
    count = len(layout.members)
    wanted = min(2 * layout.m + 1, DB_MEMBERS_MAX)
    if members_lost(count) >= members_lost(wanted):
        return ""
    if count == 1:
        told = "the loss of the only database member loses every object"
    else:
        told = f"metadata stands the loss of {counted(members_lost(count), 'member')}"
    return (
        f"{told}, and data stands that of {counted(layout.m, 'node')}: write {wanted} [[db]], for "
        f"example {_rows(layout, wanted)}; until then, keep backups by s3d db backup FILE"
    )


def _rows(layout: Layout, wanted: int) -> str:
    """The keys of the rows that are to be added, on hosts that have no member where there are."""
    taken = {host for _, host in layout.members}
    ids = {number for number, _ in layout.members}
    free_ids = [number for number in range(1, wanted + len(ids) + 1) if number not in ids]
    free_hosts = [host for host in dict.fromkeys(h for _, h in layout.nodes) if host not in taken]
    rows = []
    if layout.embedded_db:
        rows.append('id = 1, host = "127.0.0.1", port = 6660, path = "db" for the one there is')
    for number in free_ids[: wanted - len(layout.members)]:
        where = f'host = "{free_hosts.pop(0)}"' if free_hosts else "a host or disk of its own"
        rows.append(f"id = {number}, {where}")
    return "; ".join(rows)


def _even(layout: Layout) -> str:
    count = len(layout.members)
    if count % 2:
        return ""
    spared = any_of(members_lost(count), "member")
    return (
        f"of {count} members {spared} may be lost, as of {count - 1}, and each commit waits for "
        f"one more: write {count + 1} [[db]], or {count - 1}"
    )


def _on_few_hosts(layout: Layout) -> str:
    """Members that go down with fewer hosts than objects do."""
    per_host = Counter(host for _, host in layout.members)
    spared = members_lost(len(layout.members))
    data = _fewest(_shards(layout), layout.m, layout.hosts)
    if _fewest(per_host.values(), spared, layout.hosts) >= min(data, spared):
        return ""
    host, most = per_host.most_common(1)[0]
    others = [each for each in layout.hosts if each not in per_host] or ["other hosts"]
    return (
        f"{most} of {len(layout.members)} members are on {host}: without it nothing is read or "
        f"written, though {any_of(data, 'host')} may be lost as far as data goes; move "
        f"[[db]] to {', '.join(others)}"
    )
