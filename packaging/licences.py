"""The text of `s3d licenses` in a binary: Python packages, Python itself, and native libraries.

Run in the environment of the build. A library that Nuitka copied from the system is of a Debian
package, whose copyright file is the licence; one that nobody can name ends the build.
"""

import subprocess
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

from predastore.process.commands import licenses

DOC = Path("/usr/share/doc")


def python() -> tuple[str, str, str]:
    version = sysconfig.get_config_var("py_version")
    near = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    text = near if near.exists() else DOC / f"python{sysconfig.get_python_version()}" / "copyright"
    return f"Python {version}", "Python-2.0", text.read_text("utf-8")


def nuitka() -> tuple[str, str, str]:
    """What its runtime parts, which are in the binary, may be used under."""
    one = distribution("nuitka")
    texts = [file for file in one.files or [] if file.name == "LICENSE-RUNTIME.txt"]
    if not texts:
        raise SystemExit("Nuitka has no LICENSE-RUNTIME.txt; look for it in its new version")
    text = Path(str(texts[0].locate())).read_text("utf-8")
    return f"Nuitka {one.version} (runtime)", "AGPL-3.0 with its runtime exception", text


def debian(package: str, why: str) -> tuple[str, str, str]:
    version = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    text = (DOC / package.partition(":")[0] / "copyright").read_text("utf-8", "replace")
    return f"{package.partition(':')[0]} {version} ({why})", "see below", text


def natives(dist: Path) -> list[tuple[str, str, str]]:
    """The system libraries that lie at the top of the folder."""
    rows: dict[str, list[str]] = {}
    for file in sorted(dist.glob("lib*.so*")):
        if file.name.startswith("libpython"):
            continue
        found = subprocess.run(
            ["dpkg-query", "-S", f"*/{file.name}"], capture_output=True, text=True, check=False
        ).stdout
        owners = sorted({line.split(": ")[0].split(", ")[0] for line in found.splitlines()})
        if not owners:
            raise SystemExit(f"{file.name}: of no Debian package, so its licence is not known")
        rows.setdefault(owners[0], []).append(file.name)
    return [debian(package, ", ".join(names)) for package, names in rows.items()]


def text(dist: Path) -> str:
    rows = [*licenses.packages(), python(), nuitka(), *natives(dist)]
    rows.append(debian("libzstd-dev", "unpacks the single file"))
    return licenses.render(rows)
