# What quic.pyx uses of quic_*.h.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "quic_api.h":
    enum:
        PQ_AES_128_GCM, PQ_AES_256_GCM, PQ_CHACHA20_POLY1305
        PQ_DATAGRAM_MIN, PQ_DATAGRAM_MAX, PQ_BATCH, PQ_CID_MAX, PQ_CIDS_MAX
        PQ_V_RESET, PQ_V_STOP, PQ_V_CONTROL, PQ_V_ACK, PQ_V_CID, PQ_V_FOREIGN
    int64_t PQ_NEVER
    uint64_t PQ_UNKNOWN
    uint32_t PQ_NO_PIECE
    int pq_gcm_off
    int pq_gcm_usable() nogil
    struct pq_event:
        int kind
        uint64_t number, value
        const uint8_t *data
        size_t length
    struct pq_stream:
        uint64_t id, base, end
        pq_stream *ready_next
        uint8_t urgent, queued, stop, received_all, told_end, in_ready
        uint32_t piece_first, piece_last
        uint64_t delivered
        uint8_t *gather
        size_t gather_bytes, gather_at
    struct pq_cubic:
        uint64_t window
    struct pq_conn:
        int failed, forward_acks, update_wanted, ping_pending, more
        uint64_t error, error_frame, key_packets_max, next, in_flight, queued_bytes
        uint64_t peer_max_streams, next_stream, streams_blocked_at, packets_sent, packets_received, packets_lost, packets_spurious, ptos
        uint64_t key_updates, undecryptable, duplicates, memory, sealed_max, undecryptable_max
        const char *reason
        int64_t last_received, unanswered_since, rtt, rtt_min, idle
        int streams_blocked_pending, is_client
        size_t mtu, mtu_max
        pq_cubic cubic
        uint32_t stream_count, piece_count, event_count, foreign_count
        pq_event *events
    struct pq_setup:
        int is_client, cipher, version, key_phase, ack_exponent
        const uint8_t *send_secret
        const uint8_t *receive_secret
        const uint8_t *first_send_secret
        const uint8_t *first_receive_secret
        uint64_t next, floor, window, streams_max, own_stream_max, peer_max_data
        uint64_t peer_stream_max_local, peer_stream_max_remote, peer_streams_max
        int64_t now, rtt, peer_ack_delay
        size_t mtu, mtu_max
    struct pq_outlet:
        int fd, offload, error
        const void *name
        size_t name_bytes, bytes, segment, sent
        uint8_t *out
    int pq_transmit(pq_conn *c, pq_outlet *o, int batches, int64_t now) nogil
    int pq_open_conn(pq_conn *c, const pq_setup *setup) nogil
    void pq_close_conn(pq_conn *c) nogil
    size_t pq_secret_bytes(int cipher) nogil
    int pq_add_cid(pq_conn *c, uint64_t number, const uint8_t *cid, size_t n) nogil
    void pq_remove_cid(pq_conn *c, uint64_t number) nogil
    int pq_set_peer_cid(pq_conn *c, const uint8_t *cid, size_t n) nogil
    int pq_received_before(pq_conn *c, uint64_t lo, uint64_t hi) nogil
    int pq_skip_to(pq_conn *c, uint64_t next, int64_t now) nogil
    int pq_grant(pq_conn *c, uint64_t window, uint64_t streams) nogil
    int pq_adopt_early(pq_conn *c, uint64_t id, uint64_t offset, const uint8_t *p, size_t n) nogil
    int pq_adopt(pq_conn *c, uint64_t id, uint64_t delivered, uint64_t final_size) nogil
    void pq_stop(pq_conn *c, pq_stream *s, uint64_t code) nogil
    int pq_seal_packet(pq_conn *c, uint8_t *packet, size_t header, size_t n, uint64_t number) nogil
    void pq_receive(pq_conn *c, uint8_t *data, size_t n, size_t segment, int64_t now) nogil
    size_t pq_send(pq_conn *c, uint8_t *out, size_t room, size_t *segment, int64_t now) nogil
    int64_t pq_timeout(const pq_conn *c) nogil
    int64_t pq_idle_at(const pq_conn *c) nogil
    void pq_recovery_due(pq_conn *c, int64_t now) nogil
    pq_stream *pq_stream_find(const pq_conn *c, uint64_t id) nogil
    pq_stream *pq_stream_new(pq_conn *c, uint64_t id) nogil
    int pq_can_write(const pq_stream *s) nogil
    int pq_stream_write(pq_conn *c, pq_stream *s, const uint8_t *p, size_t n, int fin) nogil
    int pq_stream_lend(pq_conn *c, pq_stream *s, const uint8_t *p, size_t n, int fin, void *owner) nogil
    void *pq_released(pq_conn *c) nogil
    void pq_stream_reset(pq_conn *c, pq_stream *s, uint64_t code) nogil
    void pq_stream_settle(pq_conn *c, pq_stream *s) nogil
    void pq_consume(pq_conn *c, uint64_t n) nogil
    void pq_gather(pq_conn *c, pq_stream *s, uint8_t *room, size_t at, size_t n) nogil
    void pq_gather_end(pq_conn *c, pq_stream *s) nogil
    pq_stream *pq_ready_take(pq_conn *c) nogil
    size_t pq_pieces_bytes(const pq_conn *c, const pq_stream *s) nogil
    void pq_pieces_take(pq_conn *c, pq_stream *s, uint8_t *out) nogil
