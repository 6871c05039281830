"""delta-rs with four writers at once: a commit is a PUT under If-None-Match, and none is lost."""

import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

TABLE = "s3://deltalake/table"
OPTIONS = {
    "aws_endpoint_url": os.environ["ENDPOINT"],
    "aws_region": "us-east-1",
    "aws_conditional_put": "etag",
}
WRITERS, COMMITS = 4, 3


def append(writer: int) -> None:
    for commit in range(COMMITS):
        rows = pa.table({"n": [writer * COMMITS + commit]})
        write_deltalake(TABLE, rows, mode="append", storage_options=OPTIONS)


write_deltalake(TABLE, pa.table({"n": [-1]}), storage_options=OPTIONS)
with ThreadPoolExecutor(WRITERS) as writers:
    list(writers.map(append, range(WRITERS)))
table = DeltaTable(TABLE, storage_options=OPTIONS)
assert table.version() == WRITERS * COMMITS
table.optimize.compact()
table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
found = DeltaTable(TABLE, storage_options=OPTIONS).to_pyarrow_table()["n"].to_pylist()
assert sorted(found) == [-1, *range(WRITERS * COMMITS)]
print("done", flush=True)
os._exit(0)  # threads of the library that still run abort an orderly end, at times
