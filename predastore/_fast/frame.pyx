# cython: language_level=3
"""The records of a segment file: pack, verify, scan, find the next good one after damage.

A record is a header of 80 bytes, a payload, and zeros up to a multiple of 8 bytes. Records stand
at multiples of 8 bytes of their segment. All integers are little endian.

    at  bytes  field
     0      2  magic, "PR"
     2      1  format version, 1
     3      1  kind: 1 block, 2 commit, 3 tombstone, 4 footer, 5 seal
     4      2  flags: bit 0 SOLE, of a block: it is the whole shard, and its own commit
     6      2  shard index
     8      4  payload length in bytes, without the padding
    12      4  stripe number
    16     32  object hash
    48     16  write id
    64      4  CRC32C of the payload
    68      4  tag: a random number of this segment
    72      4  synced: so many times 8 bytes of this segment were durable when this was written
    76      4  CRC32C of the record's offset in the segment (8 bytes) and of bytes 0 to 75
    80         payload

A payload is any bytes, even a copy of a segment. The tag and the offset in the header's CRC are
there so that what looks like a record within a payload is not taken for one, when a scan has to
find its way again after damage.

`synced` tells damage from a torn write: what lies below the highest `synced` of a segment had
been fsynced, so if it is bad now, it was damaged; what lies above may have been torn.

frame.h does the work, without the GIL.
"""

from collections import namedtuple

from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

import os

cdef extern from "frame.h":
    enum:
        PFR_HEADER_BYTES, PFR_ALIGN_BYTES, PFR_VERSION
        PFR_BLOCK, PFR_COMMIT, PFR_TOMBSTONE, PFR_FOOTER, PFR_SEAL, PFR_SOLE
        PFR_OK, PFR_MORE, PFR_ZERO, PFR_BAD, PFR_NEWER, PFR_FULL
        PFR_READ_OK, PFR_READ_WOULD_BLOCK, PFR_READ_MISMATCH, PFR_READ_SHORT
    struct pfr_header:
        uint32_t version, kind, flags, index, length, stripe, payload_crc, tag, synced
        const uint8_t *object_hash
        const uint8_t *write_id
    struct pfr_found:
        size_t at
        int sound
    size_t pfr_padded(size_t length) nogil
    void pfr_pack(uint8_t *p, uint64_t offset, const pfr_header *h) nogil
    int pfr_unpack(const uint8_t *p, uint64_t offset, int64_t tag, pfr_header *h) nogil
    int pfr_scan(const uint8_t *p, size_t n, uint64_t base, int64_t tag, int payloads,
                 pfr_found *found, size_t found_max, size_t *count, size_t *next) nogil
    int64_t pfr_resync(const uint8_t *p, size_t n, size_t at, uint64_t base, int64_t tag) nogil
    int pfr_read_block(int fd, int64_t offset, uint8_t *out, size_t n, uint32_t crc,
                       int nowait) nogil

HEADER_BYTES = PFR_HEADER_BYTES
ALIGN_BYTES = PFR_ALIGN_BYTES
FORMAT_VERSION = PFR_VERSION
BLOCK, COMMIT, TOMBSTONE, FOOTER, SEAL = (
    PFR_BLOCK, PFR_COMMIT, PFR_TOMBSTONE, PFR_FOOTER, PFR_SEAL
)
SOLE = PFR_SOLE
STOP_MORE, STOP_ZERO, STOP_BAD, STOP_NEWER = PFR_MORE, PFR_ZERO, PFR_BAD, PFR_NEWER
READ_OK, READ_WOULD_BLOCK, READ_MISMATCH, READ_SHORT = (
    PFR_READ_OK, PFR_READ_WOULD_BLOCK, PFR_READ_MISMATCH, PFR_READ_SHORT
)
ANY_TAG = -1

cdef enum:
    FOUND_MAX = 512  # records of one turn without the GIL

Record = namedtuple(
    "Record",
    "offset kind flags shard_index stripe object_hash write_id length payload_crc tag synced_bytes sound",
)
Record.__module__ = __name__


def record_bytes(size_t length):
    return PFR_HEADER_BYTES + pfr_padded(length)


def pack_into(
    uint8_t[::1] out not None, size_t at, uint64_t offset, uint32_t tag, uint64_t synced_bytes,
    int kind, int flags, const uint8_t[::1] object_hash not None, const uint8_t[::1] write_id not None,
    unsigned short index, uint32_t stripe, uint32_t length, uint32_t payload_crc,
):
    cdef pfr_header h
    if at > <size_t>out.shape[0] or <size_t>out.shape[0] - at < PFR_HEADER_BYTES:
        raise ValueError("no room for a header")
    if object_hash.shape[0] != 32 or write_id.shape[0] != 16:
        raise ValueError("an object hash has 32 bytes, a write id 16")
    if offset % PFR_ALIGN_BYTES or synced_bytes % PFR_ALIGN_BYTES:
        raise ValueError("records stand at multiples of 8 bytes")
    if synced_bytes // PFR_ALIGN_BYTES > 0xFFFFFFFF:
        raise OverflowError("synced_bytes is beyond what a header can say")
    if kind < PFR_BLOCK or kind > PFR_SEAL or flags & ~PFR_SOLE:
        raise ValueError("unknown kind or flags")
    h.version = PFR_VERSION
    h.kind = kind
    h.flags = flags
    h.index = index
    h.length = length
    h.stripe = stripe
    h.object_hash = &object_hash[0]
    h.write_id = &write_id[0]
    h.payload_crc = payload_crc
    h.tag = tag
    h.synced = <uint32_t>(synced_bytes // PFR_ALIGN_BYTES)
    pfr_pack(&out[at], offset, &h)


cdef object _record(const pfr_header *h, uint64_t offset, bint sound):
    return Record(
        offset, h.kind, h.flags, h.index, h.stripe,
        PyBytes_FromStringAndSize(<const char *>h.object_hash, 32),
        PyBytes_FromStringAndSize(<const char *>h.write_id, 16),
        h.length, h.payload_crc, h.tag, <uint64_t>h.synced * PFR_ALIGN_BYTES, sound,
    )


def unpack(const uint8_t[::1] buffer not None, size_t at, uint64_t offset, int64_t tag):
    cdef pfr_header h
    cdef int state
    if at > <size_t>buffer.shape[0] or <size_t>buffer.shape[0] - at < PFR_HEADER_BYTES:
        return PFR_MORE
    state = pfr_unpack(&buffer[at], offset, tag, &h)
    return _record(&h, offset, True) if state == PFR_OK else state


def scan(const uint8_t[::1] buffer not None, uint64_t base, int64_t tag, bint payloads=True):
    cdef pfr_found found[FOUND_MAX]
    cdef pfr_header h
    cdef size_t count = 0, next = 0, i, n = buffer.shape[0]
    cdef const uint8_t *p = &buffer[0] if n else NULL
    cdef int state = PFR_FULL
    records = []
    while state == PFR_FULL:
        with nogil:
            state = pfr_scan(p, n, base, tag, payloads, found, FOUND_MAX, &count, &next)
        for i in range(count):
            pfr_unpack(p + found[i].at, base + found[i].at, tag, &h)
            records.append(_record(&h, base + found[i].at, found[i].sound))
    return records, base + next, state


def resync(const uint8_t[::1] buffer not None, size_t at, uint64_t base, int64_t tag):
    cdef int64_t found = -1
    cdef size_t n = buffer.shape[0]
    cdef const uint8_t *p = &buffer[0] if n else NULL
    if base % PFR_ALIGN_BYTES:
        raise ValueError("records stand at multiples of 8 bytes")
    with nogil:
        found = pfr_resync(p, n, at, base, tag)
    return None if found < 0 else base + <uint64_t>found


def read_block(int fd, int64_t offset, out not None, uint32_t crc, bint nowait=False):
    cdef Py_buffer view
    cdef int state
    PyObject_GetBuffer(out, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
    try:
        if nowait:
            # A copy from the page cache: giving up the GIL would cost more than it takes.
            state = pfr_read_block(fd, offset, <uint8_t *>view.buf, view.len, crc, 1)
        else:
            with nogil:
                state = pfr_read_block(fd, offset, <uint8_t *>view.buf, view.len, crc, 0)
    finally:
        PyBuffer_Release(&view)
    if state < 0:
        raise OSError(-state, os.strerror(-state))
    return state
