"""DuckDB with its httpfs extension: partitioned Parquet and a CSV written in parts, read back."""

import os
from pathlib import Path

import duckdb
import duckdb_extension_httpfs

(extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
db = duckdb.connect()
db.execute(f"LOAD '{extension}'")
db.execute(f"SET ca_cert_file = '{os.environ['AWS_CA_BUNDLE']}'")
db.execute("SET enable_server_cert_verification = true")
key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
host = os.environ["ENDPOINT"].removeprefix("https://")
db.execute(
    f"CREATE SECRET (TYPE s3, KEY_ID '{key}', SECRET '{secret}', ENDPOINT '{host}', "
    "URL_STYLE 'path', REGION 'us-east-1')"
)
db.execute(
    "COPY (SELECT range AS n, range % 3 AS part FROM range(100000)) "
    "TO 's3://duckdb/data' (FORMAT parquet, PARTITION_BY part)"
)
query = (
    "SELECT count(*), sum(n) "
    "FROM read_parquet('s3://duckdb/data/*/*.parquet', hive_partitioning = true) WHERE part = 1"
)
expected = [n for n in range(100_000) if n % 3 == 1]
assert db.execute(query).fetchall() == [(len(expected), sum(expected))]
db.execute("COPY (SELECT range AS n FROM range(2000000)) TO 's3://duckdb/large.csv' (FORMAT csv)")
assert db.execute("SELECT count(*) FROM 's3://duckdb/large.csv'").fetchall() == [(2_000_000,)]
assert len(db.execute("SELECT * FROM glob('s3://duckdb/**')").fetchall()) == 4
print("done")
