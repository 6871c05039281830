# cython: language_level=3
"""The 1-RTT data plane of a QUIC connection: the boundary between Python and quic_*.h.

The headers do the work on C structs alone (quic.pxd has what is used of them); what is long
enough runs without the GIL. This file keeps the connection alive, copies what came in order into
bytes objects, and turns the times between seconds and nanoseconds. An Engine belongs to one thread.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport INFINITY, llrint
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305 = PQ_AES_128_GCM, PQ_AES_256_GCM, PQ_CHACHA20_POLY1305
DATAGRAM_BYTES_MAX = PQ_DATAGRAM_MAX
BATCH_BYTES = PQ_BATCH
DATA, RESET, STOP, CONTROL, ACK, CONNECTION_ID, FOREIGN, ERROR = range(8)
Event = tuple  # for annotations

cdef enum:
    EVENT_DATA, EVENT_RESET, EVENT_STOP, EVENT_CONTROL, EVENT_ACK, EVENT_CID, EVENT_FOREIGN
    EVENT_ERROR
    LONG_ENOUGH = 8192  # bytes for which giving up the GIL is worth its while
    LENT_MIN = 4096  # bytes that are not worth a copy

cdef inline int64_t _ns(double seconds):
    return llrint(seconds * 1e9)


cdef inline double _s(int64_t ns):
    return INFINITY if ns == PQ_NEVER else ns / 1e9


def multi_buffer():
    return bool(pq_gcm_usable())


def use_multi_buffer(bint wanted):
    global pq_gcm_off
    pq_gcm_off = not wanted


cdef class Engine:
    cdef pq_conn *c
    cdef list happened
    cdef dict gathering  # by stream, what pq_stream.gather points into
    cdef bint told_error
    cdef int offload  # whether the kernel cuts datagrams

    def __cinit__(self):
        self.c = <pq_conn *>calloc(1, sizeof(pq_conn))
        if self.c == NULL:
            raise MemoryError
        self.happened, self.gathering, self.offload = [], {}, 1

    def __dealloc__(self):
        if self.c != NULL:
            pq_close_conn(self.c)
            self._release()
            free(self.c)

    def __init__(
        self, *, bint is_client, int cipher, int version, bytes send_secret not None,
        bytes receive_secret not None, bytes first_send_secret not None,
        bytes first_receive_secret not None, int key_phase, list own_connection_ids not None,
        bytes peer_connection_id not None, uint64_t next_packet_number, list received not None,
        uint64_t received_floor, double now, double round_trip, size_t datagram_bytes,
        size_t datagram_bytes_max, uint64_t window_bytes, uint64_t streams_max,
        uint64_t own_stream_bytes_max, uint64_t peer_bytes_max,
        uint64_t peer_stream_bytes_max_local, uint64_t peer_stream_bytes_max_remote,
        uint64_t peer_streams_max, int peer_ack_delay_exponent, double peer_ack_delay_max,
    ):
        cdef pq_setup setup
        cdef uint64_t low, high
        if cipher < PQ_AES_128_GCM or cipher > PQ_CHACHA20_POLY1305 or version not in (1, 2):
            raise ValueError("unknown cipher or version")
        cdef size_t secret_bytes = pq_secret_bytes(cipher)
        secrets = (send_secret, receive_secret, first_send_secret, first_receive_secret)
        if {len(secret) for secret in secrets} != {secret_bytes}:
            raise ValueError(f"a secret of this cipher has {secret_bytes} bytes")
        if not 0 <= peer_ack_delay_exponent <= 20 or not own_connection_ids:
            raise ValueError("an ack delay exponent of 0 to 20, and a connection id")
        if not PQ_DATAGRAM_MIN <= datagram_bytes <= datagram_bytes_max <= PQ_DATAGRAM_MAX:
            raise ValueError(f"datagrams have {PQ_DATAGRAM_MIN} to {PQ_DATAGRAM_MAX} bytes")
        memset(&setup, 0, sizeof(setup))
        setup.is_client, setup.cipher, setup.version = is_client, cipher, version
        setup.key_phase, setup.ack_exponent = key_phase & 1, peer_ack_delay_exponent
        setup.send_secret = send_secret
        setup.receive_secret = receive_secret
        setup.first_send_secret = first_send_secret
        setup.first_receive_secret = first_receive_secret
        setup.next, setup.floor = next_packet_number, received_floor
        setup.window, setup.streams_max = window_bytes, streams_max
        setup.own_stream_max, setup.peer_max_data = own_stream_bytes_max, peer_bytes_max
        setup.peer_stream_max_local = peer_stream_bytes_max_local
        setup.peer_stream_max_remote = peer_stream_bytes_max_remote
        setup.peer_streams_max = peer_streams_max
        setup.now, setup.rtt = _ns(now), _ns(round_trip)
        setup.peer_ack_delay = _ns(peer_ack_delay_max)
        setup.mtu, setup.mtu_max = datagram_bytes, datagram_bytes_max
        if not pq_open_conn(self.c, &setup):
            raise MemoryError("no keys, or no memory")
        for number, connection_id in own_connection_ids:
            self.add_connection_id(number, connection_id)
        self.set_peer_connection_id(peer_connection_id)
        for low, high in received:
            if not pq_received_before(self.c, low, high):
                raise MemoryError

    cdef _release(self):
        """Objects whose bytes were lent, and are acknowledged or given up."""
        cdef void *owner = pq_released(self.c)
        while owner != NULL:
            Py_DECREF(<object>owner)
            owner = pq_released(self.c)

    # Datagrams

    def receive(self, data not None, double now, size_t segment_bytes=0):
        cdef Py_buffer view
        cdef uint8_t *copy = NULL
        cdef uint8_t *packet
        cdef int64_t at = _ns(now)
        cdef size_t n
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            n = view.len
            packet = <uint8_t *>view.buf
            if view.readonly:
                copy = <uint8_t *>malloc(n + 1)
                if copy == NULL:
                    raise MemoryError
                memcpy(copy, view.buf, n)
                packet = copy
            self.c.foreign_count = 0
            if not self.c.failed:
                if n >= LONG_ENOUGH:
                    with nogil:
                        pq_receive(self.c, packet, n, segment_bytes, at)
                else:
                    pq_receive(self.c, packet, n, segment_bytes, at)
            self._collect()
            return len(self.happened) > 0 or self.c.failed != 0
        finally:
            free(copy)
            PyBuffer_Release(&view)

    cdef _collect(self):
        """Events of the datagram at hand, whose buffer the owner has back after this."""
        cdef pq_conn *c = self.c
        cdef pq_stream *following = pq_ready_take(c)
        cdef pq_stream *s
        cdef pq_event *event
        cdef uint32_t i
        while following != NULL:
            s = following
            following = s.ready_next
            s.in_ready = 0
            self._data(s)
            pq_stream_settle(c, s)
        c.piece_count = 0
        for i in range(c.event_count):
            event = &c.events[i]
            if event.kind == PQ_V_RESET:
                self.gathering.pop(event.number, None)
            data = PyBytes_FromStringAndSize(<const char *>event.data, event.length)
            self.happened.append((EVENT_RESET + event.kind, event.number, data, event.value))
        c.event_count = 0
        self._release()

    cdef _data(self, pq_stream *s):
        cdef bint end = s.received_all and not s.told_end, more = s.piece_first != PQ_NO_PIECE
        if s.gather != NULL and (end or s.gather_at == s.gather_bytes):
            whole = self.gathering[s.id]
            if s.gather_at < s.gather_bytes:
                whole = whole[: s.gather_at]
            pq_gather_end(self.c, s)
            del self.gathering[s.id]
            self.happened.append((EVENT_DATA, s.id, whole, <int>(end and not more)))
            if not more:
                s.told_end |= end
                return
        if end:
            s.told_end = 1
        if more or end:
            data = PyBytes_FromStringAndSize(NULL, pq_pieces_bytes(self.c, s))
            pq_pieces_take(self.c, s, <uint8_t *>PyBytes_AS_STRING(data))
            self.happened.append((EVENT_DATA, s.id, data, <int>end))

    def events(self):
        happened = self.happened
        if self.c.failed and not self.told_error:
            self.told_error = True
            happened.append((EVENT_ERROR, self.c.error_frame, self.c.reason, self.c.error))
        if happened:
            self.happened = []
        return happened

    def send(self, out not None, double now):
        cdef Py_buffer view
        cdef size_t n, segment = 0
        cdef int64_t at = _ns(now)
        PyObject_GetBuffer(out, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            if view.len < PQ_BATCH:
                raise ValueError(f"a batch needs {PQ_BATCH} bytes")
            if self.c.queued_bytes >= LONG_ENOUGH:
                with nogil:
                    n = pq_send(self.c, <uint8_t *>view.buf, PQ_BATCH, &segment, at)
            else:
                n = pq_send(self.c, <uint8_t *>view.buf, PQ_BATCH, &segment, at)
        finally:
            PyBuffer_Release(&view)
        return n, segment

    def transmit(self, int fd, out not None, double now, bytes address, int batches):
        cdef Py_buffer view
        cdef pq_outlet o
        cdef int64_t at = _ns(now)
        cdef int more
        o.fd, o.offload, o.name, o.name_bytes = fd, self.offload, NULL, 0
        if address is not None:
            o.name, o.name_bytes = <const char *>address, len(address)
        PyObject_GetBuffer(out, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            if view.len < PQ_BATCH:
                raise ValueError(f"a batch needs {PQ_BATCH} bytes")
            o.out = <uint8_t *>view.buf
            if self.c.queued_bytes >= LONG_ENOUGH:
                with nogil:
                    more = pq_transmit(self.c, &o, batches, at)
            else:
                more = pq_transmit(self.c, &o, batches, at)
            self.offload = o.offload
            if o.error:
                rest = PyBytes_FromStringAndSize(<char *>o.out + o.sent, o.bytes - o.sent)
                return o.error, rest, o.segment
        finally:
            PyBuffer_Release(&view)
        return more != 0

    def datagrams(self, double now):
        out, found = bytearray(PQ_BATCH), []
        while True:
            n, segment = self.send(out, now)
            if not n:
                return found
            found += [bytes(out[at : min(at + segment, n)]) for at in range(0, n, segment)]

    def timeout(self):
        return 0.0 if self.c.failed and not self.told_error else _s(pq_timeout(self.c))

    def on_timeout(self, double now):
        if not self.c.failed:
            pq_recovery_due(self.c, _ns(now))

    # Streams

    def can_open(self):
        if self.c.next_stream < self.c.peer_max_streams:
            return True
        if self.c.streams_blocked_at != self.c.peer_max_streams + 1:
            self.c.streams_blocked_at = self.c.peer_max_streams + 1
            self.c.streams_blocked_pending = 1
        return False

    def open_stream(self):
        if self.c.next_stream >= self.c.peer_max_streams:
            raise ValueError("the peer allows no more streams")
        cdef uint64_t stream_id = self.c.next_stream << 2 | (not self.c.is_client)
        if pq_stream_new(self.c, stream_id) == NULL:
            raise MemoryError
        self.c.next_stream += 1
        return stream_id

    def adopt_stream(self, uint64_t stream_id, uint64_t delivered, int64_t final_size, list early):
        cdef uint64_t offset
        cdef bytes data
        if stream_id & 2 or (stream_id & 1) == (not self.c.is_client):
            raise ValueError("not a stream of the peer's")
        if not pq_adopt(
            self.c, stream_id, delivered, PQ_UNKNOWN if final_size < 0 else <uint64_t>final_size
        ):
            raise ValueError("a stream beyond the limits")
        for offset, data in early:
            if not pq_adopt_early(self.c, stream_id, offset, data, len(data)):
                raise ValueError("bytes beyond the limits")

    def write(self, uint64_t stream_id, data not None, bint end, bint urgent):
        cdef Py_buffer view
        cdef const uint8_t *at
        cdef int written
        cdef pq_stream *s = pq_stream_find(self.c, stream_id)
        if s == NULL or not pq_can_write(s):
            raise ValueError(f"stream {stream_id} can not be written to")
        if not s.queued:
            s.urgent = urgent
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            at = <const uint8_t *>view.buf
            base = (<memoryview>data).obj if type(data) is memoryview else data
            if view.len >= LENT_MIN and type(base) is bytes:  # nobody can change it
                written = pq_stream_lend(self.c, s, at, view.len, end, <void *>base)
                if written:
                    Py_INCREF(base)
            else:
                written = pq_stream_write(self.c, s, at, view.len, end)
        finally:
            PyBuffer_Release(&view)
        if not written:
            raise MemoryError

    def can_write(self, uint64_t stream_id):
        cdef pq_stream *s = pq_stream_find(self.c, stream_id)
        return s != NULL and bool(pq_can_write(s))

    def unacked_bytes(self, uint64_t stream_id):
        cdef pq_stream *s = pq_stream_find(self.c, stream_id)
        return 0 if s == NULL else s.end - s.base

    def window_bytes(self):
        return self.c.cubic.window

    def reset(self, uint64_t stream_id, uint64_t error_code):
        cdef pq_stream *s = pq_stream_find(self.c, stream_id)
        if s != NULL:
            pq_stream_reset(self.c, s, error_code)
            self._release()

    def stop(self, uint64_t stream_id, uint64_t error_code):
        cdef pq_stream *s = pq_stream_find(self.c, stream_id)
        if s != NULL:
            pq_stop(self.c, s, error_code)
            self.gathering.pop(stream_id, None)

    def gather(self, uint64_t stream_id, uint64_t offset, bytes first not None, size_t size_bytes):
        cdef pq_stream *s = pq_stream_find(self.c, stream_id)
        cdef size_t have = len(first)
        if (s == NULL or s.gather != NULL or s.stop or s.received_all or s.delivered != offset
                or have >= size_bytes):
            return False
        whole = PyBytes_FromStringAndSize(NULL, size_bytes)  # nobody else sees it before it is full
        memcpy(PyBytes_AS_STRING(whole), PyBytes_AS_STRING(first), have)
        self.gathering[stream_id] = whole
        pq_gather(self.c, s, <uint8_t *>PyBytes_AS_STRING(whole), have, size_bytes)
        return True

    def consume(self, uint64_t size_bytes):
        pq_consume(self.c, size_bytes)

    def grant(self, uint64_t window_bytes, uint64_t streams_max):
        if not pq_grant(self.c, window_bytes, streams_max):
            raise ValueError("a bound can not be lowered")

    # Connection

    def ping(self):
        self.c.ping_pending = 1

    def update_keys(self):
        self.c.update_wanted = 1

    def bound_keys(self, uint64_t update_after, uint64_t sealed_max, uint64_t undecryptable_max):
        self.c.key_packets_max = update_after
        self.c.sealed_max = sealed_max
        self.c.undecryptable_max = undecryptable_max

    def set_peer_connection_id(self, bytes connection_id not None):
        if not pq_set_peer_cid(self.c, connection_id, len(connection_id)):
            raise ValueError("a connection id that is too long")

    def add_connection_id(self, uint64_t sequence_number, bytes connection_id not None):
        if not pq_add_cid(self.c, sequence_number, connection_id, len(connection_id)):
            raise ValueError("too many connection ids, or of another length")

    def remove_connection_id(self, uint64_t sequence_number):
        pq_remove_cid(self.c, sequence_number)

    def seal(self, bytes header not None, bytes payload not None, uint64_t packet_number):
        cdef size_t head = len(header), n = len(payload)
        if head < 2 or n + (header[0] & 3) < 3:  # the sample begins 4 bytes after the number
            raise ValueError("no packet")
        packet = bytearray(header + payload + bytes(16))
        cdef uint8_t[::1] view = packet
        if not pq_seal_packet(self.c, &view[0], head, n, packet_number):
            raise ValueError("the packet was not encrypted")
        return bytes(packet)

    def stats(self):
        cdef pq_conn *c = self.c
        return {
            "packets_sent": c.packets_sent, "packets_received": c.packets_received,
            "packets_lost": c.packets_lost, "packets_spurious": c.packets_spurious,
            "pto_count": c.ptos, "bytes_in_flight": c.in_flight, "window": c.cubic.window,
            "round_trip_ns": c.rtt, "round_trip_min_ns": c.rtt_min, "streams": c.stream_count,
            "key_updates": c.key_updates, "undecryptable": c.undecryptable,
            "duplicates": c.duplicates, "datagram_bytes": c.mtu, "memory_bytes": c.memory,
            "queued_bytes": c.queued_bytes,
        }

    @property
    def more_to_send(self):
        return self.c.more != 0

    @property
    def idle_timeout(self):
        return _s(self.c.idle)

    @idle_timeout.setter
    def idle_timeout(self, double value):
        self.c.idle = _ns(value)

    @property
    def idle_at(self):
        return _s(pq_idle_at(self.c))

    @property
    def unanswered_since(self):
        return _s(self.c.unanswered_since)

    @property
    def next_packet_number(self):
        return self.c.next

    @next_packet_number.setter
    def next_packet_number(self, uint64_t number):
        if not pq_skip_to(self.c, number, self.c.last_received):
            raise ValueError("packet numbers only rise")

    @property
    def forward_acks(self):
        return bool(self.c.forward_acks)

    @forward_acks.setter
    def forward_acks(self, bint value):
        self.c.forward_acks = value

    @property
    def datagram_bytes(self):
        return self.c.mtu
