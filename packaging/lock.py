"""`make lock`: writes packaging/requirements.lock, the versions that `make binary` builds with.

What pyproject.toml asks for, and the tools of the build, are resolved afresh in an empty
environment. Nothing of the development extras can get in.
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

LOCK = Path(__file__).with_name("requirements.lock")
TOOLS = ("Nuitka>=4.3,<5", "zstandard>=0.23,<1", "setuptools>=77", "wheel", "Cython>=3.1,<4")
HEADER = """\
# Versions that `make binary` builds with; `make lock` writes this file anew.
# The runtime dependencies of pyproject.toml with all that they need, and the tools of the build.
"""


def main() -> int:
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", *project["dependencies"], *TOOLS], check=True)
        frozen = subprocess.run(
            [*pip, "freeze", "--all", "--exclude", "pip"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    LOCK.write_text(HEADER + frozen, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
