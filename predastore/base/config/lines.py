"""Where in a file something stands: the line of a key, or of a table's header."""

from __future__ import annotations

import re
from collections.abc import Sequence


def line_of(lines: Sequence[str], table: str, number: int, key: str) -> int:
    """1-based line of the key, or of its table; 0 when it does not stand in the file. `number`: of
    the row, or -1. A key may be a table of its own."""
    header = f"[[{table}]]" if number >= 0 else f"[{table}]"
    seen, start = -1, 0 if not table else -1
    name = re.escape(key)
    written = re.compile(rf'"?{name}"?\s*[=.]')
    above = rf'"?{re.escape(table)}"?\s*\.\s*' if table else ""
    own = re.compile(rf'\[+\s*{above}"?{name}"?\s*[].]')
    for index, text in enumerate(lines):
        bare = text.split("#")[0].strip()
        if table and bare.replace(" ", "") == header:
            seen += 1
            if seen == max(number, 0):
                start = index
            elif start >= 0:
                break
        elif start >= 0 and key and (written.match(bare) or own.match(bare)):
            return index + 1
        elif start >= 0 and table and _leaves(bare, table) and index > start:
            break
        elif not table and bare.startswith("[") and key:
            written = re.compile(r"(?!)")  # what follows are keys of that table
    return start + 1 if table and start >= 0 else 0


def _leaves(bare: str, table: str) -> bool:
    """Whether a line begins another table, which is not one within `table`."""
    return bare.startswith("[") and re.match(rf'\[+\s*"?{re.escape(table)}"?\s*\.', bare) is None
