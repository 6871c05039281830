/* The state of one connection's data plane. Its parts, each with a header of its own: streams
 * (quic_streams.h), congestion and loss (quic_cubic.h, quic_recovery.h), frames (quic_frames.h) and
 * packets that come (quic_receive.h) and go (quic_send.h).
 *
 * Times are nanoseconds of the owner's clock. Memory is bounded by flow control (what comes), by
 * what the owner writes (what goes), and by the PQ_..._MAX below. */
#ifndef PREDASTORE_QUIC_CONN_H
#define PREDASTORE_QUIC_CONN_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "quic_crypto.h"
#include "quic_ranges.h"
#include "quic_wire.h"

#define PQ_MS INT64_C(1000000)
#define PQ_NEVER INT64_MAX

enum {
    PQ_SENT_MAX = 1 << 16,  /* packets tracked; sending waits for acknowledgements beyond it */
    PQ_SEEN_MAX = 256,      /* ranges of packet numbers that came */
    PQ_ACK_RANGES_MAX = 32, /* of these, in one ACK frame */
    PQ_EARLY_MAX = 1 << 16, /* pieces of streams that came out of order */
    PQ_EARLY_SPARE = 64,    /* of one stream, beside one for PQ_EARLY_BYTES of what they hold: */
    PQ_EARLY_BYTES = 256,   /* each that comes may have to be compared with all of them */
    PQ_PASSED_MAX = 32,     /* frames of a packet for the owner, and ACK frames of it */
    PQ_CIDS_MAX = 16,       /* own connection ids */
    PQ_FOREIGN_MAX = 8,     /* datagrams passed on from one call */
    PQ_DIRECT_MIN = 512,    /* bytes of a packet that may be decrypted where they belong */
    PQ_SLAB = 256           /* frame records allocated at once */
};

/* What a packet carried, for when it is acknowledged or lost. */
struct pq_frame {
    struct pq_frame *next;
    /* ACK: offset is the largest number acknowledged, stream how many had come late by then */
    uint64_t stream, offset;
    uint32_t length;
    uint8_t type, fin;
};

struct pq_slab {
    struct pq_slab *next;
    struct pq_frame frames[PQ_SLAB];
};

/* Gone: acknowledged, or somebody else's. Quiet: an ACK alone. */
enum { PQ_S_GONE, PQ_S_FLYING, PQ_S_LOST, PQ_S_QUIET };

struct pq_sent {
    int64_t at;
    struct pq_frame *frames;
    uint16_t bytes;
    uint8_t state, eliciting, probe; /* probe: of the path's MTU */
};

/* Bytes of a stream: written and not acknowledged, or come out of order. */
struct pq_chunk {
    struct pq_chunk *next;
    uint64_t offset;
    size_t length;
    const uint8_t *at; /* `data`, or what `owner` lent */
    void *owner;
    int pooled;
    uint8_t data[];
};

#define PQ_UNKNOWN UINT64_MAX

struct pq_stream {
    uint64_t id;
    struct pq_stream *chain; /* of the hash table */
    /* Sending: chunks hold [base, end), of which [base, sent) was sent at least once. */
    struct pq_chunk *first, *last, *cursor;
    uint64_t base, end, sent, limit;
    struct pq_ranges lost, acked;
    uint64_t reset_code, reset_size, stop_code;
    struct pq_stream *queue_next, *control_next, *ready_next;
    uint8_t urgent, queued, blocked, in_control, fin, fin_sent, fin_acked, fin_lost;
    uint8_t reset, reset_pending, reset_acked, stop, stop_pending, blocked_pending;
    /* Receiving */
    uint8_t received_all, told_end, in_ready;
    uint64_t delivered, highest, final_size;
    struct pq_chunk *early, *early_last;
    uint64_t early_bytes;
    uint32_t early_count;
    uint32_t piece_first, piece_last;
    /* The owner's room for the next bytes, to be told of once it is full; NULL if there is none. */
    uint8_t *gather;
    size_t gather_bytes, gather_at;
};

/* Bytes in order that wait to be copied out: of the datagram at hand, or of a chunk. */
struct pq_piece {
    const uint8_t *data;
    uint32_t length, next;
    struct pq_chunk *chunk;
};
#define PQ_NO_PIECE UINT32_MAX

enum { PQ_V_RESET, PQ_V_STOP, PQ_V_CONTROL, PQ_V_ACK, PQ_V_CID, PQ_V_FOREIGN };

struct pq_event { /* `data` points into the datagram at hand */
    int kind;
    uint64_t number, value;
    const uint8_t *data;
    size_t length;
};

struct pq_queue {
    struct pq_stream *first, *last;
};

struct pq_cid {
    uint64_t number;
    uint8_t bytes[PQ_CID_MAX];
};

struct pq_cubic {
    uint64_t window, threshold, mss;
    double w_max, w_est, k;
    double before_window, before_w_max; /* a loss that turns out none is undone */
    uint64_t before_threshold;
    int64_t epoch, recovery_at, grown_at;
    uint64_t limited;  /* packets below this number were sent with a full window */
    uint64_t losses;   /* of this recovery, not yet found spurious */
    /* HyStart++ */
    uint64_t round_end;
    int64_t last_round_min, round_min, css_baseline;
    uint32_t samples, css_rounds;
};

struct pq_conn {
    int is_client, cid_bytes;
    /* Keys */
    struct pq_suite send_suite, receive_suite;
    struct pq_key send_key, receive_key, receive_next, receive_before;
    int send_phase, receive_phase, has_before, update_wanted;
    int64_t before_until;
    uint64_t phase_packets, phase_first, receive_phase_first, key_packets_max, undecryptable;
    uint64_t sealed_max, undecryptable_max; /* with one key; with all keys (RFC 9001, 6.6) */
    /* Connection ids */
    struct pq_cid cids[PQ_CIDS_MAX];
    int cid_count, cid_used;
    uint64_t cid_current;
    uint8_t peer_cid[PQ_CID_MAX];
    int peer_cid_bytes;
    /* Receiving and acknowledging */
    struct pq_ranges seen;
    uint64_t seen_floor, ack_floor, largest_seen, late_count;
    int64_t largest_seen_at, ack_at, last_received, idle;
    uint32_t unacked_count;
    int ack_now, peer_ack_exponent, forward_acks;
    /* Sent */
    struct pq_sent *ring;
    uint32_t ring_size;
    uint64_t base, next, eliciting_in_flight, in_flight;
    int64_t largest_acked;
    struct pq_slab *slabs;
    struct pq_frame *free_frames;
    /* Times */
    int64_t rtt, rtt_var, rtt_min, rtt_latest, first_rtt_at, peer_ack_delay;
    int64_t loss_at, last_eliciting_at, unanswered_since;
    uint32_t pto_count, probes;
    uint64_t packet_threshold;
    int time_threshold; /* eighths of a round trip */
    int measured;
    struct pq_cubic cubic;
    double pace_tokens;
    int64_t pace_at, pace_until;
    /* Path MTU */
    size_t mtu, mtu_max, mtu_base, mtu_low, mtu_high;
    int64_t mtu_at;
    uint32_t mtu_tries;
    int mtu_probe_flying;
    /* Flow control */
    uint64_t window, consumed, received, max_data, max_data_sent;
    uint64_t peer_max_data, sent_data;
    int max_data_pending, max_streams_pending, ping_pending, data_blocked_pending;
    int streams_blocked_pending;
    uint64_t own_stream_max, peer_stream_max_local, peer_stream_max_remote;
    uint64_t streams_max, peer_streams_closed, max_streams, next_peer_stream, next_stream;
    uint64_t peer_max_streams, data_blocked_at, streams_blocked_at;
    /* Streams */
    struct pq_stream **table;
    uint32_t table_size, stream_count, early_count;
    struct pq_queue urgent, bulk, blocked;
    struct pq_stream *control, *ready;
    struct pq_chunk *released; /* lent ones, of no use any more, whose owner is to be told */
    struct pq_stream *gathering; /* the last one that did, which it may go on with */
    uint32_t urgent_run, bulk_run;
    uint64_t queued_bytes;
    int more; /* a batch was full */
    /* What the owner is told */
    struct pq_piece *pieces;
    uint32_t piece_count, piece_room;
    struct pq_event *events;
    uint32_t event_count, event_room, foreign_count;
    int failed;
    uint64_t error, error_frame;
    const char *reason;
    /* Counters */
    uint64_t packets_sent, packets_received, packets_lost, packets_spurious, ptos, key_updates;
    uint64_t duplicates, memory;
};

/* The connection ends; the first reason counts. Returns 0, for `return pq_fail(...)`. */
static int pq_fail(struct pq_conn *c, uint64_t error, uint64_t frame, const char *reason) {
    if (!c->failed) {
        c->failed = 1;
        c->error = error;
        c->error_frame = frame;
        c->reason = reason;
    }
    return 0;
}

static int pq_no_memory(struct pq_conn *c) { return pq_fail(c, PQ_E_INTERNAL, 0, "no memory"); }

static struct pq_event *pq_event(struct pq_conn *c, int kind) {
    if (c->event_count == c->event_room) {
        uint32_t room = c->event_room ? 2 * c->event_room : 16;
        struct pq_event *events = realloc(c->events, room * sizeof *events);
        if (events == NULL) {
            pq_no_memory(c);
            return NULL;
        }
        c->events = events;
        c->event_room = room;
    }
    struct pq_event *event = &c->events[c->event_count++];
    memset(event, 0, sizeof *event);
    event->kind = kind;
    return event;
}

static struct pq_frame *pq_frame_new(struct pq_conn *c) {
    if (c->free_frames == NULL) {
        struct pq_slab *slab = malloc(sizeof *slab);
        if (slab == NULL) return NULL;
        slab->next = c->slabs;
        c->slabs = slab;
        for (int i = 0; i < PQ_SLAB; i++) {
            slab->frames[i].next = c->free_frames;
            c->free_frames = &slab->frames[i];
        }
    }
    struct pq_frame *frame = c->free_frames;
    c->free_frames = frame->next;
    memset(frame, 0, sizeof *frame);
    return frame;
}

static inline void pq_frame_free(struct pq_conn *c, struct pq_frame *frame) {
    frame->next = c->free_frames;
    c->free_frames = frame;
}

static inline struct pq_sent *pq_sent_at(const struct pq_conn *c, uint64_t number) {
    return &c->ring[number & (c->ring_size - 1)];
}

/* The timeout for a probe, without backoff (RFC 9002, 6.2.1). */
static inline int64_t pq_pto(const struct pq_conn *c) {
    int64_t spread = 4 * c->rtt_var;
    return c->rtt + (spread > PQ_MS ? spread : PQ_MS) + c->peer_ack_delay;
}

#endif
