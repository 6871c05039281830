"""`s3d licenses`: every package that the program needs, with its licence and its text."""

from __future__ import annotations

import pytest

from predastore.process import cli
from predastore.process.commands import licenses

NEEDED = ("predastore", "aioquic", "cffi", "cryptography", "httptools", "lmdb", "msgspec")
BEHIND_THEM = ("attrs", "pycparser", "pylsqpack", "pyOpenSSL", "service-identity")


def test_every_package_is_there_and_those_that_it_needs() -> None:
    rows = licenses.packages()
    names = {title.split()[0] for title, _, _ in rows}
    assert {*NEEDED, *BEHIND_THEM} <= {name.replace("_", "-") for name in names}
    assert not names & {"pytest", "boto3", "awscli", "mypy"}


def test_each_has_a_licence_and_most_have_their_text() -> None:
    rows = licenses.packages()
    assert all(licence for _, licence, _ in rows)
    assert len([text for _, _, text in rows if text]) > len(rows) * 3 // 4


def test_the_command_prints_a_table_and_the_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["licenses"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("predastore ")
    assert "Apache License" in text
