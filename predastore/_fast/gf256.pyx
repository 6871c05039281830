"""Reed-Solomon over GF(2^8): encode in place, reconstruct any blocks from any k.

The work is done in gf256.h, without the GIL; this file checks arguments, holds buffers and keeps
prepared matrices. A code has k data and m parity blocks, k >= 1, k + m <= 256; its matrix depends
on k alone, so that a parity block is the same whatever the number of its neighbours.

Work goes tile by tile, each tile of all blocks small enough to stay in the cache between the pass
that codes it and the one that takes its CRC.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

cdef extern from "crc32c.h" nogil:
    uint32_t predastore_crc32c(uint32_t crc, const uint8_t *p, size_t n)

cdef extern from "gf256.h" nogil:
    enum:
        GF_ORDER
        GF_PATHS
    int gf_path
    int gf_offers(int path)
    int gf_best()
    uint64_t gf_affine_matrix(uint8_t c)
    void gf_generator_row(unsigned k, unsigned shard, uint8_t *row)
    int gf_decode_matrix(unsigned k, const uint8_t *present, unsigned want_count,
                         const uint8_t *wanted, uint8_t *matrix)
    struct gf_plan:
        size_t bytes
    gf_plan *gf_plan_new(unsigned rows, unsigned columns, const uint8_t *matrix)
    void gf_run(const gf_plan *plan, const uint8_t *const *inputs, uint8_t *const *outputs,
                size_t start, size_t end)

PATHS = ("portable", "ssse3", "avx2", "gfni")

cdef enum:
    # One tile of all blocks: a small part of a second-level cache, so that the CRC pass finds it
    # there; each a multiple of what the CRC kernel likes to take at once.
    TILE_SET_BYTES = 64 * 1024
    TILE_BYTES_MIN = 2048
    TILE_BYTES_MAX = 16 * 1024
    # Prepared matrices kept, least recently used dropped first.
    PLAN_COUNT_MAX = 512
    PLAN_BYTES_MAX = 8 * 1024 * 1024


def paths():
    return [name for i, name in enumerate(PATHS) if gf_offers(i)]


def path():
    return PATHS[gf_path]


def force_path(name):
    global gf_path
    if name is None:
        gf_path = gf_best()
        return
    if name not in paths():
        raise ValueError(f"this CPU has no code path {name!r}; it has {', '.join(paths())}")
    gf_path = PATHS.index(name)


def affine_matrix(uint8_t coefficient):
    return gf_affine_matrix(coefficient)


cdef int _check_code(Py_ssize_t k, Py_ssize_t m, Py_ssize_t block_bytes) except -1:
    if k < 1 or k > GF_ORDER or m < 0 or m > GF_ORDER - k:
        raise ValueError(f"k >= 1, m >= 0 and k + m <= {GF_ORDER} do not hold: {k}, {m}")
    if block_bytes < 0:
        raise ValueError(f"block_bytes is negative: {block_bytes}")
    return 0


def generator_matrix(Py_ssize_t k, Py_ssize_t m):
    _check_code(k, m, 0)
    cdef uint8_t row[GF_ORDER]
    rows = []
    cdef Py_ssize_t shard
    for shard in range(k + m):
        gf_generator_row(<unsigned>k, <unsigned>shard, row)
        rows.append((<char *>row)[:k])
    return rows


# --- prepared matrices ------------------------------------------------------------------------

cdef class _Plan:
    cdef gf_plan *plan

    def __dealloc__(self):
        free(self.plan)


cdef bytes _SHARDS = bytes(range(GF_ORDER))
cdef dict _plans = {}  # key -> _Plan, least recently used first
cdef size_t _plans_bytes = 0


cdef _Plan _plan(unsigned k, bytes present, bytes wanted):
    """The plan that makes the shards `wanted` from the shards `present`, k of them, in order."""
    global _plans_bytes
    cdef _Plan found = _plans.pop((present, wanted), None)
    cdef _Plan oldest
    if found is not None:
        _plans[present, wanted] = found
        return found
    cdef unsigned rows = <unsigned>len(wanted)
    cdef const uint8_t *present_p = present
    cdef const uint8_t *wanted_p = wanted
    cdef uint8_t *matrix = <uint8_t *>malloc(<size_t>rows * k + 1)
    cdef gf_plan *plan = NULL
    cdef int failed = 1
    with nogil:
        if matrix != NULL:
            failed = gf_decode_matrix(k, present_p, rows, wanted_p, matrix)
        if not failed:
            plan = gf_plan_new(rows, k, matrix)
        free(matrix)
    if plan == NULL:
        raise MemoryError
    found = _Plan.__new__(_Plan)
    found.plan = plan
    oldest = _plans.pop((present, wanted), None)  # another thread made it meanwhile
    if oldest is not None:
        _plans_bytes -= oldest.plan.bytes
    _plans[present, wanted] = found
    _plans_bytes += plan.bytes
    while len(_plans) > PLAN_COUNT_MAX or (_plans_bytes > PLAN_BYTES_MAX and len(_plans) > 1):
        oldest = _plans.pop(next(iter(_plans)))
        _plans_bytes -= oldest.plan.bytes
    return found


def plans_cached():
    return len(_plans), _plans_bytes


cdef size_t _tile_bytes(Py_ssize_t blocks) noexcept nogil:
    cdef size_t tile = (TILE_SET_BYTES // <size_t>blocks) & ~(<size_t>2047)
    return min(max(tile, <size_t>TILE_BYTES_MIN), <size_t>TILE_BYTES_MAX)


# --- encode -----------------------------------------------------------------------------------

cdef _encode(Py_ssize_t k, Py_ssize_t m, object buffer, Py_ssize_t block_bytes, uint32_t *crcs):
    _check_code(k, m, block_bytes)
    cdef uint8_t *blocks[GF_ORDER]
    cdef Py_buffer view
    cdef _Plan plan = None
    cdef const gf_plan *prepared = NULL
    cdef Py_ssize_t i
    cdef size_t start, end, tile, length = <size_t>block_bytes
    if m:
        plan = _plan(<unsigned>k, _SHARDS[:k], _SHARDS[k:k + m])
        prepared = plan.plan
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        # k + m <= 256, so the product overflows only where no buffer could be large enough
        if view.len // (k + m) < block_bytes:
            raise ValueError(
                f"buffer has {view.len} bytes; {k} + {m} blocks need {(k + m) * block_bytes}"
            )
        with nogil:
            for i in range(k + m):
                blocks[i] = <uint8_t *>view.buf + <size_t>i * length
                if crcs != NULL:
                    crcs[i] = 0
            tile = _tile_bytes(k + m)
            start = 0
            while start < length:
                end = min(start + tile, length)
                if prepared != NULL:
                    gf_run(prepared, <const uint8_t *const *>blocks, blocks + k, start, end)
                if crcs != NULL:
                    for i in range(k + m):
                        crcs[i] = predastore_crc32c(crcs[i], blocks[i] + start, end - start)
                start = end
    finally:
        PyBuffer_Release(&view)


def encode(Py_ssize_t k, Py_ssize_t m, object buffer, Py_ssize_t block_bytes):
    _encode(k, m, buffer, block_bytes, NULL)


def encode_with_crcs(Py_ssize_t k, Py_ssize_t m, object buffer, Py_ssize_t block_bytes):
    cdef uint32_t crcs[GF_ORDER]
    _encode(k, m, buffer, block_bytes, crcs)
    return [crcs[i] for i in range(k + m)]


# --- reconstruct ------------------------------------------------------------------------------

cdef class _Blocks:
    """Buffers held for the time of a call; `shards`, their indices, one byte each."""

    cdef Py_buffer views[GF_ORDER]
    cdef uint8_t *pointers[GF_ORDER]
    cdef Py_ssize_t count
    cdef bytes shards

    def __cinit__(self, pairs, Py_ssize_t shard_count, Py_ssize_t block_bytes, int flags):
        cdef Py_ssize_t shard
        cdef bytearray shards = bytearray()
        self.count = 0
        for shard, buffer in pairs:
            if not 0 <= shard < shard_count:
                raise ValueError(f"shard {shard} is not one of {shard_count}")
            if shard in shards:
                raise ValueError(f"shard {shard} is given twice")
            shards.append(shard)
            PyObject_GetBuffer(buffer, &self.views[self.count], flags)
            self.pointers[self.count] = <uint8_t *>self.views[self.count].buf
            self.count += 1
            if self.views[self.count - 1].len < block_bytes:
                raise ValueError(
                    f"shard {shard} has {self.views[self.count - 1].len} bytes, not {block_bytes}"
                )
        self.shards = bytes(shards)

    def __dealloc__(self):
        for i in range(self.count):
            PyBuffer_Release(&self.views[i])


cdef bint _overlap(const uint8_t *a, const uint8_t *b, size_t n) noexcept nogil:
    return a < b + n and b < a + n


cdef int _check_apart(_Blocks present, _Blocks wanted, Py_ssize_t block_bytes) except -1:
    cdef Py_ssize_t w, i
    for w in range(wanted.count):
        for i in range(present.count):
            if _overlap(wanted.pointers[w], present.pointers[i], <size_t>block_bytes):
                raise ValueError("a wanted block overlaps a present one")
        for i in range(w):
            if _overlap(wanted.pointers[w], wanted.pointers[i], <size_t>block_bytes):
                raise ValueError("two wanted blocks overlap")
    return 0


def reconstruct(Py_ssize_t k, Py_ssize_t m, present, wanted, Py_ssize_t block_bytes):
    _check_code(k, m, block_bytes)
    cdef _Blocks have = _Blocks(present, k + m, block_bytes, PyBUF_SIMPLE)
    cdef _Blocks want = _Blocks(wanted, k + m, block_bytes, PyBUF_WRITABLE)
    if have.count != k:
        raise ValueError(f"{have.count} blocks are present; exactly {k} are needed")
    if want.count == 0 or block_bytes == 0:
        return
    _check_apart(have, want, block_bytes)
    cdef _Plan plan = _plan(<unsigned>k, have.shards, want.shards)
    cdef size_t start = 0, end, length = <size_t>block_bytes
    cdef size_t tile = _tile_bytes(k + want.count)
    with nogil:
        while start < length:
            end = min(start + tile, length)
            gf_run(plan.plan, <const uint8_t *const *>have.pointers, want.pointers, start, end)
            start = end
