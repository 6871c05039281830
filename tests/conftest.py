"""Puts the checkout and tests/ on the path, so that tests share `reference` and `support`, and has
structs encoded and decoded in calls within the process, as between two."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
for folder in (TESTS, TESTS.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from predastore.rpc import pipe  # noqa: E402

pipe.is_strict = True
