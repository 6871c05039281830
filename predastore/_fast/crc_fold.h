/* Any reflected CRC of up to 64 bits: table code, carry-less folding, combination.
 *
 * A `struct pcrc` holds what one polynomial needs, all of it derived in `pcrc_init` from the
 * polynomial alone, so that there are no magic constants to get wrong:
 *
 *   table[8][256]   slicing-by-8 tables. Entries of a 32-bit CRC are zero-extended, so one code
 *                   serves every width.
 *   fold[i][2]      factors that carry 16 bytes of message forward over 2^i * 16 bytes.
 *   power[i]        x^(2^i) mod P, for combining the CRCs of two neighbours.
 *
 * Reflected: bit 0 of a value is its highest power of x. The product of two reflected 64-bit
 * values by PCLMULQDQ is therefore one power too low, which is why the factors are x^(n-1).
 *
 * Raw state: these functions neither invert their input nor their output.
 *
 * Source of the method: Gopal et al., "Fast CRC Computation for Generic Polynomials Using
 * PCLMULQDQ Instruction", Intel, 2009.
 */
#ifndef PREDASTORE_CRC_FOLD_H
#define PREDASTORE_CRC_FOLD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#define PCRC_X86 1
#include <immintrin.h>
#else
#define PCRC_X86 0
#endif

#define PCRC_UNUSED __attribute__((unused))

enum { PCRC_FOLD_16, PCRC_FOLD_32, PCRC_FOLD_64, PCRC_FOLD_128, PCRC_FOLD_256, PCRC_FOLDS };

struct pcrc {
    uint64_t poly;   /* reflected, without the leading term */
    unsigned width;  /* bits */
    uint64_t table[8][256];
    uint64_t fold[PCRC_FOLDS][2];
    uint64_t power[67];
};

static inline uint64_t pcrc_times_x(const struct pcrc *c, uint64_t v) {
    return (v >> 1) ^ ((v & 1) ? c->poly : 0);
}

/* a * b mod P */
PCRC_UNUSED static uint64_t pcrc_multiply(const struct pcrc *c, uint64_t a, uint64_t b) {
    uint64_t product = 0;
    for (unsigned bit = c->width; bit-- > 0;) {
        if ((a >> bit) & 1)
            product ^= b;
        b = pcrc_times_x(c, b);
    }
    return product;
}

PCRC_UNUSED static void pcrc_init(struct pcrc *c, uint64_t poly, unsigned width) {
    c->poly = poly;
    c->width = width;
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t v = byte;
        for (int bit = 0; bit < 8; bit++)
            v = pcrc_times_x(c, v);
        c->table[0][byte] = v;
    }
    for (unsigned byte = 0; byte < 256; byte++)
        for (int slice = 1; slice < 8; slice++) {
            uint64_t v = c->table[slice - 1][byte];
            c->table[slice][byte] = c->table[0][v & 0xff] ^ (v >> 8);
        }
    uint64_t v = (uint64_t)1 << (width - 1); /* x^0 */
    unsigned degree = 0;
    for (int i = 0; i < PCRC_FOLDS; i++) {
        unsigned bits = 128u << i;
        for (; degree < bits - 1; degree++)
            v = pcrc_times_x(c, v);
        c->fold[i][1] = v << (64 - width); /* second 8 bytes of the 16 */
        for (; degree < bits + 63; degree++)
            v = pcrc_times_x(c, v);
        c->fold[i][0] = v << (64 - width); /* first 8 bytes, 64 powers higher */
    }
    c->power[0] = (uint64_t)1 << (width - 2); /* x^1 */
    for (int i = 1; i < 67; i++)
        c->power[i] = pcrc_multiply(c, c->power[i - 1], c->power[i - 1]);
}

/* x^exponent mod P */
PCRC_UNUSED static uint64_t pcrc_power(const struct pcrc *c, uint64_t exponent) {
    uint64_t product = (uint64_t)1 << (c->width - 1);
    for (unsigned i = 0; exponent; i++, exponent >>= 1)
        if (exponent & 1)
            product = pcrc_multiply(c, product, c->power[i]);
    return product;
}

/* CRC of A followed by B, from crc(A), crc(B) (both as published, that is inverted at both ends)
 * and the length of B. */
PCRC_UNUSED static uint64_t pcrc_combine(const struct pcrc *c, uint64_t crc_a, uint64_t crc_b,
                                         uint64_t b_bytes) {
    uint64_t shifted = crc_a;
    for (unsigned i = 3; b_bytes; i++, b_bytes >>= 1)
        if (b_bytes & 1)
            shifted = pcrc_multiply(c, shifted, c->power[i]);
    return shifted ^ crc_b;
}

PCRC_UNUSED static uint64_t pcrc_portable(const struct pcrc *c, uint64_t crc, const uint8_t *p,
                                          size_t n) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        v ^= crc;
        crc = c->table[7][v & 0xff] ^ c->table[6][(v >> 8) & 0xff] ^
              c->table[5][(v >> 16) & 0xff] ^ c->table[4][(v >> 24) & 0xff] ^
              c->table[3][(v >> 32) & 0xff] ^ c->table[2][(v >> 40) & 0xff] ^
              c->table[1][(v >> 48) & 0xff] ^ c->table[0][v >> 56];
    }
#endif
    for (; n; p++, n--)
        crc = c->table[0][(crc ^ *p) & 0xff] ^ (crc >> 8);
    return crc;
}

#if PCRC_X86

/* Folding ends in 16 bytes that have the same remainder as all that was folded; the caller takes
 * their CRC, from a state of zero, and goes on with the tail. */

#define PCRC_PCLMUL_BYTES 128   /* consumed in one turn; also the least that pays */
#define PCRC_VPCLMUL_BYTES 256

__attribute__((target("sse2,pclmul"))) static inline __m128i pcrc_fold_128(__m128i acc, __m128i k,
                                                                           __m128i next) {
    __m128i first = _mm_clmulepi64_si128(acc, k, 0x00);
    __m128i second = _mm_clmulepi64_si128(acc, k, 0x11);
    return _mm_xor_si128(_mm_xor_si128(first, second), next);
}

/* Folds the whole multiple of 128 bytes in n >= 128; returns the bytes consumed. */
__attribute__((target("sse2,pclmul"))) PCRC_UNUSED static size_t
pcrc_fold_pclmul(const struct pcrc *c, uint64_t crc, const uint8_t *p, size_t n, uint8_t out[16]) {
    const uint8_t *start = p;
    const __m128i far = _mm_loadu_si128((const __m128i *)c->fold[PCRC_FOLD_128]);
    const __m128i near = _mm_loadu_si128((const __m128i *)c->fold[PCRC_FOLD_16]);
    __m128i acc[8];
    for (int i = 0; i < 8; i++)
        acc[i] = _mm_loadu_si128((const __m128i *)(p + 16 * i));
    acc[0] = _mm_xor_si128(acc[0], _mm_cvtsi64_si128((long long)crc));
    for (p += 128, n -= 128; n >= 128; p += 128, n -= 128)
        for (int i = 0; i < 8; i++)
            acc[i] = pcrc_fold_128(acc[i], far, _mm_loadu_si128((const __m128i *)(p + 16 * i)));
    for (int i = 1; i < 8; i++)
        acc[i] = pcrc_fold_128(acc[i - 1], near, acc[i]);
    _mm_storeu_si128((__m128i *)out, acc[7]);
    return (size_t)(p - start);
}

__attribute__((target("avx2,pclmul,vpclmulqdq"))) static inline __m256i
pcrc_fold_256(__m256i acc, __m256i k, __m256i next) {
    __m256i first = _mm256_clmulepi64_epi128(acc, k, 0x00);
    __m256i second = _mm256_clmulepi64_epi128(acc, k, 0x11);
    return _mm256_xor_si256(_mm256_xor_si256(first, second), next);
}

/* Neighbouring sums into one. */
__attribute__((target("avx2,pclmul,vpclmulqdq"))) static inline void
pcrc_fold_last(const struct pcrc *c, __m256i *acc, int count, uint8_t out[16]) {
    const __m256i near =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)c->fold[PCRC_FOLD_32]));
    const __m128i last = _mm_loadu_si128((const __m128i *)c->fold[PCRC_FOLD_16]);
    for (int i = 1; i < count; i++)
        acc[i] = pcrc_fold_256(acc[i - 1], near, acc[i]);
    __m256i sum = acc[count - 1];
    __m128i folded =
        pcrc_fold_128(_mm256_castsi256_si128(sum), last, _mm256_extracti128_si256(sum, 1));
    _mm_storeu_si128((__m128i *)out, folded);
}

/* Folds the whole multiple of 256 bytes in n >= 256; returns the bytes consumed. */
__attribute__((target("avx2,pclmul,vpclmulqdq"))) PCRC_UNUSED static size_t
pcrc_fold_vpclmul(const struct pcrc *c, uint64_t crc, const uint8_t *p, size_t n,
                  uint8_t out[16]) {
    const uint8_t *start = p;
    const __m256i far =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)c->fold[PCRC_FOLD_256]));
    __m256i acc[8];
    for (int i = 0; i < 8; i++)
        acc[i] = _mm256_loadu_si256((const __m256i *)(p + 32 * i));
    acc[0] = _mm256_xor_si256(
        acc[0], _mm256_inserti128_si256(_mm256_setzero_si256(),
                                        _mm_cvtsi64_si128((long long)crc), 0));
    for (p += 256, n -= 256; n >= 256; p += 256, n -= 256)
        for (int i = 0; i < 8; i++)
            acc[i] = pcrc_fold_256(acc[i], far, _mm256_loadu_si256((const __m256i *)(p + 32 * i)));
    pcrc_fold_last(c, acc, 8, out);
    return (size_t)(p - start);
}

#endif /* PCRC_X86 */

#endif
