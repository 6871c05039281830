/* Frames that come. What is malformed ends the connection (pq_fail) and touches nothing else. */
#ifndef PREDASTORE_QUIC_FRAMES_H
#define PREDASTORE_QUIC_FRAMES_H

#include "quic_recovery.h"

/* Streams */

/* The stream that a frame names: 1, 0 on a violation, or -1 if it is done with. */
static int pq_stream_named(struct pq_conn *c, uint64_t id, uint64_t frame, struct pq_stream **s) {
    if (id & 2)
        return pq_fail(c, pq_is_own(c, id) ? PQ_E_STREAM_STATE : PQ_E_STREAM_LIMIT, frame,
                       "no unidirectional streams here");
    uint64_t index = id >> 2;
    if (pq_is_own(c, id)) {
        if (index >= c->next_stream)
            return pq_fail(c, PQ_E_STREAM_STATE, frame, "a stream that was not opened");
    } else {
        if (index >= c->max_streams)
            return pq_fail(c, PQ_E_STREAM_LIMIT, frame, "too many streams");
        for (; c->next_peer_stream <= index; c->next_peer_stream++)
            if (pq_stream_new(c, c->next_peer_stream << 2 | (id & 3)) == NULL)
                return pq_no_memory(c);
    }
    *s = pq_stream_find(c, id);
    return *s != NULL ? 1 : -1;
}

/* The stream reaches up to `end`, and no further if `final`. */
static int pq_stream_reach(struct pq_conn *c, struct pq_stream *s, uint64_t end, int final,
                           uint64_t frame) {
    if (s->final_size != PQ_UNKNOWN && (end > s->final_size || (final && end != s->final_size)))
        return pq_fail(c, PQ_E_FINAL_SIZE, frame, "data beyond the final size");
    if (final && end < s->highest)
        return pq_fail(c, PQ_E_FINAL_SIZE, frame, "a final size below what came");
    if (end > s->highest) {
        uint64_t more = end - s->highest;
        if (end > c->own_stream_max)
            return pq_fail(c, PQ_E_FLOW_CONTROL, frame, "over the stream's limit");
        if (more > c->max_data_sent - c->received)
            return pq_fail(c, PQ_E_FLOW_CONTROL, frame, "over the connection's limit");
        c->received += more;
        s->highest = end;
    }
    if (final) s->final_size = end;
    return 1;
}

/* Nobody reads the stream any more: what comes is consumed. */
static void pq_stream_skip(struct pq_conn *c, struct pq_stream *s) {
    pq_gather_drop(c, s);
    pq_consume(c, s->highest - s->delivered);
    s->delivered = s->highest;
    if (s->final_size != PQ_UNKNOWN) {
        s->received_all = s->told_end = 1;
        pq_stream_settle(c, s);
    }
}

static int pq_stream_frame(struct pq_conn *c, struct pq_in *in, uint64_t type) {
    struct pq_stream *s;
    uint64_t id, offset = 0, length;
    if (!pq_varint(in, &id) || ((type & 4) && !pq_varint(in, &offset)))
        return pq_fail(c, PQ_E_FRAME_ENCODING, type, "a STREAM frame that is cut short");
    length = pq_left(in);
    if ((type & 2) && (!pq_varint(in, &length) || length > pq_left(in)))
        return pq_fail(c, PQ_E_FRAME_ENCODING, type, "a STREAM frame that is cut short");
    const uint8_t *data = in->at;
    in->at += length;
    if (offset > PQ_VARINT_MAX - length)
        return pq_fail(c, PQ_E_FRAME_ENCODING, type, "a stream that is too long");
    int found = pq_stream_named(c, id, type, &s);
    if (found <= 0) return found;
    if (!pq_stream_reach(c, s, offset + length, type & 1, type)) return 0;
    if (s->received_all) return 1;
    if (s->stop) {
        pq_stream_skip(c, s);
        return 1;
    }
    return pq_stream_data(c, s, offset, data, (size_t)length);
}

static int pq_reset_frame(struct pq_conn *c, struct pq_in *in) {
    struct pq_stream *s;
    uint64_t id, code, size;
    if (!pq_varint(in, &id) || !pq_varint(in, &code) || !pq_varint(in, &size))
        return pq_fail(c, PQ_E_FRAME_ENCODING, PQ_F_RESET_STREAM, "a frame that is cut short");
    int found = pq_stream_named(c, id, PQ_F_RESET_STREAM, &s);
    if (found <= 0) return found;
    if (!pq_stream_reach(c, s, size, 1, PQ_F_RESET_STREAM)) return 0;
    if (s->received_all) return 1;
    struct pq_event *event = s->stop ? NULL : pq_event(c, PQ_V_RESET);
    if (event != NULL) {
        event->number = id;
        event->value = code;
    }
    pq_receive_cut(c, s);
    pq_stream_settle(c, s);
    return 1;
}

static int pq_stop_frame(struct pq_conn *c, struct pq_in *in) {
    struct pq_stream *s;
    uint64_t id, code;
    if (!pq_varint(in, &id) || !pq_varint(in, &code))
        return pq_fail(c, PQ_E_FRAME_ENCODING, PQ_F_STOP_SENDING, "a frame that is cut short");
    int found = pq_stream_named(c, id, PQ_F_STOP_SENDING, &s);
    if (found <= 0) return found;
    if (s->reset || pq_send_done(s)) return 1;
    pq_stream_reset(c, s, code);
    struct pq_event *event = pq_event(c, PQ_V_STOP);
    if (event != NULL) {
        event->number = id;
        event->value = code;
    }
    return 1;
}

/* MAX_DATA and its kin, and what the peer calls itself blocked by. */
static int pq_limit_frame(struct pq_conn *c, struct pq_in *in, uint64_t type) {
    struct pq_stream *s;
    uint64_t id = 0, limit;
    int of_stream = type == PQ_F_MAX_STREAM_DATA || type == PQ_F_STREAM_DATA_BLOCKED;
    if ((of_stream && !pq_varint(in, &id)) || !pq_varint(in, &limit))
        return pq_fail(c, PQ_E_FRAME_ENCODING, type, "a frame that is cut short");
    if (type == PQ_F_MAX_DATA && limit > c->peer_max_data) {
        c->peer_max_data = limit;
        pq_unblock(c);
    } else if (of_stream) {
        int found = pq_stream_named(c, id, type, &s);
        if (found <= 0) return found;
        if (type == PQ_F_MAX_STREAM_DATA && limit > s->limit) {
            s->limit = limit;
            if (s->sent < s->end) pq_enqueue(c, s);
        }
    } else if (type != PQ_F_MAX_DATA && type != PQ_F_DATA_BLOCKED) {
        if (limit > UINT64_C(1) << 60)
            return pq_fail(c, PQ_E_FRAME_ENCODING, type, "too many streams");
        if (type == PQ_F_MAX_STREAMS && limit > c->peer_max_streams) c->peer_max_streams = limit;
    }
    return 1;
}

/* Skips a frame that the owner handles; 0 if it is cut short or unknown. */
static int pq_skip(struct pq_in *in, uint64_t type) {
    uint64_t value, length = 0;
    switch (type) {
    case PQ_F_CRYPTO:
        if (!pq_varint(in, &value)) return 0;
        /* fall through */
    case PQ_F_NEW_TOKEN:
        if (!pq_varint(in, &length)) return 0;
        break;
    case PQ_F_NEW_CONNECTION_ID:
        if (!pq_varint(in, &value) || !pq_varint(in, &value) || pq_left(in) < 1) return 0;
        length = (uint64_t)*in->at++ + 16;
        break;
    case PQ_F_RETIRE_CONNECTION_ID:
        return pq_varint(in, &value);
    case PQ_F_PATH_CHALLENGE:
    case PQ_F_PATH_RESPONSE:
        length = 8;
        break;
    case PQ_F_CLOSE:
        if (!pq_varint(in, &value)) return 0;
        /* fall through */
    case PQ_F_CLOSE_APPLICATION:
        if (!pq_varint(in, &value) || !pq_varint(in, &length)) return 0;
        break;
    case PQ_F_HANDSHAKE_DONE:
        return 1;
    default:
        return 0;
    }
    if (length > pq_left(in)) return 0;
    in->at += length;
    return 1;
}

static int pq_pass_on(struct pq_conn *c, int kind, const uint8_t *from, const struct pq_in *in,
                      uint64_t cid) {
    struct pq_event *event = pq_event(c, kind);
    if (event == NULL) return 0;
    event->number = cid;
    event->data = from;
    event->length = (size_t)(in->at - from);
    return 1;
}

/* All frames of a packet. `eliciting` and `probing` are set (RFC 9000, 9.1). */
static int pq_frames(struct pq_conn *c, struct pq_in in, uint64_t cid, int64_t now,
                     int *eliciting, int *probing) {
    *eliciting = 0;
    *probing = 1;
    int passed = 0;
    if (in.at == in.end) return pq_fail(c, PQ_E_PROTOCOL_VIOLATION, 0, "a packet with no frames");
    while (in.at < in.end && !c->failed) {
        const uint8_t *from = in.at;
        uint64_t type = *from;
        if (type == PQ_F_PADDING) {
            while (in.at < in.end && *in.at == 0) in.at++;
            continue;
        }
        if (!pq_varint(&in, &type))
            return pq_fail(c, PQ_E_FRAME_ENCODING, 0, "a frame type that is cut short");
        if (type != PQ_F_ACK && type != PQ_F_ACK_ECN && type != PQ_F_CLOSE &&
            type != PQ_F_CLOSE_APPLICATION)
            *eliciting = 1;
        if (type < PQ_F_NEW_CONNECTION_ID || type > PQ_F_PATH_RESPONSE ||
            type == PQ_F_RETIRE_CONNECTION_ID)
            *probing = 0;
        int is_ack = type == PQ_F_ACK || type == PQ_F_ACK_ECN;
        int for_owner = type == PQ_F_CRYPTO || type == PQ_F_NEW_TOKEN ||
                        type >= PQ_F_NEW_CONNECTION_ID;
        if ((is_ack || for_owner) && ++passed > PQ_PASSED_MAX)
            return pq_fail(c, PQ_E_PROTOCOL_VIOLATION, type, "too many such frames in a packet");
        if (is_ack) {
            if (pq_ack_frame(c, &in, type, now) && c->forward_acks)
                pq_pass_on(c, PQ_V_ACK, from, &in, cid);
        } else if (type >= PQ_F_STREAM && type < PQ_F_MAX_DATA) {
            pq_stream_frame(c, &in, type);
        } else if (type >= PQ_F_MAX_DATA && type <= PQ_F_STREAMS_BLOCKED_UNI) {
            pq_limit_frame(c, &in, type);
        } else if (type == PQ_F_RESET_STREAM) {
            pq_reset_frame(c, &in);
        } else if (type == PQ_F_STOP_SENDING) {
            pq_stop_frame(c, &in);
        } else if (type != PQ_F_PING) {
            if (!pq_skip(&in, type))
                return pq_fail(c, PQ_E_FRAME_ENCODING, type, "an unknown or malformed frame");
            pq_pass_on(c, PQ_V_CONTROL, from, &in, cid);
        }
    }
    return !c->failed;
}

#endif
