#define _GNU_SOURCE
#include "tally.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void reserve(struct tally *tally, size_t count) {
    if (count <= tally->room) return;
    size_t room = tally->room ? tally->room : 4096;
    while (room < count) room *= 2;
    tally->spans = realloc(tally->spans, room * sizeof *tally->spans);
    if (tally->spans == NULL) {
        perror("loadgen");
        exit(2);
    }
    tally->room = room;
}

int tally_add(struct tally *tally, int64_t begun_ns, int64_t ended_ns, uint64_t bytes) {
    if (tally->count == SPANS_MAX) return 0;
    reserve(tally, tally->count + 1);
    tally->spans[tally->count++] = (struct span){begun_ns, ended_ns, bytes};
    return 1;
}

void tally_error(struct tally *tally, int is_wrong, const char *why) {
    tally->errors++;
    tally->wrong += is_wrong != 0;
    if (tally->reasons < REASONS) snprintf(tally->why[tally->reasons++], REASON_BYTES, "%s", why);
}

void tally_join(struct tally *tally, struct tally *from) {
    reserve(tally, tally->count + from->count);
    if (from->count)
        memcpy(tally->spans + tally->count, from->spans, from->count * sizeof(struct span));
    tally->count += from->count;
    tally->verified += from->verified;
    tally->errors += from->errors;
    tally->wrong += from->wrong;
    for (int i = 0; i < from->reasons && tally->reasons < REASONS; i++)
        memcpy(tally->why[tally->reasons++], from->why[i], REASON_BYTES);
    free(from->spans);
    memset(from, 0, sizeof *from);
}

static int by_size(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static double at_share(const double *sorted, size_t count, double share) {
    size_t place = (size_t)((double)count * share);
    return count ? sorted[place < count ? place : count - 1] : 0;
}

static void print_reasons(const struct tally *tally, FILE *out) {
    fputs("\"why\": [", out);
    for (int i = 0; i < tally->reasons; i++) {
        fputs(i ? ", \"" : "\"", out);
        for (const unsigned char *c = (const unsigned char *)tally->why[i]; *c; c++) {
            if (*c < 32)
                fputc(' ', out);
            else if (*c == '"' || *c == '\\' || *c > 126)
                fprintf(out, "\\u%04x", *c);
            else
                fputc(*c, out);
        }
        fputc('"', out);
    }
    fputs("]", out);
}

void tally_report(struct tally *tally, int64_t opens_ns, int64_t closes_ns, double cpu_cores,
                  uint64_t begun, FILE *out) {
    double requests = 0, bytes = 0, sum_ms = 0;
    double *taken_ms = malloc((tally->count + 1) * sizeof *taken_ms);
    size_t count = 0, inside = 0;
    if (taken_ms == NULL) exit(2);
    for (size_t i = 0; i < tally->count; i++)
        inside += tally->spans[i].ended_ns >= opens_ns && tally->spans[i].ended_ns <= closes_ns;
    for (size_t i = 0; i < tally->count; i++) {
        const struct span *span = &tally->spans[i];
        int64_t from = span->begun_ns > opens_ns ? span->begun_ns : opens_ns;
        int64_t to = span->ended_ns < closes_ns ? span->ended_ns : closes_ns;
        double whole = (double)(span->ended_ns - span->begun_ns);
        if (to > from) {
            double share = whole > 0 ? (double)(to - from) / whole : 1;
            requests += share;
            bytes += share * (double)span->bytes;
        }
        int ended_inside = span->ended_ns >= opens_ns && span->ended_ns <= closes_ns;
        if (inside ? ended_inside : to > from) {
            taken_ms[count++] = whole / 1e6;
            sum_ms += whole / 1e6;
        }
    }
    qsort(taken_ms, count, sizeof *taken_ms, by_size);
    fprintf(out,
            "{\"requests\": %.3f, \"seconds\": %.6f, \"bytes\": %.0f, \"timed\": %zu, "
            "\"mean_ms\": %.4f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"p999_ms\": %.4f, "
            "\"max_ms\": %.4f, \"cpu_cores\": %.4f, \"begun\": %llu, \"answered\": %zu, "
            "\"verified\": %llu, \"errors\": %llu, \"wrong\": %llu, ",
            requests, (double)(closes_ns - opens_ns) / 1e9, bytes, count,
            count ? sum_ms / (double)count : 0, at_share(taken_ms, count, 0.5),
            at_share(taken_ms, count, 0.99), at_share(taken_ms, count, 0.999),
            count ? taken_ms[count - 1] : 0, cpu_cores, (unsigned long long)begun, tally->count,
            (unsigned long long)tally->verified, (unsigned long long)tally->errors,
            (unsigned long long)tally->wrong);
    print_reasons(tally, out);
    fputs("}\n", out);
    free(taken_ms);
}
