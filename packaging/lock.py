"""`make lock`: writes packaging/requirements.lock, the versions that `make binary` builds with.

What pyproject.toml asks for, and the tools of the build, are resolved afresh by pip-tools in an
empty environment. Nothing of the development extras can get in. Each version comes with the
SHA-256 of all its files, for whatever machine they are: pip takes no other.
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

LOCK = Path(__file__).with_name("requirements.lock")
TOOLS = ("Nuitka>=4.3,<5", "zstandard>=0.23,<1", "setuptools>=78.1.1", "wheel>=0.46.2")
TOOLS += ("Cython>=3.1,<4",)
OPTIONS = ("--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-annotate", "--no-header")
OPTIONS += ("--no-emit-find-links", "--no-emit-index-url", "--no-emit-trusted-host", "--quiet")
HEADER = """\
# Versions that `make binary` builds with, with hashes of their files; `make lock` writes it anew.
# The runtime dependencies of pyproject.toml with all that they need, and the tools of the build.
"""


def main() -> int:
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--upgrade", "pip", "pip-tools>=7.5,<8"], check=True)
        wanted, resolved = Path(folder, "wanted.txt"), Path(folder, "resolved.txt")
        wanted.write_text("\n".join([*project["dependencies"], *TOOLS]) + "\n", "utf-8")
        command = [python, "-m", "piptools", "compile", *OPTIONS, "-o", str(resolved), str(wanted)]
        subprocess.run(command, check=True)
        frozen = resolved.read_text("utf-8")
    LOCK.write_text(HEADER + frozen, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
