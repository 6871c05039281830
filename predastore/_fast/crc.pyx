"""CRC32C, CRC32 and CRC64NVME: the hashing is in crc_fold.h and crc32c.h, without the GIL.

The GIL is kept for short inputs, where giving it up costs more than the work.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include "crc32c.h"

    static struct pcrc crc32_tables, crc64nvme_tables;

    __attribute__((constructor)) static void crc_init(void) {
        pcrc_init(&crc32_tables, 0xEDB88320u, 32);
        pcrc_init(&crc64nvme_tables, 0x9A6C9329AC4BC9B5u, 64);
    }

    /* Both ends inverted, as all three CRCs are published. */
    static uint64_t crc_run(const struct pcrc *c, uint64_t crc, const uint8_t *p, size_t n) {
        const uint64_t inverted = ~(uint64_t)0 >> (64 - c->width);
        uint64_t state = crc ^ inverted;
    #if PCRC_X86
        uint8_t folded[16];
        size_t used = 0;
        if (predastore_crc32c_path == PCRC_VPCLMUL && n >= PCRC_VPCLMUL_BYTES)
            used = pcrc_fold_vpclmul(c, state, p, n, folded);
        else if (predastore_crc32c_path >= PCRC_PCLMUL && n >= PCRC_PCLMUL_BYTES)
            used = pcrc_fold_pclmul(c, state, p, n, folded);
        if (used) {
            state = pcrc_portable(c, 0, folded, 16);
            p += used;
            n -= used;
        }
    #endif
        return pcrc_portable(c, state, p, n) ^ inverted;
    }
    """
    struct pcrc:
        pass
    enum:
        PCRC_PATHS
    pcrc predastore_crc32c_tables, crc32_tables, crc64nvme_tables
    int predastore_crc32c_path
    int predastore_crc_offers(int path) nogil
    int predastore_crc_best() nogil
    uint32_t predastore_crc32c(uint32_t crc, const uint8_t *p, size_t n) nogil
    uint64_t pcrc_combine(const pcrc *c, uint64_t crc_a, uint64_t crc_b, uint64_t b_bytes) nogil
    uint64_t crc_run(const pcrc *c, uint64_t crc, const uint8_t *p, size_t n) nogil

PATHS = ("portable", "sse42", "pclmul", "vpclmul")

cdef enum:
    SHORT_BYTES = 4096  # well under a microsecond of work


def paths():
    return [name for i, name in enumerate(PATHS) if predastore_crc_offers(i)]


def path():
    return PATHS[predastore_crc32c_path]


def force_path(name):
    global predastore_crc32c_path
    if name is None:
        predastore_crc32c_path = predastore_crc_best()
        return
    if name not in paths():
        raise ValueError(f"this CPU has no code path {name!r}; it has {', '.join(paths())}")
    predastore_crc32c_path = PATHS.index(name)


def crc32c(data, uint32_t value=0):
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    if view.len <= SHORT_BYTES:
        value = predastore_crc32c(value, <const uint8_t *>view.buf, <size_t>view.len)
    else:
        with nogil:
            value = predastore_crc32c(value, <const uint8_t *>view.buf, <size_t>view.len)
    PyBuffer_Release(&view)
    return value


cdef uint64_t _run(const pcrc *tables, data, uint64_t value) except? 0:
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    if view.len <= SHORT_BYTES:
        value = crc_run(tables, value, <const uint8_t *>view.buf, <size_t>view.len)
    else:
        with nogil:
            value = crc_run(tables, value, <const uint8_t *>view.buf, <size_t>view.len)
    PyBuffer_Release(&view)
    return value


def crc32(data, uint32_t value=0):
    return _run(&crc32_tables, data, value)


def crc64nvme(data, uint64_t value=0):
    return _run(&crc64nvme_tables, data, value)


def crc32c_combine(uint32_t crc1, uint32_t crc2, uint64_t len2):
    return pcrc_combine(&predastore_crc32c_tables, crc1, crc2, len2)


def crc32_combine(uint32_t crc1, uint32_t crc2, uint64_t len2):
    return pcrc_combine(&crc32_tables, crc1, crc2, len2)


def crc64nvme_combine(uint64_t crc1, uint64_t crc2, uint64_t len2):
    return pcrc_combine(&crc64nvme_tables, crc1, crc2, len2)
