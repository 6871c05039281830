"""Predastore: an S3 server over Reed-Solomon coded shards, in one process."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("predastore")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
