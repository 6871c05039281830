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
 *   vpclmul   256-bit carry-less folding, the crc32 instruction for what is short
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
#endif

PCRC_UNUSED static uint32_t predastore_crc32c(uint32_t crc, const uint8_t *p, size_t n) {
    const struct pcrc *c = &predastore_crc32c_tables;
    uint64_t state = (uint32_t)~crc;
#if PCRC_X86
    if (predastore_crc32c_path != PCRC_PORTABLE) {
        uint8_t folded[16];
        size_t used = 0;
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
