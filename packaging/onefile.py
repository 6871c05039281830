"""`make binary`, second half: dist/s3d, one file made of build/binary/s3d.dist.

The launcher (launcher.c has the layout), the files as one zstd frame, an index, a trailer. The
same folder gives the same bytes: files are sorted, and neither times nor owners are kept.
"""

import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "build" / "binary" / "s3d.dist"
LEVEL = 19
WINDOW_LOG = 23  # 8 MiB: what zstd decoders take without being asked to


def launcher(target: Path) -> None:
    """Compiles launcher.c, with zstd's decoder in it."""
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIE", "-pie", "-s"]
    flags += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3", "-Wl,-z,relro,-z,now,-z,noexecstack"]
    flags += ["-fstack-protector-strong", "-fstack-clash-protection"]
    source = str(ROOT / "packaging" / "launcher.c")
    command = [os.environ.get("CC", "gcc"), *flags, source, "-l:libzstd.a", "-o", str(target)]
    subprocess.run(command, check=True)


def compressed(content: bytes) -> bytes:
    """One zstd frame with a checksum."""
    import zstandard  # in the environment of the binary alone

    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, window_log=WINDOW_LOG, write_checksum=True, write_content_size=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def whole(start: bytes, folder: Path, compress: Callable[[bytes], bytes]) -> bytes:
    """The one file: the launcher `start`, and all that is in `folder`."""
    index, contents = b"", []
    for file in files_of(folder):
        name, content = file.relative_to(folder).as_posix().encode(), file.read_bytes()
        is_executable = file.stat().st_mode & 0o100 != 0
        index += struct.pack("<QHH", len(content), is_executable, len(name)) + name
        contents.append(content)
    unpacked = b"".join(contents)
    payload = compress(unpacked)
    digest = hashlib.sha256(payload + index).hexdigest()[:32].encode()
    trailer = b"S3DONE01" + struct.pack(
        "<QQQQ", len(start), len(payload), len(index), len(unpacked)
    )
    return start + payload + index + trailer + digest


def main() -> int:
    folder = ROOT / "build" / "binary" / "launcher"
    folder.mkdir(parents=True, exist_ok=True)
    launcher(folder / "launcher")
    target = ROOT / "dist" / "s3d"
    target.parent.mkdir(exist_ok=True)
    fresh = target.with_name(".s3d.new")
    fresh.write_bytes(whole((folder / "launcher").read_bytes(), DIST, compressed))
    fresh.chmod(0o755)
    fresh.rename(target)
    sizes = [file.stat().st_size for file in files_of(DIST)]
    sys.stdout.write(
        f"dist/s3d: {target.stat().st_size / 1e6:.1f} MB, "
        f"{sum(sizes) / 1e6:.1f} MB in {len(sizes)} files when unpacked\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
