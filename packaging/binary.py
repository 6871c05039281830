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

import licences

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "binary"
DIST = OUT / "s3d.dist"

# Whole packages, as their C and Rust parts import others of their modules.
HIDDEN = (
    *("predastore", "aioquic", "cryptography", "httptools", "lmdb", "msgspec", "pylsqpack"),
    *("pysyncobj", "uvloop", "xxhash"),
)
HIDDEN_MODULES = ("_cffi_backend", "_bisect", "_json")  # modules that try to import these
# Imported somewhere behind a condition that never holds in a server.
LEFT_OUT = (
    *("unittest", "doctest", "pydoc", "pdb", "bdb", "cmd", "code", "idlelib", "lib2to3"),
    *("tkinter", "turtle", "test", "ensurepip", "venv", "distutils", "setuptools", "pip", "wheel"),
    *("webbrowser", "trace", "timeit", "symtable", "xdrlib", "uu"),
    *("sqlite3", "xmlrpc", "dbm", "wsgiref", "imaplib", "nntplib", "telnetlib", "ftplib"),
    *("lmdb.tool", "lmdb.cffi", "cffi.setuptools_ext", "cffi.recompiler", "cffi.verifier"),
    *("pysyncobj.syncobj_admin", "Cython", "packaging", "pytest", "_pytest", "boto3", "botocore"),
    *("opentelemetry", "prometheus_client"),
)
# What the binary takes from where it runs: glibc.
C_LIBRARY = (
    *("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"),
    *("librt.so.1", "libutil.so.1"),
)
# As setup.py has them for the kernels; of the C that Nuitka writes.
HARDENED = {
    "CFLAGS": "-fstack-protector-strong -fstack-clash-protection -U_FORTIFY_SOURCE "
    "-D_FORTIFY_SOURCE=3",
    "LDFLAGS": "-Wl,-z,relro,-z,now,-z,noexecstack",
}


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
        # Compiled to C, our modules ran small requests a quarter slower than the interpreter does.
        "--noinclude-custom-mode=predastore:bytecode",
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


def needed(file: Path) -> list[str]:
    """Names of the libraries that an ELF file asks for."""
    said = subprocess.run(
        ["objdump", "-p", str(file)], capture_output=True, text=True, check=True
    ).stdout
    return [line.split()[1] for line in said.splitlines() if line.split()[:1] == ["NEEDED"]]


def complete(elves: list[Path]) -> None:
    """Adds what Nuitka takes to be on every system and is not part of the C library."""
    known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    for name in sorted({name for file in elves for name in needed(file)}):
        if name in C_LIBRARY or (DIST / name).exists():
            continue
        place = next(
            (
                line.rpartition(" => ")[2]
                for line in known.splitlines()
                if line.split()[:1] == [name] and "x86-64" in line
            ),
            None,
        )
        if place is None:
            raise SystemExit(f"{name}: not found on this system")
        shutil.copy(place, DIST / name)
        (DIST / name).chmod(0o644)


def main() -> int:
    commit = git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")
    environment = {
        **os.environ,
        **HARDENED,
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or "0",
    }
    shutil.rmtree(DIST, ignore_errors=True)
    # From an empty folder: a module of the source tree must not shadow the installed one.
    empty = OUT / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "nuitka", *options()], cwd=empty, env=environment, check=True
    )
    complete([file for file in DIST.rglob("*") if file.is_file() and is_elf(file)])
    elves = sorted(file for file in DIST.rglob("*") if file.is_file() and is_elf(file))
    for file in elves:
        # Of libpython, debug information is three quarters.
        subprocess.run(["strip", "--strip-unneeded", str(file)], check=True)
    (DIST / "predastore").mkdir(exist_ok=True)
    (DIST / "predastore" / "commit").write_text(f"{commit}\n", "ascii")
    (DIST / "predastore" / "licenses.txt").write_text(licences.text(DIST), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
