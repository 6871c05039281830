"""The Cython extensions of predastore._fast; everything else is in pyproject.toml.

PREDASTORE_DEBUG=1 builds with -O0, -g, bounds checks and assertions.
"""

import os
import platform
import subprocess
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("PREDASTORE_DEBUG") == "1"

WARNINGS = ["-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-Wno-unused-parameter"]
# What a fault in a kernel can be used for. The switches are kept in each file, for the test that
# reads them there (tests/packaging/test_hardening.py); glibc checks sizes in optimized code only.
HARDENING = ["-fstack-protector-strong", "-fstack-clash-protection", "-frecord-gcc-switches"]
FORTIFIED = ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"]
OPTIMIZED = ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-DNDEBUG", *FORTIFIED]
CFLAGS = ["-std=c11", *WARNINGS, *HARDENING, *OPTIMIZED]
LDFLAGS = ["-Wl,-z,relro,-z,now,-z,noexecstack"]

KERNELS = ["chunked", "crc", "frame", "gf256", "lmdbfile", "quic", "sigv4", "syncer", "udp"]
DEPENDS = ["setup.py", *glob("predastore/_fast/*.h")]


def has(header: str, library: str) -> bool:
    """Whether the compiler finds a library."""
    command = [os.environ.get("CC", "gcc"), "-x", "c", "-", f"-l{library}", "-o", os.devnull]
    source = f"#include <{header}>\nint main(void) {{ return 0; }}"
    try:
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


LIBRARIES = {"quic": ["crypto"]}  # libcrypto of OpenSSL 3
MACROS = {}
# libcrypto does what this one does, in three times the time (quic_aead.h).
if platform.machine() == "x86_64" and has("intel-ipsec-mb.h", "IPSec_MB"):
    LIBRARIES["quic"].append("IPSec_MB")
    MACROS["quic"] = [("PREDASTORE_IPSEC_MB", None)]

EXTENSIONS = [
    Extension(
        f"predastore._fast.{name}",
        [f"predastore/_fast/{name}.pyx"],
        include_dirs=["predastore/_fast"],
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
        libraries=LIBRARIES.get(name, []),
        define_macros=MACROS.get(name, []),
        depends=DEPENDS,
    )
    for name in KERNELS
]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
}

if __name__ == "__main__":
    setup(ext_modules=cythonize(EXTENSIONS, compiler_directives=DIRECTIVES, build_dir="build"))
