/* Acknowledgements, loss and time (RFC 9002): what an ACK frame says of the packets sent, which
 * are lost, when to probe.
 *
 * A packet that is lost is remembered for a while. If it is acknowledged after all, the way
 * reorders: the thresholds that called it lost rise, and the congestion window is restored. */
#ifndef PREDASTORE_QUIC_RECOVERY_H
#define PREDASTORE_QUIC_RECOVERY_H

#include "quic_cubic.h"
#include "quic_streams.h"

enum {
    PQ_PACKET_THRESHOLD = 3,
    PQ_PACKET_THRESHOLD_MAX = 1000,
    PQ_TIME_THRESHOLD = 9, /* eighths of a round trip */
    PQ_TIME_THRESHOLD_MAX = 16,
    PQ_PERSISTENT = 3,
    PQ_PTO_COUNT_MAX = 10, /* doublings */
    PQ_MTU_TRIES = 3
};

static void pq_rtt_sample(struct pq_conn *c, int64_t sample, int64_t ack_delay, int64_t now) {
    if (sample < 1) sample = 1;
    c->rtt_latest = sample;
    if (!c->measured) {
        c->measured = 1;
        c->rtt_min = c->rtt = sample;
        c->rtt_var = sample / 2;
        c->first_rtt_at = now;
        return;
    }
    if (sample < c->rtt_min) c->rtt_min = sample;
    if (ack_delay > c->peer_ack_delay) ack_delay = c->peer_ack_delay;
    int64_t adjusted = sample >= c->rtt_min + ack_delay ? sample - ack_delay : sample;
    int64_t off = c->rtt > adjusted ? c->rtt - adjusted : adjusted - c->rtt;
    c->rtt_var = (3 * c->rtt_var + off) / 4;
    c->rtt = (7 * c->rtt + adjusted) / 8;
}

/* Path MTU discovery (RFC 8899): the result of a probe. */
static void pq_mtu_result(struct pq_conn *c, int arrived, size_t bytes, int64_t now) {
    c->mtu_probe_flying = 0;
    if (arrived) {
        c->mtu_tries = 0;
        if (bytes > c->mtu) {
            c->mtu = c->mtu_low = bytes;
            c->cubic.mss = bytes;
            if (c->cubic.window < pq_window_min(&c->cubic))
                c->cubic.window = pq_window_min(&c->cubic);
        }
    } else if (++c->mtu_tries >= PQ_MTU_TRIES) {
        c->mtu_tries = 0;
        if (bytes - 1 < c->mtu_high) c->mtu_high = bytes - 1;
    }
    c->mtu_at = now + (arrived || c->mtu_tries == 0 ? 0 : pq_pto(c));
}

/* Packets of this size do not get through any longer: back to one that does. */
static void pq_mtu_black_hole(struct pq_conn *c, size_t base, int64_t retry, int64_t now) {
    if (c->mtu <= base) return;
    c->mtu = c->mtu_low = base;
    c->mtu_high = c->mtu_max;
    c->cubic.mss = c->mtu;
    c->mtu_tries = 0;
    c->mtu_at = now + retry;
}

static void pq_frame_acked(struct pq_conn *c, const struct pq_frame *f) {
    struct pq_stream *s;
    if (f->type == PQ_F_ACK) {
        /* The peer knows of all up to there, but for what has come since, late. */
        if (f->offset > c->ack_floor && f->stream == c->late_count) c->ack_floor = f->offset;
        return;
    }
    if (f->type != PQ_F_STREAM && f->type != PQ_F_RESET_STREAM) return;
    if ((s = pq_stream_find(c, f->stream)) == NULL) return;
    if (f->type == PQ_F_STREAM) {
        pq_stream_acked(c, s, f->offset, f->length, f->fin);
    } else {
        s->reset_acked = 1;
        pq_stream_settle(c, s);
    }
}

static void pq_frame_lost(struct pq_conn *c, const struct pq_frame *f) {
    struct pq_stream *s;
    switch (f->type) {
    case PQ_F_MAX_DATA:
        c->max_data_pending = 1;
        return;
    case PQ_F_MAX_STREAMS:
        c->max_streams_pending = 1;
        return;
    case PQ_F_STREAM:
    case PQ_F_RESET_STREAM:
    case PQ_F_STOP_SENDING:
        if ((s = pq_stream_find(c, f->stream)) == NULL) return;
        if (f->type == PQ_F_STREAM) {
            pq_stream_lost(c, s, f->offset, f->length, f->fin);
        } else if (f->type == PQ_F_RESET_STREAM && !s->reset_acked) {
            s->reset_pending = 1;
            pq_control(c, s);
        } else if (f->type == PQ_F_STOP_SENDING && !s->told_end) {
            s->stop_pending = 1;
            pq_control(c, s);
        }
        return;
    default: /* what is blocked says so again when it is still */
        return;
    }
}

static void pq_frames_drop(struct pq_conn *c, struct pq_sent *sent) {
    while (sent->frames != NULL) {
        struct pq_frame *frame = sent->frames;
        sent->frames = frame->next;
        pq_frame_free(c, frame);
    }
}

static void pq_landed(struct pq_conn *c, struct pq_sent *sent) {
    c->in_flight -= sent->bytes;
    c->eliciting_in_flight -= sent->eliciting;
}

static void pq_packet_lost(struct pq_conn *c, struct pq_sent *sent, int64_t now) {
    pq_landed(c, sent);
    sent->state = PQ_S_LOST;
    if (sent->probe) {
        pq_mtu_result(c, 0, sent->bytes, now);
        return;
    }
    c->packets_lost++;
    for (struct pq_frame *f = sent->frames; f != NULL; f = f->next) pq_frame_lost(c, f);
    pq_cubic_lost(&c->cubic, sent->at, now);
}

/* What is long lost is forgotten; then the oldest packet is one that still matters. `hard`: what
 * nobody waits for goes at once. */
static void pq_sent_forget(struct pq_conn *c, int64_t now, int hard) {
    int64_t until = now - 3 * pq_pto(c);
    for (; c->base < c->next; c->base++) {
        struct pq_sent *sent = pq_sent_at(c, c->base);
        if (sent->state == PQ_S_FLYING) return;
        if (sent->state != PQ_S_GONE && sent->at > until && !hard) return;
        pq_frames_drop(c, sent);
        sent->state = PQ_S_GONE;
    }
}

/* A place for the next packet; NULL while as many as may be are tracked. */
static struct pq_sent *pq_sent_new(struct pq_conn *c, int64_t now) {
    if (c->next - c->base == c->ring_size) pq_sent_forget(c, now, 0);
    if (c->next - c->base == c->ring_size && c->ring_size == PQ_SENT_MAX)
        pq_sent_forget(c, now, 1);
    if (c->next - c->base == c->ring_size) {
        uint32_t size = c->ring_size ? 2 * c->ring_size : 256;
        struct pq_sent *ring = size > PQ_SENT_MAX ? NULL : calloc(size, sizeof *ring);
        if (ring == NULL) return NULL;
        for (uint64_t n = c->base; n < c->next; n++) ring[n & (size - 1)] = *pq_sent_at(c, n);
        free(c->ring);
        c->ring = ring;
        c->ring_size = size;
    }
    struct pq_sent *sent = pq_sent_at(c, c->next);
    memset(sent, 0, sizeof *sent);
    return sent;
}

static void pq_detect_lost(struct pq_conn *c, int64_t now) {
    int64_t longest = c->rtt > c->rtt_latest ? c->rtt : c->rtt_latest;
    int64_t delay = longest * c->time_threshold / 8, run_from = PQ_NEVER, run_longest = 0;
    if (delay < PQ_MS) delay = PQ_MS;
    c->loss_at = PQ_NEVER;
    for (uint64_t n = c->base; (int64_t)n < c->largest_acked; n++) {
        struct pq_sent *sent = pq_sent_at(c, n);
        if (sent->state == PQ_S_GONE || sent->state == PQ_S_QUIET) {
            if (sent->eliciting) run_from = PQ_NEVER;
            continue;
        }
        if (sent->state == PQ_S_FLYING) {
            if (sent->at > now - delay &&
                n + c->packet_threshold > (uint64_t)c->largest_acked) {
                if (sent->at + delay < c->loss_at) c->loss_at = sent->at + delay;
                run_from = PQ_NEVER;
                continue;
            }
            pq_packet_lost(c, sent, now);
        }
        if (!sent->eliciting || sent->probe || sent->at < c->first_rtt_at) continue;
        if (run_from == PQ_NEVER) run_from = sent->at;
        if (sent->at - run_from > run_longest) run_longest = sent->at - run_from;
    }
    if (run_longest > PQ_PERSISTENT * pq_pto(c)) {
        pq_cubic_persistent(&c->cubic);
        c->first_rtt_at = now; /* what is lost already counts once */
    }
    pq_sent_forget(c, now, 0);
}

/* An acknowledged packet; the bytes of it that let the window grow. */
static uint64_t pq_packet_acked(struct pq_conn *c, uint64_t number, struct pq_sent *sent,
                                int64_t now) {
    uint64_t grown = 0;
    if (sent->state == PQ_S_FLYING) {
        pq_landed(c, sent);
        if (sent->probe)
            pq_mtu_result(c, 1, sent->bytes, now);
        else if (sent->at > c->cubic.recovery_at && number < c->cubic.limited)
            grown = sent->bytes;
    } else if (sent->state == PQ_S_LOST && !sent->probe) {
        uint64_t behind = (uint64_t)c->largest_acked - number + 1;
        c->packets_spurious++;
        if (behind > c->packet_threshold)
            c->packet_threshold =
                behind < PQ_PACKET_THRESHOLD_MAX ? behind : PQ_PACKET_THRESHOLD_MAX;
        if (c->time_threshold < PQ_TIME_THRESHOLD_MAX) c->time_threshold++;
        pq_cubic_spurious(&c->cubic, sent->at);
    }
    for (struct pq_frame *f = sent->frames; f != NULL; f = f->next) pq_frame_acked(c, f);
    pq_frames_drop(c, sent);
    sent->state = PQ_S_GONE;
    return grown;
}

/* The packets [lo, hi] are acknowledged: 1 if one of them was waited for. */
static int pq_acked_range(struct pq_conn *c, uint64_t lo, uint64_t hi, int64_t now,
                          uint64_t *grown) {
    int news = 0;
    if (lo < c->base) lo = c->base;
    for (uint64_t n = lo; n <= hi && n < c->next; n++) {
        struct pq_sent *sent = pq_sent_at(c, n);
        if (sent->state == PQ_S_GONE) continue;
        news |= sent->eliciting;
        *grown += pq_packet_acked(c, n, sent, now);
    }
    return news;
}

/* An ACK frame, from after its type on; 0 if it is malformed or acknowledges what was not sent. */
static int pq_ack_frame(struct pq_conn *c, struct pq_in *in, uint64_t type, int64_t now) {
    uint64_t largest, delay, count, length, gap, grown = 0, ecn;
    int news = 0;
    if (!pq_varint(in, &largest) || !pq_varint(in, &delay) || !pq_varint(in, &count) ||
        !pq_varint(in, &length) || length > largest)
        return pq_fail(c, PQ_E_FRAME_ENCODING, type, "a bad ACK frame");
    if (largest >= c->next)
        return pq_fail(c, PQ_E_PROTOCOL_VIOLATION, type, "an ACK of what was not sent");
    struct pq_sent *newest = largest >= c->base ? pq_sent_at(c, largest) : NULL;
    int64_t sample = 0;
    if ((int64_t)largest > c->largest_acked && newest != NULL &&
        newest->state == PQ_S_FLYING && newest->eliciting)
        sample = now - newest->at > 0 ? now - newest->at : 1;
    if ((int64_t)largest > c->largest_acked) c->largest_acked = (int64_t)largest;
    uint64_t hi = largest, lo = largest - length;
    news |= pq_acked_range(c, lo, hi, now, &grown);
    for (; count; count--) {
        if (!pq_varint(in, &gap) || !pq_varint(in, &length) || lo < gap + 2 ||
            lo - gap - 2 < length)
            return pq_fail(c, PQ_E_FRAME_ENCODING, type, "a bad ACK frame");
        hi = lo - gap - 2;
        lo = hi - length;
        news |= pq_acked_range(c, lo, hi, now, &grown);
    }
    for (int i = 0; type == PQ_F_ACK_ECN && i < 3; i++)
        if (!pq_varint(in, &ecn)) return pq_fail(c, PQ_E_FRAME_ENCODING, type, "a bad ACK frame");
    if (sample) {
        int64_t held = PQ_NEVER / 2;
        if (delay <= UINT64_C(1) << 40 >> c->peer_ack_exponent)
            held = (int64_t)(delay << c->peer_ack_exponent) * 1000;
        pq_rtt_sample(c, sample, held, now);
        if (pq_slow_start(&c->cubic)) pq_hystart(&c->cubic, sample, largest, c->next);
    }
    if (grown) pq_cubic_acked(c, grown, now);
    if (news) c->pto_count = c->probes = 0;
    pq_detect_lost(c, now);
    return 1;
}

/* When the loss timer or the probe timer is due. */
static int64_t pq_recovery_at(const struct pq_conn *c) {
    if (c->loss_at != PQ_NEVER) return c->loss_at;
    if (c->eliciting_in_flight == 0) return PQ_NEVER;
    return c->last_eliciting_at + (pq_pto(c) << c->pto_count);
}

/* What the oldest packets carried is sent again, without calling them lost (RFC 9002, 6.2.4). */
static void pq_probe(struct pq_conn *c, int64_t now) {
    int picked = 0;
    c->ptos++;
    if (c->pto_count < PQ_PTO_COUNT_MAX) c->pto_count++;
    /* Large ones first; after long, when the peer may just as well be stalled, all but those that
     * QUIC demands of every way, and not for long. */
    if (c->pto_count == PQ_MTU_TRIES) pq_mtu_black_hole(c, c->mtu_base, 60000 * PQ_MS, now);
    if (c->pto_count == 2 * PQ_MTU_TRIES) pq_mtu_black_hole(c, PQ_DATAGRAM_MIN, 2000 * PQ_MS, now);
    c->probes = 2;
    c->last_eliciting_at = now; /* even if nothing can be sent: the timer does not fire at once */
    for (uint64_t n = c->base; n < c->next && picked < 2; n++) {
        struct pq_sent *sent = pq_sent_at(c, n);
        if (sent->state != PQ_S_FLYING || !sent->eliciting || sent->probe) continue;
        for (struct pq_frame *f = sent->frames; f != NULL; f = f->next) pq_frame_lost(c, f);
        picked++;
    }
}

static void pq_recovery_due(struct pq_conn *c, int64_t now) {
    int64_t at = pq_recovery_at(c);
    if (at == PQ_NEVER || now < at) return;
    if (c->loss_at != PQ_NEVER)
        pq_detect_lost(c, now);
    else
        pq_probe(c, now);
}

#endif
