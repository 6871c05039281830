"""The chunked decoder: one pass copies, hashes and checks, without the GIL for long inputs."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy

cdef extern from "sha256.h":
    struct psha:
        pass
    struct phmac:
        pass
    void psha_init(psha *s) nogil
    void psha_update(psha *s, const uint8_t *p, size_t n) nogil
    void psha_final(psha *s, uint8_t *digest) nogil
    void phmac_init(phmac *m, const uint8_t *key, size_t n) nogil
    void phmac_update(phmac *m, const uint8_t *p, size_t n) nogil
    void phmac_final(phmac *m, uint8_t *mac) nogil
    void psha_hex(const uint8_t *digest, uint8_t *text) nogil

cdef enum:
    LINE_MAX = 1024  # room for any sane extension; ours has 80 bytes
    SHORT_BYTES = 8192  # not worth giving the GIL up
    SIGNATURE_BYTES = 64

SIZE_LINE_BYTES_MAX = LINE_MAX

cdef enum State:
    SIZE, DATA, DATA_END, TRAILER, DONE

cdef enum FaultKind:
    NONE, FRAMING, SIGNATURE, CHUNK_SIZE, TRAILER_SIZE

FAULTS = ("", "framing", "signature", "chunk-size", "trailer-size")

cdef const uint8_t *EXTENSION = b";chunk-signature="
cdef enum:
    EXTENSION_BYTES = 17

cdef uint8_t[64] EMPTY_HEX
cdef psha _empty
cdef uint8_t[32] _digest
psha_init(&_empty)
psha_final(&_empty, _digest)
psha_hex(_digest, EMPTY_HEX)


cdef inline int hex_value(uint8_t byte) noexcept nogil:
    if 0x30 <= byte <= 0x39:  # 0 to 9
        return byte - 0x30
    byte |= 0x20
    if 0x61 <= byte <= 0x66:  # a to f
        return byte - 0x61 + 10
    return -1


cdef class Decoder:
    """See chunked.pyi."""

    cdef State state
    cdef FaultKind kind
    cdef bint signed
    cdef uint64_t chunk_max
    cdef uint64_t left  # bytes of this chunk's data that are to come
    cdef bint last  # this chunk is the empty one
    cdef uint8_t[LINE_MAX + 2] line  # with its CRLF
    cdef size_t line_size
    cdef uint8_t *trailer_text
    cdef size_t trailer_size, trailer_max, trailer_line  # where its current line begins
    cdef bytes prefix
    cdef const uint8_t *prefix_text
    cdef size_t prefix_size
    cdef phmac key
    cdef psha hash
    cdef uint8_t[SIGNATURE_BYTES] previous
    cdef uint8_t[SIGNATURE_BYTES] claimed

    def __cinit__(
        self, uint64_t chunk_bytes_max, size_t trailer_bytes_max, bytes key not None = b"",
        bytes prefix not None = b"", bytes previous not None = b"",
    ):
        self.state = SIZE
        self.kind = NONE
        self.chunk_max = chunk_bytes_max
        self.trailer_max = trailer_bytes_max
        self.prefix = prefix
        self.prefix_text = <const uint8_t *> PyBytes_AS_STRING(prefix)
        self.prefix_size = PyBytes_GET_SIZE(prefix)
        self.signed = PyBytes_GET_SIZE(key) > 0
        if self.signed:
            if PyBytes_GET_SIZE(previous) != SIGNATURE_BYTES:
                raise ValueError("the seed signature must have 64 digits")
            phmac_init(&self.key, <const uint8_t *> PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
            memcpy(self.previous, PyBytes_AS_STRING(previous), SIGNATURE_BYTES)
        self.trailer_text = <uint8_t *> malloc(trailer_bytes_max + 2)
        if self.trailer_text == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.trailer_text)

    @property
    def done(self):
        return self.state == DONE

    @property
    def fault(self):
        return FAULTS[<int> self.kind]

    @property
    def signature(self):
        return PyBytes_FromStringAndSize(
            <char *> self.previous, SIGNATURE_BYTES if self.signed else 0)

    @property
    def trailer(self):
        return PyBytes_FromStringAndSize(<char *> self.trailer_text, self.trailer_line)

    def feed(self, const uint8_t[::1] source not None, uint8_t[::1] target not None):
        """See chunked.pyi."""
        cdef size_t used = 0, written = 0
        cdef size_t n = source.shape[0], m = target.shape[0]
        cdef const uint8_t *p = &source[0] if n else NULL
        cdef uint8_t *q = &target[0] if m else NULL
        if n >= SHORT_BYTES:
            with nogil:
                self.run(p, n, q, m, &used, &written)
        else:
            self.run(p, n, q, m, &used, &written)
        return used, written

    cdef void run(self, const uint8_t *p, size_t n, uint8_t *q, size_t m,
                  size_t *used, size_t *written) noexcept nogil:
        cdef size_t i = 0, take
        while self.kind == NONE and self.state != DONE and i < n:
            if self.state == DATA:
                take = n - i
                if take > m - written[0]:
                    take = m - written[0]
                if take > self.left:
                    take = self.left
                if take == 0:
                    break
                memcpy(q + written[0], p + i, take)
                if self.signed:
                    psha_update(&self.hash, p + i, take)
                i += take
                written[0] += take
                self.left -= take
                if self.left == 0:
                    self.end_data()
            elif self.state == TRAILER:
                i += self.take_trailer(p + i, n - i)
            else:
                i += self.take_line(p + i, n - i)
        used[0] = i

    # --- lines ------------------------------------------------------------------------------------

    cdef size_t take_line(self, const uint8_t *p, size_t n) noexcept nogil:
        """Moves bytes up to LF into the line; acts on it when it is whole."""
        cdef const uint8_t *lf = <const uint8_t *> memchr(p, b"\n", n)
        cdef size_t take = lf - p + 1 if lf != NULL else n
        if self.line_size + take > LINE_MAX + 2:
            self.kind = FRAMING
            return take
        memcpy(self.line + self.line_size, p, take)
        self.line_size += take
        if self.state == DATA_END and self.line[0] != b"\r":
            self.kind = FRAMING
        elif lf != NULL:
            if self.line_size < 2 or self.line[self.line_size - 2] != b"\r":
                self.kind = FRAMING
            elif self.state == DATA_END:
                if self.line_size == 2:
                    self.state = SIZE
                else:
                    self.kind = FRAMING
            else:
                self.start_chunk(self.line, self.line_size - 2)
            self.line_size = 0
        elif self.state == DATA_END and self.line_size >= 2:
            self.kind = FRAMING
        return take

    cdef size_t take_trailer(self, const uint8_t *p, size_t n) noexcept nogil:
        """Moves one trailer line, or its part that is here; an empty line ends the body.

        A line ends in CRLF; a LF alone stays in it, since one AWS example has "value LF CRLF".
        """
        cdef size_t i = 0, size
        while i < n:
            if self.trailer_size == self.trailer_max + 2:
                self.kind = TRAILER_SIZE
                return i
            self.trailer_text[self.trailer_size] = p[i]
            self.trailer_size += 1
            i += 1
            size = self.trailer_size - self.trailer_line
            if p[i - 1] == b"\n" and size >= 2 \
                    and self.trailer_text[self.trailer_size - 2] == b"\r":
                if size == 2:
                    self.state = DONE
                else:
                    self.trailer_line = self.trailer_size
                return i
        return i

    # --- chunks -----------------------------------------------------------------------------------

    cdef void start_chunk(self, const uint8_t *line, size_t n) noexcept nogil:
        cdef size_t i = 0
        cdef uint64_t size = 0
        while i < n and hex_value(line[i]) >= 0:
            if i == 15:
                self.kind = CHUNK_SIZE
                return
            size = size << 4 | <uint64_t> hex_value(line[i])
            i += 1
        if i == 0:
            self.kind = FRAMING
            return
        if size > self.chunk_max:
            self.kind = CHUNK_SIZE
            return
        self.take_extension(line + i, n - i)
        if self.kind != NONE:
            return
        self.left = size
        self.last = size == 0
        self.state = DATA
        psha_init(&self.hash)
        if self.last:
            self.end_data()

    cdef void take_extension(self, const uint8_t *p, size_t n) noexcept nogil:
        cdef size_t i
        if self.signed:
            if n != EXTENSION_BYTES + SIGNATURE_BYTES or memcmp(p, EXTENSION, EXTENSION_BYTES):
                self.kind = FRAMING
                return
            memcpy(self.claimed, p + EXTENSION_BYTES, SIGNATURE_BYTES)
        elif n and p[0] != b";":
            self.kind = FRAMING
        for i in range(n):
            if p[i] < 0x20 and p[i] != b"\t":
                self.kind = FRAMING

    cdef void end_data(self) noexcept nogil:
        """All data of a chunk (none of the last one) has passed."""
        if self.signed:
            self.check_signature()
        self.state = TRAILER if self.last else DATA_END

    cdef void check_signature(self) noexcept nogil:
        """Compares in constant time: every digit is looked at."""
        cdef phmac mac = self.key
        cdef uint8_t[32] digest
        cdef uint8_t[SIGNATURE_BYTES] text
        cdef uint8_t differs = 0
        cdef int i
        phmac_update(&mac, self.prefix_text, self.prefix_size)
        phmac_update(&mac, self.previous, SIGNATURE_BYTES)
        phmac_update(&mac, b"\n", 1)
        phmac_update(&mac, EMPTY_HEX, 64)
        phmac_update(&mac, b"\n", 1)
        psha_final(&self.hash, digest)
        psha_hex(digest, text)
        phmac_update(&mac, text, 64)
        phmac_final(&mac, digest)
        psha_hex(digest, text)
        for i in range(SIGNATURE_BYTES):
            differs |= text[i] ^ self.claimed[i]
        if differs:
            self.kind = SIGNATURE
        memcpy(self.previous, text, SIGNATURE_BYTES)
