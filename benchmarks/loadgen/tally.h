/* What the requests of one thread came to: spans of time of those that were answered as they
 * should be, and the rest by number, with the first few reasons. */
#ifndef TALLY_H
#define TALLY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { REASONS = 4, REASON_BYTES = 800, SPANS_MAX = 1 << 24 };

struct span {
    int64_t begun_ns, ended_ns;
    uint64_t bytes;
};

struct tally {
    struct span *spans;
    size_t count, room;
    uint64_t verified, errors, wrong; /* `wrong`: of `errors`, those with other contents */
    int reasons;
    char why[REASONS][REASON_BYTES];
};

int64_t now_ns(void);

/* 0: there are more than SPANS_MAX, and this one was not taken. */
int tally_add(struct tally *tally, int64_t begun_ns, int64_t ended_ns, uint64_t bytes);

void tally_error(struct tally *tally, int is_wrong, const char *why);

/* Adds what `from` has, and empties it. */
void tally_join(struct tally *tally, struct tally *from);

/* One line of JSON. What was on the way in the window counts with that part of its time. */
void tally_report(struct tally *tally, int64_t opens_ns, int64_t closes_ns, double cpu_cores,
                  uint64_t begun, FILE *out);

#endif
