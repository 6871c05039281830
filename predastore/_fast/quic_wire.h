/* QUIC as it is on the wire: variable-length integers, packet numbers, frame types, error codes
 * (RFC 9000). Nothing here has state. */
#ifndef PREDASTORE_QUIC_WIRE_H
#define PREDASTORE_QUIC_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PQ_VARINT_MAX ((UINT64_C(1) << 62) - 1)

enum {
    PQ_CID_MAX = 20,
    PQ_TAG = 16,
    PQ_SAMPLE = 16,
    PQ_DATAGRAM_MIN = 1200,
    PQ_DATAGRAM_MAX = 8952, /* 9,000 less IPv6 and UDP headers */
    PQ_BATCH_SEGMENTS = 64, /* UDP_SEGMENT takes no more */
    PQ_BATCH = 65000        /* and no more bytes than a datagram may have */
};

enum { /* first byte of a short header */
    PQ_LONG = 0x80,
    PQ_FIXED = 0x40,
    PQ_RESERVED = 0x18,
    PQ_PHASE = 0x04
};

enum {
    PQ_F_PADDING = 0x00,
    PQ_F_PING = 0x01,
    PQ_F_ACK = 0x02,
    PQ_F_ACK_ECN = 0x03,
    PQ_F_RESET_STREAM = 0x04,
    PQ_F_STOP_SENDING = 0x05,
    PQ_F_CRYPTO = 0x06,
    PQ_F_NEW_TOKEN = 0x07,
    PQ_F_STREAM = 0x08, /* to 0x0f: 1 FIN, 2 length, 4 offset */
    PQ_F_MAX_DATA = 0x10,
    PQ_F_MAX_STREAM_DATA = 0x11,
    PQ_F_MAX_STREAMS = 0x12,
    PQ_F_MAX_STREAMS_UNI = 0x13,
    PQ_F_DATA_BLOCKED = 0x14,
    PQ_F_STREAM_DATA_BLOCKED = 0x15,
    PQ_F_STREAMS_BLOCKED = 0x16,
    PQ_F_STREAMS_BLOCKED_UNI = 0x17,
    PQ_F_NEW_CONNECTION_ID = 0x18,
    PQ_F_RETIRE_CONNECTION_ID = 0x19,
    PQ_F_PATH_CHALLENGE = 0x1a,
    PQ_F_PATH_RESPONSE = 0x1b,
    PQ_F_CLOSE = 0x1c,
    PQ_F_CLOSE_APPLICATION = 0x1d,
    PQ_F_HANDSHAKE_DONE = 0x1e
};

enum {
    PQ_E_INTERNAL = 0x1,
    PQ_E_FLOW_CONTROL = 0x3,
    PQ_E_STREAM_LIMIT = 0x4,
    PQ_E_STREAM_STATE = 0x5,
    PQ_E_FINAL_SIZE = 0x6,
    PQ_E_FRAME_ENCODING = 0x7,
    PQ_E_PROTOCOL_VIOLATION = 0xa,
    PQ_E_KEY_UPDATE = 0xe,
    PQ_E_AEAD_LIMIT = 0xf
};

/* What is left of a packet while it is parsed. */
struct pq_in {
    const uint8_t *at, *end;
};

static inline size_t pq_left(const struct pq_in *in) { return (size_t)(in->end - in->at); }

/* 1, or 0 where the integer is cut short; nothing is taken then. */
static inline int pq_varint(struct pq_in *in, uint64_t *value) {
    if (in->at >= in->end) return 0;
    size_t n = (size_t)1 << (in->at[0] >> 6);
    if (pq_left(in) < n) return 0;
    uint64_t v = in->at[0] & 0x3f;
    for (size_t i = 1; i < n; i++) v = v << 8 | in->at[i];
    in->at += n;
    *value = v;
    return 1;
}

static inline size_t pq_varint_size(uint64_t v) {
    return v < 64 ? 1 : v < 16384 ? 2 : v < (UINT64_C(1) << 30) ? 4 : 8;
}

static inline uint8_t *pq_put_varint(uint8_t *p, uint64_t v) {
    size_t n = pq_varint_size(v);
    for (size_t i = n; i-- > 0; v >>= 8) p[i] = (uint8_t)v;
    p[0] |= (uint8_t)(n == 1 ? 0 : n == 2 ? 0x40 : n == 4 ? 0x80 : 0xc0);
    return p + n;
}

/* How many bytes show a packet number so that a peer that has acknowledged `acked` can tell it
 * (RFC 9000, 17.1), even if some thousand packets overtake this one on the way; -1 as `acked` where
 * it has acknowledged nothing. */
static inline int pq_number_size(uint64_t number, int64_t acked) {
    uint64_t unacked = number - (uint64_t)acked;
    return unacked < (1u << 13) ? 2 : unacked < (1u << 21) ? 3 : 4;
}

/* The whole packet number (RFC 9000, A.3). */
static inline uint64_t pq_number_decode(uint64_t truncated, int bytes, uint64_t expected) {
    uint64_t window = UINT64_C(1) << (8 * bytes), half = window / 2;
    uint64_t candidate = (expected & ~(window - 1)) | truncated;
    if (candidate + half <= expected && candidate < (UINT64_C(1) << 62) - window)
        return candidate + window;
    if (candidate > expected + half && candidate >= window) return candidate - window;
    return candidate;
}

#endif
