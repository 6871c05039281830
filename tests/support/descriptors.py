"""This process without a file descriptor left."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

from predastore.base import fs


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """As in a process that serves: what lacks a descriptor waits for one."""
    fs.wait_for_descriptors(60.0)
    try:
        yield
    finally:
        fs.wait_for_descriptors(0.0)


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened (EMFILE) until the block ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
