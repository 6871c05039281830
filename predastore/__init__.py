"""Predastore: an S3 server over Reed-Solomon coded shards, in one process."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    __version__ = version("predastore")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
try:
    # The commit that a binary was built from, written by its build.
    __commit__ = Path(__file__).with_name("commit").read_text("ascii").strip()
except FileNotFoundError:
    __commit__ = ""
