# cython: language_level=3
"""Datagrams in batches; udp.h makes the system calls."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free, malloc

import os

cdef extern from "udp.h":
    enum:
        PU_MESSAGES, PU_BYTES
    struct pu_receiver:
        uint8_t *buffers
    int pu_receive(int fd, pu_receiver *r) nogil
    size_t pu_segment(pu_receiver *r, int i) nogil
    size_t pu_send(int fd, const uint8_t *data, size_t n, size_t segment, const void *name,
                   size_t name_bytes, int *offload, int *error) nogil
    size_t pu_length "PU_LENGTH" (pu_receiver *r, int i) nogil
    const char *pu_name "PU_NAME" (pu_receiver *r, int i) nogil
    size_t pu_name_bytes "PU_NAME_BYTES" (pu_receiver *r, int i) nogil

cdef enum:
    LONG_ENOUGH = 16384  # bytes for which giving up the GIL is worth its while


cdef class Receiver:
    cdef pu_receiver *r
    cdef object view
    cdef bint busy

    def __cinit__(self):
        self.r = <pu_receiver *>calloc(1, sizeof(pu_receiver))
        if self.r == NULL:
            raise MemoryError
        # Untouched pages cost nothing: most sockets never fill more than a few of these.
        self.r.buffers = <uint8_t *>malloc(<size_t>PU_MESSAGES * PU_BYTES)
        if self.r.buffers == NULL:
            raise MemoryError
        self.view = memoryview(<uint8_t[:PU_MESSAGES * PU_BYTES]>self.r.buffers)

    def __dealloc__(self):
        if self.r != NULL:
            free(self.r.buffers)
            free(self.r)

    def receive(self, int fd):
        cdef int n, i
        cdef size_t total = 0, length, at
        if self.busy:
            with nogil:
                n = pu_receive(fd, self.r)
        else:
            n = pu_receive(fd, self.r)
        if n < 0:
            raise OSError(-n, os.strerror(-n))
        found = []
        for i in range(n):
            length = pu_length(self.r, i)
            at = <size_t>i * PU_BYTES
            total += length
            name = PyBytes_FromStringAndSize(pu_name(self.r, i), pu_name_bytes(self.r, i))
            found.append((self.view[at : at + length], pu_segment(self.r, i), name))
        self.busy = total >= LONG_ENOUGH
        return found


cdef class Sender:
    cdef int offload

    def __cinit__(self, bint offload=True):
        self.offload = offload

    def send(self, int fd, data not None, size_t size_bytes, size_t segment_bytes, bytes address):
        cdef Py_buffer view
        cdef int error = 0
        cdef size_t sent, name_bytes = 0
        cdef const char *name = NULL
        if address is not None:
            name = address
            name_bytes = len(address)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if size_bytes > <size_t>view.len:
                raise ValueError("more than there is")
            if size_bytes >= LONG_ENOUGH:
                with nogil:
                    sent = pu_send(fd, <const uint8_t *>view.buf, size_bytes, segment_bytes, name,
                                   name_bytes, &self.offload, &error)
            else:
                sent = pu_send(fd, <const uint8_t *>view.buf, size_bytes, segment_bytes, name,
                               name_bytes, &self.offload, &error)
        finally:
            PyBuffer_Release(&view)
        return sent, error
