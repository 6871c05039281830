"""What the manuals say of reloads, joining and recovery is what the program does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from predastore.base import config
from predastore.base.errors import ConfigError
from predastore.process import commands
from predastore.process.commands import db, node
from support.packaging import load

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "packaging" / "files"

# What a reload takes in, by the keys that `Reloader.add` is given, and how texts call it.
SAID = {
    "auth": "credentials",
    "cluster": "secrets",
    "tls_cert": "certificates",
    "tls_key": "certificates",
    "log_level": "log level",
    "access_log": "access log",
    "nodes": "[[nodes]]",
    "oidc": "identity providers",
}


def plain(text: str) -> str:
    """Text without the escapes and fonts of roff, and without line breaks."""
    text = re.sub(r"\\f[BIR]", "", text).replace("\\-", "-").replace("\\&", "")
    return re.sub(r"\s+", " ", re.sub(r"^(\.\w+|#) ?", "", text, flags=re.MULTILINE))


def of_the_file() -> str:
    return (FILES / "cluster.toml.5").read_text("utf-8")


def section(page: str, title: str) -> str:
    found = re.search(rf"^\.SH {re.escape(title)}\n((?:(?!\.SH ).*\n)*)", page, re.MULTILINE)
    assert found is not None
    return found[1]


def taken_in() -> set[str]:
    """The keys that a part of the program has a hook of reload for."""
    sources = [file.read_text("utf-8") for file in (ROOT / "predastore").rglob("*.py")]
    calls = re.findall(r"reloader\.add\(\s*\(([^)]*)\)", "\n".join(sources))
    return set(re.findall(r'"(\w+)"', " ".join(calls)))


def test_the_keys_that_the_manual_marks_are_those_that_a_reload_takes_in() -> None:
    page = of_the_file()
    heads = re.findall(r"^\.TP\n(.*)$", section(page, "TOP LEVEL"), re.MULTILINE)
    marked = {key for head in heads for key in re.findall(r"(\w+) ?\"?\*", head)}
    tables = re.findall(r"^\.SH \[+(\w+)\]+$", page, re.MULTILINE)
    for table in tables:
        double = f"[[{table}]]"
        title = double if f".SH {double}\n" in page else f"[{table}]"
        if "*" in section(page, title):
            marked.add(table)
    assert marked == taken_in() == set(SAID)


def test_of_the_cluster_its_secrets_are_taken_in() -> None:
    text = section(of_the_file(), "[cluster]")
    heads = re.findall(r"^\.TP\n\.BR? (.*)$", text, re.MULTILINE)
    marked = [head for head in heads if head.endswith("*")]
    assert marked == ["secret *", "secrets_accepted *"]


def test_of_a_node_weight_and_state_are_taken_in_and_that_its_row_went() -> None:
    text = section(of_the_file(), "[[nodes]]")
    heads = re.findall(r"^\.TP\n\.BR? (.*)$", text, re.MULTILINE)
    assert [head for head in heads if head.endswith("*")] == ["weight *", "state *"]
    assert "A row that is taken out* makes its node leave" in text


@pytest.mark.parametrize("name", ["cluster.toml", "s3d.1"])
def test_short_texts_name_all_that_a_reload_takes_in_and_warn(name: str) -> None:
    text = load("manual").page(0) if name == "s3d.1" else (FILES / name).read_text("utf-8")
    text = section(text, "SIGNALS") if name == "s3d.1" else text.partition("\n\n")[0]
    assert [words for words in SAID.values() if words not in plain(text)] == []
    assert re.search(r"leaves? the cluster[:,] (and )?all that it holds is moved", plain(text))


def test_the_manual_warns_of_a_row_that_went() -> None:
    text = plain(section(of_the_file(), "RELOAD"))
    assert "Careful: a [[nodes]] row that went makes that node leave the cluster" in text
    assert "s3d cluster activate ID takes it back" in text
    assert "activate" in [one.name for one in commands.OPERATIONS["cluster"]]


def test_join_is_what_the_manual_says(tmp_path: Path) -> None:
    found = re.search(r"^\.B join\n(.*?)^\.TP", of_the_file(), re.MULTILINE | re.DOTALL)
    assert found is not None
    assert "one text, not a list" in plain(found[1])
    (example,) = re.findall(r'"(.*?)"', found[1])
    file = tmp_path / "cluster.toml"
    file.write_text(f'[cluster]\njoin = "{example}"\n')
    assert config.load(file).cluster.join == (("10.0.0.1", 9991), ("10.0.0.2", 9991))
    file.write_text(f"[cluster]\njoin = {example.split(', ')}\n".replace("'", '"'))
    with pytest.raises(ConfigError, match="join: expected"):
        config.load(file)


def examples(page: str) -> list[list[str]]:
    """The commands of a page that are run as another user, in words."""
    lines = plain(re.sub(r"\n(?=runuser)", "\n@", page).replace("\n.fi", "@")).split("@")
    return [shlex.split(line) for line in lines if line.startswith("runuser")]


def test_recovery_is_run_as_the_user_of_the_service() -> None:
    page, pages = load("manual").page(0), [load("manual").page(0), of_the_file()]
    shown = [words for each in pages for words in examples(each)]
    assert {tuple(words[5:7]) for words in shown} == {("node", "rebuild-index"), ("db", "restore")}
    user = re.search(r"^User=(.*)$", (FILES / "s3d.service").read_text("utf-8"), re.MULTILINE)
    assert user is not None
    for words in shown:
        assert words[:5] == ["runuser", "-u", user[1], "--", "s3d"]
        parser = {"node": node, "db": db}[words[5]].parser()
        given = parser.parse_intermixed_args(words[6:])
        assert given.config == "/etc/predastore/cluster.toml"
    for command, below in load("manual").OFFLINE:
        (row,) = (one for one in commands.OPERATIONS[command] if one.name == below)
        assert f"s3d {command} {below}" in plain(section(page, "RECOVERY"))
        head = f"{command} {below} {row.argument}".rstrip()
        assert f"{head} {row.help}. Run it as the user of the service, see RECOVERY." in plain(page)
