/* Packets that go: what is due is packed into datagrams of one size, as UDP_SEGMENT wants it,
 * within the congestion window, paced, and protected. */
#ifndef PREDASTORE_QUIC_SEND_H
#define PREDASTORE_QUIC_SEND_H

#include "quic_receive.h"

enum {
    PQ_URGENT_RUN = 16, /* packets of urgent streams before one of the others */
    PQ_BULK_RUN = 1 << 15, /* bytes of one of the others in a row: its reader has fewer pieces */
    PQ_MTU_STEP = 16,   /* bytes that are not worth a search */
    PQ_TAIL_MIN = 4096  /* bytes of a stream that are encrypted from where they lie: with fewer, to
                           encrypt in two steps costs what the copy did */
};

struct pq_out { /* the packet that is being built */
    uint8_t *start, *at, *end;
    const uint8_t *tail; /* the last so many bytes of it are encrypted from there */
    size_t tail_bytes;
    struct pq_frame *frames;
    int eliciting;
};

static inline size_t pq_room(const struct pq_out *o) { return (size_t)(o->end - o->at); }

static struct pq_frame *pq_record(struct pq_conn *c, struct pq_out *o, int type) {
    struct pq_frame *frame = pq_frame_new(c);
    if (frame == NULL) {
        pq_no_memory(c);
        return NULL;
    }
    frame->type = (uint8_t)type;
    frame->next = o->frames;
    o->frames = frame;
    return frame;
}

static int pq_ack_due(const struct pq_conn *c, int64_t now) {
    return c->unacked_count && (c->ack_now || now >= c->ack_at);
}

static void pq_put_ack(struct pq_conn *c, struct pq_out *o, int64_t now) {
    const struct pq_ranges *seen = &c->seen;
    if (seen->count == 0 || pq_room(o) < 64) return;
    uint32_t last = seen->count - 1, i = last;
    int64_t delay = (now - c->largest_seen_at) / 1000 >> 3; /* our exponent is the default, 3 */
    while (i > 0 && last - i + 1 < PQ_ACK_RANGES_MAX && seen->at[i - 1].hi > c->ack_floor) i--;
    struct pq_frame *frame = pq_record(c, o, PQ_F_ACK);
    if (frame == NULL) return;
    frame->offset = seen->at[last].hi - 1;
    frame->stream = c->late_count;
    uint8_t *p = o->at;
    *p++ = PQ_F_ACK;
    p = pq_put_varint(p, seen->at[last].hi - 1);
    p = pq_put_varint(p, delay > 0 ? (uint64_t)delay : 0);
    uint8_t *count_at = p++; /* at most 31: one byte */
    p = pq_put_varint(p, seen->at[last].hi - 1 - seen->at[last].lo);
    uint32_t more = 0;
    for (uint32_t n = last; n > i && (size_t)(o->end - p) > 16; n--, more++) {
        p = pq_put_varint(p, seen->at[n].lo - seen->at[n - 1].hi - 1);
        p = pq_put_varint(p, seen->at[n - 1].hi - 1 - seen->at[n - 1].lo);
    }
    *count_at = (uint8_t)more;
    o->at = p;
    c->unacked_count = 0;
    c->ack_now = 0;
    c->ack_at = PQ_NEVER;
}

static int pq_put_limit(struct pq_conn *c, struct pq_out *o, int type, uint64_t value) {
    if (pq_room(o) < 9 || pq_record(c, o, type) == NULL) return 0;
    *o->at++ = (uint8_t)type;
    o->at = pq_put_varint(o->at, value);
    o->eliciting = 1;
    return 1;
}

/* RESET_STREAM, STOP_SENDING and STREAM_DATA_BLOCKED of one stream; 0 where there is no room. */
static int pq_put_stream_control(struct pq_conn *c, struct pq_out *o, struct pq_stream *s) {
    struct pq_frame *frame;
    if (s->reset_pending) {
        if (pq_room(o) < 25 || (frame = pq_record(c, o, PQ_F_RESET_STREAM)) == NULL) return 0;
        frame->stream = s->id;
        *o->at++ = PQ_F_RESET_STREAM;
        o->at = pq_put_varint(pq_put_varint(pq_put_varint(o->at, s->id), s->reset_code),
                              s->reset_size);
        s->reset_pending = 0;
        o->eliciting = 1;
    }
    if (s->stop_pending) {
        if (pq_room(o) < 17 || (frame = pq_record(c, o, PQ_F_STOP_SENDING)) == NULL) return 0;
        frame->stream = s->id;
        *o->at++ = PQ_F_STOP_SENDING;
        o->at = pq_put_varint(pq_put_varint(o->at, s->id), s->stop_code);
        s->stop_pending = 0;
        o->eliciting = 1;
    }
    if (s->blocked_pending) {
        if (pq_room(o) < 17 || pq_record(c, o, PQ_F_STREAM_DATA_BLOCKED) == NULL) return 0;
        *o->at++ = PQ_F_STREAM_DATA_BLOCKED;
        o->at = pq_put_varint(pq_put_varint(o->at, s->id), s->limit);
        s->blocked_pending = 0;
        o->eliciting = 1;
    }
    return 1;
}

static void pq_put_control(struct pq_conn *c, struct pq_out *o) {
    if (c->max_data_pending && pq_put_limit(c, o, PQ_F_MAX_DATA, c->max_data)) {
        c->max_data_pending = 0;
        c->max_data_sent = c->max_data;
    }
    if (c->max_streams_pending && pq_put_limit(c, o, PQ_F_MAX_STREAMS, c->max_streams))
        c->max_streams_pending = 0;
    if (c->data_blocked_pending && pq_put_limit(c, o, PQ_F_DATA_BLOCKED, c->peer_max_data))
        c->data_blocked_pending = 0;
    if (c->streams_blocked_pending &&
        pq_put_limit(c, o, PQ_F_STREAMS_BLOCKED, c->peer_max_streams))
        c->streams_blocked_pending = 0;
    while (c->control != NULL && !c->failed) {
        struct pq_stream *s = c->control;
        if (!pq_put_stream_control(c, o, s)) break;
        c->control = s->control_next;
        s->in_control = 0;
    }
}

/* One STREAM frame with [offset, offset + n), the stream's end with it if it is reached. */
static int pq_put_stream(struct pq_conn *c, struct pq_out *o, struct pq_stream *s,
                         uint64_t offset, uint64_t most) {
    size_t head = 1 + pq_varint_size(s->id) + (offset ? pq_varint_size(offset) : 0);
    if (pq_room(o) < head + 2 + (most > 0)) return 0;
    size_t room = pq_room(o) - head, n;
    int whole = most >= room; /* the frame fills the packet: no length is needed */
    if (whole) {
        n = room;
    } else {
        n = (size_t)most;
        size_t bytes = pq_varint_size(n);
        if (n + bytes > room) n = room - bytes;
    }
    struct pq_frame *frame = pq_record(c, o, PQ_F_STREAM);
    if (frame == NULL) return 0;
    int fin = s->fin && offset + n == s->end;
    uint8_t *p = o->at;
    *p++ = (uint8_t)(PQ_F_STREAM | (offset ? 4 : 0) | (whole ? 0 : 2) | fin);
    p = pq_put_varint(p, s->id);
    if (offset) p = pq_put_varint(p, offset);
    if (!whole) p = pq_put_varint(p, n);
    if (whole && n >= PQ_TAIL_MIN && (o->tail = pq_stream_view(s, offset, n)) != NULL)
        o->tail_bytes = n;
    else if (n)
        pq_stream_copy(s, offset, p, n);
    o->at = p + n;
    o->eliciting = 1;
    frame->stream = s->id;
    frame->offset = offset;
    frame->length = (uint32_t)n;
    frame->fin = (uint8_t)fin;
    if (fin) {
        s->fin_sent = 1;
        s->fin_lost = 0;
    }
    return (int)n + 1;
}

/* What one stream has for this packet. 0: no room is left; 1: it has no more, or may not. */
static int pq_put_from(struct pq_conn *c, struct pq_out *o, struct pq_stream *s) {
    while (s->lost.count) {
        struct pq_range range = s->lost.at[0];
        int put = pq_put_stream(c, o, s, range.lo, range.hi - range.lo);
        if (put == 0) return 0;
        if (!pq_ranges_remove(&s->lost, range.lo, range.lo + (uint64_t)put - 1)) return 0;
    }
    if (s->fin_lost && s->sent == s->end) {
        if (pq_put_stream(c, o, s, s->end, 0) == 0) return 0;
    }
    while (s->sent < s->end) {
        uint64_t most = s->end - s->sent, credit = c->peer_max_data - c->sent_data;
        if (s->sent >= s->limit) { /* MAX_STREAM_DATA puts it back into its queue */
            s->blocked_pending = 1;
            pq_control(c, s);
            return 1;
        }
        if (credit == 0) {
            if (c->data_blocked_at != c->peer_max_data + 1) {
                c->data_blocked_at = c->peer_max_data + 1;
                c->data_blocked_pending = 1;
            }
            s->blocked = 1;
            return 1;
        }
        if (most > s->limit - s->sent) most = s->limit - s->sent;
        if (most > credit) most = credit;
        int put = pq_put_stream(c, o, s, s->sent, most);
        if (put == 0) return 0;
        s->sent += (uint64_t)put - 1;
        c->sent_data += (uint64_t)put - 1;
        c->queued_bytes -= (uint64_t)put - 1;
    }
    if (s->fin && !s->fin_sent && pq_put_stream(c, o, s, s->end, 0) == 0) return 0;
    return 1;
}

/* The next stream's turn: it moves behind the others of its queue if it has more. */
static int pq_put_turn(struct pq_conn *c, struct pq_out *o, struct pq_queue *q) {
    struct pq_stream *s = q->first;
    const uint8_t *from = o->at;
    int done = s->reset || pq_put_from(c, o, s);
    if (q == &c->bulk) {
        c->bulk_run += (uint32_t)(o->at - from);
        if (!done && c->bulk_run < PQ_BULK_RUN) return 0;
        c->bulk_run = 0;
    }
    if (done) {
        pq_dequeue(q);
        if (s->blocked) {
            s->queue_next = NULL;
            if (c->blocked.last != NULL)
                c->blocked.last->queue_next = s;
            else
                c->blocked.first = s;
            c->blocked.last = s;
        }
    } else if (s != q->last) {
        pq_dequeue(q);
        pq_enqueue(c, s);
    }
    return done;
}

static void pq_put_streams(struct pq_conn *c, struct pq_out *o) {
    while (!c->failed && (c->urgent.first != NULL || c->bulk.first != NULL)) {
        int urgent = c->urgent.first != NULL &&
                     (c->bulk.first == NULL || c->urgent_run < PQ_URGENT_RUN);
        if (!pq_put_turn(c, o, urgent ? &c->urgent : &c->bulk)) break;
    }
    if (c->bulk.first == NULL || c->urgent.first == NULL || c->urgent_run >= PQ_URGENT_RUN)
        c->urgent_run = 0;
    else
        c->urgent_run++;
}

static int pq_has_data(const struct pq_conn *c) {
    return c->urgent.first != NULL || c->bulk.first != NULL || c->control != NULL ||
           c->max_data_pending || c->max_streams_pending || c->ping_pending ||
           c->data_blocked_pending || c->streams_blocked_pending;
}

/* Pacing: the window over a round trip, with a quarter more (half in slow start: at twice the rate,
 * a short queue overflows before the window is half of what the way holds). What two milliseconds
 * let pass at that rate may go at once: a process on a busy machine is not woken more often. */
static int pq_paced(struct pq_conn *c, int64_t now) {
    double rate = (double)c->cubic.window / (double)(c->rtt > 1000 ? c->rtt : 1000) *
                  (pq_slow_start(&c->cubic) ? 1.5 : 1.25);
    double most = rate * (double)(2 * PQ_MS), least = 16.0 * (double)c->mtu;
    if (most < least) most = least;
    c->pace_tokens += rate * (double)(now - c->pace_at);
    c->pace_at = now;
    if (c->pace_tokens > most) c->pace_tokens = most;
    if (c->pace_tokens > 0) return 1;
    c->pace_until = now + (int64_t)((least / 4 - c->pace_tokens) / rate) + 1;
    return 0;
}

/* May a packet with data go now? */
static int pq_may_send(struct pq_conn *c, int64_t now) {
    if (c->probes) return 1;
    if (c->in_flight + c->mtu <= c->cubic.window && pq_paced(c, now)) return 1;
    c->cubic.limited = c->next; /* by pacing, too: it but spreads what the window allows */
    return 0;
}

/* The packet in `o` gets its number, is remembered and encrypted. Its size, or 0. */
static size_t pq_finish(struct pq_conn *c, struct pq_out *o, size_t header_bytes, int probe,
                        int64_t now) {
    int number_bytes = (int)header_bytes - 1 - c->peer_cid_bytes;
    while (o->at - o->start < (long)header_bytes + 4 - number_bytes) *o->at++ = PQ_F_PADDING;
    size_t text = (size_t)(o->at - o->start) - header_bytes, bytes = header_bytes + text + PQ_TAG;
    struct pq_sent *sent = pq_sent_at(c, c->next);
    uint64_t number = c->next++;
    sent->at = now;
    sent->frames = o->frames;
    sent->bytes = (uint16_t)bytes;
    sent->eliciting = (uint8_t)o->eliciting;
    sent->probe = (uint8_t)probe;
    if (o->eliciting) {
        sent->state = PQ_S_FLYING;
        c->in_flight += bytes;
        c->eliciting_in_flight++;
        c->last_eliciting_at = now;
        c->pace_tokens -= (double)bytes;
        if (c->unanswered_since == PQ_NEVER) c->unanswered_since = now;
        if (c->probes) c->probes--;
    } else { /* an ACK alone: nobody waits for it to be acknowledged */
        sent->state = PQ_S_QUIET;
    }
    c->packets_sent++;
    c->phase_packets++;
    o->start[0] = (uint8_t)(PQ_FIXED | (c->send_phase ? PQ_PHASE : 0) | (number_bytes - 1));
    memcpy(o->start + 1, c->peer_cid, (size_t)c->peer_cid_bytes);
    for (int i = 0; i < number_bytes; i++)
        o->start[1 + c->peer_cid_bytes + i] = (uint8_t)(number >> (8 * (number_bytes - 1 - i)));
    struct pq_text parts = {o->start + header_bytes, o->tail, text - o->tail_bytes, o->tail_bytes};
    if (!pq_seal(&c->send_key, number, o->start, header_bytes, &parts)) {
        pq_fail(c, PQ_E_INTERNAL, 0, "a packet was not encrypted");
        return 0;
    }
    return bytes;
}

/* The next datagram of at most `size` bytes at `at`; its size, or 0 if there is none. */
static size_t pq_datagram(struct pq_conn *c, uint8_t *at, size_t size, int64_t now) {
    int number_bytes = pq_number_size(c->next, c->largest_acked);
    size_t header_bytes = (size_t)(1 + c->peer_cid_bytes + number_bytes);
    struct pq_out o = {at, at + header_bytes, at + size - PQ_TAG, NULL, 0, NULL, 0};
    int data = (pq_has_data(c) || c->probes) && pq_may_send(c, now);
    if ((!data && !pq_ack_due(c, now)) || pq_sent_new(c, now) == NULL) return 0;
    if (c->unacked_count || (c->seen.count && pq_ack_due(c, now))) pq_put_ack(c, &o, now);
    if (data) {
        pq_put_control(c, &o);
        pq_put_streams(c, &o);
        if ((c->ping_pending || (c->probes && !o.eliciting)) && pq_room(&o) > 0) {
            *o.at++ = PQ_F_PING;
            o.eliciting = 1;
            c->ping_pending = 0;
        }
        if (o.eliciting && pq_has_data(c)) { /* what is next does not fit: fill up */
            memset(o.at, PQ_F_PADDING, pq_room(&o));
            o.at = o.end;
        }
    }
    if (o.at == at + header_bytes || c->failed) return 0;
    return pq_finish(c, &o, header_bytes, 0, now);
}

/* A packet of the size that is to be tried: a PING and padding. The largest size comes first, then
 * the middle of what is left. */
static size_t pq_mtu_datagram(struct pq_conn *c, uint8_t *at, int64_t now) {
    size_t size = c->mtu_high == c->mtu_max ? c->mtu_high : (c->mtu_low + c->mtu_high + 1) / 2;
    if (c->mtu_probe_flying || now < c->mtu_at || c->mtu_high < c->mtu_low + PQ_MTU_STEP ||
        !c->measured || c->in_flight + size > c->cubic.window || pq_sent_new(c, now) == NULL)
        return 0;
    int number_bytes = pq_number_size(c->next, c->largest_acked);
    size_t header_bytes = (size_t)(1 + c->peer_cid_bytes + number_bytes);
    struct pq_out o = {at, at + header_bytes, at + size - PQ_TAG, NULL, 0, NULL, 1};
    *o.at++ = PQ_F_PING;
    memset(o.at, PQ_F_PADDING, pq_room(&o));
    o.at = o.end;
    c->mtu_probe_flying = 1;
    return pq_finish(c, &o, header_bytes, 1, now);
}

/* The next keys for what is sent (RFC 9001, 6.1), if the last update is acknowledged. */
static int pq_update_send_key(struct pq_conn *c) {
    struct pq_key next = {0};
    if (c->send_phase != c->receive_phase || c->largest_acked < (int64_t)c->phase_first) return 0;
    if (!pq_key_next(&c->send_suite, &c->send_key, &next))
        return pq_fail(c, PQ_E_INTERNAL, 0, "no next key");
    pq_key_free(&c->send_key);
    c->send_key = next;
    c->send_phase ^= 1;
    c->phase_packets = 0;
    c->phase_first = c->next;
    c->update_wanted = 0;
    return 1;
}

/* Keys wear out: they are updated in time, or the connection ends (RFC 9001, 6.6). */
static int pq_keys_last(struct pq_conn *c) {
    if (c->update_wanted || c->phase_packets >= c->key_packets_max) pq_update_send_key(c);
    if (c->phase_packets + PQ_BATCH_SEGMENTS > c->sealed_max)
        return pq_fail(c, PQ_E_AEAD_LIMIT, 0, "the keys are worn out");
    return !c->failed;
}

/* Fills `out` with datagrams of one size, the last maybe shorter; how many bytes. */
static size_t pq_send(struct pq_conn *c, uint8_t *out, size_t room, size_t *segment, int64_t now) {
    uint8_t samples[PQ_BATCH_SEGMENTS * PQ_SAMPLE], *starts[PQ_BATCH_SEGMENTS];
    size_t at = 0, count = 0, size = c->mtu, bytes;
    *segment = 0;
    c->more = 0;
    c->pace_until = PQ_NEVER;
    if (c->failed || !pq_keys_last(c)) return 0;
    while (count < PQ_BATCH_SEGMENTS && !c->failed) {
        if (at + size > room) {
            c->more = 1;
            break;
        }
        bytes = pq_datagram(c, out + at, size, now);
        if (bytes == 0 && count == 0 && (bytes = pq_mtu_datagram(c, out, now)) != 0) size = 0;
        if (bytes == 0) break;
        starts[count] = out + at;
        memcpy(samples + count++ * PQ_SAMPLE, out + at + 1 + c->peer_cid_bytes + 4, PQ_SAMPLE);
        at += bytes;
        if (count == 1) *segment = bytes;
        if (bytes < size || size == 0) {
            c->more = size == 0 || pq_has_data(c);
            break;
        }
        c->more = count == PQ_BATCH_SEGMENTS;
    }
    if (count && !pq_masks(&c->send_suite, samples, count))
        pq_fail(c, PQ_E_INTERNAL, 0, "no header protection");
    for (size_t i = 0; i < count; i++) {
        const uint8_t *mask = samples + i * PQ_SAMPLE;
        int number_bytes = (starts[i][0] & 3) + 1;
        starts[i][0] ^= mask[0] & 0x1f;
        for (int n = 0; n < number_bytes; n++) starts[i][1 + c->peer_cid_bytes + n] ^= mask[1 + n];
    }
    return c->failed ? 0 : at;
}

/* When a connection on which nothing happens ends (RFC 9000, 10.1). */
static int64_t pq_idle_at(const struct pq_conn *c) {
    if (c->idle == PQ_NEVER) return PQ_NEVER;
    int sent = c->unanswered_since != PQ_NEVER && c->unanswered_since > c->last_received;
    return (sent ? c->unanswered_since : c->last_received) + c->idle;
}

/* When something is to be done without a datagram that comes. */
static int64_t pq_timeout(const struct pq_conn *c) {
    int64_t at = pq_recovery_at(c);
    if (c->failed) return PQ_NEVER;
    if (c->unacked_count && c->ack_at < at) at = c->ack_at;
    if (c->pace_until < at) at = c->pace_until;
    if (pq_idle_at(c) < at) at = pq_idle_at(c);
    return at;
}

#endif
