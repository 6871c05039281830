/* CRC32C (Castagnoli, reflected polynomial 0x82F63B78), as RFC 3720 publishes it, for every
 * kernel: include this header and call, with or without the GIL,
 *
 *     uint32_t predastore_crc32c(uint32_t crc, const uint8_t *p, size_t n);
 *
 * `crc` is 0 at the start, or the result of the call before. Any alignment, any length; check
 * value of "123456789": 0xE3069283.
 *
 * The path is chosen when the extension is loaded, per extension (everything here is static):
 *
 *   vpclmul   256-bit carry-less folding of one half of the data while the crc32 instruction, in
 *             four streams, takes the other: they use different units of the CPU
 *   pclmul    128-bit carry-less folding, likewise
 *   sse42     the crc32 instruction alone
 *   portable  slicing by 8
 */
#ifndef PREDASTORE_CRC32C_H
#define PREDASTORE_CRC32C_H

#include "crc_fold.h"

enum { PCRC_PORTABLE, PCRC_SSE42, PCRC_PCLMUL, PCRC_VPCLMUL, PCRC_PATHS };

static struct pcrc predastore_crc32c_tables;
static int predastore_crc32c_path = PCRC_PORTABLE;

/* Chunks of 8 lanes of 2^i bytes, one lane to a stream, four to folding. */
enum { PCRC_LANE_LOG_MIN = 8, PCRC_LANE_LOG_MAX = 12 };
static uint64_t predastore_crc32c_shift[PCRC_LANE_LOG_MAX + 1]; /* see predastore_crc32c_moved */

/* Whether this CPU offers a path; the crc32 instruction is asked of every path but the portable
 * one, though only CRC32C uses it. */
PCRC_UNUSED static int predastore_crc_offers(int path) {
#if PCRC_X86
    switch (path) {
    case PCRC_PORTABLE:
        return 1;
    case PCRC_SSE42:
        return __builtin_cpu_supports("sse4.2") != 0;
    case PCRC_PCLMUL:
        return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
    case PCRC_VPCLMUL:
        return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") &&
               __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vpclmulqdq");
    default:
        return 0;
    }
#else
    return path == PCRC_PORTABLE;
#endif
}

PCRC_UNUSED static int predastore_crc_best(void) {
    int path = PCRC_PATHS - 1;
    while (!predastore_crc_offers(path))
        path--;
    return path;
}

/* Runs when the extension is loaded, before any of its code. */
__attribute__((constructor)) static void predastore_crc32c_init(void) {
#if PCRC_X86
    __builtin_cpu_init();
#endif
    pcrc_init(&predastore_crc32c_tables, 0x82F63B78u, 32);
    for (unsigned i = PCRC_LANE_LOG_MIN; i <= PCRC_LANE_LOG_MAX; i++)
        predastore_crc32c_shift[i] = pcrc_power(&predastore_crc32c_tables, (8u << i) - 33);
    predastore_crc32c_path = predastore_crc_best();
}

#if PCRC_X86
__attribute__((target("sse4.2"))) PCRC_UNUSED static uint64_t
predastore_crc32c_sse42(uint64_t crc, const uint8_t *p, size_t n) {
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        crc = _mm_crc32_u64(crc, v);
    }
    for (; n; p++, n--)
        crc = _mm_crc32_u8((uint32_t)crc, *p);
    return crc;
}

/* The state moved over 2^i bytes of zeros: state * x^(8 * 2^i). The product with x^(8 * 2^i - 33)
 * comes out one power high, and taking its CRC adds the other 32. */
__attribute__((target("sse4.2,pclmul"))) static inline uint64_t
predastore_crc32c_moved(uint64_t state, unsigned i) {
    __m128i product = _mm_clmulepi64_si128(
        _mm_cvtsi64_si128((long long)state),
        _mm_cvtsi64_si128((long long)predastore_crc32c_shift[i]), 0x00);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

/* One chunk: lanes 0 to 3 are folded, in 128-byte steps; lanes 4 to 7 are a stream each. */
__attribute__((target("avx2,sse4.2,pclmul,vpclmulqdq"))) PCRC_UNUSED static uint64_t
predastore_crc32c_chunk(const struct pcrc *c, uint64_t state, const uint8_t *p, unsigned i) {
    const size_t lane = (size_t)1 << i;
    const __m256i far =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)c->fold[PCRC_FOLD_128]));
    const uint8_t *q = p + 4 * lane;
    uint64_t stream[4] = {0};
    __m256i acc[4];
    for (int a = 0; a < 4; a++)
        acc[a] = _mm256_loadu_si256((const __m256i *)(p + 32 * a));
    acc[0] = _mm256_xor_si256(acc[0], _mm256_set_epi64x(0, 0, 0, (long long)state));
    for (size_t at = 0;;) {
        for (int s = 0; s < 4; s++)
            for (int word = 0; word < 4; word++) {
                uint64_t v;
                memcpy(&v, q + s * lane + at + 8 * word, 8);
                stream[s] = _mm_crc32_u64(stream[s], v);
            }
        at += 32;
        if (at == lane)
            break;
        for (int a = 0; a < 4; a++)
            acc[a] = pcrc_fold_256(acc[a], far,
                                   _mm256_loadu_si256((const __m256i *)(p + 4 * at + 32 * a)));
    }
    uint8_t folded[16];
    pcrc_fold_last(c, acc, 4, folded);
    state = predastore_crc32c_sse42(0, folded, 16);
    for (int s = 0; s < 4; s++)
        state = predastore_crc32c_moved(state, i) ^ stream[s];
    return state;
}
#endif

PCRC_UNUSED static uint32_t predastore_crc32c(uint32_t crc, const uint8_t *p, size_t n) {
    const struct pcrc *c = &predastore_crc32c_tables;
    uint64_t state = (uint32_t)~crc;
#if PCRC_X86
    if (predastore_crc32c_path != PCRC_PORTABLE) {
        uint8_t folded[16];
        size_t used = 0;
        if (predastore_crc32c_path == PCRC_VPCLMUL)
            for (unsigned i = PCRC_LANE_LOG_MAX; i >= PCRC_LANE_LOG_MIN; i--)
                for (; n >= (size_t)8 << i; p += (size_t)8 << i, n -= (size_t)8 << i)
                    state = predastore_crc32c_chunk(c, state, p, i);
        if (predastore_crc32c_path == PCRC_VPCLMUL && n >= 2 * PCRC_VPCLMUL_BYTES)
            used = pcrc_fold_vpclmul(c, state, p, n, folded);
        else if (predastore_crc32c_path >= PCRC_PCLMUL && n >= 2 * PCRC_PCLMUL_BYTES)
            used = pcrc_fold_pclmul(c, state, p, n, folded);
        if (used)
            state = predastore_crc32c_sse42(0, folded, 16);
        return (uint32_t)~predastore_crc32c_sse42(state, p + used, n - used);
    }
#endif
    return (uint32_t)~pcrc_portable(c, state, p, n);
}

#endif
