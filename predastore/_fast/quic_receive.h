/* Packets that come: header protection of a batch, decryption, key updates of the peer, duplicates.
 * What can not be decrypted is dropped, and passed on as foreign. */
#ifndef PREDASTORE_QUIC_RECEIVE_H
#define PREDASTORE_QUIC_RECEIVE_H

#include "quic_frames.h"

#define PQ_ACK_DELAY (8 * PQ_MS) /* of a single packet, for the answer that it may ride on */

/* Keys */

/* The peer uses the next keys; ours follow unless they are ahead already (RFC 9001, 6.2). */
static int pq_keys_updated(struct pq_conn *c, uint64_t number, int64_t now) {
    pq_key_free(&c->receive_before);
    c->receive_before = c->receive_key;
    c->receive_key = c->receive_next;
    memset(&c->receive_next, 0, sizeof c->receive_next);
    c->has_before = 1;
    c->before_until = now + 3 * pq_pto(c);
    c->receive_phase ^= 1;
    c->receive_phase_first = number;
    c->key_updates++;
    if (!pq_key_next(&c->receive_suite, &c->receive_key, &c->receive_next))
        return pq_fail(c, PQ_E_INTERNAL, 0, "no next key");
    if (c->send_phase != c->receive_phase) {
        struct pq_key next = {0};
        if (!pq_key_next(&c->send_suite, &c->send_key, &next))
            return pq_fail(c, PQ_E_INTERNAL, 0, "no next key");
        pq_key_free(&c->send_key);
        c->send_key = next;
        c->send_phase ^= 1;
        c->phase_packets = 0;
        c->phase_first = c->next;
    }
    return 1;
}

/* Decrypts a packet's text to `out`. */
static int pq_decrypt(struct pq_conn *c, const uint8_t *packet, size_t bytes, size_t header_bytes,
                      uint64_t number, uint8_t *out, int64_t now) {
    struct pq_key *key = &c->receive_key;
    int phase = (packet[0] & PQ_PHASE) != 0, updates = 0;
    if (phase != c->receive_phase) {
        if (c->has_before && number < c->receive_phase_first) {
            if (now > c->before_until) return 0;
            key = &c->receive_before;
        } else {
            key = &c->receive_next;
            updates = 1;
        }
    }
    if (!pq_open(key, number, packet, header_bytes, packet + header_bytes, bytes - header_bytes,
                 out))
        return 0;
    return updates ? pq_keys_updated(c, number, now) : 1;
}

/* Straight into the room of a stream that gathers */

/* Where a packet's text is to be decrypted to, so that the bytes of its one frame come to lie where
 * they belong; the frame's head covers what is there already, and that is kept in `under`. */
struct pq_direct {
    struct pq_stream *s;
    uint8_t *out;
    size_t head;
    uint8_t under[1 + 8 + 8];
};

/* Whether a packet with so much text may well be the next one of the stream that gathered last. */
static int pq_direct_begin(const struct pq_conn *c, struct pq_direct *d, size_t text) {
    struct pq_stream *s = d->s = c->gathering;
    if (s == NULL || text < PQ_DIRECT_MIN) return 0;
    d->head = 1 + pq_varint_size(s->id) + pq_varint_size(s->delivered);
    if (s->gather_at < d->head || s->gather_at - d->head + text > s->gather_bytes) return 0;
    d->out = s->gather + s->gather_at - d->head;
    memcpy(d->under, d->out, d->head);
    return 1;
}

/* It was authentic: is it what it was taken for? */
static int pq_direct_right(const struct pq_direct *d, size_t text) {
    struct pq_in in = {d->out + 1, d->out + text};
    uint64_t id, offset;
    return (d->out[0] & ~1) == (PQ_F_STREAM | 4) && pq_varint(&in, &id) &&
           pq_varint(&in, &offset) && id == d->s->id && offset == d->s->delivered &&
           in.at == d->out + d->head;
}

/* Decrypts and handles a packet; -1 if it is not authentic: then its header and tag are as they
 * were. */
static int pq_open_packet(struct pq_conn *c, uint8_t *packet, size_t bytes, size_t header_bytes,
                          uint64_t number, uint64_t cid, int64_t now, int *eliciting,
                          int *probing) {
    struct pq_direct d;
    uint8_t *text = packet + header_bytes;
    size_t n = bytes - header_bytes - PQ_TAG;
    int direct = pq_direct_begin(c, &d, n), good, right;
    good = pq_decrypt(c, packet, bytes, header_bytes, number, direct ? d.out : text, now);
    right = direct && good && pq_direct_right(&d, n);
    if (direct && good && !right) memcpy(text, d.out, n);
    if (right) memcpy(text, d.out, d.head);
    if (direct) memcpy(d.out, d.under, d.head);
    if (!good) return -1;
    c->packets_received++;
    c->last_received = now;
    if (packet[0] & PQ_RESERVED)
        return pq_fail(c, PQ_E_PROTOCOL_VIOLATION, 0, "reserved bits are set");
    if (!right) return pq_frames(c, (struct pq_in){text, text + n}, cid, now, eliciting, probing);
    *eliciting = 1;
    *probing = 0;
    if (!pq_stream_reach(c, d.s, d.s->delivered + n - d.head, text[0] & 1, text[0])) return 0;
    return pq_stream_data(c, d.s, d.s->delivered, d.out + d.head, n - d.head);
}

/* Packets */

/* The number is new and will be acknowledged; 0 for a duplicate. */
static int pq_seen(struct pq_conn *c, uint64_t number, int eliciting, int64_t now) {
    int in_order = c->seen.count == 0 || number == c->seen.at[c->seen.count - 1].hi;
    if (!pq_ranges_add(&c->seen, number, number + 1)) return pq_no_memory(c);
    if (c->seen.count > PQ_SEEN_MAX) {
        c->seen_floor = c->seen.at[0].hi;
        pq_ranges_drop(&c->seen, 0, 1);
    }
    if (number < c->ack_floor) c->ack_floor = number;
    if (number < c->largest_seen) c->late_count++;
    if (number >= c->largest_seen) {
        c->largest_seen = number;
        c->largest_seen_at = now;
    }
    if (eliciting) {
        c->unacked_count++;
        if (!in_order || c->unacked_count >= 2) c->ack_now = 1;
        if (c->ack_at == PQ_NEVER) c->ack_at = now + PQ_ACK_DELAY;
    }
    return 1;
}

static void pq_foreign(struct pq_conn *c, const uint8_t *data, size_t n) {
    if (c->foreign_count >= PQ_FOREIGN_MAX) return;
    struct pq_event *event = pq_event(c, PQ_V_FOREIGN);
    if (event == NULL) return;
    c->foreign_count++;
    event->data = data;
    event->length = n;
}

static int pq_cid_find(struct pq_conn *c, const uint8_t *cid) {
    for (int i = 0; i < c->cid_count; i++) {
        int at = i == 0 ? c->cid_used : i == c->cid_used ? 0 : i; /* the last one first */
        if (at < c->cid_count && memcmp(c->cids[at].bytes, cid, (size_t)c->cid_bytes) == 0) {
            c->cid_used = at;
            return at;
        }
    }
    return -1;
}

/* One packet with its header mask: decrypted and handled. */
static void pq_packet(struct pq_conn *c, uint8_t *packet, size_t bytes, const uint8_t *mask,
                      int64_t now) {
    uint8_t *number_at = packet + 1 + c->cid_bytes, first = packet[0] ^ (mask[0] & 0x1f);
    int number_bytes = (first & 3) + 1, eliciting = 0, probing = 0;
    uint64_t truncated = 0;
    for (int i = 0; i < number_bytes; i++)
        truncated = truncated << 8 | (uint8_t)(number_at[i] ^ mask[1 + i]);
    uint64_t expected = c->seen.count ? c->seen.at[c->seen.count - 1].hi : c->seen_floor;
    uint64_t number = pq_number_decode(truncated, number_bytes, expected);
    int cid = pq_cid_find(c, packet + 1);
    size_t header_bytes = (size_t)(1 + c->cid_bytes + number_bytes);
    if (number < c->seen_floor || pq_ranges_has(&c->seen, number)) {
        c->duplicates++;
        return;
    }
    uint8_t before[1 + 4] = {packet[0]};
    memcpy(before + 1, number_at, (size_t)number_bytes);
    packet[0] = first;
    for (int i = 0; i < number_bytes; i++) number_at[i] ^= mask[1 + i];
    int handled = pq_open_packet(c, packet, bytes, header_bytes, number, c->cids[cid].number, now,
                                 &eliciting, &probing);
    if (handled < 0) {
        packet[0] = before[0]; /* the header as it came */
        memcpy(number_at, before + 1, (size_t)number_bytes);
        if (++c->undecryptable >= c->undecryptable_max)
            pq_fail(c, PQ_E_AEAD_LIMIT, 0, "too many packets that are not authentic");
        pq_foreign(c, packet, bytes);
    }
    if (handled <= 0) return;
    uint64_t largest = c->largest_seen;
    pq_seen(c, number, eliciting, now);
    if (number > largest && !probing && c->cids[cid].number != c->cid_current) {
        c->cid_current = c->cids[cid].number;
        struct pq_event *event = pq_event(c, PQ_V_CID);
        if (event != NULL) event->number = c->cid_current;
    }
}

/* Datagrams of `segment` bytes, the last maybe shorter; they are overwritten. */
static void pq_receive(struct pq_conn *c, uint8_t *data, size_t bytes, size_t segment,
                       int64_t now) {
    uint8_t samples[PQ_BATCH_SEGMENTS * PQ_SAMPLE];
    uint8_t *packets[PQ_BATCH_SEGMENTS];
    size_t sizes[PQ_BATCH_SEGMENTS], at = 0, count;
    size_t least = (size_t)(1 + c->cid_bytes + 4 + PQ_SAMPLE);
    if (segment == 0) segment = bytes;
    while (at < bytes && !c->failed) {
        for (count = 0; at < bytes && count < PQ_BATCH_SEGMENTS; at += segment) {
            uint8_t *packet = data + at;
            size_t n = bytes - at < segment ? bytes - at : segment;
            if ((packet[0] & (PQ_LONG | PQ_FIXED)) != PQ_FIXED || n < least ||
                pq_cid_find(c, packet + 1) < 0) {
                pq_foreign(c, packet, n);
                continue;
            }
            memcpy(samples + count * PQ_SAMPLE, packet + 1 + c->cid_bytes + 4, PQ_SAMPLE);
            packets[count] = packet;
            sizes[count++] = n;
        }
        if (count && !pq_masks(&c->receive_suite, samples, count))
            pq_fail(c, PQ_E_INTERNAL, 0, "no header protection");
        for (size_t i = 0; i < count && !c->failed; i++)
            pq_packet(c, packets[i], sizes[i], samples + i * PQ_SAMPLE, now);
    }
    if (c->last_received == now)
        c->unanswered_since = c->eliciting_in_flight ? now : PQ_NEVER;
}

#endif
