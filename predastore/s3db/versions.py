"""What is said of a file that another version of the program wrote.

Format 1, of whatever file of s3db, is that of programs from before the first release: what it holds
means something else, and none of it is read.
"""

from __future__ import annotations

from predastore.base.errors import UnsupportedFormat


def other_version(where: str, found: int, known: int) -> UnsupportedFormat:
    """`where`: the file, for an operator; `found`: its format; `known`: that of this program."""
    if found < known:
        return UnsupportedFormat(
            f"{where}: format {found}, which an earlier program wrote, before 0.1.0 was released; "
            f"this one reads {known}, and nothing of that: give it an empty base_path, and copy "
            "the objects to it over S3, from the program that wrote them"
        )
    return UnsupportedFormat(
        f"{where}: format {found}; this program reads {known}: use a newer one"
    )
