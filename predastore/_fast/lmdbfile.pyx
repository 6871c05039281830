# cython: language_level=3
"""Whether an lmdb file is whole, before lmdb maps it; lmdbfile.h has the layout and the walk."""

from libc.stdint cimport uint64_t

import os

cdef extern from "lmdbfile.h":
    struct plf:
        const char *wrong
        uint64_t at
        uint64_t entries
        int error
    int plf_check(plf *w, int fd, uint64_t file_bytes, int with_crcs) nogil
    void plf_free(plf *w) nogil


def check(int fd, bint with_crcs):
    cdef plf walk
    cdef uint64_t file_bytes = os.fstat(fd).st_size
    cdef int failed
    with nogil:
        failed = plf_check(&walk, fd, file_bytes, with_crcs)
        plf_free(&walk)
    if not failed:
        return walk.entries
    if walk.error:
        raise OSError(walk.error, os.strerror(walk.error))
    raise ValueError(f"page {walk.at} {walk.wrong.decode()}")
