"""What `pip install predastore` gives to other projects: the wheel, in a fresh environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from sysconfig import get_platform

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
IGNORED = shutil.ignore_patterns("*.so", "__pycache__")

# As README.md shows it, and what follows from it.
TESTS = """
def test_upload(s3_client):
    s3_client.create_bucket(Bucket="photos")
    s3_client.put_object(Bucket="photos", Key="cat.jpg", Body=b"meow")
    found = s3_client.get_object(Bucket="photos", Key="cat.jpg")
    assert found["Body"].read() == b"meow"

def test_the_next_test_finds_nothing_of_it(s3_client, s3_server, s3_server_process):
    assert s3_client.list_buckets()["Buckets"] == []
    assert s3_server is s3_server_process
    assert s3_server.endpoint_url.startswith("http://127.0.0.1:")
"""

WITHOUT_BOTO3 = """
import sys
sys.modules["boto3"] = None

def test_upload(s3_client):
    pass
"""


def run(*command: str | Path, cwd: Path) -> str:
    """The output of a command, in an environment without this project's variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=cwd, env=kept, capture_output=True, text=True, timeout=280, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def copied(target: Path) -> Path:
    """What a wheel is built from. The kernels that were built here count as built there, where
    they are newer than their sources: compiling them again takes a minute and shows nothing."""
    shutil.copytree(ROOT / "predastore", target / "predastore", ignore=IGNORED)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, target / name)
    if (ROOT / "build").is_dir():
        shutil.copytree(ROOT / "build" / "predastore", target / "build" / "predastore")
    built = target / "build" / f"lib.{get_platform()}-{sys.implementation.cache_tag}"
    for kernel in (ROOT / "predastore" / "_fast").glob("*.so"):
        (built / "predastore" / "_fast").mkdir(parents=True, exist_ok=True)
        shutil.copy2(kernel, built / "predastore" / "_fast")
    return target


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel, pytest and boto3."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copied(folder / "source")
    wheel = ("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source))
    run(sys.executable, "-m", "pip", *wheel, cwd=folder)
    [made] = folder.glob("predastore-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", str(made), "pytest", "boto3", cwd=folder)
    return folder


def test_the_wheel_has_the_command_and_the_fixtures(environment: Path) -> None:
    assert run(environment / "venv/bin/s3d", "--version", cwd=environment).startswith("s3d ")
    (environment / "test_photos.py").write_text(TESTS)
    output = run(environment / "venv/bin/pytest", "-q", "test_photos.py", cwd=environment)
    assert "2 passed" in output


def test_without_boto3_the_client_says_what_is_missing(environment: Path) -> None:
    (environment / "test_bare.py").write_text(WITHOUT_BOTO3)
    done = subprocess.run(
        [environment / "venv/bin/pytest", "-q", "test_bare.py"],
        cwd=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "the fixture s3_client needs boto3: pip install boto3" in done.stdout
