# cython: language_level=3
"""Writes and syncs beside the interpreter; syncer.h has the thread."""

from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free

import os

cdef extern from "syncer.h":
    ctypedef struct ps_syncer:
        int fd
        const uint8_t *data
        size_t size
        int64_t offset
        int error
        int64_t sync_ns
        int done
    int ps_start(ps_syncer *s)
    void ps_stop(ps_syncer *s) nogil
    void ps_begin(ps_syncer *s)


cdef class Syncer:
    cdef ps_syncer *s
    cdef bytes data  # of the job under way

    def __cinit__(self):
        cdef int error
        self.s = <ps_syncer *>calloc(1, sizeof(ps_syncer))
        if self.s == NULL:
            raise MemoryError
        error = ps_start(self.s)
        if error:
            free(self.s)
            self.s = NULL
            raise OSError(error, os.strerror(error))

    def __dealloc__(self):
        self._stop()

    cdef _stop(self):
        cdef ps_syncer *s = self.s
        if s != NULL:
            self.s = NULL
            with nogil:
                ps_stop(s)
            free(s)

    cdef _require(self):
        if self.s == NULL:
            raise ValueError("it is closed")

    def fileno(self):
        self._require()
        return self.s.done

    def begin(self, int fd, bytes data not None, int64_t offset):
        self._require()
        if self.data is not None:
            raise ValueError("a write is under way")
        self.data = data
        self.s.fd = fd
        self.s.data = <const uint8_t *><const char *>data
        self.s.size = len(data)
        self.s.offset = offset
        ps_begin(self.s)

    def finish(self):
        self._require()
        if self.data is None:
            raise ValueError("no write is under way")
        os.eventfd_read(self.s.done)
        self.data = None
        if self.s.error:
            raise OSError(self.s.error, os.strerror(self.s.error))
        return self.s.sync_ns / 1e9

    def close(self):
        self._stop()
        self.data = None
