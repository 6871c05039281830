/* The product of a matrix over GF(2^8) with blocks of bytes, in four code paths.
 *
 * A `plan` is a matrix prepared for the kernels. Rows are taken in groups of at most four: one
 * pass over the inputs computes one group, 64 bytes at a time, its sums held in registers. A row
 * of ones (every generator with parity has one) goes first and costs only its XORs.
 *
 *   split    for PSHUFB: two 16-byte tables a coefficient, products of the low and the high
 *            nibble; laid out [group][column][row of the group, without a leading row of ones]
 *   affine   for VGF2P8AFFINEQB: one 8x8 bit matrix a coefficient, in the same order
 *   coef     for the portable path and for tails: plain coefficients, [row][column]
 *
 * Nothing here allocates but gf_plan_new, nothing needs the GIL. Buffers may be unaligned;
 * outputs must not overlap inputs.
 */
#ifndef PREDASTORE_GF256_H
#define PREDASTORE_GF256_H

#include "gf256_field.h"

#if defined(__x86_64__)
#define GF_X86 1
#include <immintrin.h>
#else
#define GF_X86 0
#endif

#define GF_GROUP_ROWS 4
#define GF_STEP_BYTES 64

/* --- code paths ---------------------------------------------------------------------------- */

enum { GF_PORTABLE, GF_SSSE3, GF_AVX2, GF_GFNI, GF_PATHS };

static int gf_path = GF_PORTABLE;

static int gf_offers(int path) {
#if GF_X86
    switch (path) {
    case GF_PORTABLE:
        return 1;
    case GF_SSSE3:
        return __builtin_cpu_supports("ssse3") != 0;
    case GF_AVX2:
        return __builtin_cpu_supports("avx2") != 0;
    case GF_GFNI:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("gfni");
    default:
        return 0;
    }
#else
    return path == GF_PORTABLE;
#endif
}

static int gf_best(void) {
    int path = GF_PATHS - 1;
    while (!gf_offers(path))
        path--;
    return path;
}

/* Runs when the extension is loaded, before any of its code. */
__attribute__((constructor)) static void gf_path_init(void) {
#if GF_X86
    __builtin_cpu_init();
#endif
    gf_path = gf_best();
}

/* --- plans --------------------------------------------------------------------------------- */

struct gf_plan {
    unsigned rows, columns;
    int ones;                 /* row 0 of the plan is all ones */
    uint8_t order[GF_ORDER];  /* order[i]: which row of the matrix is row i of the plan */
    uint8_t *split;
    uint64_t *affine;
    uint8_t *coef;
    size_t bytes;
};

/* The operand of VGF2P8AFFINEQB for multiplication by c: bit i of the result is the parity of
 * the operand's byte 7 - i AND the input byte. */
static uint64_t gf_affine_matrix(uint8_t c) {
    uint64_t matrix = 0;
    for (unsigned j = 0; j < 8; j++)
        for (unsigned i = 0; i < 8; i++)
            if ((gf_product[c][1u << j] >> i) & 1)
                matrix |= (uint64_t)1 << (8 * (7 - i) + j);
    return matrix;
}

static void gf_plan_coefficient(struct gf_plan *plan, size_t index, uint8_t c) {
    for (unsigned nibble = 0; nibble < 16; nibble++) {
        plan->split[32 * index + nibble] = gf_product[c][nibble];
        plan->split[32 * index + 16 + nibble] = gf_product[c][nibble << 4];
    }
    plan->affine[index] = gf_affine_matrix(c);
}

/* NULL if memory is out. */
static struct gf_plan *gf_plan_new(unsigned rows, unsigned columns, const uint8_t *matrix) {
    size_t count = (size_t)rows * columns, bytes = sizeof(struct gf_plan) + count * (8 + 32 + 1);
    struct gf_plan *plan = malloc(bytes);
    if (!plan)
        return NULL;
    plan->rows = rows;
    plan->columns = columns;
    plan->ones = 0;
    plan->bytes = bytes;
    plan->affine = (uint64_t *)(plan + 1);
    plan->split = (uint8_t *)(plan->affine + count);
    plan->coef = plan->split + 32 * count;
    for (unsigned row = 0; row < rows; row++) {
        unsigned ones = 0;
        for (unsigned j = 0; j < columns; j++)
            ones += matrix[(size_t)row * columns + j] == 1;
        plan->order[row] = (uint8_t)row;
        if (ones == columns) { /* at most one row: the rows of a matrix made here differ */
            plan->ones = 1;
            plan->order[row] = plan->order[0];
            plan->order[0] = (uint8_t)row;
        }
    }
    for (unsigned row = 0; row < rows; row++)
        memcpy(plan->coef + (size_t)row * columns, matrix + (size_t)plan->order[row] * columns,
               columns);
    size_t index = 0;
    for (unsigned first = 0; first < rows; first += GF_GROUP_ROWS)
        for (unsigned j = 0; j < columns; j++)
            for (unsigned row = first; row < rows && row < first + GF_GROUP_ROWS; row++)
                if (row || !plan->ones)
                    gf_plan_coefficient(plan, index++, plan->coef[(size_t)row * columns + j]);
    return plan;
}

/* --- kernels: bytes [from, to) of one group of rows ---------------------------------------- */

struct gf_group {
    unsigned rows, columns;
    int ones;
    const uint8_t *coef;
    const uint8_t *split;
    const uint64_t *affine;
    const uint8_t *const *in;
    uint8_t *const *out;
};

static void gf_bytewise(const struct gf_group *g, size_t from, size_t to) {
    for (unsigned r = 0; r < g->rows; r++) {
        memset(g->out[r] + from, 0, to - from);
        for (unsigned j = 0; j < g->columns; j++) {
            const uint8_t *product = gf_product[g->coef[(size_t)r * g->columns + j]];
            for (size_t i = from; i < to; i++)
                g->out[r][i] ^= product[g->in[j][i]];
        }
    }
}

/* Eight bytes in a word: doubles the input bit by bit and adds it where the coefficient has the
 * bit. Plain loops over four words, which compilers turn into whatever vectors there are. */
static void gf_portable(const struct gf_group *g, size_t from, size_t to) {
    enum { WORDS = 4 };
    size_t i = from;
    for (; i + 8 * WORDS <= to; i += 8 * WORDS) {
        uint64_t sum[GF_GROUP_ROWS][WORDS] = {{0}};
        for (unsigned j = 0; j < g->columns; j++) {
            uint64_t v[WORDS];
            memcpy(v, g->in[j] + i, sizeof v);
            for (unsigned bit = 0; bit < 8; bit++) {
                for (unsigned r = 0; r < g->rows; r++) {
                    unsigned c = g->coef[(size_t)r * g->columns + j];
                    uint64_t mask = -(uint64_t)((c >> bit) & 1);
                    for (unsigned w = 0; w < WORDS; w++)
                        sum[r][w] ^= v[w] & mask;
                }
                for (unsigned w = 0; w < WORDS; w++) {
                    uint64_t high = (v[w] >> 7) & 0x0101010101010101u;
                    v[w] = ((v[w] & 0x7f7f7f7f7f7f7f7fu) << 1) ^ (high * (GF_POLY & 0xff));
                }
            }
        }
        for (unsigned r = 0; r < g->rows; r++)
            memcpy(g->out[r] + i, sum[r], sizeof sum[r]);
    }
    gf_bytewise(g, i, to);
}

#if GF_X86

#define GF_INLINE(isa) __attribute__((target(isa), always_inline)) static inline

/* Calls body(g, i, rows, ones) with rows and ones as constants, so that it is unrolled and its
 * sums stay in registers. The last step overlaps the one before: results do not depend on what
 * the outputs held. */
#define GF_STEPS(rows, ones)                                                                       \
    case 2 * (rows) + (ones):                                                                      \
        for (size_t i = from; i + GF_STEP_BYTES <= to; i += GF_STEP_BYTES)                         \
            GF_BODY(g, i, rows, ones);                                                             \
        if ((to - from) % GF_STEP_BYTES)                                                           \
            GF_BODY(g, to - GF_STEP_BYTES, rows, ones);                                            \
        break;

#define GF_ALL_STEPS                                                                               \
    if (to - from < GF_STEP_BYTES) {                                                               \
        gf_bytewise(g, from, to);                                                                  \
        return;                                                                                    \
    }                                                                                              \
    switch (2 * g->rows + (unsigned)g->ones) {                                                     \
        GF_STEPS(1, 0) GF_STEPS(2, 0) GF_STEPS(3, 0) GF_STEPS(4, 0)                                \
        GF_STEPS(1, 1) GF_STEPS(2, 1) GF_STEPS(3, 1) GF_STEPS(4, 1)                                \
    }

GF_INLINE("ssse3") void gf_ssse3_step(const struct gf_group *g, size_t i, const int rows,
                                      const int ones) {
    const __m128i low = _mm_set1_epi8(0x0f);
    for (size_t part = i; part < i + GF_STEP_BYTES; part += 32) {
        const uint8_t *table = g->split;
        __m128i sum[GF_GROUP_ROWS][2];
        for (int r = 0; r < rows; r++)
            sum[r][0] = sum[r][1] = _mm_setzero_si128();
        for (unsigned j = 0; j < g->columns; j++) {
            __m128i v[2], lo[2], hi[2];
            for (int h = 0; h < 2; h++) {
                v[h] = _mm_loadu_si128((const __m128i *)(g->in[j] + part + 16 * h));
                lo[h] = _mm_and_si128(v[h], low);
                hi[h] = _mm_and_si128(_mm_srli_epi64(v[h], 4), low);
                if (ones)
                    sum[0][h] = _mm_xor_si128(sum[0][h], v[h]);
            }
            for (int r = ones; r < rows; r++, table += 32) {
                __m128i tl = _mm_loadu_si128((const __m128i *)table);
                __m128i th = _mm_loadu_si128((const __m128i *)(table + 16));
                for (int h = 0; h < 2; h++) {
                    sum[r][h] = _mm_xor_si128(sum[r][h], _mm_shuffle_epi8(tl, lo[h]));
                    sum[r][h] = _mm_xor_si128(sum[r][h], _mm_shuffle_epi8(th, hi[h]));
                }
            }
        }
        for (int r = 0; r < rows; r++)
            for (int h = 0; h < 2; h++)
                _mm_storeu_si128((__m128i *)(g->out[r] + part + 16 * h), sum[r][h]);
    }
}

#define GF_BODY gf_ssse3_step
__attribute__((target("ssse3"))) static void gf_ssse3(const struct gf_group *g, size_t from,
                                                      size_t to) {
    GF_ALL_STEPS
}
#undef GF_BODY

GF_INLINE("avx2") void gf_avx2_step(const struct gf_group *g, size_t i, const int rows,
                                    const int ones) {
    const __m256i low = _mm256_set1_epi8(0x0f);
    const uint8_t *table = g->split;
    __m256i sum[GF_GROUP_ROWS][2];
    for (int r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    for (unsigned j = 0; j < g->columns; j++) {
        __m256i v[2], lo[2], hi[2];
        for (int h = 0; h < 2; h++) {
            v[h] = _mm256_loadu_si256((const __m256i *)(g->in[j] + i + 32 * h));
            lo[h] = _mm256_and_si256(v[h], low);
            hi[h] = _mm256_and_si256(_mm256_srli_epi64(v[h], 4), low);
            if (ones)
                sum[0][h] = _mm256_xor_si256(sum[0][h], v[h]);
        }
        for (int r = ones; r < rows; r++, table += 32) {
            __m256i tl = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
            __m256i th =
                _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(table + 16)));
            for (int h = 0; h < 2; h++) {
                sum[r][h] = _mm256_xor_si256(sum[r][h], _mm256_shuffle_epi8(tl, lo[h]));
                sum[r][h] = _mm256_xor_si256(sum[r][h], _mm256_shuffle_epi8(th, hi[h]));
            }
        }
    }
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < 2; h++)
            _mm256_storeu_si256((__m256i *)(g->out[r] + i + 32 * h), sum[r][h]);
}

#define GF_BODY gf_avx2_step
__attribute__((target("avx2"))) static void gf_avx2(const struct gf_group *g, size_t from,
                                                    size_t to) {
    GF_ALL_STEPS
}
#undef GF_BODY

GF_INLINE("avx2,gfni") void gf_gfni_step(const struct gf_group *g, size_t i, const int rows,
                                         const int ones) {
    const uint64_t *matrix = g->affine;
    __m256i sum[GF_GROUP_ROWS][2];
    for (int r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = _mm256_setzero_si256();
    for (unsigned j = 0; j < g->columns; j++) {
        __m256i v[2];
        for (int h = 0; h < 2; h++) {
            v[h] = _mm256_loadu_si256((const __m256i *)(g->in[j] + i + 32 * h));
            if (ones)
                sum[0][h] = _mm256_xor_si256(sum[0][h], v[h]);
        }
        for (int r = ones; r < rows; r++, matrix++) {
            __m256i m = _mm256_set1_epi64x((long long)*matrix);
            for (int h = 0; h < 2; h++)
                sum[r][h] =
                    _mm256_xor_si256(sum[r][h], _mm256_gf2p8affine_epi64_epi8(v[h], m, 0));
        }
    }
    for (int r = 0; r < rows; r++)
        for (int h = 0; h < 2; h++)
            _mm256_storeu_si256((__m256i *)(g->out[r] + i + 32 * h), sum[r][h]);
}

#define GF_BODY gf_gfni_step
__attribute__((target("avx2,gfni"))) static void gf_gfni(const struct gf_group *g, size_t from,
                                                         size_t to) {
    GF_ALL_STEPS
}
#undef GF_BODY

#endif /* GF_X86 */

static void gf_group_run(const struct gf_group *g, size_t from, size_t to) {
    switch (gf_path) {
#if GF_X86
    case GF_SSSE3:
        gf_ssse3(g, from, to);
        break;
    case GF_AVX2:
        gf_avx2(g, from, to);
        break;
    case GF_GFNI:
        gf_gfni(g, from, to);
        break;
#endif
    default:
        gf_portable(g, from, to);
    }
}

/* Bytes [from, to) of all outputs, plan->rows of them in the order of the matrix's rows. */
static void gf_run(const struct gf_plan *plan, const uint8_t *const *in, uint8_t *const *out,
                   size_t from, size_t to) {
    size_t index = 0;
    for (unsigned first = 0; first < plan->rows; first += GF_GROUP_ROWS) {
        uint8_t *targets[GF_GROUP_ROWS];
        struct gf_group g = {
            .rows = plan->rows - first < GF_GROUP_ROWS ? plan->rows - first : GF_GROUP_ROWS,
            .columns = plan->columns,
            .ones = first == 0 && plan->ones,
            .coef = plan->coef + (size_t)first * plan->columns,
            .split = plan->split + 32 * index,
            .affine = plan->affine + index,
            .in = in,
            .out = targets,
        };
        for (unsigned r = 0; r < g.rows; r++)
            targets[r] = out[plan->order[first + r]];
        gf_group_run(&g, from, to);
        index += (size_t)(g.rows - (unsigned)g.ones) * g.columns;
    }
}

#endif
