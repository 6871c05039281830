"""pyarrow's own file system (aws-sdk-cpp): files, folders, a partitioned dataset."""

import os

import pyarrow as pa
from pyarrow import dataset, fs

s3 = fs.S3FileSystem(
    access_key=os.environ["AWS_ACCESS_KEY_ID"],
    secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    endpoint_override=os.environ["ENDPOINT"],
    region="us-east-1",
    tls_ca_file_path=os.environ["AWS_CA_BUNDLE"],
    allow_bucket_creation=True,
    allow_bucket_deletion=True,
)
DATA = os.urandom(12 << 20)

s3.create_dir("pyarrow")
about = {"Content-Type": "a/b", "colour": "red"}
with s3.open_output_stream("pyarrow/x/file", metadata=about) as out:  # in parts
    out.write(DATA)
with s3.open_output_stream("pyarrow/x/empty"):
    pass
with s3.open_input_file("pyarrow/x/file") as file:
    assert file.size() == len(DATA)
    assert file.metadata()["Content-Type"] == b"a/b"
    assert file.read_at(1000, 5 << 20) == DATA[5 << 20 :][:1000]
    file.seek(7)
    assert file.read() == DATA[7:]
found = s3.get_file_info(fs.FileSelector("pyarrow", recursive=True))
assert {(one.path, one.size) for one in found} == {
    ("pyarrow/x", None),
    ("pyarrow/x/file", len(DATA)),
    ("pyarrow/x/empty", 0),
}
s3.move("pyarrow/x/file", "pyarrow/moved")
assert s3.get_file_info("pyarrow/x/file").type == fs.FileType.NotFound
with s3.open_input_stream("pyarrow/moved") as stream:
    assert stream.read() == DATA

table = pa.table({"n": range(3000), "part": [n % 3 for n in range(3000)]})
dataset.write_dataset(
    table, "pyarrow/data", filesystem=s3, format="parquet", partitioning=["part"],
    partitioning_flavor="hive",
)  # fmt: skip
read = dataset.dataset("pyarrow/data", filesystem=s3, partitioning="hive")
assert read.to_table(filter=dataset.field("part") == 1)["n"].to_pylist() == [*range(1, 3000, 3)]

s3.delete_dir_contents("pyarrow")
assert s3.get_file_info(fs.FileSelector("pyarrow")) == []
s3.delete_dir("pyarrow")
print("done")
