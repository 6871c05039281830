"""SigV4: the canonical request is written into one buffer, hashed and signed there.

The hashing is in sha256.h. A request's text is at most some tens of KiB (the server bounds its
head), so the GIL is kept, except by `sha256` for long inputs.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy

cdef extern from "sha256.h":
    struct psha:
        pass
    struct phmac:
        pass
    enum:
        PSHA_PATHS
    bint psha_offers(int path) nogil
    bint psha_use(int path) nogil
    void psha_init(psha *s) nogil
    void psha_update(psha *s, const uint8_t *p, size_t n) nogil
    void psha_final(psha *s, uint8_t *digest) nogil
    void phmac_init(phmac *m, const uint8_t *key, size_t n) nogil
    void phmac_update(phmac *m, const uint8_t *p, size_t n) nogil
    void phmac_final(phmac *m, uint8_t *mac) nogil
    void psha_hex(const uint8_t *digest, uint8_t *text) nogil

PATHS = ("portable", "shani")

cdef enum:
    SHORT_BYTES = 8192  # some microseconds of hashing: not worth giving the GIL up

cdef int _path = 0


def paths():
    return [name for i, name in enumerate(PATHS) if psha_offers(i)]


def path():
    return PATHS[_path]


def force_path(name):
    global _path
    wanted = PATHS.index(name) if name is not None else len(paths()) - 1
    if not psha_use(wanted):
        raise ValueError(f"this CPU does not offer {name}")
    _path = wanted


force_path(None)

# --- text: a buffer that grows --------------------------------------------------------------------

cdef struct Text:
    uint8_t *data
    size_t size
    size_t room

cdef struct Pair:
    const uint8_t *name
    size_t name_size
    const uint8_t *value
    size_t value_size


cdef int reserve(Text *text, size_t more) except -1:
    if text.size + more > text.room:
        room = (text.size + more) * 2
        data = <uint8_t *> realloc(text.data, room)
        if data == NULL:
            raise MemoryError
        text.data = data
        text.room = room
    return 0


cdef int put(Text *text, const uint8_t *p, size_t n) except -1:
    reserve(text, n)
    memcpy(text.data + text.size, p, n)
    text.size += n
    return 0


cdef int put_byte(Text *text, uint8_t byte) except -1:
    reserve(text, 1)
    text.data[text.size] = byte
    text.size += 1
    return 0


cdef int put_bytes(Text *text, bytes data) except -1:
    return put(text, <const uint8_t *> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


# --- URI encoding ---------------------------------------------------------------------------------

cdef uint8_t[256] unreserved
cdef int[256] hex_value
for _i in range(256):
    unreserved[_i] = bytes([_i]).isalnum() or _i in b"-._~"
    hex_value[_i] = int(chr(_i), 16) if chr(_i) in "0123456789abcdefABCDEF" else -1


cdef int put_encoded(
    Text *text, const uint8_t *p, size_t n, bint keep_slash, bint decode, bint plus
) except -1:
    """UriEncode of n bytes; `decode`: of what they are percent-encodings of; `plus`: + is blank."""
    cdef size_t i = 0
    cdef uint8_t byte
    reserve(text, 3 * n)
    cdef uint8_t *out = text.data + text.size
    while i < n:
        byte = p[i]
        i += 1
        if decode and byte == b"%" and i + 1 < n and hex_value[p[i]] >= 0 \
                and hex_value[p[i + 1]] >= 0:
            byte = <uint8_t> (hex_value[p[i]] << 4 | hex_value[p[i + 1]])
            i += 2
        elif plus and byte == b"+":
            byte = b" "
        if unreserved[byte] or (keep_slash and byte == b"/"):
            out[0] = byte
            out += 1
        else:
            out[0] = b"%"
            out[1] = b"0123456789ABCDEF"[byte >> 4]
            out[2] = b"0123456789ABCDEF"[byte & 15]
            out += 3
    text.size = out - text.data
    return 0


cdef int compare_bytes(const uint8_t *a, size_t n, const uint8_t *b, size_t m) noexcept nogil:
    cdef int order = memcmp(a, b, n if n < m else m)
    if order:
        return order
    return (n > m) - (n < m)


cdef int compare_pairs(const void *a, const void *b) noexcept nogil:
    cdef const Pair *x = <const Pair *> a
    cdef const Pair *y = <const Pair *> b
    cdef int order = compare_bytes(x.name, x.name_size, y.name, y.name_size)
    return order or compare_bytes(x.value, x.value_size, y.value, y.value_size)


cdef int put_query(Text *text, bytes raw, bint presigned) except -1:
    """The pairs of a query, encoded and sorted; without X-Amz-Signature where `presigned`."""
    cdef const uint8_t *p = <const uint8_t *> PyBytes_AS_STRING(raw)
    cdef size_t n = PyBytes_GET_SIZE(raw)
    cdef size_t i, start, equals, end, count = 1, used = 0
    cdef Text encoded = [NULL, 0, 0]
    cdef Pair *pairs = NULL
    cdef Pair pair
    if n == 0:
        return 0
    for i in range(n):
        count += p[i] == b"&"
    try:
        reserve(&encoded, 3 * n + 1)  # never moves below, so that pairs may point into it
        pairs = <Pair *> malloc(count * sizeof(Pair))
        if pairs == NULL:
            raise MemoryError
        start = 0
        while start < n:
            end = start
            while end < n and p[end] != b"&":
                end += 1
            equals = start
            while equals < end and p[equals] != b"=":
                equals += 1
            if end > start:
                pair.name = encoded.data + encoded.size
                put_encoded(&encoded, p + start, equals - start, False, True, True)
                pair.name_size = encoded.data + encoded.size - pair.name
                pair.value = encoded.data + encoded.size
                if equals < end:
                    put_encoded(&encoded, p + equals + 1, end - equals - 1, False, True, True)
                pair.value_size = encoded.data + encoded.size - pair.value
                if not presigned or compare_bytes(
                        pair.name, pair.name_size, <const uint8_t *> b"X-Amz-Signature", 15):
                    pairs[used] = pair
                    used += 1
            start = end + 1
        qsort(pairs, used, sizeof(Pair), compare_pairs)
        for i in range(used):
            if i:
                put_byte(text, b"&")
            put(text, pairs[i].name, pairs[i].name_size)
            put_byte(text, b"=")
            put(text, pairs[i].value, pairs[i].value_size)
    finally:
        free(pairs)
        free(encoded.data)
    return 0


# --- headers --------------------------------------------------------------------------------------

cdef bint is_blank(uint8_t byte) noexcept:
    return byte == b" " or byte == b"\t"


cdef int put_value(Text *text, bytes value) except -1:
    """A header value without blanks around it, and with one for each run of blanks inside."""
    cdef const uint8_t *p = <const uint8_t *> PyBytes_AS_STRING(value)
    cdef size_t i = 0, n = PyBytes_GET_SIZE(value)
    while n and is_blank(p[n - 1]):
        n -= 1
    while i < n and is_blank(p[i]):
        i += 1
    reserve(text, n)
    while i < n:
        if is_blank(p[i]):
            put_byte(text, b" ")
            while is_blank(p[i]):
                i += 1
        else:
            put_byte(text, p[i])
            i += 1
    return 0


cdef int put_headers(Text *text, list headers, bytes signed) except -1:
    """"name:value\\n" for each signed name; several values of a name are joined with commas."""
    cdef const uint8_t *p = <const uint8_t *> PyBytes_AS_STRING(signed)
    cdef const uint8_t *before = NULL
    cdef size_t n = PyBytes_GET_SIZE(signed), start = 0, end, before_size = 0
    cdef bint first
    cdef bytes name, value
    while start <= n:
        end = start
        while end < n and p[end] != b";":
            end += 1
        if end == start:
            raise ValueError("an empty name among the signed headers")
        if before != NULL and compare_bytes(before, before_size, p + start, end - start) >= 0:
            raise ValueError("the signed headers are not in order")
        before = p + start
        before_size = end - start
        put(text, before, before_size)
        put_byte(text, b":")
        first = True
        for name, value in headers:
            if <size_t> PyBytes_GET_SIZE(name) == before_size and memcmp(
                    PyBytes_AS_STRING(name), before, before_size) == 0:
                if not first:
                    put_byte(text, b",")
                first = False
                put_value(text, value)
        put_byte(text, b"\n")
        start = end + 1
    return 0


cdef bint is_listed(bytes name, bytes signed) noexcept:
    cdef const uint8_t *p = <const uint8_t *> PyBytes_AS_STRING(signed)
    cdef const uint8_t *wanted = <const uint8_t *> PyBytes_AS_STRING(name)
    cdef size_t n = PyBytes_GET_SIZE(signed), wanted_size = PyBytes_GET_SIZE(name)
    cdef size_t start = 0, end
    while start <= n:
        end = start
        while end < n and p[end] != b";":
            end += 1
        if end - start == wanted_size and memcmp(p + start, wanted, wanted_size) == 0:
            return True
        start = end + 1
    return False


def unsigned_header(list headers not None, bytes signed not None):
    """See sigv4.pyi."""
    cdef bytes name, value
    cdef const char *p
    for name, value in headers:
        p = PyBytes_AS_STRING(name)
        if (memcmp(p, b"x-amz-", 6) == 0 if PyBytes_GET_SIZE(name) >= 6 else name == b"host") \
                and not is_listed(name, signed):
            return name
    return None


# --- the signature --------------------------------------------------------------------------------

cdef int put_request(
    Text *text, bytes method, bytes raw_path, bytes raw_query, list headers, bytes signed,
    bytes payload, bint presigned,
) except -1:
    put_bytes(text, method)
    put_byte(text, b"\n")
    if PyBytes_GET_SIZE(raw_path) == 0:
        put_byte(text, b"/")
    put_encoded(text, <const uint8_t *> PyBytes_AS_STRING(raw_path), PyBytes_GET_SIZE(raw_path),
                True, True, False)
    put_byte(text, b"\n")
    put_query(text, raw_query, presigned)
    put_byte(text, b"\n")
    put_headers(text, headers, signed)
    put_byte(text, b"\n")
    put_bytes(text, signed)
    put_byte(text, b"\n")
    put_bytes(text, payload)
    return 0


cdef bytes hex_digest(const uint8_t *digest):
    cdef uint8_t[64] text
    psha_hex(digest, text)
    return PyBytes_FromStringAndSize(<char *> text, 64)


cdef void mac(uint8_t *out, const uint8_t *key, size_t key_size, bytes data) noexcept:
    cdef phmac state
    phmac_init(&state, key, key_size)
    phmac_update(&state, <const uint8_t *> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    phmac_final(&state, out)


def canonical_request(
    bytes method not None, bytes raw_path not None, bytes raw_query not None,
    list headers not None, bytes signed not None, bytes payload not None, bint presigned=False,
):
    """See sigv4.pyi."""
    cdef Text text = [NULL, 0, 0]
    try:
        put_request(&text, method, raw_path, raw_query, headers, signed, payload, presigned)
        return PyBytes_FromStringAndSize(<char *> text.data, text.size)
    finally:
        free(text.data)


def request_signature(
    bytes key not None, bytes stamp not None, bytes scope not None,
    bytes method not None, bytes raw_path not None, bytes raw_query not None,
    list headers not None, bytes signed not None, bytes payload not None, bint presigned=False,
):
    """See sigv4.pyi."""
    cdef Text text = [NULL, 0, 0]
    cdef psha state
    cdef uint8_t[32] digest
    try:
        reserve(&text, 2048)
        put_request(&text, method, raw_path, raw_query, headers, signed, payload, presigned)
        psha_init(&state)
        psha_update(&state, text.data, text.size)
        psha_final(&state, digest)
    finally:
        free(text.data)
    return text_signature(
        key, b"AWS4-HMAC-SHA256\n" + stamp + b"\n" + scope + b"\n" + hex_digest(digest))


def text_signature(bytes key not None, bytes text not None):
    """See sigv4.pyi."""
    cdef uint8_t[32] digest
    mac(digest, <const uint8_t *> PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), text)
    return hex_digest(digest)


def signing_key(
    bytes secret not None, bytes date not None, bytes region not None, bytes service not None
):
    """See sigv4.pyi."""
    cdef uint8_t[32] key
    cdef bytes start = b"AWS4" + secret
    mac(key, <const uint8_t *> PyBytes_AS_STRING(start), PyBytes_GET_SIZE(start), date)
    mac(key, key, 32, region)
    mac(key, key, 32, service)
    mac(key, key, 32, b"aws4_request")
    return PyBytes_FromStringAndSize(<char *> key, 32)


def uri_encode(bytes data not None, bint keep_slash=False):
    """See sigv4.pyi."""
    cdef Text text = [NULL, 0, 0]
    try:
        reserve(&text, 1)
        put_encoded(&text, <const uint8_t *> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data),
                    keep_slash, False, False)
        return PyBytes_FromStringAndSize(<char *> text.data, text.size)
    finally:
        free(text.data)


def sha256(const uint8_t[::1] data not None):
    """See sigv4.pyi."""
    cdef psha state
    cdef uint8_t[32] digest
    cdef size_t n = data.shape[0]
    psha_init(&state)
    if n >= SHORT_BYTES:
        with nogil:
            psha_update(&state, &data[0], n)
    elif n:
        psha_update(&state, &data[0], n)
    psha_final(&state, digest)
    return PyBytes_FromStringAndSize(<char *> digest, 32)
