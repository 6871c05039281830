"""`make binary`, first half: build/binary/s3d.dist, a folder that runs without Python, by Nuitka.

Runs in the environment of packaging/requirements.lock, into which the project's wheel was
installed: nothing else can get in. What only an extension module imports, no compiler can see;
those are named in HIDDEN. `packaging/onefile.py` makes one file of the folder.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "binary"
DIST = OUT / "s3d.dist"

# Imported from C or Rust, or by a name made at run time: whole packages, and modules.
HIDDEN = ("predastore", "aioquic", "cryptography", "httptools", "msgspec", "pysyncobj", "uvloop")
HIDDEN_MODULES = ("_cffi_backend", "lmdb.cpython", "pylsqpack._binding", "xxhash._xxhash")
# Imported somewhere behind a condition that never holds in a server.
LEFT_OUT = (
    *("unittest", "doctest", "pydoc", "pdb", "bdb", "cmd", "code", "idlelib", "lib2to3"),
    *("tkinter", "turtle", "test", "ensurepip", "venv", "distutils", "setuptools", "pip", "wheel"),
    *("sqlite3", "xmlrpc", "dbm", "wsgiref", "imaplib", "nntplib", "telnetlib", "ftplib"),
    *("lmdb.tool", "lmdb.cffi", "cffi.setuptools_ext", "cffi.recompiler", "cffi.verifier"),
    *("pysyncobj.syncobj_admin", "Cython", "packaging", "pytest", "_pytest", "boto3", "botocore"),
)


def options() -> list[str]:
    """Nuitka's command line."""
    known = [name for name in (*HIDDEN, *HIDDEN_MODULES) if importlib.util.find_spec(name)]
    missing = {*HIDDEN, *HIDDEN_MODULES} - set(known)
    if missing:
        raise SystemExit(f"not in this environment: {', '.join(sorted(missing))}; see HIDDEN")
    return [
        "--mode=standalone",
        "--deployment",
        "--python-flag=no_site,isolated,safe_path",
        f"--output-dir={OUT}",
        "--output-filename=s3d",
        "--reproducible=yes",
        "--lto=no",
        "--jobs=2",
        "--noinclude-default-mode=nofollow",
        "--include-distribution-metadata=predastore",
        "--update-check=never",
        f"--report={OUT / 'report.xml'}",
        *(f"--include-package={name}" for name in HIDDEN),
        *(f"--include-module={name}" for name in HIDDEN_MODULES),
        *(f"--nofollow-import-to={name}" for name in LEFT_OUT),
        str(ROOT / "packaging" / "s3d.py"),
    ]


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def is_elf(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def main() -> int:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct") or "0",
    }
    shutil.rmtree(DIST, ignore_errors=True)
    # From an empty folder: a module of the source tree must not shadow the installed one.
    empty = OUT / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "nuitka", *options()], cwd=empty, env=environment, check=True
    )
    elves = sorted(file for file in DIST.rglob("*") if file.is_file() and is_elf(file))
    for file in elves:
        # Of libpython, debug information is three quarters.
        subprocess.run(["strip", "--strip-unneeded", str(file)], check=True)
    commit = git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")
    (DIST / "predastore").mkdir(exist_ok=True)
    (DIST / "predastore" / "commit").write_text(f"{commit}\n", "ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
