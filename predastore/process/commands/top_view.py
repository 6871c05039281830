"""What `s3d top` shows, as lines of text: tables made of what lies between two readings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from predastore.process.commands.samples import SampleSpan, quantile

_REQUEST_SECONDS: Final = "predastore_s3_request_seconds"


def view(spans: Sequence[SampleSpan], clock: str) -> list[str]:
    """Everything, from the most asked for to the least. `clock`: the time of day, as text."""
    up = [span for span in spans if not span.now.problem]
    lines = [_headline(up, len(spans), clock), ""]
    for section in (_requests, _healing, _nodes, _members, _processes):
        found = section(up)
        if found:
            lines += [*found, ""]
    lines += [f"{span.now.url}: {span.now.problem}" for span in spans if span.now.problem]
    return lines


def _headline(up: Sequence[SampleSpan], count: int, clock: str) -> str:
    def total(name: str) -> float:
        return sum(rate for span in up for _, rate in span.rates(name))

    return (
        f"s3d top  {clock}  {len(up)} of {count} processes  "
        f"{total('predastore_s3_requests_total'):.1f} requests/s  "
        f"in {_size(total('predastore_s3_received_bytes_total'))}/s  "
        f"out {_size(total('predastore_s3_sent_bytes_total'))}/s  "
        f"{total('predastore_shards_found_bad_total'):.1f} bad shards found/s"
    )


@dataclass
class _Operation:
    rate: float = 0.0
    refused: float = 0.0  # 4xx
    failed: float = 0.0  # 5xx
    seconds: float = 0.0  # of all requests of a second
    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))


def _requests(up: Sequence[SampleSpan]) -> list[str]:
    found: dict[str, _Operation] = defaultdict(_Operation)
    for span in up:
        for labels, rate in span.rates("predastore_s3_requests_total"):
            one = found[labels["operation"]]
            one.rate += rate
            one.refused += rate if labels["code"].startswith("4") else 0
            one.failed += rate if labels["code"].startswith("5") else 0
        for labels, rate in span.rates(f"{_REQUEST_SECONDS}_bucket"):
            found[labels["operation"]].buckets[float(labels["le"])] += rate
        for labels, rate in span.rates(f"{_REQUEST_SECONDS}_sum"):
            found[labels["operation"]].seconds += rate
    rows = [
        (
            name,
            f"{one.rate:.1f}",
            f"{one.refused:.1f}",
            f"{one.failed:.1f}",
            _ms(one.seconds / one.rate),
            _within(one.buckets, 0.5),
            _within(one.buckets, 0.99),
        )
        for name, one in sorted(found.items(), key=lambda item: (-item[1].rate, item[0]))
        if one.rate > 0
    ]
    heads = ("OPERATION", "REQ/S", "4XX/S", "5XX/S", "MEAN MS", "50% <= MS", "99% <= MS")
    return table(heads, rows or [("(no requests)", *["-"] * 6)])


def _healing(up: Sequence[SampleSpan]) -> list[str]:
    rows = []
    for span in up:
        if not span.value("predastore_healing_here"):
            continue

        def of(name: str, span: SampleSpan = span) -> float:
            return span.value(f"predastore_{name}") or 0

        seconds = of("repair_seconds_left")
        rows.append(
            (
                span.now.url,
                f"{of('repair_shards_left'):.0f}",
                f"{of('repair_stuck_shards'):.0f}",
                _size(of("repair_bytes_left")),
                f"{_size(of('repair_bytes_per_second'))}/s",
                "-" if seconds < 0 else f"{seconds:.0f} s",
                f"{of('moves_left'):.0f}",
                f"{span.value('predastore_healing_nodes', state='down') or 0:.0f}",
                f"{span.value('predastore_healing_nodes', state='lost') or 0:.0f}",
            )
        )
    heads = ("HEALING", "SHARDS LEFT", "STUCK", "BYTES", "RATE", "TIME", "MOVES", "DOWN", "LOST")
    return table(heads, rows)


def _nodes(up: Sequence[SampleSpan]) -> list[str]:
    told: dict[str, dict[str, float]] = defaultdict(dict)
    rows: dict[str, list[str]] = {}
    for span in up:
        for labels, value in span.rows("predastore_node_up"):
            seen = told[labels["node"]]
            seen["gateways"] = seen.get("gateways", 0) + 1
            seen["well"] = seen.get("well", 0) + value
        syncs = _times(span, "predastore_node_sync_seconds", "node")
        for labels, shards in span.rows("predastore_node_shards"):
            node = labels["node"]
            rows[node] = [
                "failed" if span.value("predastore_node_failed", node=node) else "writes",
                f"{shards:.0f}",
                f"{span.value('predastore_node_bad_shards', node=node) or 0:.0f}",
                _size(span.value("predastore_node_bytes", node=node, state="live") or 0),
                _size(span.value("predastore_node_bytes", node=node, state="dead") or 0),
                _size(span.value("predastore_node_bytes", node=node, state="free") or 0),
                *syncs.get(node, ("0.0", "-")),
            ]
    heads = ("NODE", "SEEN UP", "STATE", "SHARDS", "BAD", "LIVE", "DEAD", "FREE", "SYNC/S", "MS")
    return table(
        heads,
        [
            (
                node,
                f"{told[node]['well']:.0f} of {told[node]['gateways']:.0f}" if told[node] else "-",
                *rows.get(node, ["not read", *["-"] * 7]),
            )
            for node in sorted({*told, *rows}, key=_number)
        ],
    )


def _members(up: Sequence[SampleSpan]) -> list[str]:
    rows = []
    for span in up:
        syncs = _times(span, "predastore_db_sync_seconds", "member")
        lags = span.rows("predastore_raft_follower_lag_entries")
        for labels, term in span.rows("predastore_raft_term"):
            member = labels["member"]

            def of(name: str, member: str = member, span: SampleSpan = span) -> float:
                return span.value(f"predastore_{name}", member=member) or 0

            own = [lag for about, lag in lags if about["member"] == member]
            role = "leader" if of("raft_is_leader") else "follower"
            rows.append(
                (
                    member,
                    role if of("raft_has_leader") else "no leader",
                    f"{term:.0f}",
                    f"{of('raft_commit_index'):.0f}",
                    f"{of('raft_unapplied_entries'):.0f}",
                    f"{max(own):.0f}" if own else "-",
                    _size(of("db_journal_bytes")),
                    *syncs.get(member, ("0.0", "-")),
                )
            )
    heads = ("MEMBER", "ROLE", "TERM", "COMMIT", "UNAPPLIED", "LAG", "JOURNAL", "SYNC/S", "MS")
    return table(heads, sorted(rows, key=lambda row: _number(row[0])))


def _processes(up: Sequence[SampleSpan]) -> list[str]:
    rows = []
    for span in up:
        late = {
            float(labels["le"]): rate
            for labels, rate in span.rates("predastore_loop_lag_seconds_bucket")
        }
        held = sum(
            value
            for labels, value in span.rows("predastore_held_bytes")
            if not labels["budget"].startswith("pool")
        )
        rows.append(
            (
                span.now.url,
                "yes" if span.value("predastore_ready") else "no",
                f"{sum(r for _, r in span.rates('process_cpu_seconds_total')) * 100:.0f}%",
                _size(span.value("process_resident_memory_bytes") or 0),
                f"{span.value('predastore_s3_connections') or 0:.0f}",
                _size(held),
                _within(late, 0.99),
            )
        )
    heads = ("PROCESS", "READY", "CPU", "MEMORY", "CLIENTS", "BODIES", "LOOP 99% <= MS")
    return table(heads, rows)


# --- parts ------------------------------------------------------------------------------------


def _times(span: SampleSpan, name: str, label: str) -> dict[str, tuple[str, str]]:
    """Of a histogram, by `label`: (how many in a second, their mean in milliseconds)."""
    counts = {labels[label]: rate for labels, rate in span.rates(f"{name}_count")}
    sums = {labels[label]: rate for labels, rate in span.rates(f"{name}_sum")}
    return {
        key: (f"{rate:.1f}", _ms(sums.get(key, 0) / rate) if rate > 0 else "-")
        for key, rate in counts.items()
    }


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with columns, the first to the left and the others to the right; none without rows."""
    cells = [list(heads), *(list(row) for row in rows)]
    if len(cells) == 1:
        return []
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]

    def placed(column: int) -> Callable[[str], str]:
        width = widths[column]
        return (lambda text: text.ljust(width)) if column == 0 else (lambda text: text.rjust(width))

    return ["  ".join(placed(n)(text) for n, text in enumerate(row)).rstrip() for row in cells]


def _number(text: str) -> tuple[int, str]:
    return (int(text) if text.isdigit() else 1 << 31, text)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def _within(buckets: dict[float, float], share: float) -> str:
    found = quantile(buckets, share)
    return "-" if found is None else f"{found * 1000:g}"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
