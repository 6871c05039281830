"""What `s3d` holds in memory while eight clients put, and then get, a large object each at once.

    memory.put, memory.get    VmHWM, the most that was ever resident, in MiB, against the limit
    memory.put.rate, ...      MiB/s meanwhile, against the disk

Objects have 1 GiB (BENCH_MEMORY_MIB: another size); bodies are streamed both ways and what comes
back is verified by digest. It takes 5/3 of eight objects on the disk, checked before.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from typing import Final

from benchmarks.disk import Disk
from benchmarks.load import Generator
from benchmarks.measure import Row, row
from benchmarks.served import DATA_SHARDS, PARITY_SHARDS, s3d, scratch

CLIENTS: Final = 8
LIMIT_MIB: Final = 400
_MIB: Final = 1 << 20
_SPARE_BYTES: Final = 2 << 30


def rows() -> list[Row]:
    size_bytes = int(os.environ.get("BENCH_MEMORY_MIB") or 1024) * _MIB
    found = []
    with (
        scratch() as folder,
        s3d(folder) as served,
        closing(Generator()) as generator,
        closing(Disk(folder)) as disk,
    ):
        needed = CLIENTS * size_bytes * (DATA_SHARDS + PARITY_SHARDS) // DATA_SHARDS + _SPARE_BYTES
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise RuntimeError(
                f"{folder} has {free // _MIB} MiB free, and {needed // _MIB} are needed; point "
                "BENCH_DIR to a larger disk, or set BENCH_MEMORY_MIB below 1024"
            )
        for method in ("PUT", "GET"):
            plan = served.plan(
                method=method,
                size_bytes=size_bytes,
                connections=CLIENTS,
                requests=CLIENTS,
                verify_every=1,
            )
            report = generator.run(plan)
            name = f"memory.{method.lower()}"
            found += [
                row(
                    name,
                    served.resident_peak_mib(),
                    "MiB",
                    spread=0.0,
                    yardstick="the limit",
                    yardstick_value=LIMIT_MIB,
                ),
                row(
                    f"{name}.rate",
                    report.mib_per_second,
                    "MiB/s",
                    spread=0.0,
                    yardstick="disk, writing 5/3 of the bytes",
                    yardstick_value=disk.mib_per_second()
                    * DATA_SHARDS
                    / (DATA_SHARDS + PARITY_SHARDS),
                ),
            ]
        served.stop()
    return found
