/* Record framing of a segment, for frame.pyx, which draws the layout. All functions run without
 * the GIL and allocate nothing. Offsets are derived, each from the one before. */
#ifndef PREDASTORE_FRAME_H
#define PREDASTORE_FRAME_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#include "crc32c.h"

enum {
    PFR_AT_MAGIC = 0,
    PFR_AT_VERSION = PFR_AT_MAGIC + 2,
    PFR_AT_KIND = PFR_AT_VERSION + 1,
    PFR_AT_FLAGS = PFR_AT_KIND + 1,
    PFR_AT_INDEX = PFR_AT_FLAGS + 2,
    PFR_AT_LENGTH = PFR_AT_INDEX + 2,
    PFR_AT_STRIPE = PFR_AT_LENGTH + 4,
    PFR_AT_OBJECT_HASH = PFR_AT_STRIPE + 4,
    PFR_AT_WRITE_ID = PFR_AT_OBJECT_HASH + 32,
    PFR_AT_PAYLOAD_CRC = PFR_AT_WRITE_ID + 16,
    PFR_AT_TAG = PFR_AT_PAYLOAD_CRC + 4,
    PFR_AT_SYNCED = PFR_AT_TAG + 4,
    PFR_AT_HEADER_CRC = PFR_AT_SYNCED + 4,
    PFR_HEADER_BYTES = PFR_AT_HEADER_CRC + 4,
    PFR_ALIGN_BYTES = 8
};
_Static_assert(PFR_HEADER_BYTES == 80, "the record header has 80 bytes");
_Static_assert(PFR_HEADER_BYTES % PFR_ALIGN_BYTES == 0, "payloads are aligned");

enum { PFR_MAGIC0 = 'P', PFR_MAGIC1 = 'R', PFR_VERSION = 1 };
enum { PFR_BLOCK = 1, PFR_COMMIT, PFR_TOMBSTONE, PFR_FOOTER, PFR_SEAL };
enum { PFR_SOLE = 1 };

/* Why a scan stopped, or what is wrong with a header. */
enum { PFR_OK = -1, PFR_MORE, PFR_ZERO, PFR_BAD, PFR_NEWER, PFR_FULL };

struct pfr_header {
    uint32_t version, kind, flags, index, length, stripe, payload_crc, tag, synced;
    const uint8_t *object_hash, *write_id;
};

struct pfr_found {
    size_t at;
    int sound;
};

static inline uint32_t pfr_get16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static inline uint32_t pfr_get32(const uint8_t *p) {
    return pfr_get16(p) | pfr_get16(p + 2) << 16;
}
static inline void pfr_put16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void pfr_put32(uint8_t *p, uint32_t v) {
    pfr_put16(p, v & 0xFFFF);
    pfr_put16(p + 2, v >> 16);
}

static inline size_t pfr_padded(size_t length) {
    return (length + PFR_ALIGN_BYTES - 1) & ~(size_t)(PFR_ALIGN_BYTES - 1);
}

/* CRC of a header that stands at `offset` of its segment: a copy elsewhere does not match. */
static inline uint32_t pfr_header_crc(const uint8_t *p, uint64_t offset) {
    uint8_t place[8];
    pfr_put32(place, (uint32_t)offset);
    pfr_put32(place + 4, (uint32_t)(offset >> 32));
    return predastore_crc32c(predastore_crc32c(0, place, 8), p, PFR_AT_HEADER_CRC);
}

static void pfr_pack(uint8_t *p, uint64_t offset, const struct pfr_header *h) {
    p[PFR_AT_MAGIC] = PFR_MAGIC0;
    p[PFR_AT_MAGIC + 1] = PFR_MAGIC1;
    p[PFR_AT_VERSION] = (uint8_t)h->version;
    p[PFR_AT_KIND] = (uint8_t)h->kind;
    pfr_put16(p + PFR_AT_FLAGS, h->flags);
    pfr_put16(p + PFR_AT_INDEX, h->index);
    pfr_put32(p + PFR_AT_LENGTH, h->length);
    pfr_put32(p + PFR_AT_STRIPE, h->stripe);
    memcpy(p + PFR_AT_OBJECT_HASH, h->object_hash, 32);
    memcpy(p + PFR_AT_WRITE_ID, h->write_id, 16);
    pfr_put32(p + PFR_AT_PAYLOAD_CRC, h->payload_crc);
    pfr_put32(p + PFR_AT_TAG, h->tag);
    pfr_put32(p + PFR_AT_SYNCED, h->synced);
    pfr_put32(p + PFR_AT_HEADER_CRC, pfr_header_crc(p, offset));
}

static int pfr_all_zero(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return 0;
    return 1;
}

/* Reads the header at `p`, which has PFR_HEADER_BYTES. `tag` < 0: any. PFR_OK, PFR_ZERO, PFR_BAD
 * or PFR_NEWER. */
static int pfr_unpack(const uint8_t *p, uint64_t offset, int64_t tag, struct pfr_header *h) {
    if (p[PFR_AT_MAGIC] != PFR_MAGIC0 || p[PFR_AT_MAGIC + 1] != PFR_MAGIC1)
        return pfr_all_zero(p, PFR_HEADER_BYTES) ? PFR_ZERO : PFR_BAD;
    h->tag = pfr_get32(p + PFR_AT_TAG);
    if (tag >= 0 && h->tag != (uint64_t)tag)
        return PFR_BAD;
    if (pfr_get32(p + PFR_AT_HEADER_CRC) != pfr_header_crc(p, offset))
        return PFR_BAD;
    h->version = p[PFR_AT_VERSION];
    h->kind = p[PFR_AT_KIND];
    h->flags = pfr_get16(p + PFR_AT_FLAGS);
    h->index = pfr_get16(p + PFR_AT_INDEX);
    h->length = pfr_get32(p + PFR_AT_LENGTH);
    h->stripe = pfr_get32(p + PFR_AT_STRIPE);
    h->object_hash = p + PFR_AT_OBJECT_HASH;
    h->write_id = p + PFR_AT_WRITE_ID;
    h->payload_crc = pfr_get32(p + PFR_AT_PAYLOAD_CRC);
    h->synced = pfr_get32(p + PFR_AT_SYNCED);
    if (h->version != PFR_VERSION || h->kind < PFR_BLOCK || h->kind > PFR_SEAL ||
        (h->flags & ~(uint32_t)PFR_SOLE))
        return PFR_NEWER;
    return PFR_OK;
}

/* Whether the payload after a header has the CRC that the header says, and zeros after it. */
static int pfr_payload_sound(const uint8_t *payload, const struct pfr_header *h) {
    return predastore_crc32c(0, payload, h->length) == h->payload_crc &&
           pfr_all_zero(payload + h->length, pfr_padded(h->length) - h->length);
}

/* Walks the records of a region that begins `base` bytes into its segment. Returns why it stopped;
 * `*next` is where. A record whose header is good but whose payload is not is found as unsound. */
static int pfr_scan(const uint8_t *p, size_t n, uint64_t base, int64_t tag, int payloads,
                    struct pfr_found *found, size_t found_max, size_t *count, size_t *next) {
    struct pfr_header h;
    size_t at = *next;
    *count = 0;
    for (;;) {
        *next = at;
        if (n - at < PFR_HEADER_BYTES)
            return PFR_MORE;
        int state = pfr_unpack(p + at, base + at, tag, &h);
        if (state != PFR_OK)
            return state;
        size_t room = n - at - PFR_HEADER_BYTES;
        if (room < pfr_padded(h.length))
            return PFR_MORE;
        if (*count == found_max)
            return PFR_FULL;
        found[*count].at = at;
        found[*count].sound = !payloads || pfr_payload_sound(p + at + PFR_HEADER_BYTES, &h);
        ++*count;
        at += PFR_HEADER_BYTES + pfr_padded(h.length);
    }
}

/* The first good header at or after `at`, or -1. Only multiples of PFR_ALIGN_BYTES are tried;
 * `base` is one. */
static int64_t pfr_resync(const uint8_t *p, size_t n, size_t at, uint64_t base, int64_t tag) {
    struct pfr_header h;
    at = pfr_padded(at);
    for (; at + PFR_HEADER_BYTES <= n; at += PFR_ALIGN_BYTES) {
        if (p[at] != PFR_MAGIC0 || p[at + 1] != PFR_MAGIC1)
            continue;
        int state = pfr_unpack(p + at, base + at, tag, &h);
        if (state == PFR_OK || state == PFR_NEWER)
            return (int64_t)at;
    }
    return -1;
}

enum { PFR_READ_OK, PFR_READ_WOULD_BLOCK, PFR_READ_MISMATCH, PFR_READ_SHORT };

/* Reads n bytes at `offset` and checks their CRC. A PFR_READ_ value, or -errno. With `nowait` only
 * what is in the page cache is read. */
static int pfr_read_block(int fd, int64_t offset, uint8_t *out, size_t n, uint32_t crc,
                          int nowait) {
    size_t done = 0;
    while (done < n) {
        struct iovec piece = {out + done, n - done};
        ssize_t got = preadv2(fd, &piece, 1, offset + (int64_t)done, nowait ? RWF_NOWAIT : 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && nowait && (errno == EAGAIN || errno == EOPNOTSUPP))
            return PFR_READ_WOULD_BLOCK;
        if (got < 0)
            return -errno;
        if (got == 0)
            return PFR_READ_SHORT;
        done += (size_t)got;
    }
    return predastore_crc32c(0, out, n) == crc ? PFR_READ_OK : PFR_READ_MISMATCH;
}

#endif
