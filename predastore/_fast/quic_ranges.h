/* Sets of numbers as sorted half-open ranges that neither touch nor overlap: packet numbers that
 * came, bytes of a stream that are acknowledged or lost. */
#ifndef PREDASTORE_QUIC_RANGES_H
#define PREDASTORE_QUIC_RANGES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct pq_range {
    uint64_t lo, hi;
};

struct pq_ranges {
    struct pq_range *at;
    uint32_t count, room;
};

static inline void pq_ranges_free(struct pq_ranges *r) {
    free(r->at);
    r->at = NULL;
    r->count = r->room = 0;
}

/* The index of the first range that ends at or after `value`. Most look-ups are near the end. */
static inline uint32_t pq_ranges_find(const struct pq_ranges *r, uint64_t value) {
    uint32_t low = 0, high = r->count;
    if (high && r->at[high - 1].hi < value) return high;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (r->at[middle].hi < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static inline int pq_ranges_has(const struct pq_ranges *r, uint64_t value) {
    uint32_t i = pq_ranges_find(r, value + 1);
    return i < r->count && r->at[i].lo <= value;
}

static int pq_ranges_room(struct pq_ranges *r) {
    if (r->count < r->room) return 1;
    uint32_t room = r->room ? 2 * r->room : 4;
    struct pq_range *at = realloc(r->at, room * sizeof *at);
    if (at == NULL) return 0;
    r->at = at;
    r->room = room;
    return 1;
}

static void pq_ranges_drop(struct pq_ranges *r, uint32_t first, uint32_t count) {
    memmove(r->at + first, r->at + first + count, (r->count - first - count) * sizeof *r->at);
    r->count -= count;
}

/* 1, or 0 where there is no memory. */
static int pq_ranges_add(struct pq_ranges *r, uint64_t lo, uint64_t hi) {
    if (lo >= hi) return 1;
    uint32_t i = pq_ranges_find(r, lo), last = i;
    if (i == r->count || r->at[i].lo > hi) {
        if (!pq_ranges_room(r)) return 0;
        memmove(r->at + i + 1, r->at + i, (r->count - i) * sizeof *r->at);
        r->at[i].lo = lo;
        r->at[i].hi = hi;
        r->count++;
        return 1;
    }
    while (last + 1 < r->count && r->at[last + 1].lo <= hi) last++;
    if (lo < r->at[i].lo) r->at[i].lo = lo;
    r->at[i].hi = hi > r->at[last].hi ? hi : r->at[last].hi;
    if (last > i) pq_ranges_drop(r, i + 1, last - i);
    return 1;
}

static int pq_ranges_remove(struct pq_ranges *r, uint64_t lo, uint64_t hi) {
    if (lo >= hi) return 1;
    uint32_t i = pq_ranges_find(r, lo + 1), last;
    if (i == r->count || r->at[i].lo >= hi) return 1;
    if (r->at[i].lo < lo && r->at[i].hi > hi) { /* a hole in the middle */
        if (!pq_ranges_room(r)) return 0;
        memmove(r->at + i + 1, r->at + i, (r->count - i) * sizeof *r->at);
        r->count++;
        r->at[i].hi = lo;
        r->at[i + 1].lo = hi;
        return 1;
    }
    if (r->at[i].lo < lo) r->at[i++].hi = lo;
    for (last = i; last < r->count && r->at[last].hi <= hi;) last++;
    if (last < r->count && r->at[last].lo < hi) r->at[last].lo = hi;
    if (last > i) pq_ranges_drop(r, i, last - i);
    return 1;
}

/* Adds to `r` what of [lo, hi) is not in `without`. */
static int pq_ranges_add_except(struct pq_ranges *r, uint64_t lo, uint64_t hi,
                                const struct pq_ranges *without) {
    for (uint32_t i = pq_ranges_find(without, lo + 1); lo < hi; i++) {
        uint64_t stop = i < without->count && without->at[i].lo < hi ? without->at[i].lo : hi;
        if (lo < stop && !pq_ranges_add(r, lo, stop)) return 0;
        if (i >= without->count) break;
        if (without->at[i].hi > lo) lo = without->at[i].hi;
    }
    return 1;
}

#endif
