"""The Cython extensions of predastore._fast; everything else is in pyproject.toml.

PREDASTORE_DEBUG=1 builds with -O0, -g, bounds checks and assertions.
"""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("PREDASTORE_DEBUG") == "1"

WARNINGS = ["-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-Wno-unused-parameter"]
CFLAGS = ["-std=c11", *WARNINGS, *(["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-DNDEBUG"])]

KERNELS = ["chunked", "crc", "frame", "gf256", "quic", "sigv4", "syncer", "udp"]
HEADERS = glob("predastore/_fast/*.h")
LIBRARIES = {"quic": ["crypto"]}  # libcrypto of OpenSSL 3

EXTENSIONS = [
    Extension(
        f"predastore._fast.{name}",
        [f"predastore/_fast/{name}.pyx"],
        include_dirs=["predastore/_fast"],
        extra_compile_args=CFLAGS,
        libraries=LIBRARIES.get(name, []),
        depends=HEADERS,
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
