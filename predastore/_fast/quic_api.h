/* What quic.pyx does with a connection apart from packets: setting it up, ids, limits, the end. */
#ifndef PREDASTORE_QUIC_API_H
#define PREDASTORE_QUIC_API_H

#include "quic_send.h"
#include "udp.h"

#define PQ_KEY_PACKETS (UINT64_C(1) << 22) /* half of what RFC 9001, 6.6 allows for AES-GCM */

struct pq_setup {
    int is_client, cipher, version, key_phase, ack_exponent;
    const uint8_t *send_secret, *receive_secret, *first_send_secret, *first_receive_secret;
    uint64_t next, floor, window, streams_max, own_stream_max, peer_max_data;
    uint64_t peer_stream_max_local, peer_stream_max_remote, peer_streams_max;
    int64_t now, rtt, peer_ack_delay;
    size_t mtu, mtu_max;
};

static size_t pq_secret_bytes(int cipher) { return cipher == PQ_AES_256_GCM ? 48 : 32; }

static int pq_keys_setup(struct pq_conn *c, const struct pq_setup *setup) {
    size_t n = pq_secret_bytes(setup->cipher);
    memcpy(c->send_key.secret, setup->send_secret, n);
    memcpy(c->receive_key.secret, setup->receive_secret, n);
    c->send_phase = c->receive_phase = setup->key_phase;
    return pq_suite_setup(&c->send_suite, setup->cipher, setup->version, 1,
                          setup->first_send_secret) &&
           pq_suite_setup(&c->receive_suite, setup->cipher, setup->version, 0,
                          setup->first_receive_secret) &&
           pq_key_setup(&c->send_suite, &c->send_key) &&
           pq_key_setup(&c->receive_suite, &c->receive_key) &&
           pq_key_next(&c->receive_suite, &c->receive_key, &c->receive_next);
}

/* `c` is all zeros. 1, or 0 if there is no memory. */
static int pq_open_conn(struct pq_conn *c, const struct pq_setup *setup) {
    c->is_client = setup->is_client;
    c->key_packets_max = PQ_KEY_PACKETS;
    int chacha = setup->cipher == PQ_CHACHA20_POLY1305;
    c->sealed_max = chacha ? PQ_VARINT_MAX : UINT64_C(1) << 23; /* RFC 9001, 6.6 */
    c->undecryptable_max = chacha ? UINT64_C(1) << 36 : UINT64_C(1) << 52;
    c->next = c->base = c->phase_first = setup->next;
    c->seen_floor = setup->floor;
    c->largest_acked = -1;
    c->largest_seen_at = c->last_received = c->pace_at = setup->now;
    c->idle = PQ_NEVER;
    c->ack_at = c->loss_at = c->pace_until = c->unanswered_since = PQ_NEVER;
    c->peer_ack_exponent = setup->ack_exponent;
    c->peer_ack_delay = setup->peer_ack_delay;
    c->rtt = c->rtt_latest = setup->rtt > 0 ? setup->rtt : 333 * PQ_MS;
    c->rtt_var = c->rtt / 2;
    c->rtt_min = c->rtt;
    c->packet_threshold = PQ_PACKET_THRESHOLD;
    c->time_threshold = PQ_TIME_THRESHOLD;
    c->mtu = c->mtu_low = c->mtu_base = setup->mtu;
    c->mtu_high = c->mtu_max = setup->mtu_max;
    pq_cubic_setup(&c->cubic, c->mtu);
    c->pace_tokens = 16.0 * (double)c->mtu;
    c->window = c->max_data = c->max_data_sent = setup->window;
    c->streams_max = c->max_streams = setup->streams_max;
    c->own_stream_max = setup->own_stream_max;
    c->peer_max_data = setup->peer_max_data;
    c->peer_stream_max_local = setup->peer_stream_max_local;
    c->peer_stream_max_remote = setup->peer_stream_max_remote;
    c->peer_max_streams = setup->peer_streams_max;
    c->table_size = 64;
    c->table = calloc(c->table_size, sizeof *c->table);
    return c->table != NULL && pq_keys_setup(c, setup);
}

/* All memory is given back, whatever state the connection is in. */
static void pq_close_conn(struct pq_conn *c) {
    c->control = NULL; /* each stream would look for its place in them */
    c->urgent.first = c->bulk.first = c->blocked.first = NULL;
    for (uint32_t i = 0; i < c->piece_count; i++)
        if (c->pieces[i].chunk != NULL) pq_chunk_free(c, c->pieces[i].chunk);
    for (uint32_t i = 0; i < c->table_size && c->table != NULL; i++) {
        while (c->table[i] != NULL) {
            struct pq_stream *s = c->table[i];
            c->table[i] = s->chain;
            pq_stream_free(c, s);
        }
    }
    while (c->slabs != NULL) {
        struct pq_slab *slab = c->slabs;
        c->slabs = slab->next;
        free(slab);
    }
    pq_key_free(&c->send_key);
    pq_key_free(&c->receive_key);
    pq_key_free(&c->receive_next);
    pq_key_free(&c->receive_before);
    EVP_CIPHER_CTX_free(c->send_suite.header);
    EVP_CIPHER_CTX_free(c->receive_suite.header);
    pq_ranges_free(&c->seen);
    free(c->table);
    free(c->ring);
    free(c->pieces);
    free(c->events);
}

static int pq_add_cid(struct pq_conn *c, uint64_t number, const uint8_t *cid, size_t n) {
    if (n == 0 || n > PQ_CID_MAX || c->cid_count == PQ_CIDS_MAX) return 0;
    if (c->cid_count && n != (size_t)c->cid_bytes) return 0;
    if (c->cid_count == 0) c->cid_current = number;
    c->cid_bytes = (int)n;
    c->cids[c->cid_count].number = number;
    memcpy(c->cids[c->cid_count++].bytes, cid, n);
    return 1;
}

static void pq_remove_cid(struct pq_conn *c, uint64_t number) {
    for (int i = 0; i < c->cid_count; i++) {
        if (c->cids[i].number != number) continue;
        c->cids[i] = c->cids[--c->cid_count];
        c->cid_used = 0;
        return;
    }
}

static int pq_set_peer_cid(struct pq_conn *c, const uint8_t *cid, size_t n) {
    if (n > PQ_CID_MAX) return 0;
    memcpy(c->peer_cid, cid, n);
    c->peer_cid_bytes = (int)n;
    return 1;
}

/* Packets [lo, hi) came before. */
static int pq_received_before(struct pq_conn *c, uint64_t lo, uint64_t hi) {
    if (lo < c->seen_floor) lo = c->seen_floor;
    if (lo < hi && hi - 1 > c->largest_seen) c->largest_seen = hi - 1;
    return pq_ranges_add(&c->seen, lo, hi);
}

/* The owner has used the packet numbers up to `next`. */
static int pq_skip_to(struct pq_conn *c, uint64_t next, int64_t now) {
    if (next < c->next || next - c->next > PQ_SENT_MAX / 2) return 0;
    for (; c->next < next; c->next++)
        if (pq_sent_new(c, now) == NULL) return 0;
    return 1;
}

static int pq_grant(struct pq_conn *c, uint64_t window, uint64_t streams) {
    if (window < c->window || streams < c->streams_max) return 0;
    c->window = window;
    if (c->consumed + window > c->max_data) {
        c->max_data = c->consumed + window;
        c->max_data_pending = 1;
    }
    c->streams_max = streams;
    if (c->peer_streams_closed + streams > c->max_streams) {
        c->max_streams = c->peer_streams_closed + streams;
        c->max_streams_pending = 1;
    }
    return 1;
}

/* Bytes of an adopted stream that came out of order. */
static int pq_adopt_early(struct pq_conn *c, uint64_t id, uint64_t offset, const uint8_t *data,
                          size_t n) {
    struct pq_stream *s;
    return pq_stream_named(c, id, 0, &s) == 1 && offset > s->delivered &&
           pq_stream_reach(c, s, offset + n, 0, 0) && pq_early_add(c, s, offset, data, n);
}

/* A stream of the peer's that was read up to `delivered` before. */
static int pq_adopt(struct pq_conn *c, uint64_t id, uint64_t delivered, uint64_t final_size) {
    struct pq_stream *s;
    if (pq_stream_named(c, id, 0, &s) != 1 || delivered > final_size) return 0;
    s->delivered = s->highest = delivered;
    s->final_size = final_size;
    if (final_size != PQ_UNKNOWN) s->highest = final_size;
    c->received += s->highest;
    if (delivered == final_size) s->received_all = s->told_end = 1;
    return c->received <= c->max_data;
}

static void pq_stop(struct pq_conn *c, struct pq_stream *s, uint64_t code) {
    if (s->stop || s->received_all) return;
    s->stop = s->stop_pending = 1;
    s->stop_code = code;
    pq_early_drop(c, s);
    pq_control(c, s);
    pq_stream_skip(c, s);
}

/* Encrypts `n` bytes after the header in place, the tag after them; the header is finished. */
static int pq_seal_packet(struct pq_conn *c, uint8_t *packet, size_t header, size_t n,
                          uint64_t number) {
    uint8_t mask[PQ_SAMPLE];
    int number_bytes = (packet[0] & 3) + 1;
    packet[0] = (uint8_t)((packet[0] & ~PQ_PHASE) | (c->send_phase ? PQ_PHASE : 0));
    struct pq_text text = {packet + header, NULL, n, 0};
    if (!pq_seal(&c->send_key, number, packet, header, &text)) return 0;
    c->phase_packets++;
    memcpy(mask, packet + header - number_bytes + 4, PQ_SAMPLE);
    if (!pq_masks(&c->send_suite, mask, 1)) return 0;
    packet[0] ^= mask[0] & 0x1f;
    for (int i = 0; i < number_bytes; i++)
        packet[header - (size_t)number_bytes + (size_t)i] ^= mask[1 + i];
    return 1;
}

/* The streams that have something to tell, in the order in which it came. */
static struct pq_stream *pq_ready_take(struct pq_conn *c) {
    struct pq_stream *turned = NULL;
    while (c->ready != NULL) { /* they were put in front of each other */
        struct pq_stream *s = c->ready;
        c->ready = s->ready_next;
        s->ready_next = turned;
        turned = s;
    }
    return turned;
}

static size_t pq_pieces_bytes(const struct pq_conn *c, const struct pq_stream *s) {
    size_t total = 0;
    for (uint32_t i = s->piece_first; i != PQ_NO_PIECE; i = c->pieces[i].next)
        total += c->pieces[i].length;
    return total;
}

/* Copies the pieces of a stream out; there are none after that. */
static void pq_pieces_take(struct pq_conn *c, struct pq_stream *s, uint8_t *out) {
    for (uint32_t i = s->piece_first; i != PQ_NO_PIECE; i = c->pieces[i].next) {
        struct pq_piece *piece = &c->pieces[i];
        memcpy(out, piece->data, piece->length);
        out += piece->length;
        if (piece->chunk != NULL) pq_chunk_free(c, piece->chunk);
        piece->chunk = NULL; /* there may be no memory for the next stream's */
    }
    s->piece_first = s->piece_last = PQ_NO_PIECE;
}

/* A socket, room for a batch, and what became of the last one. */
struct pq_outlet {
    int fd, offload, error; /* error: an errno, for which it was not sent beyond `sent` */
    const void *name;
    size_t name_bytes, bytes, segment, sent;
    uint8_t *out;
};

/* Sends up to so many batches; 1 if there is more to send. */
static int pq_transmit(struct pq_conn *c, struct pq_outlet *o, int batches, int64_t now) {
    o->error = 0;
    while (batches-- > 0) {
        o->bytes = pq_send(c, o->out, PQ_BATCH, &o->segment, now);
        if (o->bytes == 0) return 0;
        o->sent = pu_send(o->fd, o->out, o->bytes, o->segment, o->name, o->name_bytes,
                          &o->offload, &o->error);
        if (o->error) return 1;
        if (!c->more) return 0;
    }
    return 1;
}

#endif
