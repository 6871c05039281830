/* Streams: their table, what is written to them, what came for them (RFC 9000, 2 to 4). A stream
 * leaves the table when both halves are done; what comes for it later is ignored. */
#ifndef PREDASTORE_QUIC_STREAMS_H
#define PREDASTORE_QUIC_STREAMS_H

#include "quic_memory.h"

static struct pq_stream *pq_stream_find(const struct pq_conn *c, uint64_t id) {
    struct pq_stream *s = c->table[(id >> 2) & (c->table_size - 1)];
    while (s != NULL && s->id != id) s = s->chain;
    return s;
}

static inline int pq_is_own(const struct pq_conn *c, uint64_t id) {
    return (int)(id & 1) == !c->is_client;
}

static int pq_table_grow(struct pq_conn *c) {
    uint32_t size = 2 * c->table_size;
    struct pq_stream **table = calloc(size, sizeof *table);
    if (table == NULL) return 0;
    for (uint32_t i = 0; i < c->table_size; i++) {
        for (struct pq_stream *s = c->table[i], *chain; s != NULL; s = chain) {
            chain = s->chain;
            s->chain = table[(s->id >> 2) & (size - 1)];
            table[(s->id >> 2) & (size - 1)] = s;
        }
    }
    free(c->table);
    c->table = table;
    c->table_size = size;
    return 1;
}

static struct pq_stream *pq_stream_new(struct pq_conn *c, uint64_t id) {
    if (c->stream_count >= c->table_size && !pq_table_grow(c)) return NULL;
    struct pq_stream *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->id = id;
    s->limit = pq_is_own(c, id) ? c->peer_stream_max_remote : c->peer_stream_max_local;
    s->final_size = PQ_UNKNOWN;
    s->piece_first = s->piece_last = PQ_NO_PIECE;
    s->chain = c->table[(id >> 2) & (c->table_size - 1)];
    c->table[(id >> 2) & (c->table_size - 1)] = s;
    c->stream_count++;
    c->memory += sizeof *s;
    return s;
}

/* Queues */

static void pq_enqueue(struct pq_conn *c, struct pq_stream *s) {
    if (s->queued || s->blocked) return;
    struct pq_queue *q = s->urgent ? &c->urgent : &c->bulk;
    s->queued = 1;
    s->queue_next = NULL;
    if (q->last != NULL)
        q->last->queue_next = s;
    else
        q->first = s;
    q->last = s;
}

static void pq_dequeue(struct pq_queue *q) {
    struct pq_stream *s = q->first;
    q->first = s->queue_next;
    if (q->first == NULL) q->last = NULL;
    s->queued = 0;
}

static void pq_queue_remove(struct pq_queue *q, struct pq_stream *s) {
    struct pq_stream **link = &q->first, *before = NULL;
    while (*link != NULL && *link != s) {
        before = *link;
        link = &before->queue_next;
    }
    if (*link == NULL) return;
    *link = s->queue_next;
    if (q->last == s) q->last = before;
}

static void pq_control(struct pq_conn *c, struct pq_stream *s) {
    if (s->in_control) return;
    s->in_control = 1;
    s->control_next = c->control;
    c->control = s;
}

/* The connection's limit rose: those that waited for it go on. */
static void pq_unblock(struct pq_conn *c) {
    while (c->blocked.first != NULL) {
        struct pq_stream *s = c->blocked.first;
        c->blocked.first = s->queue_next;
        s->blocked = 0;
        pq_enqueue(c, s);
    }
    c->blocked.last = NULL;
}

/* The end of a stream */

static int pq_send_done(const struct pq_stream *s) {
    return s->reset ? s->reset_acked : s->fin && s->fin_acked && s->base == s->end;
}

static void pq_gather_end(struct pq_conn *c, struct pq_stream *s) {
    if (s->gather != NULL) c->memory -= s->gather_bytes;
    s->gather = NULL;
    if (c->gathering == s) c->gathering = NULL;
}

static void pq_stream_free(struct pq_conn *c, struct pq_stream *s) {
    if (s->queued) pq_queue_remove(s->urgent ? &c->urgent : &c->bulk, s);
    if (s->blocked) pq_queue_remove(&c->blocked, s);
    for (struct pq_stream **link = &c->control; s->in_control && *link != NULL;
         link = &(*link)->control_next) {
        if (*link == s) {
            *link = s->control_next;
            break;
        }
    }
    pq_chunks_free(c, &s->first);
    pq_chunks_free(c, &s->early);
    pq_gather_end(c, s);
    pq_ranges_free(&s->lost);
    pq_ranges_free(&s->acked);
    c->memory -= sizeof *s;
    free(s);
}

/* Takes the stream out if both halves are done. `s` may be gone after this. */
static void pq_stream_settle(struct pq_conn *c, struct pq_stream *s) {
    if (!s->told_end || s->in_ready || !pq_send_done(s)) return;
    struct pq_stream **link = &c->table[(s->id >> 2) & (c->table_size - 1)];
    while (*link != s) link = &(*link)->chain;
    *link = s->chain;
    c->stream_count--;
    if (!pq_is_own(c, s->id)) {
        uint64_t step = c->streams_max / 8 ? c->streams_max / 8 : 1;
        c->peer_streams_closed++;
        if (c->peer_streams_closed + c->streams_max >= c->max_streams + step) {
            c->max_streams = c->peer_streams_closed + c->streams_max;
            c->max_streams_pending = 1;
        }
    }
    pq_stream_free(c, s);
}

/* Writing */

static int pq_can_write(const struct pq_stream *s) { return !s->fin && !s->reset; }

static void pq_stream_append(struct pq_conn *c, struct pq_stream *s, struct pq_chunk *chunk) {
    if (s->last != NULL)
        s->last->next = chunk;
    else
        s->first = chunk;
    s->last = chunk;
    if (s->cursor == NULL) s->cursor = chunk;
    s->end += chunk->length;
    c->queued_bytes += chunk->length;
}

static int pq_stream_write(struct pq_conn *c, struct pq_stream *s, const uint8_t *data, size_t n,
                           int fin) {
    while (n) {
        size_t some = n < PQ_CHUNK ? n : PQ_CHUNK;
        struct pq_chunk *chunk = pq_chunk_new(c, s->end, some);
        if (chunk == NULL) return 0;
        memcpy(chunk->data, data, some);
        pq_stream_append(c, s, chunk);
        data += some;
        n -= some;
    }
    s->fin |= (uint8_t)fin;
    pq_enqueue(c, s);
    return 1;
}

/* As pq_stream_write, for bytes that stay as they are until `owner` is released. */
static int pq_stream_lend(struct pq_conn *c, struct pq_stream *s, const uint8_t *data, size_t n,
                          int fin, void *owner) {
    struct pq_chunk *chunk = pq_chunk_lent(c, s->end, data, n, owner);
    if (chunk == NULL) return 0;
    pq_stream_append(c, s, chunk);
    s->fin |= (uint8_t)fin;
    pq_enqueue(c, s);
    return 1;
}

/* Where [offset, offset + n) of what was written lies in one piece; NULL if it does not. */
static const uint8_t *pq_stream_view(struct pq_stream *s, uint64_t offset, size_t n) {
    struct pq_chunk *chunk = s->cursor != NULL && s->cursor->offset <= offset ? s->cursor : s->first;
    while (chunk->offset + chunk->length <= offset) chunk = chunk->next;
    size_t from = (size_t)(offset - chunk->offset);
    if (chunk->length - from < n) return NULL;
    if (offset >= s->sent) s->cursor = chunk;
    return chunk->at + from;
}

/* Copies [offset, offset + n) of what was written; it is all there. */
static void pq_stream_copy(struct pq_stream *s, uint64_t offset, uint8_t *out, size_t n) {
    struct pq_chunk *chunk = s->cursor != NULL && s->cursor->offset <= offset ? s->cursor : s->first;
    while (n) {
        while (chunk->offset + chunk->length <= offset) chunk = chunk->next;
        size_t from = (size_t)(offset - chunk->offset), some = chunk->length - from;
        if (some > n) some = n;
        memcpy(out, chunk->at + from, some);
        out += some;
        offset += some;
        n -= some;
    }
    if (offset >= s->sent) s->cursor = chunk;
}

static void pq_stream_acked(struct pq_conn *c, struct pq_stream *s, uint64_t offset, uint64_t n,
                            int fin) {
    if (fin) {
        s->fin_acked = 1;
        s->fin_lost = 0;
    }
    uint64_t end = offset + n;
    if (end > s->base && n) {
        pq_ranges_remove(&s->lost, offset, end);
        if (offset <= s->base) {
            s->base = end;
            while (s->acked.count && s->acked.at[0].lo <= s->base) {
                if (s->acked.at[0].hi > s->base) s->base = s->acked.at[0].hi;
                pq_ranges_drop(&s->acked, 0, 1);
            }
        } else if (!pq_ranges_add(&s->acked, offset, end)) {
            pq_no_memory(c);
        }
        while (s->first != NULL && s->first->offset + s->first->length <= s->base) {
            struct pq_chunk *chunk = s->first;
            s->first = chunk->next;
            if (s->cursor == chunk) s->cursor = chunk->next;
            pq_chunk_free(c, chunk);
        }
        if (s->first == NULL) s->last = NULL;
    }
    pq_stream_settle(c, s);
}

static void pq_stream_lost(struct pq_conn *c, struct pq_stream *s, uint64_t offset, uint64_t n,
                           int fin) {
    if (s->reset) return;
    if (fin && !s->fin_acked) s->fin_lost = 1;
    uint64_t end = offset + n, start = offset > s->base ? offset : s->base;
    if (start < end && !pq_ranges_add_except(&s->lost, start, end, &s->acked)) pq_no_memory(c);
    if (s->lost.count == 0 && !s->fin_lost) return;
    if (s->blocked) { /* by what it has not sent yet; this goes before */
        pq_queue_remove(&c->blocked, s);
        s->blocked = 0;
    }
    pq_enqueue(c, s);
}

/* Gives the sending half up; what is not acknowledged is dropped. */
static void pq_stream_reset(struct pq_conn *c, struct pq_stream *s, uint64_t code) {
    if (s->reset || pq_send_done(s)) return;
    s->reset = s->reset_pending = 1;
    s->reset_code = code;
    s->reset_size = s->sent;
    c->queued_bytes -= s->end - s->sent;
    pq_chunks_free(c, &s->first);
    s->last = s->cursor = NULL;
    s->base = s->end = s->sent;
    pq_ranges_free(&s->lost);
    pq_ranges_free(&s->acked);
    pq_control(c, s);
}

/* Receiving */

static void pq_consume(struct pq_conn *c, uint64_t n) {
    c->consumed += n;
    if (c->consumed + c->window >= c->max_data + c->window / 8) {
        c->max_data = c->consumed + c->window;
        c->max_data_pending = 1;
    }
}

static void pq_ready(struct pq_conn *c, struct pq_stream *s) {
    if (s->in_ready) return;
    s->in_ready = 1;
    s->ready_next = c->ready;
    c->ready = s;
}

/* The stream's next bytes, up to `n`, go to `room`, whose first `at` are there already. */
static void pq_gather(struct pq_conn *c, struct pq_stream *s, uint8_t *room, size_t at, size_t n) {
    s->gather = room;
    s->gather_bytes = n;
    s->gather_at = at;
    c->memory += n;
}

/* What was gathered will not be delivered. */
static void pq_gather_drop(struct pq_conn *c, struct pq_stream *s) {
    if (s->gather != NULL) pq_consume(c, s->gather_at);
    pq_gather_end(c, s);
}

/* How many of the bytes are gathered. */
static size_t pq_gathered(struct pq_conn *c, struct pq_stream *s, const uint8_t *data, size_t n) {
    if (s->gather == NULL) return 0;
    size_t room = s->gather_bytes - s->gather_at;
    if (n > room) n = room;
    uint8_t *to = s->gather + s->gather_at;
    if (data != to) memcpy(to, data, n); /* else it was decrypted there */
    c->gathering = s;
    s->gather_at += n;
    s->delivered += n;
    if (n == room) pq_ready(c, s);
    return n;
}

static int pq_piece(struct pq_conn *c, struct pq_stream *s, const uint8_t *data, size_t n,
                    struct pq_chunk *chunk) {
    size_t gathered = pq_gathered(c, s, data, n);
    if (gathered == n) {
        if (chunk != NULL) pq_chunk_free(c, chunk);
        return 1;
    }
    data += gathered;
    n -= gathered;
    if (c->piece_count == c->piece_room) {
        uint32_t room = c->piece_room ? 2 * c->piece_room : 64;
        struct pq_piece *pieces = realloc(c->pieces, room * sizeof *pieces);
        if (pieces == NULL) return pq_no_memory(c);
        c->pieces = pieces;
        c->piece_room = room;
    }
    uint32_t index = c->piece_count++;
    c->pieces[index] = (struct pq_piece){data, (uint32_t)n, PQ_NO_PIECE, chunk};
    if (s->piece_last != PQ_NO_PIECE)
        c->pieces[s->piece_last].next = index;
    else
        s->piece_first = index;
    s->piece_last = index;
    s->delivered += n;
    pq_ready(c, s);
    return 1;
}

/* Keeps what of [offset, offset + n) has not come yet. */
static int pq_early_add(struct pq_conn *c, struct pq_stream *s, uint64_t offset,
                        const uint8_t *data, size_t n) {
    struct pq_chunk *before = NULL;
    if (s->early_last != NULL && s->early_last->offset + s->early_last->length <= offset)
        before = s->early_last;
    struct pq_chunk *after = before != NULL ? NULL : s->early;
    while (n) {
        while (after != NULL && after->offset + after->length <= offset) {
            before = after;
            after = after->next;
        }
        if (after != NULL && after->offset <= offset) { /* it has the first bytes */
            uint64_t skip = after->offset + after->length - offset;
            if (skip >= n) return 1;
            offset += skip;
            data += skip;
            n -= (size_t)skip;
            continue;
        }
        size_t some = n;
        if (after != NULL && after->offset < offset + n) some = (size_t)(after->offset - offset);
        if (c->early_count >= PQ_EARLY_MAX ||
            s->early_count >= PQ_EARLY_SPARE + s->early_bytes / PQ_EARLY_BYTES)
            return pq_fail(c, PQ_E_INTERNAL, PQ_F_STREAM, "too many pieces out of order");
        struct pq_chunk *chunk = pq_chunk_new(c, offset, some);
        if (chunk == NULL) return pq_no_memory(c);
        memcpy(chunk->data, data, some);
        c->early_count++;
        s->early_count++;
        s->early_bytes += some;
        chunk->next = after;
        if (before != NULL)
            before->next = chunk;
        else
            s->early = chunk;
        if (after == NULL) s->early_last = chunk;
        before = chunk;
        offset += some;
        data += some;
        n -= some;
    }
    return 1;
}

static void pq_early_drop(struct pq_conn *c, struct pq_stream *s) {
    c->early_count -= s->early_count;
    s->early_count = 0;
    s->early_bytes = 0;
    pq_chunks_free(c, &s->early);
    s->early_last = NULL;
}

/* The receiving half ends without its data; what was not delivered is consumed. */
static void pq_receive_cut(struct pq_conn *c, struct pq_stream *s) {
    s->received_all = s->told_end = 1;
    pq_early_drop(c, s);
    pq_gather_drop(c, s);
    pq_consume(c, s->highest - s->delivered);
    s->delivered = s->highest;
}

/* Bytes that came, checked already. */
static int pq_stream_data(struct pq_conn *c, struct pq_stream *s, uint64_t offset,
                          const uint8_t *data, size_t n) {
    uint64_t end = offset + n;
    if (offset <= s->delivered && end > s->delivered) {
        size_t skip = (size_t)(s->delivered - offset);
        if (!pq_piece(c, s, data + skip, n - skip, NULL)) return 0;
        while (s->early != NULL && s->early->offset <= s->delivered) {
            struct pq_chunk *chunk = s->early;
            s->early = chunk->next;
            if (s->early == NULL) s->early_last = NULL;
            c->early_count--;
            s->early_count--;
            s->early_bytes -= chunk->length;
            uint64_t stop = chunk->offset + chunk->length;
            if (stop <= s->delivered) {
                pq_chunk_free(c, chunk);
                continue;
            }
            size_t from = (size_t)(s->delivered - chunk->offset);
            if (!pq_piece(c, s, chunk->data + from, chunk->length - from, chunk)) {
                pq_chunk_free(c, chunk);
                return 0;
            }
        }
    } else if (end > s->delivered && !pq_early_add(c, s, offset, data, n)) {
        return 0;
    }
    if (s->delivered == s->final_size) {
        s->received_all = 1;
        pq_ready(c, s);
    }
    return 1;
}

#endif
