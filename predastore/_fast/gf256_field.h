/* GF(2^8) with x^8 + x^4 + x^3 + x^2 + 1 (0x11D): its tables, and the Reed-Solomon matrices over it.
 *
 * The matrix of a code is part of the stored format: shards written with one can only be read
 * with the same. tests/fast pins it.
 */
#ifndef PREDASTORE_GF256_FIELD_H
#define PREDASTORE_GF256_FIELD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define GF_ORDER 256
#define GF_POLY 0x11D

static uint8_t gf_product[GF_ORDER][GF_ORDER];
static uint8_t gf_inverse[GF_ORDER];

/* Runs when the extension is loaded, before any of its code. */
__attribute__((constructor)) static void gf_field_init(void) {
    for (unsigned a = 0; a < GF_ORDER; a++)
        for (unsigned b = 0; b < GF_ORDER; b++) {
            unsigned sum = 0, shifted = a;
            for (unsigned bits = b; bits; bits >>= 1) {
                sum ^= (bits & 1) ? shifted : 0;
                shifted = (shifted << 1) ^ ((shifted & 0x80) ? GF_POLY : 0);
            }
            gf_product[a][b] = (uint8_t)sum;
            if (sum == 1)
                gf_inverse[a] = (uint8_t)b;
        }
}

/* --- matrices ------------------------------------------------------------------------------ */

/* Row `shard` (0 <= shard < k + m <= 256) of the systematic generator: a row of the identity, or
 * of a Cauchy matrix 1/(x_i + y_j), x_i = k + i, y_j = j, its columns scaled so that the first
 * parity row is ones, its rows so that the first column is. All square parts of a Cauchy matrix
 * are invertible, scaling rows and columns keeps them so, and therefore any k rows of the
 * generator are invertible. */
static void gf_generator_row(unsigned k, unsigned shard, uint8_t *row) {
    memset(row, 0, k);
    if (shard < k) {
        row[shard] = 1;
        return;
    }
    uint8_t row_scale = gf_product[shard][gf_inverse[k]]; /* 1 / (C[i][0] / C[0][0]) */
    for (unsigned j = 0; j < k; j++) {
        uint8_t cauchy = gf_inverse[shard ^ j];
        uint8_t column_scale = (uint8_t)(k ^ j); /* 1 / C[0][j] */
        row[j] = gf_product[row_scale][gf_product[cauchy][column_scale]];
    }
}

/* target += factor * source */
static void gf_row_add(uint8_t *target, const uint8_t *source, uint8_t factor, unsigned n) {
    const uint8_t *product = gf_product[factor];
    for (unsigned i = 0; i < n; i++)
        target[i] ^= product[source[i]];
}

static void gf_row_scale(uint8_t *row, uint8_t factor, unsigned n) {
    const uint8_t *product = gf_product[factor];
    for (unsigned i = 0; i < n; i++)
        row[i] = product[row[i]];
}

/* Inverts `a` (k x k) into `inverse` by Gauss-Jordan; `a` is destroyed. -1 if it is singular. */
static int gf_invert(uint8_t *a, uint8_t *inverse, unsigned k) {
    memset(inverse, 0, (size_t)k * k);
    for (unsigned i = 0; i < k; i++)
        inverse[(size_t)i * k + i] = 1;
    for (unsigned col = 0; col < k; col++) {
        uint8_t *pivot = a + (size_t)col * k, *pivot_inverse = inverse + (size_t)col * k;
        for (unsigned row = col + 1; row < k && !pivot[col]; row++) {
            gf_row_add(pivot, a + (size_t)row * k, 1, k);
            gf_row_add(pivot_inverse, inverse + (size_t)row * k, 1, k);
        }
        if (!pivot[col])
            return -1;
        uint8_t scale = gf_inverse[pivot[col]];
        gf_row_scale(pivot, scale, k);
        gf_row_scale(pivot_inverse, scale, k);
        for (unsigned row = 0; row < k; row++) {
            uint8_t factor = a[(size_t)row * k + col];
            if (row != col && factor) {
                gf_row_add(a + (size_t)row * k, pivot, factor, k);
                gf_row_add(inverse + (size_t)row * k, pivot_inverse, factor, k);
            }
        }
    }
    return 0;
}

/* The `want_count` x k matrix that makes the shards `wanted` from the shards `present` (k distinct
 * ones, in the order of the columns). 0; -1 if memory is out or, which can not be, singular. */
static int gf_decode_matrix(unsigned k, const uint8_t *present, unsigned want_count,
                            const uint8_t *wanted, uint8_t *matrix) {
    uint8_t *a = malloc(2 * (size_t)k * k), *inverse = a + (size_t)k * k;
    uint8_t slot_of[GF_ORDER], column_of[GF_ORDER], taken[GF_ORDER] = {0}, row[GF_ORDER];
    if (!a)
        return -1;
    /* A present data shard goes to its own row, a parity shard to that of a missing one: nearly
     * all of the matrix is then an identity, and elimination passes over it. */
    for (unsigned i = 0; i < k; i++)
        if (present[i] < k)
            taken[slot_of[i] = present[i]] = 1;
    for (unsigned i = 0, slot = 0; i < k; i++)
        if (present[i] >= k) {
            while (taken[slot])
                slot++;
            taken[slot_of[i] = (uint8_t)slot] = 1;
        }
    for (unsigned i = 0; i < k; i++) {
        column_of[slot_of[i]] = (uint8_t)i;
        gf_generator_row(k, present[i], a + (size_t)slot_of[i] * k);
    }
    if (gf_invert(a, inverse, k)) {
        free(a);
        return -1;
    }
    memset(matrix, 0, (size_t)want_count * k);
    for (unsigned w = 0; w < want_count; w++) {
        uint8_t by_slot[GF_ORDER] = {0};
        gf_generator_row(k, wanted[w], row);
        for (unsigned j = 0; j < k; j++)
            if (row[j])
                gf_row_add(by_slot, inverse + (size_t)j * k, row[j], k);
        for (unsigned slot = 0; slot < k; slot++)
            matrix[(size_t)w * k + column_of[slot]] = by_slot[slot];
    }
    free(a);
    return 0;
}

#endif
