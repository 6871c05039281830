"""When the work of healing happens."""

from __future__ import annotations

from dataclasses import dataclass

from predastore.base.limits import (
    HEALING_BUSY_PAUSES,
    HEALING_BYTES_PER_S_MAX,
    HEALING_COUNT_AFTER_MS,
    HEALING_LEFT_AFTER_MS,
    LEASE_BEAT_MS,
    LEASE_EXPIRY_MS,
    NODE_LOST_MS,
    NODE_WATCH_MS,
    ORPHAN_AGE_MS,
    ORPHAN_CLOCK_SKEW_MS,
    RECONCILE_PERIOD_MS,
)


@dataclass(frozen=True)
class HealingPace:
    """Tests have shorter times. `watch_s`: between two looks at the nodes, and at what is to be
    done. `count_s`: a node is down for so long, and what records name there is counted. `left_s`: a
    node was removed so long ago, and records that name it all the same are looked for."""

    beat_s: float = LEASE_BEAT_MS / 1000
    expiry_s: float = LEASE_EXPIRY_MS / 1000
    watch_s: float = NODE_WATCH_MS / 1000
    lost_s: float = NODE_LOST_MS / 1000
    count_s: float = HEALING_COUNT_AFTER_MS / 1000
    left_s: float = HEALING_LEFT_AFTER_MS / 1000
    period_s: float = RECONCILE_PERIOD_MS / 1000
    orphan_age_ms: int = ORPHAN_AGE_MS
    clock_skew_ms: int = ORPHAN_CLOCK_SKEW_MS
    bytes_per_s: float = HEALING_BYTES_PER_S_MAX
    busy_pauses: float = HEALING_BUSY_PAUSES
