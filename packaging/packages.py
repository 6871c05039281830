"""`make packages`: a .deb and an .rpm for x86_64, made of build/binary/s3d.dist, into dist/ or
the folder that is given.

They carry the folder, not the single file: nothing has to be unpacked, and the program lies where
only root may write. RELEASE numbers packages of one version; MAINTAINER="Name <address>" is who
publishes them, else pyproject.toml says who maintains the project. Needs dpkg-deb and rpmbuild.
"""

import datetime
import gzip
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import completion
import manual

from predastore import __version__

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "build" / "binary" / "s3d.dist"
STAGE = ROOT / "build" / "packages"
FILES = ROOT / "packaging" / "files"
UNITS = ("s3d.service", "s3d.socket", "s3d@.service")


def put(file: Path, content: bytes | str, mode: int = 0o644) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)


def zipped(content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return gzip.compress(data, 9, mtime=0)


def common(tree: Path, epoch: int) -> None:
    """What both packages have in the same place."""
    shutil.rmtree(tree, ignore_errors=True)
    lib = tree / "usr" / "lib" / "predastore"
    shutil.copytree(DIST, lib)
    for file in lib.rglob("*"):
        is_program = file == lib / "s3d" or file.is_dir()
        file.chmod(0o755 if is_program else 0o644)
    (tree / "usr" / "bin").mkdir()
    (tree / "usr" / "bin" / "s3d").symlink_to("../lib/predastore/s3d")
    put(tree / "etc" / "predastore" / "cluster.toml", (FILES / "cluster.toml").read_bytes(), 0o640)
    share = tree / "usr" / "share"
    put(share / "man" / "man1" / "s3d.1.gz", zipped(manual.page(epoch)))
    page = (FILES / "cluster.toml.5").read_bytes()
    put(share / "man" / "man5" / "cluster.toml.5.gz", zipped(page))
    put(share / "bash-completion" / "completions" / "s3d", completion.bash())
    put(share / "fish" / "vendor_completions.d" / "s3d.fish", completion.fish())
    dashboard = ROOT / "packaging" / "grafana" / "predastore.json"
    put(share / "predastore" / "grafana" / dashboard.name, dashboard.read_bytes())
    doc = share / "doc" / "predastore"
    put(doc / "README.md", (ROOT / "README.md").read_bytes())
    put(doc / "licenses.txt.gz", zipped((DIST / "predastore" / "licenses.txt").read_bytes()))


def settle(tree: Path, epoch: int) -> None:
    """Same modes and times whoever builds it."""
    for file in [tree, *tree.rglob("*")]:
        if file.is_dir() and not file.is_symlink():
            file.chmod(0o755)
        os.utime(file, (epoch, epoch), follow_symlinks=False)


def glibc() -> str:
    """The newest glibc that any file asks for."""
    wanted = {(2, 17)}
    for file in [DIST / "s3d", *DIST.rglob("*.so*")]:
        said = subprocess.run(
            ["objdump", "-T", str(file)], capture_output=True, text=True, check=False
        ).stdout
        wanted |= {(int(a), int(b)) for a, b in re.findall(r"GLIBC_(\d+)\.(\d+)", said)}
    return ".".join(map(str, max(wanted)))


def maintainer() -> str:
    """Name <address>."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        (one,) = tomllib.load(file)["project"]["maintainers"]
    return os.environ.get("MAINTAINER") or f"{one['name']} <{one['email']}>"


def deb(target: Path, release: str, epoch: int) -> Path:
    tree, version = STAGE / "deb", f"{__version__}-{release}"
    common(tree, epoch)
    share = tree / "usr" / "share"
    put(share / "zsh" / "vendor-completions" / "_s3d", completion.zsh())
    for name in UNITS:
        put(tree / "lib" / "systemd" / "system" / name, (FILES / name).read_bytes())
    doc = share / "doc" / "predastore"
    put(doc / "copyright", (FILES / "deb" / "copyright").read_bytes())
    date = subprocess.run(
        ["date", "-u", "-R", f"-d@{epoch}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    log = f"predastore ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n"
    put(doc / "changelog.Debian.gz", zipped(f"{log}\n -- {maintainer()}  {date}\n"))
    put(doc / "CHANGELOG.md.gz", zipped((ROOT / "CHANGELOG.md").read_bytes()))
    overrides = (FILES / "deb" / "lintian-overrides").read_bytes()
    put(share / "lintian" / "overrides" / "predastore", overrides)
    settle(tree, epoch)
    size = sum(file.lstat().st_size for file in tree.rglob("*") if not file.is_dir()) // 1024
    control = (FILES / "deb" / "control").read_text("utf-8").replace("@VERSION@", version)
    control = control.replace("@SIZE@", str(size)).replace("@GLIBC@", glibc())
    control = control.replace("@MAINTAINER@", maintainer())
    put(tree / "DEBIAN" / "control", control)
    for name in ("conffiles", "templates"):
        put(tree / "DEBIAN" / name, (FILES / "deb" / name).read_bytes())
    for name in ("config", "postinst", "prerm", "postrm"):
        put(tree / "DEBIAN" / name, (FILES / "deb" / name).read_bytes(), 0o755)
    sums = sorted(file for file in tree.rglob("*") if file.is_file() and not file.is_symlink())
    listed = [
        str(file.relative_to(tree))
        for file in sums
        if file.relative_to(tree).parts[0] not in ("DEBIAN", "etc")
    ]
    md5 = subprocess.run(["md5sum", *listed], cwd=tree, capture_output=True, check=True).stdout
    put(tree / "DEBIAN" / "md5sums", md5)
    made = target / f"predastore_{version}_amd64.deb"
    command = ["dpkg-deb", "--build", "--root-owner-group", "-Zxz", str(tree), str(made)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return made


def rpm(target: Path, release: str, epoch: int) -> Path:
    tree, top = STAGE / "rpm", STAGE / "rpmbuild"
    common(tree, epoch)
    share = tree / "usr" / "share"
    put(share / "zsh" / "site-functions" / "_s3d", completion.zsh())
    for name in UNITS:
        put(tree / "usr" / "lib" / "systemd" / "system" / name, (FILES / name).read_bytes())
    doc = share / "doc" / "predastore"
    put(doc / "LICENSE", (ROOT / "LICENSE").read_bytes())
    put(doc / "CHANGELOG.md", (ROOT / "CHANGELOG.md").read_bytes())
    (tree / "var" / "lib" / "predastore").mkdir(parents=True)
    settle(tree, epoch)
    given = {
        "_topdir": str(top),
        "stage": str(tree),
        "version_": __version__,
        "release_": release,
        "glibc": glibc(),
        "packager_": maintainer(),
        "date_": f"{datetime.datetime.fromtimestamp(epoch, datetime.UTC):%a %b %d %Y}",
        "_rpmdir": str(top),
        "_rpmfilename": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
        "use_source_date_epoch_as_buildtime": "1",
        "_buildhost": "build",
        "_binary_payload": "w19.zstdio",
    }
    defines = [part for key, value in given.items() for part in ("--define", f"{key} {value}")]
    command = ["rpmbuild", "--quiet", "-bb", *defines, str(FILES / "rpm" / "predastore.spec")]
    subprocess.run(command, check=True)
    made = top / f"predastore-{__version__}-{release}.x86_64.rpm"
    return Path(shutil.move(made, target / made.name))


def main() -> int:
    if not (DIST / "s3d").exists():
        raise SystemExit(f"{DIST} is not there; run make binary")
    os.umask(0o022)
    release = os.environ.get("RELEASE") or "1"
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch)  # dpkg-deb and rpmbuild read it, too
    target = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "dist"
    target.mkdir(exist_ok=True)
    for made in (deb(target, release, epoch), rpm(target, release, epoch)):
        sys.stdout.write(f"{made}: {made.stat().st_size / 1e6:.1f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
