/* Congestion control: CUBIC (RFC 9438) with HyStart++ (RFC 9406), in bytes.
 *
 * One departure: beyond PQ_QUEUE_BYTES the window grows only as long as the queue that it builds
 * costs less time than the way itself. Where the way is short, a larger window brings no
 * throughput, and every small message would wait behind it. */
#ifndef PREDASTORE_QUIC_CUBIC_H
#define PREDASTORE_QUIC_CUBIC_H

#include <math.h>

#include "quic_conn.h"

#define PQ_CUBIC_C 0.4
#define PQ_CUBIC_BETA 0.7
#define PQ_CUBIC_ALPHA (3 * (1 - PQ_CUBIC_BETA) / (1 + PQ_CUBIC_BETA))
#define PQ_QUEUE_BYTES (1024 * 1024)
#define PQ_WINDOW_MAX (32 * 1024 * 1024)

enum { PQ_HY_SAMPLES = 8, PQ_HY_CSS_DIVISOR = 4, PQ_HY_CSS_ROUNDS = 5 };
#define PQ_HY_THRESHOLD_MIN (4 * PQ_MS)
#define PQ_HY_THRESHOLD_MAX (16 * PQ_MS)

static void pq_cubic_setup(struct pq_cubic *q, size_t mss) {
    memset(q, 0, sizeof *q);
    q->mss = mss;
    q->window = 10 * mss < 14720 ? 10 * mss : 14720 > 2 * mss ? 14720 : 2 * mss;
    q->threshold = UINT64_MAX;
    q->epoch = PQ_NEVER;
    q->recovery_at = -1;
    q->last_round_min = q->round_min = q->css_baseline = PQ_NEVER;
}

static inline uint64_t pq_window_min(const struct pq_cubic *q) { return 2 * q->mss; }
static inline int pq_slow_start(const struct pq_cubic *q) { return q->window < q->threshold; }

/* A new round begins with packet `next`. */
static void pq_hystart_round(struct pq_cubic *q, uint64_t next) {
    q->round_end = next;
    q->last_round_min = q->round_min;
    q->round_min = PQ_NEVER;
    q->samples = 0;
    if (q->css_baseline != PQ_NEVER && ++q->css_rounds >= PQ_HY_CSS_ROUNDS) {
        q->threshold = q->window;
        q->css_baseline = PQ_NEVER;
    }
}

static void pq_hystart(struct pq_cubic *q, int64_t rtt, uint64_t largest_acked, uint64_t next) {
    if (largest_acked >= q->round_end) pq_hystart_round(q, next);
    if (rtt < q->round_min) q->round_min = rtt;
    if (++q->samples < PQ_HY_SAMPLES) return;
    if (q->css_baseline != PQ_NEVER) {
        if (q->round_min < q->css_baseline) { /* it was no queue: back to slow start */
            q->css_baseline = PQ_NEVER;
            q->css_rounds = 0;
        }
    } else if (q->last_round_min != PQ_NEVER) {
        int64_t threshold = q->last_round_min / 8;
        if (threshold < PQ_HY_THRESHOLD_MIN) threshold = PQ_HY_THRESHOLD_MIN;
        if (threshold > PQ_HY_THRESHOLD_MAX) threshold = PQ_HY_THRESHOLD_MAX;
        if (q->round_min >= q->last_round_min + threshold) {
            q->css_baseline = q->round_min;
            q->css_rounds = 0;
        }
    }
}

static void pq_cubic_epoch(struct pq_cubic *q, int64_t now) {
    double segments = (double)q->window / (double)q->mss;
    q->epoch = now;
    q->w_est = segments;
    if (q->w_max < segments) q->w_max = segments;
    q->k = cbrt((q->w_max - segments) / PQ_CUBIC_C);
}

static void pq_cubic_grow(struct pq_cubic *q, uint64_t bytes, int64_t now, int64_t rtt) {
    if (q->epoch == PQ_NEVER)
        pq_cubic_epoch(q, now);
    else if (now - q->grown_at > 2 * rtt) /* a pause is not time in which it grew (5.8) */
        q->epoch += now - q->grown_at;
    double mss = (double)q->mss, segments = (double)q->window / mss;
    double t = (double)(now - q->epoch) / 1e9, ahead = t + (double)rtt / 1e9;
    double cubic_now = PQ_CUBIC_C * (t - q->k) * (t - q->k) * (t - q->k) + q->w_max;
    double target = PQ_CUBIC_C * (ahead - q->k) * (ahead - q->k) * (ahead - q->k) + q->w_max;
    double acked = (double)bytes / mss;
    q->w_est += (q->w_est < q->w_max ? PQ_CUBIC_ALPHA : 1.0) * acked / segments;
    if (cubic_now < q->w_est) {
        if (q->w_est > segments) segments = q->w_est;
    } else {
        if (target > 1.5 * segments) target = 1.5 * segments;
        if (target > segments) segments += (target - segments) / segments * acked;
    }
    q->window = (uint64_t)(segments * mss);
}

/* `bytes` were acknowledged that were sent while the window was full. */
static void pq_cubic_acked(struct pq_conn *c, uint64_t bytes, int64_t now) {
    struct pq_cubic *q = &c->cubic;
    if (q->window > PQ_QUEUE_BYTES && c->rtt > 2 * c->rtt_min) {
        uint64_t carried = (uint64_t)((double)q->window * (double)c->rtt_min / (double)c->rtt);
        if (q->window > PQ_QUEUE_BYTES + 2 * carried) {
            if (q->epoch != PQ_NEVER) pq_cubic_epoch(q, now);
            q->grown_at = now;
            return;
        }
    }
    if (pq_slow_start(q))
        q->window += q->css_baseline != PQ_NEVER ? bytes / PQ_HY_CSS_DIVISOR : bytes;
    else
        pq_cubic_grow(q, bytes, now, c->rtt);
    q->grown_at = now;
    if (q->window > PQ_WINDOW_MAX) q->window = PQ_WINDOW_MAX;
}

/* A packet that was sent at `sent_at` is lost. */
static void pq_cubic_lost(struct pq_cubic *q, int64_t sent_at, int64_t now) {
    if (sent_at <= q->recovery_at) {
        q->losses++;
        return;
    }
    q->recovery_at = now;
    q->before_window = (double)q->window;
    q->before_threshold = q->threshold;
    q->before_w_max = q->w_max;
    q->losses = 1;
    double segments = (double)q->window / (double)q->mss;
    q->w_max = segments < q->w_max ? segments * (1 + PQ_CUBIC_BETA) / 2 : segments;
    q->window = (uint64_t)((double)q->window * PQ_CUBIC_BETA);
    if (q->window < pq_window_min(q)) q->window = pq_window_min(q);
    q->threshold = q->window;
    q->epoch = PQ_NEVER;
    q->css_baseline = PQ_NEVER;
}

/* One of those lost was acknowledged after all; if all were, there was no congestion. */
static void pq_cubic_spurious(struct pq_cubic *q, int64_t sent_at) {
    if (q->losses == 0 || sent_at > q->recovery_at || --q->losses) return;
    if ((double)q->window < q->before_window) q->window = (uint64_t)q->before_window;
    q->threshold = q->before_threshold;
    q->w_max = q->before_w_max;
    q->epoch = PQ_NEVER;
}

static void pq_cubic_persistent(struct pq_cubic *q) {
    q->window = pq_window_min(q);
    q->recovery_at = -1;
    q->epoch = PQ_NEVER;
    q->losses = 0;
}

#endif
