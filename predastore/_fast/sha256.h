/* SHA-256 (FIPS 180-4) and HMAC-SHA256 (RFC 2104) for the kernels, with or without the GIL.
 *
 *     struct psha s;  psha_init(&s);  psha_update(&s, p, n);  psha_final(&s, digest32);
 *     struct phmac m; phmac_init(&m, key, n);  phmac_update(&m, p, n);  phmac_final(&m, mac32);
 *
 * The path is chosen when the extension is loaded, per extension (everything here is static):
 *
 *   shani     the SHA instructions of x86
 *   portable  plain C
 */
#ifndef PREDASTORE_SHA256_H
#define PREDASTORE_SHA256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#define PSHA_X86 1
#include <cpuid.h>
#include <immintrin.h>
#else
#define PSHA_X86 0
#endif
#define PSHA_UNUSED __attribute__((unused))

enum { PSHA_PORTABLE, PSHA_SHANI, PSHA_PATHS };

struct psha {
    uint32_t h[8];
    uint64_t total;    /* bytes so far */
    uint8_t block[64]; /* the first total % 64 bytes wait here */
};

struct phmac {
    struct psha inner, outer;
};

static const uint32_t psha_start[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                       0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};

static const uint32_t psha_k[64] __attribute__((aligned(16))) = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u,
    0xab1c5ed5u, 0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu,
    0x9bdc06a7u, 0xc19bf174u, 0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu,
    0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau, 0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u,
    0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u, 0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu,
    0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u, 0xa2bfe8a1u, 0xa81a664bu,
    0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u, 0x19a4c116u,
    0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u,
    0xc67178f2u};

static inline uint32_t psha_rotr(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

static inline uint32_t psha_load(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void psha_store(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

PSHA_UNUSED static void psha_portable(uint32_t h[8], const uint8_t *p, size_t blocks) {
    for (; blocks; blocks--, p += 64) {
        uint32_t w[64], v[8];
        for (int t = 0; t < 16; t++)
            w[t] = psha_load(p + 4 * t);
        for (int t = 16; t < 64; t++) {
            uint32_t a = w[t - 15], b = w[t - 2];
            w[t] = w[t - 16] + w[t - 7] + (psha_rotr(a, 7) ^ psha_rotr(a, 18) ^ (a >> 3)) +
                   (psha_rotr(b, 17) ^ psha_rotr(b, 19) ^ (b >> 10));
        }
        memcpy(v, h, sizeof v);
        for (int r = 0; r < 64; r += 8) {
#pragma GCC unroll 8
            for (int t = 0; t < 8; t++) { /* eight rounds bring the variables back in place */
                uint32_t a = v[-t & 7], b = v[(1 - t) & 7], c = v[(2 - t) & 7];
                uint32_t e = v[(4 - t) & 7], f = v[(5 - t) & 7], g = v[(6 - t) & 7];
                uint32_t t1 = v[(7 - t) & 7] + psha_k[r + t] + w[r + t] + ((e & f) ^ (~e & g)) +
                              (psha_rotr(e, 6) ^ psha_rotr(e, 11) ^ psha_rotr(e, 25));
                uint32_t t2 = (psha_rotr(a, 2) ^ psha_rotr(a, 13) ^ psha_rotr(a, 22)) +
                              ((a & b) ^ (a & c) ^ (b & c));
                v[(3 - t) & 7] += t1;
                v[(7 - t) & 7] = t1 + t2;
            }
        }
        for (int i = 0; i < 8; i++)
            h[i] += v[i];
    }
}

#if PSHA_X86
/* The instructions want the state as two vectors, (A B E F) and (C D G H) from the top lane
 * down; two of them do four rounds. m[] holds the four latest groups of the message schedule. */
__attribute__((target("sha,sse4.1,ssse3"))) PSHA_UNUSED static void
psha_shani(uint32_t h[8], const uint8_t *p, size_t blocks) {
    const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xB1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1B);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
    for (; blocks; blocks--, p += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i m[4];
#pragma GCC unroll 16
        for (int g = 0; g < 16; g++) {
            if (g < 4) {
                m[g] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p + g), swap);
            } else {
                __m128i last = m[(g + 3) & 3];
                __m128i w = _mm_sha256msg1_epu32(m[g & 3], m[(g + 1) & 3]);
                w = _mm_add_epi32(w, _mm_alignr_epi8(last, m[(g + 2) & 3], 4));
                m[g & 3] = _mm_sha256msg2_epu32(w, last);
            }
            __m128i k = _mm_add_epi32(m[g & 3], _mm_load_si128((const __m128i *)psha_k + g));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0E));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1B);
    __m128i dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}
#endif

static void (*psha_compress)(uint32_t h[8], const uint8_t *p, size_t blocks) = psha_portable;

/* Whether this CPU (and its operating system) offers a path. */
PSHA_UNUSED static int psha_offers(int path) {
    if (path == PSHA_PORTABLE)
        return 1;
#if PSHA_X86
    unsigned a, b, c, d;
    if (path == PSHA_SHANI && __builtin_cpu_supports("sse4.1") &&
        __get_cpuid_count(7, 0, &a, &b, &c, &d))
        return (int)(b >> 29 & 1);
#endif
    return 0;
}

PSHA_UNUSED static int psha_use(int path) {
    if (!psha_offers(path))
        return 0;
#if PSHA_X86
    psha_compress = path == PSHA_SHANI ? psha_shani : psha_portable;
#endif
    return 1;
}

/* Runs when the extension is loaded, before any of its code. */
__attribute__((constructor)) static void psha_choose(void) {
#if PSHA_X86
    __builtin_cpu_init();
#endif
    for (int path = PSHA_PATHS - 1; !psha_use(path); path--) {
    }
}

PSHA_UNUSED static void psha_init(struct psha *s) {
    memcpy(s->h, psha_start, sizeof s->h);
    s->total = 0;
}

PSHA_UNUSED static void psha_update(struct psha *s, const uint8_t *p, size_t n) {
    size_t fill = s->total & 63;
    s->total += n;
    if (fill) {
        size_t take = n < 64 - fill ? n : 64 - fill;
        memcpy(s->block + fill, p, take);
        p += take;
        n -= take;
        if (fill + take < 64)
            return;
        psha_compress(s->h, s->block, 1);
    }
    if (n >= 64)
        psha_compress(s->h, p, n / 64);
    if (n & 63)
        memcpy(s->block, p + (n & ~(size_t)63), n & 63);
}

PSHA_UNUSED static void psha_final(struct psha *s, uint8_t digest[32]) {
    size_t fill = s->total & 63;
    uint64_t bits = s->total * 8;
    s->block[fill++] = 0x80;
    if (fill > 56) {
        memset(s->block + fill, 0, 64 - fill);
        psha_compress(s->h, s->block, 1);
        fill = 0;
    }
    memset(s->block + fill, 0, 56 - fill);
    psha_store(s->block + 56, (uint32_t)(bits >> 32));
    psha_store(s->block + 60, (uint32_t)bits);
    psha_compress(s->h, s->block, 1);
    for (int i = 0; i < 8; i++)
        psha_store(digest + 4 * i, s->h[i]);
}

PSHA_UNUSED static void phmac_init(struct phmac *m, const uint8_t *key, size_t n) {
    uint8_t pad[64] = {0};
    if (n > 64) {
        psha_init(&m->inner);
        psha_update(&m->inner, key, n);
        psha_final(&m->inner, pad);
    } else if (n) {
        memcpy(pad, key, n);
    }
    for (int i = 0; i < 64; i++)
        pad[i] ^= 0x36;
    psha_init(&m->inner);
    psha_update(&m->inner, pad, 64);
    for (int i = 0; i < 64; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    psha_init(&m->outer);
    psha_update(&m->outer, pad, 64);
}

PSHA_UNUSED static void phmac_update(struct phmac *m, const uint8_t *p, size_t n) {
    psha_update(&m->inner, p, n);
}

PSHA_UNUSED static void phmac_final(struct phmac *m, uint8_t mac[32]) {
    uint8_t digest[32];
    psha_final(&m->inner, digest);
    psha_update(&m->outer, digest, 32);
    psha_final(&m->outer, mac);
}

PSHA_UNUSED static void psha_hex(const uint8_t digest[32], uint8_t text[64]) {
    for (int i = 0; i < 32; i++) {
        text[2 * i] = (uint8_t)"0123456789abcdef"[digest[i] >> 4];
        text[2 * i + 1] = (uint8_t)"0123456789abcdef"[digest[i] & 15];
    }
}

#endif
