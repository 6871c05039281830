/* A connection's data plane against a peer that has the keys and no manners.
 *
 * Bytes are read as a script: packets whose frames are any bytes at all, properly encrypted; frames
 * of every kind with odd numbers in them; datagrams that are noise; key updates; meanwhile an owner
 * that writes, resets, stops, consumes, and lets time pass. After each step what must always hold is
 * checked; at the end everything is given back, and the leak checker looks.
 *
 * With -DSTANDALONE it makes its scripts up, from a seed:   quic_fuzz SECONDS [SEED]
 * else it is libFuzzer's target:    clang -fsanitize=fuzzer,address,undefined quic_fuzz.c -lcrypto
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>

#include "quic_api.h"

enum { CID = 8, ROOMS = 64, TEXT_MAX = 1400, STREAMS = 20, WINDOW = 1 << 18, STEPS_MAX = 400 };

struct script {
    const uint8_t *at, *end;
};

static uint64_t number(struct script *s, int bytes) {
    uint64_t value = 0;
    while (bytes-- > 0) value = value << 8 | (s->at < s->end ? *s->at++ : 0);
    return value;
}

/* Mostly small, now and then of any size that a variable-length integer has. */
static uint64_t odd_number(struct script *s) {
    uint64_t kind = number(s, 1);
    if (kind < 160) return kind % 8;
    if (kind < 200) return number(s, 1);
    if (kind < 230) return number(s, 2);
    if (kind < 250) return number(s, 4);
    return number(s, 8) & PQ_VARINT_MAX;
}

static void broken(const char *what) {
    fprintf(stderr, "broken: %s\n", what);
    __builtin_trap();
}

struct world {
    struct pq_conn mine, peer; /* the peer's is used for its keys alone */
    uint8_t *rooms[ROOMS]; /* for what is gathered */
    int room_count;
    uint64_t peer_next, held;  /* bytes that the owner has and did not consume */
    int64_t now;
    uint8_t cids[PQ_CIDS_MAX][CID];
    uint64_t cid_count, manners; /* of 256 frames, as many are what a good peer might send */
};

static void open_both(struct world *w, struct script *s) {
    static const uint8_t one[48] = "one secret, as long as the longest there is ...",
                         two[48] = "another secret, as long as the longest there is";
    static const size_t sizes[][2] = {{1200, 1200}, {1200, 8952}, {1400, 1452}, {8900, 8900}};
    uint64_t bits = number(s, 2);
    struct pq_setup setup = {
        .is_client = bits & 1, .cipher = (int)(bits >> 1) % 3, .version = 1 + (bits >> 3 & 1),
        .send_secret = one, .receive_secret = two, .first_send_secret = one,
        .first_receive_secret = two, .next = 5, .window = WINDOW,
        .streams_max = STREAMS, .own_stream_max = WINDOW / 2, .peer_max_data = 3000,
        .peer_stream_max_local = 2000, .peer_stream_max_remote = 2500, .peer_streams_max = 3,
        .ack_exponent = (int)(bits >> 8) % 21, .now = 1000 * PQ_MS, .rtt = 10 * PQ_MS, .peer_ack_delay = 25 * PQ_MS,
        .mtu = sizes[bits >> 4 & 3][0], .mtu_max = sizes[bits >> 4 & 3][1]};
    struct pq_setup other = setup;
    other.is_client = !setup.is_client;
    other.send_secret = other.first_send_secret = two;
    other.receive_secret = other.first_receive_secret = one;
    memset(w, 0, sizeof *w);
    pq_gcm_off = bits >> 6 & 1;
    w->now = setup.now;
    w->manners = number(s, 1);
    if (w->manners > 64) w->manners = 256 - (w->manners & 7); /* one that is odd is the last */
    if (!pq_open_conn(&w->mine, &setup) || !pq_open_conn(&w->peer, &other)) broken("no connection");
    memset(w->cids[0], 0x11, CID);
    w->cid_count = 1;
    if (!pq_add_cid(&w->mine, 0, w->cids[0], CID)) broken("no connection id");
    pq_set_peer_cid(&w->mine, (const uint8_t *)"the peer", CID);
}

/* What quic.pyx does with what came: events and data are taken, streams settle. */
static void collect(struct world *w) {
    struct pq_conn *c = &w->mine;
    struct pq_stream *s;
    static volatile uint64_t sum; /* every byte that is told of is read */
    while ((s = c->ready) != NULL) {
        c->ready = s->ready_next;
        s->in_ready = 0;
        for (uint32_t i = s->piece_first; i != PQ_NO_PIECE; i = c->pieces[i].next) {
            struct pq_piece *piece = &c->pieces[i];
            for (uint32_t n = 0; n < piece->length; n++) sum += piece->data[n];
            w->held += piece->length;
            if (piece->chunk != NULL) pq_chunk_free(c, piece->chunk);
        }
        s->piece_first = s->piece_last = PQ_NO_PIECE;
        if (s->gather != NULL && (s->received_all || s->gather_at == s->gather_bytes)) {
            for (size_t n = 0; n < s->gather_at; n++) sum += s->gather[n];
            w->held += s->gather_at;
            pq_gather_end(c, s);
        }
        if (s->received_all) s->told_end = 1;
        pq_stream_settle(c, s);
    }
    c->piece_count = 0;
    for (uint32_t i = 0; i < c->event_count; i++)
        for (size_t n = 0; n < c->events[i].length; n++) sum += c->events[i].data[n];
    c->event_count = 0;
    c->foreign_count = 0;
}

/* What holds after whatever the peer has sent. */
static void take_back(struct pq_conn *c) {
    void *lent;
    while ((lent = pq_released(c)) != NULL) free(lent);
}

static void check(struct world *w) {
    struct pq_conn *c = &w->mine;
    uint64_t flying = 0, eliciting = 0, streams = 0, pieces = 0;
    if (c->received > c->max_data) broken("more came than the peer was allowed");
    if (c->sent_data > c->peer_max_data) broken("more was sent than the peer allows");
    if (c->seen.count > PQ_SEEN_MAX) broken("too many ranges of numbers are kept");
    if (c->early_count > PQ_EARLY_MAX) broken("too many pieces are kept");
    if (c->rtt <= 0 || c->rtt_var < 0) broken("a round trip that ends before it begins");
    if (!c->failed && w->held + c->consumed > c->received) broken("bytes from nowhere");
    for (uint32_t i = 0; i < c->seen.count; i++)
        if (c->seen.at[i].lo >= c->seen.at[i].hi ||
            (i && c->seen.at[i].lo <= c->seen.at[i - 1].hi))
            broken("ranges out of order");
    for (uint64_t n = c->base; n < c->next; n++) {
        const struct pq_sent *sent = pq_sent_at(c, n);
        if (sent->state != PQ_S_FLYING) continue;
        flying += sent->bytes;
        eliciting += sent->eliciting;
    }
    if (flying != c->in_flight || eliciting != c->eliciting_in_flight) broken("bytes in flight");
    for (uint32_t i = 0; i < c->table_size; i++)
        for (struct pq_stream *s = c->table[i]; s != NULL; s = s->chain) {
            streams++;
            if (s->base > s->sent || s->sent > s->end) broken("a stream's offsets");
            if (s->delivered > s->highest) broken("more was delivered than came");
            uint64_t early = 0, early_bytes = 0;
            for (struct pq_chunk *chunk = s->early; chunk != NULL; chunk = chunk->next) {
                early++;
                early_bytes += chunk->length;
            }
            pieces += early;
            if (early != s->early_count || early_bytes != s->early_bytes) broken("early pieces");
        }
    if (streams != c->stream_count) broken("the count of streams");
    if (pieces != c->early_count) broken("the count of pieces");
    if (streams > STREAMS * 2 + 400) broken("too many streams");
    if (c->cubic.window < c->mtu) broken("the congestion window is gone");
}

static void receive(struct world *w, uint8_t *datagram, size_t bytes, size_t segment) {
    uint8_t *exact = malloc(bytes ? bytes : 1); /* so that a byte too far is noticed */
    if (exact == NULL) return;
    memcpy(exact, datagram, bytes);
    if (!w->mine.failed && bytes) pq_receive(&w->mine, exact, bytes, segment, w->now);
    collect(w);
    free(exact);
}

/* The peer's packet around `n` bytes of frames that are at `packet` + 13. Its size. */
static size_t seal(struct world *w, struct script *s, uint8_t *packet, size_t n) {
    uint64_t odd = number(s, 1), taken = w->peer_next++;
    if (odd >= 240) taken -= odd - 240 < taken ? odd - 240 : 0; /* a duplicate, or a late one */
    if (odd >= 200 && odd < 220) w->peer_next = taken += (odd - 199) * 37;
    packet[0] = PQ_FIXED | 3;
    if (odd >= 220 && odd < 222) packet[0] |= PQ_RESERVED;
    memcpy(packet + 1, w->cids[odd % w->cid_count], CID);
    for (int i = 0; i < 4; i++) packet[1 + CID + i] = (uint8_t)(taken >> (24 - 8 * i));
    if (!pq_seal_packet(&w->peer, packet, 1 + CID + 4, n, taken)) broken("not encrypted");
    return 1 + CID + 4 + n + PQ_TAG;
}

/* One frame that a good peer might send now, so that a script gets far. */
static uint8_t *good_frame(struct world *w, struct script *s, uint8_t *p, uint8_t *end) {
    struct pq_conn *c = &w->mine;
    uint64_t kind = number(s, 1) % 10, more = number(s, 1), peers = number(s, 1) % STREAMS;
    uint64_t id = peers << 2 | (uint64_t)c->is_client;
    struct pq_stream *chosen = pq_stream_find(c, id);
    if (end - p < 300) return p;
    if (kind < 2 && c->next > 5) { /* an ACK of what is out, all of it or some */
        uint64_t largest = c->next - 1 - (more < 128 ? 0 : more % (c->next - 5));
        uint64_t run = number(s, 1) % (largest + 1);
        *p++ = PQ_F_ACK;
        p = pq_put_varint(pq_put_varint(p, largest), more);
        return pq_put_varint(pq_put_varint(p, 0), run);
    }
    if (kind < 6 || chosen == NULL) { /* the next bytes of a stream, or some before or after */
        uint64_t highest = chosen == NULL ? 0 : chosen->highest;
        uint64_t back = number(s, 1) % 64, offset = highest > back ? highest - back : 0;
        if (kind == 5) offset += 100;
        if (chosen != NULL && chosen->final_size != PQ_UNKNOWN) offset = highest - (more = 0);
        if (c->max_data_sent - c->received < 600) more = 0;
        *p++ = (uint8_t)(PQ_F_STREAM | 6 | (number(s, 1) > 240));
        p = pq_put_varint(pq_put_varint(pq_put_varint(p, id), offset), more);
        memset(p, (int)id, more);
        return p + more;
    }
    if (kind == 6) {
        *p++ = PQ_F_MAX_DATA;
        return pq_put_varint(p, c->peer_max_data + more * 64);
    }
    if (kind == 7 && c->next_stream) {
        *p++ = PQ_F_MAX_STREAM_DATA;
        p = pq_put_varint(p, (peers % c->next_stream) << 2 | !c->is_client);
        return pq_put_varint(p, 2000 + more * 256);
    }
    if (kind == 8) {
        *p++ = PQ_F_MAX_STREAMS;
        return pq_put_varint(p, c->peer_max_streams + (more & 1));
    }
    *p++ = more & 1 ? PQ_F_RESET_STREAM : PQ_F_STOP_SENDING;
    p = pq_put_varint(pq_put_varint(p, id), more);
    return more & 1 ? pq_put_varint(p, chosen->highest) : p;
}

/* One frame of a kind that there is, with odd numbers. */
static uint8_t *frame(struct world *w, struct script *s, uint8_t *p, uint8_t *end) {
    static const struct {
        uint8_t type, numbers;
    } kinds[] = {{0x01, 0}, {0x02, 4}, {0x03, 7}, {0x04, 3}, {0x05, 2}, {0x08, 2}, {0x0a, 2},
                 {0x0e, 3}, {0x0f, 3}, {0x0b, 2}, {0x10, 1}, {0x11, 2}, {0x12, 1}, {0x13, 1},
                 {0x14, 1}, {0x15, 2}, {0x16, 1}, {0x17, 1}, {0x18, 3}, {0x19, 1}, {0x1a, 1},
                 {0x1c, 3}, {0x1d, 2}, {0x1e, 0}, {0x06, 2}, {0x07, 1}};
    uint64_t kind = number(s, 1);
    int type = kinds[kind % (sizeof kinds / sizeof *kinds)].type;
    int numbers = kinds[kind % (sizeof kinds / sizeof *kinds)].numbers;
    if (end - p < 80) return p;
    *p++ = (uint8_t)type;
    if (type >= 0x08 && type <= 0x0f) { /* as a STREAM frame should be: it gets further */
        uint64_t id = odd_number(s) << 2 | (number(s, 1) & 3);
        uint64_t offset = type & 4 ? odd_number(s) * 100 : 0, n = number(s, 1);
        if (n > (uint64_t)(end - p) - 40) n = (uint64_t)(end - p) - 40;
        p = pq_put_varint(p, id);
        if (type & 4) p = pq_put_varint(p, offset & PQ_VARINT_MAX);
        if (type & 2) p = pq_put_varint(p, n);
        memset(p, (int)id, n);
        return p + n;
    }
    if (type == 0x02 && kind >= 128) { /* an ACK of what is out */
        uint64_t back = number(s, 1), run = number(s, 1), next = w->mine.next;
        uint64_t largest = next > back + 1 ? next - 1 - back : 0;
        p = pq_put_varint(pq_put_varint(p, largest), odd_number(s));
        return pq_put_varint(pq_put_varint(p, 0), run < largest ? run : largest);
    }
    while (numbers-- > 0) p = pq_put_varint(p, odd_number(s));
    return p;
}

static size_t packet(struct world *w, struct script *s, uint8_t *out, int kind) {
    uint8_t *text = out + 1 + CID + 4, *end = text + TEXT_MAX, *p = text;
    if (kind == 0) { /* any bytes at all */
        for (uint64_t n = number(s, 1) * 4; n > 0 && s->at < s->end; n--) *p++ = *s->at++;
    } else {
        for (uint64_t n = 1 + number(s, 1) % 6; n > 0; n--)
            p = number(s, 1) < w->manners ? good_frame(w, s, p, end) : frame(w, s, p, end);
    }
    while (p < text + 4) *p++ = 0;
    return seal(w, s, out, (size_t)(p - text));
}

static struct pq_stream *stream(struct world *w, struct script *s) {
    return pq_stream_find(&w->mine, odd_number(s) << 2 | (number(s, 1) & 1));
}

static void owner(struct world *w, struct script *s) {
    static const uint8_t data[1 << 16];
    static uint8_t out[PQ_BATCH];
    struct pq_conn *c = &w->mine;
    struct pq_stream *chosen;
    size_t segment;
    uint64_t n;
    switch (number(s, 1) % 11) {
    case 10:
        chosen = stream(w, s);
        n = number(s, 2) + 1;
        if (chosen == NULL || chosen->gather != NULL || chosen->stop || chosen->received_all ||
            w->room_count == ROOMS)
            break;
        uint8_t *room = w->rooms[w->room_count++] = malloc(n); /* what is beyond is found out */
        if (room == NULL) broken("no memory");
        pq_gather(c, chosen, room, 0, n);
        break;
    case 0:
        if (c->next_stream < c->peer_max_streams && c->next_stream < 1000 && c->stream_count < 200)
            pq_stream_new(c, c->next_stream++ << 2 | !c->is_client);
        break;
    case 1:
    case 2:
        if ((chosen = stream(w, s)) == NULL || !pq_can_write(chosen)) break;
        if (!chosen->queued) chosen->urgent = number(s, 1) & 1;
        n = number(s, 2);
        if (n == 0 || number(s, 1) & 1) {
            pq_stream_write(c, chosen, data, n, number(s, 1) & 1);
        } else { /* from a place of its own, which is gone once it is released */
            uint8_t *lent = malloc(n);
            memcpy(lent, data, n);
            pq_stream_lend(c, chosen, lent, n, number(s, 1) & 1, lent);
        }
        break;
    case 3:
        if ((chosen = stream(w, s)) != NULL) pq_stream_reset(c, chosen, odd_number(s));
        break;
    case 4:
        if ((chosen = stream(w, s)) != NULL) pq_stop(c, chosen, odd_number(s));
        break;
    case 5:
        n = number(s, 2);
        if (n > w->held) n = w->held;
        w->held -= n;
        pq_consume(c, n);
        break;
    case 6:
        w->now += (int64_t)number(s, 2) * 10000;
        if (!c->failed && w->now >= pq_timeout(c)) pq_recovery_due(c, w->now);
        break;
    case 7:
        if (w->cid_count < PQ_CIDS_MAX) {
            memset(w->cids[w->cid_count], (int)(0x20 + w->cid_count), CID);
            pq_add_cid(c, w->cid_count, w->cids[w->cid_count], CID);
            w->cid_count++;
        } else {
            pq_remove_cid(c, number(s, 1) % PQ_CIDS_MAX);
        }
        break;
    case 8:
        if (number(s, 1) & 1) c->update_wanted = 1;
        else c->ping_pending = 1;
        c->forward_acks = number(s, 1) & 1;
        break;
    default:
        break;
    }
    for (int i = 0; i < 4 && pq_send(c, out, sizeof out, &segment, w->now); i++) {}
}

/* The peer goes on to its next keys. */
static void update(struct world *w) {
    struct pq_key next = {0};
    if (!pq_key_next(&w->peer.send_suite, &w->peer.send_key, &next)) broken("no next key");
    pq_key_free(&w->peer.send_key);
    w->peer.send_key = next;
    w->peer.send_phase ^= 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static uint8_t datagram[4 * 2048];
    static struct world w;
    struct script s = {data, data + bytes};
    size_t n, second;
    open_both(&w, &s);
    for (int steps = 0; s.at < s.end && steps < STEPS_MAX; steps++) {
        uint64_t kind = number(&s, 1) % 16;
        if (kind < 3 && number(&s, 1) >= w.manners) {
            receive(&w, datagram, packet(&w, &s, datagram, 0), 0);
        } else if (kind < 8) {
            receive(&w, datagram, packet(&w, &s, datagram, 1), 0);
        } else if (kind == 8) { /* several in one, as GRO gives them, and not all of one size */
            n = packet(&w, &s, datagram, 1);
            second = packet(&w, &s, datagram + n, 1);
            receive(&w, datagram, n + second, number(&s, 1) < 200 ? n : 1 + number(&s, 2) % 2000);
        } else if (kind == 9) { /* noise, to a connection id that there is or not */
            for (n = 0; n < 1 + number(&s, 1) % 200 && s.at < s.end; n++) datagram[n] = *s.at++;
            if (n > 1 + CID && (n & 1)) memcpy(datagram + 1, w.cids[0], CID);
            if (n > 1 + CID && (n & 2)) datagram[0] = PQ_FIXED | (datagram[0] & 0x3f);
            receive(&w, datagram, n, 0);
        } else if (kind == 10) { /* damage on the way */
            n = packet(&w, &s, datagram, 1);
            datagram[number(&s, 2) % n] ^= (uint8_t)(1 + number(&s, 1) % 255);
            receive(&w, datagram, n - number(&s, 1) % 3, 0);
        } else if (kind == 11 && number(&s, 1) < 64) {
            update(&w);
        } else {
            owner(&w, &s);
        }
        take_back(&w.mine);
        check(&w);
    }
    pq_close_conn(&w.mine);
    take_back(&w.mine);
    while (w.room_count) free(w.rooms[--w.room_count]);
    pq_close_conn(&w.peer);
    if (w.mine.memory != 0) broken("memory that is not given back");
    return 0;
}

#ifdef STANDALONE
static uint64_t state, seed;

void __sanitizer_set_death_callback(void (*callback)(void));

static void say_seed(void) { fprintf(stderr, "seed %lu\n", seed); }

static uint64_t drawn(void) { /* xorshift64*: the same scripts on every machine */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(2685821657736338717);
}

int main(int argc, char **argv) {
    static uint8_t script[1 << 14];
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct timespec began, now;
    clock_gettime(CLOCK_MONOTONIC, &began);
    __sanitizer_set_death_callback(say_seed);
    seed = first;
    do {
        state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
        size_t bytes = 16 + drawn() % (drawn() % 8 ? 600 : sizeof script - 16);
        for (size_t i = 0; i < bytes; i++) script[i] = (uint8_t)(drawn() >> 32);
        LLVMFuzzerTestOneInput(script, bytes);
        seed++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) / 1e9 <
             seconds);
    printf("%lu scripts from seed %lu on, nothing found\n", seed - first, first);
    return 0;
}
#endif
