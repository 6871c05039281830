"""PyIceberg over PyArrowFileIO: a table is made, appended to, read, and its files deleted."""

import os
import sys

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO

PROPERTIES = {
    "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
    "s3.endpoint": os.environ["ENDPOINT"],
    "s3.access-key-id": os.environ["AWS_ACCESS_KEY_ID"],
    "s3.secret-access-key": os.environ["AWS_SECRET_ACCESS_KEY"],
    "s3.region": "us-east-1",
}

io = PyArrowFileIO(PROPERTIES)
file = io.new_output("s3://pyiceberg/a b/file")
with file.create() as out:
    out.write(b"hello")
assert file.exists()
assert len(file) == 5
with io.new_input("s3://pyiceberg/a b/file").open() as stream:
    assert stream.read() == b"hello"
io.delete("s3://pyiceberg/a b/file")
assert not file.exists()

catalog = SqlCatalog(
    "here", uri=f"sqlite:///{sys.argv[1]}", warehouse="s3://pyiceberg", **PROPERTIES
)
catalog.create_namespace("n")
rows = pa.table({"id": [1, 2, 3], "what": ["a", "b", "c"]})
table = catalog.create_table("n.t", schema=rows.schema)
table.append(rows)
table.append(rows.slice(0, 1))
table.delete("id = 2")
assert sorted(catalog.load_table("n.t").scan().to_arrow()["id"].to_pylist()) == [1, 1, 3]
assert isinstance(table.io, PyArrowFileIO)
catalog.purge_table("n.t")
print("done")
